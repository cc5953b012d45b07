//! The index made again from the log. One that the end of the process interrupts goes on at the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use krocket_protocol::records::BatchHeader;
use krocket_stack::ledger::{PartitionId, PartitionInfo, tables};
use krocket_stack::{LedgerError, Row};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::index::{FIRST_ROW, Lookup};

/// There while a rebuild is wanted; its value tells it from others.
pub(crate) const WANTED: &[u8] = b"lookup/rebuild";
/// In front of the rows: which rebuild has come how far. Written with the rows, so that it never says too much.
pub(crate) const PROGRESS: &[u8] = &[0];
/// Bytes read at a time.
const READ_BYTES: usize = 4 << 20;
/// Rows deleted at a time.
const CLEARED: usize = 10_000;
/// Tried again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// How far a rebuild is, in offsets.
#[derive(Debug, Default)]
pub(crate) struct Rebuild {
    pub(crate) running: AtomicBool,
    pub(crate) done: AtomicU64,
    pub(crate) total: AtomicU64,
    wanted: Notify,
}

impl Lookup {
    /// Makes the index again from the log; false where that is under way already. It will be made, once this is answered.
    pub(crate) async fn start_rebuild(&self) -> Result<bool, LedgerError> {
        if self.rebuild.running.swap(true, Ordering::AcqRel) {
            return Ok(false);
        }
        let id = self.ledger.now_ms().to_be_bytes().to_vec();
        if let Err(error) = self.ledger.commit(vec![Row::put(tables::FACTS, WANTED, id)], true).await {
            self.rebuild.running.store(false, Ordering::Release);
            return Err(error);
        }
        self.rebuild.wanted.notify_one();
        Ok(true)
    }

