//! What the log keeps of share partitions: where each starts, and the runs that were delivered at least once.

use std::sync::Arc;

use super::window::{Cause, Run, State};
use crate::group::{group_prefix, split_key};
use crate::log::{PartitionId, Write, tables::SHARES};

/// A row, read.
#[derive(Debug)]
pub(super) enum Row {
    Start(i64),
    Run(i64, Run),
}

const AVAILABLE: u8 = 0;
const ACQUIRED: u8 = 1;
const DONE: u8 = 2;
const REJECTED: u8 = 3;
const EXHAUSTED: u8 = 4;

/// What the keys of a group's partition begin with.
pub(super) fn prefix(group: &str, partition: PartitionId) -> Vec<u8> {
    let mut key = group_prefix(group);
    key.extend(partition.to_be_bytes());
    key
}

pub(super) fn run_key(group: &str, partition: PartitionId, first: i64) -> Vec<u8> {
    let mut key = prefix(group, partition);
    key.extend(first.to_be_bytes());
    key
}

pub(super) fn put_start(group: &str, partition: PartitionId, start: i64) -> Write {
    Write::Put { table: SHARES, key: prefix(group, partition), value: start.to_be_bytes().to_vec() }
}

pub(super) fn put_run(group: &str, partition: PartitionId, first: i64, run: &Run) -> Write {
    Write::Put { table: SHARES, key: run_key(group, partition, first), value: encode(run) }
}

pub(super) fn delete(key: Vec<u8>) -> Write {
    Write::Delete { table: SHARES, key }
}

/// Last offset, deliveries, state, time, member.
pub(super) fn encode(run: &Run) -> Vec<u8> {
    let (state, time, member) = match &run.state {
        State::Available { from_ms } => (AVAILABLE, *from_ms, ""),
        State::Acquired { member, until_ms } => (ACQUIRED, *until_ms, &**member),
        State::Done => (DONE, 0, ""),
        State::Dying(Cause::Rejected) => (REJECTED, 0, ""),
        State::Dying(Cause::Exhausted) => (EXHAUSTED, 0, ""),
    };
    let mut value = Vec::with_capacity(21 + member.len());
    value.extend(run.last.to_be_bytes());
    value.extend(run.count.to_be_bytes());
    value.push(state);
    value.extend(time.to_be_bytes());
    value.extend(member.as_bytes());
    value
}

fn decode(value: &[u8]) -> Option<Run> {
    let (last, rest) = value.split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    let (state, rest) = rest.split_first()?;
    let (time, member) = rest.split_first_chunk()?;
    let time = i64::from_be_bytes(*time);
    let state = match *state {
        AVAILABLE => State::Available { from_ms: time },
        ACQUIRED => State::Acquired { member: Arc::from(std::str::from_utf8(member).ok()?), until_ms: time },
        DONE => State::Done,
        REJECTED => State::Dying(Cause::Rejected),
        EXHAUSTED => State::Dying(Cause::Exhausted),
        _ => return None,
    };
    Some(Run { last: i64::from_be_bytes(*last), state, count: u32::from_be_bytes(*count) })
}

/// Group, partition and what a row says.
pub(super) fn read<'a>(key: &'a [u8], value: &[u8]) -> Option<(&'a str, PartitionId, Row)> {
    let (group, rest) = split_key(key)?;
    let (partition, rest) = rest.split_first_chunk()?;
    let row = match rest.len() {
        0 => Row::Start(i64::from_be_bytes(value.try_into().ok()?)),
        _ => Row::Run(i64::from_be_bytes(rest.try_into().ok()?), decode(value)?),
    };
    Some((group, PartitionId::from_be_bytes(*partition), row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_as_they_were_written() {
        let states = [
            State::Available { from_ms: 77 },
            State::Acquired { member: "é-1".into(), until_ms: i64::MAX },
            State::Dying(Cause::Rejected),
            State::Dying(Cause::Exhausted),
            State::Done,
        ];
        for state in states {
            let run = Run { last: 9, state, count: 3 };
            let Write::Put { key, value, .. } = put_run("gröup", 7, 5, &run) else { panic!("a put") };
            let (group, partition, Row::Run(first, read)) = read(&key, &value).expect("readable") else {
                panic!("a run")
            };
            assert_eq!((group, partition, first, read), ("gröup", 7, 5, run));
        }
        let Write::Put { key, value, .. } = put_start("g", 7, 5) else { panic!("a put") };
        assert!(matches!(read(&key, &value), Some(("g", 7, Row::Start(5)))));
        assert!(read(&key, b"short").is_none());
    }
}
