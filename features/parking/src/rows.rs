//! Rows of what is parked: their keys and values. Numbers in keys are big-endian, so that they sort.

use krocket_features::produce::Numbered;
use krocket_stack::ledger::{PartitionId, tables};
use krocket_stack::{Row, Template, Written};
use serde::{Deserialize, Serialize};

/// Version of values.
const VERSION: u8 = 1;
const SYNCED: u8 = 1;

/// Where a parked record is.
pub type Locator = (PartitionId, i64);

/// What is to be done with a parked record when it is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Delivered as durably as it was produced.
    pub synced: bool,
    /// What is not needed for most records.
    pub more: Option<Box<More>>,
}

/// The rarer facts of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct More {
    /// Topic and partition to deliver to, instead of the record's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<(String, i32)>,
    /// Headers that the delivered record gets; those of the same names go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// A half message: at its due time it is asked about rather than delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half: Option<Half>,
    /// The client's id, for whoever lists it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uniq: Option<String>,
}

/// A half message that has no end yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Half {
    /// Who knows how it ends.
    pub group: String,
    /// Counted checks.
    pub checks: u32,
    /// Delivered so many ms after its commit, or at this epoch ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
}

/// When a half message is delivered that has a delay as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delay {
    /// So many ms after the commit.
    After(i64),
    /// At this epoch ms.
    At(i64),
}

impl Delay {
    /// The epoch ms for a commit now.
    pub fn due(self, now_ms: i64) -> i64 {
        match self {
            Delay::After(ms) => now_ms.saturating_add(ms),
            Delay::At(at) => at,
        }
    }
}

impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, if self.synced { SYNCED } else { 0 }];
        if let Some(more) = &self.more {
            serde_json::to_writer(&mut bytes, more).expect("plain data");
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION, flags], rest) = bytes.split_first_chunk::<2>()? else { return None };
        let more = if rest.is_empty() { None } else { Some(Box::new(serde_json::from_slice(rest).ok()?)) };
        Some(Entry { synced: flags & SYNCED != 0, more })
    }

    /// The half message that it is.
    pub fn half(&self) -> Option<&Half> {
        self.more.as_ref()?.half.as_ref()
    }

    /// The client's id.
    pub fn uniq(&self) -> Option<&str> {
        self.more.as_ref()?.uniq.as_deref()
    }
}

/// How a parked record ended, where it was not delivered at its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// When, epoch ms.
    pub at: i64,
    /// The record that ended it, where an idempotent producer sent it: sent again, it is not refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Numbered>,
}

/// How a parked record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is never delivered.
    Cancelled,
    /// A half message that is delivered (or was).
    Committed,
    /// A half message that never is.
    RolledBack,
    /// Its bytes could not be read.
    Lost,
    /// It was produced in a Kafka transaction that was aborted.
    Aborted,
}

impl Outcome {
    /// For sentences.
    pub fn words(self) -> &'static str {
        match self {
            Outcome::Cancelled => "cancelled",
            Outcome::Committed => "committed",
            Outcome::RolledBack => "rolled back",
            Outcome::Lost => "lost: its bytes cannot be read",
            Outcome::Aborted => "aborted with the transaction that it was produced in",
        }
    }
}

/// The bytes of a locator.
pub fn locator((partition, offset): Locator) -> Vec<u8> {
    [&partition.to_be_bytes()[..], &offset.to_be_bytes()].concat()
}

/// A locator from a key that begins with one.
pub fn parse_locator(key: &[u8]) -> Option<Locator> {
    let (partition, rest) = key.split_first_chunk()?;
    Some((u32::from_be_bytes(*partition), i64::from_be_bytes(*rest.first_chunk()?)))
}

pub(crate) fn due_key((partition, offset): Locator, due: i64) -> Vec<u8> {
    [&partition.to_be_bytes()[..], &due.to_be_bytes(), &offset.to_be_bytes()].concat()
}

/// Partition, due time and offset.
pub(crate) fn parse_due_key(key: &[u8]) -> Option<(PartitionId, i64, i64)> {
    let (partition, due) = parse_locator(key)?;
    Some((partition, due, i64::from_be_bytes(*key.get(12..)?.first_chunk()?)))
}

pub(crate) fn uniq_prefix(partition: PartitionId, uniq: &str) -> Vec<u8> {
    [&partition.to_be_bytes()[..], &(uniq.len() as u16).to_be_bytes(), uniq.as_bytes()].concat()
}

/// What parks the record at this place of a batch for `partition`.
pub fn park(partition: PartitionId, place: i32, due: i64, entry: &Entry) -> impl Iterator<Item = Row> {
    let at = |bytes: &[u8]| Template::default().bytes(bytes).offset_of(place);
    let id = partition.to_be_bytes();
    let uniq = entry.uniq().map(|uniq| Row::put_new(tables::UNIQ, at(&uniq_prefix(partition, uniq)), Vec::new()));
    [
        Row::put_new(tables::PARKED, at(&id), due.to_be_bytes().to_vec()),
        Row::put_new(tables::DUE, at(&[&id[..], &due.to_be_bytes()].concat()), entry.encode()),
    ]
    .into_iter()
    .chain(uniq)
}

/// What takes a parked record off the list.
pub fn unpark(at: Locator, due: i64) -> [Row; 2] {
    [Row::delete(tables::PARKED, locator(at)), Row::delete(tables::DUE, due_key(at, due))]
}

/// As [`unpark`], with the DUE row just read. Its PARKED row was written with it, and holds the due time.
pub(crate) fn unpark_known(at: Locator, due: i64, was: Written) -> [Row; 2] {
    let parked = Written { position: was.position, len: size_of::<i64>() as u32 };
    [Row::delete_known(tables::PARKED, locator(at), parked), Row::delete_known(tables::DUE, due_key(at, due), was)]
}

/// What gives a parked record another time or other things to be done.
pub fn repark(at: Locator, old_due: i64, due: i64, entry: &Entry) -> [Row; 3] {
    [
        Row::delete(tables::DUE, due_key(at, old_due)),
        Row::put(tables::DUE, due_key(at, due), entry.encode()),
        Row::put(tables::PARKED, locator(at), due.to_be_bytes().to_vec()),
    ]
}

/// What says how a parked record ended.
pub fn end(at: Locator, ended: &Ended) -> Row {
    Row::put(tables::ENDED, locator(at), serde_json::to_vec(ended).expect("plain data"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_keys_come_back() {
        let half = Half { group: "g".into(), checks: 3, delay: Some(Delay::After(5)) };
        let more = More {
            target: Some(("t".into(), 1)),
            headers: vec![("a".into(), "b".into())],
            half: Some(half),
            uniq: None,
        };
        for entry in [Entry::default(), Entry { synced: true, more: Some(Box::new(more)) }] {
            assert_eq!(Entry::decode(&entry.encode()), Some(entry));
        }
        assert_eq!(Entry::decode(&[9, 0]), None);
        assert_eq!(parse_due_key(&due_key((7, 300), 5000)), Some((7, 5000, 300)));
        assert_eq!(parse_locator(&locator((7, 300))), Some((7, 300)));
    }
}