    /// Does what rebuilds are wanted until stopped.
    pub(crate) async fn rebuild_when_wanted(self: &Arc<Self>, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let outcome = self.rebuild_if_wanted(stop).await;
            if let Err(error) = &outcome {
                tracing::error!(%error, "the look-up index could not be made again yet");
            }
            tokio::select! {
                () = self.rebuild.wanted.notified() => {}
                () = tokio::time::sleep(AGAIN), if outcome.is_err() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn rebuild_if_wanted(self: &Arc<Self>, stop: &CancellationToken) -> Result<(), LedgerError> {
        let Some(id) = self.ledger.get(tables::FACTS, WANTED)? else { return Ok(()) };
        self.rebuild.running.store(true, Ordering::Release);
        let (lookup, stopped) = (self.clone(), stop.clone());
        let made = tokio::task::spawn_blocking(move || lookup.rebuild_now(&id, || stopped.is_cancelled())).await;
        if made.map_err(|error| LedgerError(error.to_string()))?? {
            self.ledger.commit(vec![Row::delete(tables::FACTS, WANTED)], true).await?;
        }
        self.rebuild.running.store(false, Ordering::Release);
        Ok(())
    }

    /// Goes on where the rebuild of this id has come to; false where it was stopped before the end.
    pub(crate) fn rebuild_now(&self, id: &[u8], stopped: impl Fn() -> bool) -> Result<bool, LedgerError> {
        let begin = self.ledger.get(tables::LOOKUP, PROGRESS)?.and_then(|value| come_to(id, &value));
        if begin.is_none() && !self.clear(&stopped)? {
            return Ok(false);
        }
        let (first, offset) = begin.unwrap_or_default();
        // Seen after the clearing: what comes later is indexed as it comes.
        let partitions = self.indexed_partitions();
        let length = |info: &PartitionInfo| info.end.saturating_sub(info.log_start).max(0) as u64;
        let total = partitions.iter().map(|(_, info, _)| length(info)).sum();
        self.rebuild.done.store(0, Ordering::Release);
        self.rebuild.total.store(total, Ordering::Release);
        let mut done = 0;
        for (partition, info, by_key) in &partitions {
            // Below the log start as well: there may be parked messages.
            let mut position = if *partition == first { offset } else { 0 };
            while *partition >= first && position < info.end {
                if stopped() {
                    return Ok(false);
                }
                let before = position;
                let mut rows = Vec::new();
                for stored in &self.ledger.batches(*partition, position, READ_BYTES)? {
                    self.index(*partition, stored, *by_key, &mut rows)?;
                    let end = BatchHeader::read(&stored.batch).map_or(position, |header| header.last_offset() + 1);
                    position = position.max(end);
                }
                if position == before {
                    break;
                }
                rows.push(progress(id, *partition, position));
                self.ledger.derive(rows)?;
                let so_far = position.min(info.end).saturating_sub(info.log_start).max(0) as u64;
                self.rebuild.done.store(done + so_far, Ordering::Release);
            }
            done += length(info);
            self.rebuild.done.store(done, Ordering::Release);
        }
        self.ledger.derive(vec![Row::delete(tables::LOOKUP, PROGRESS)])?;
        Ok(true)
    }

    /// Partitions that look-up is on for, ascending, and whether record keys are indexed.
    fn indexed_partitions(&self) -> Vec<(PartitionId, PartitionInfo, bool)> {
        let rules = self.rules.get();
        let mut partitions = Vec::new();
        for topic in self.ledger.topics() {
            let Some(lookup) = &rules.topic(&topic.name).lookup else { continue };
            let known = topic.partitions.iter().filter_map(|id| Some((*id, self.ledger.partition(*id)?, lookup.key)));
            partitions.extend(known);
        }
        partitions.sort_unstable_by_key(|(id, ..)| *id);
        partitions
    }

    fn clear(&self, stopped: impl Fn() -> bool) -> Result<bool, LedgerError> {
        while !stopped() {
            let mut rows = Vec::new();
            self.ledger.scan(tables::LOOKUP, FIRST_ROW, &mut |key, _| {
                rows.push(Row::delete(tables::LOOKUP, key));
                rows.len() < CLEARED
            })?;
            if rows.is_empty() {
                return Ok(true);
            }
            self.ledger.derive(rows)?;
        }
        Ok(false)
    }
}

fn progress(id: &[u8], partition: PartitionId, position: i64) -> Row {
    let value = [&partition.to_be_bytes()[..], &position.to_be_bytes(), id].concat();
    Row::put(tables::LOOKUP, PROGRESS, value)
}

/// Partition and offset that the rebuild of this id has come to; `None` where the row is of another one.
fn come_to(id: &[u8], value: &[u8]) -> Option<(PartitionId, i64)> {
    let (partition, rest) = value.split_first_chunk()?;
    let (position, of) = rest.split_first_chunk()?;
    (of == id).then(|| (u32::from_be_bytes(*partition), i64::from_be_bytes(*position)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Memory, lookup, record};

    fn three_partitions() -> Arc<Memory> {
        let memory = Memory::new(&["orders", "orders", "quiet"]);
        for (partition, offset) in [(0, 0), (0, 1), (1, 0), (2, 0)] {
            memory.append(partition, offset, &record(&[("KEYS", "a b")]));
        }
        memory
    }

    #[test]
    fn it_clears_and_indexes_what_the_rules_name_and_counts_only_that() {
        let memory = three_partitions();
        let lookup = lookup(&memory, &["orders"]);
        memory.put(tables::LOOKUP, &[1; 29], b"");
        assert_eq!(lookup.rebuild_now(b"1", || false), Ok(true));
        let rows = memory.keys(tables::LOOKUP);
        assert_eq!(rows.len(), 6, "two words of three records, and neither an old row nor progress: {rows:?}");
        let Rebuild { done, total, .. } = &lookup.rebuild;
        assert_eq!((done.load(Ordering::Acquire), total.load(Ordering::Acquire)), (3, 3));
    }

    #[test]
    fn one_that_was_stopped_goes_on_where_it_was_and_another_begins_anew() {
        let memory = three_partitions();
        let lookup = lookup(&memory, &["*"]);
        let asked = AtomicU64::new(0);
        // Cleared; one look at the log; stopped before the second.
        let stopped = || asked.fetch_add(1, Ordering::AcqRel) >= 2;
        assert_eq!(lookup.rebuild_now(b"1", stopped), Ok(false));
        let value = memory.get(tables::LOOKUP, PROGRESS).expect("progress");
        assert_eq!((come_to(b"1", &value), come_to(b"2", &value)), (Some((0, 2)), None));

        memory.take_back(tables::LOOKUP, FIRST_ROW);
        assert_eq!(lookup.rebuild_now(b"1", || false), Ok(true));
        assert_eq!(memory.keys(tables::LOOKUP).len(), 4, "of partitions 1 and 2 only");

        assert_eq!(lookup.rebuild_now(b"2", || false), Ok(true));
        assert_eq!(memory.keys(tables::LOOKUP).len(), 8);
    }

    #[tokio::test]
    async fn one_that_is_wanted_is_made_after_a_restart() {
        let memory = three_partitions();
        let before = lookup(&memory, &["*"]);
        assert_eq!(before.start_rebuild().await, Ok(true));
        assert_eq!(before.start_rebuild().await, Ok(false), "under way");
        drop(before);

        let after = lookup(&memory, &["*"]);
        after.rebuild_if_wanted(&CancellationToken::new()).await.expect("is made");
        assert_eq!(memory.keys(tables::LOOKUP).len(), 8);
        assert_eq!(memory.get(tables::FACTS, WANTED), None);
        assert_eq!(after.start_rebuild().await, Ok(true), "it can be wanted again");
    }
}
