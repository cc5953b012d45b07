//! Compaction: the latest record of each key stays, by the rules of Kafka's `LogCleaner` and `Cleaner`.
//!
//! What Kafka does by the segment is done by the batch here. The last batch of a partition is its active segment: it is
//! never compacted. A batch keeps its offsets and its producer's numbers whatever goes from it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use krocket_protocol::records::batch::{ATTRIBUTE_CONTROL, ATTRIBUTE_TRANSACTIONAL};
use krocket_protocol::records::{BatchBuilder, LastOffset, Record, Records, RecordsError};
use krocket_store::BatchRow;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::append::{Durability, Outcome, Write};
use super::error::StorageError;
use super::housekeeping::Pace;
use super::marks::{HIDDEN, HIDDEN_ALL, Visible};
use super::metrics::METRICS;
use super::partition::{Partition, PartitionId};
use super::pending::Change;
use super::txn::Aborted;
use super::writer::Command;
use super::{Shared, tables};
use crate::config::TopicConfig;

/// Most keys that one run takes in, at 40 bytes of memory each; the next run goes on from there.
const MAX_KEYS: usize = 2 << 20;
/// Changes are written in frames of about this size.
const FRAME_BYTES: usize = 4 << 20;
const FRAME_CHANGES: usize = 512;
/// Most runs whose times are remembered for tombstones.
const MAX_RUNS: usize = 64;
const VERSION: u8 = 1;

/// How far a partition is compacted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// First offset that no run has seen.
    first_dirty: i64,
    /// Bytes below it.
    clean_bytes: u64,
    /// Earlier runs: up to which offset, and when (epoch ms). A tombstone's delete.retention.ms begins with the first
    /// run that saw it.
    runs: Vec<(i64, i64)>,
}

impl Checkpoint {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.first_dirty.to_be_bytes());
        out.extend_from_slice(&self.clean_bytes.to_be_bytes());
        for (offset, time) in &self.runs {
            out.extend_from_slice(&offset.to_be_bytes());
            out.extend_from_slice(&time.to_be_bytes());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION], rest) = bytes.split_first_chunk::<1>()? else { return None };
        let mut numbers = rest.chunks_exact(8).map(|n| i64::from_be_bytes(n.try_into().expect("8 bytes")));
        let (first_dirty, clean_bytes) = (numbers.next()?, numbers.next()? as u64);
        let mut runs = Vec::new();
        while let (Some(offset), Some(time)) = (numbers.next(), numbers.next()) {
            runs.push((offset, time));
        }
        Some(Checkpoint { first_dirty, clean_bytes, runs })
    }

    /// True for tombstones that consumers had their time to see.
    fn forgets_tombstone(&self, offset: i64, now_ms: i64, retention_ms: i64) -> bool {
        let first_run = self.runs.iter().find(|(end, _)| offset < *end);
        first_run.is_some_and(|(_, time)| time.saturating_add(retention_ms) <= now_ms)
    }

    fn add_run(&mut self, end: i64, now_ms: i64, retention_ms: i64) {
        let over = self.runs.iter().filter(|(_, time)| time.saturating_add(retention_ms) <= now_ms).count();
        // Of the runs whose tombstones may go one is enough.
        self.runs.drain(..over.saturating_sub(1));
        if self.runs.last().is_none_or(|(last, _)| *last < end) {
            self.runs.push((end, now_ms));
        }
        if self.runs.len() > MAX_RUNS {
            // Its tombstones count from the next run: later, never earlier.
            self.runs.remove(MAX_RUNS / 2);
        }
    }
}

/// Offsets to compact: what is new since the last run, and all that may hold older records of the same keys.
struct Plan {
    start: i64,
    first_dirty: i64,
    end: i64,
    checkpoint: Checkpoint,
    /// Transactions whose records nobody is to see, by producer and ascending.
    aborted: HashMap<i64, Vec<Aborted>>,
}

impl Plan {
    fn is_aborted(&self, row: &BatchRow) -> bool {
        row.attributes & ATTRIBUTE_TRANSACTIONAL != 0
            && self.aborted.get(&row.producer_id).is_some_and(|aborted| {
                let at = aborted.partition_point(|one| one.last_offset <= row.base_offset);
                aborted.get(at).is_some_and(|one| one.first_offset <= row.base_offset)
            })
    }
}

/// Latest offset by key. Keys are known by 128 bits of two keyed hashes: as good as the keys themselves.
#[derive(Default)]
struct Latest {
    hashers: (RandomState, RandomState),
    offsets: HashMap<u128, i64>,
}

impl Latest {
    fn hash(&self, key: &[u8]) -> u128 {
        u128::from(self.hashers.0.hash_one(key)) << 64 | u128::from(self.hashers.1.hash_one(key))
    }

    fn see(&mut self, key: &[u8], offset: i64) {
        let hash = self.hash(key);
        self.offsets.insert(hash, offset);
    }

    fn is_outdated(&self, key: &[u8], offset: i64) -> bool {
        self.offsets.get(&self.hash(key)).is_some_and(|latest| *latest > offset)
    }
}

impl Shared {
    /// How far a partition is compacted; `None` if it never was.
    pub(super) fn checkpoint(&self, id: PartitionId) -> Result<Option<Checkpoint>, StorageError> {
        Ok(self.index.get(tables::COMPACTIONS, &id.to_be_bytes())?.and_then(|bytes| Checkpoint::decode(&bytes)))
    }

    /// Compacts a partition if enough of it is new.
    pub(super) fn compact(&self, partition: &Arc<Partition>, config: &TopicConfig) -> Result<(), StorageError> {
        let now_ms = self.clock.now_ms();
        let Some(mut plan) = self.plan(partition, config, now_ms)? else { return Ok(()) };
        let mut pace = Pace::new(&self.stopping);
        let latest = self.collect_latest(partition, &mut plan, &mut pace)?;
        let outdated = |record: &Record<'_>| {
            let Some(key) = record.key else { return true };
            latest.is_outdated(key, record.offset)
                || record.value.is_none()
                    && plan.checkpoint.forgets_tombstone(record.offset, now_ms, config.delete_retention_ms)
        };
        let (mut before, mut after) = (0, 0);
        let mut told = Vec::new();
        let mut changes = Changes::new(self, partition);
        for row in self.index.batches(partition.id, plan.start) {
            let row = row?;
            if row.base_offset >= plan.end || self.stopping.is_set() {
                break;
            }
            let len = u64::from(row.location.len);
            before += len;
            let parked = self.is_parked(partition.id, &row)?;
            if row.flags & HIDDEN_ALL != 0 || plan.is_aborted(&row) {
                if parked {
                    after += len
                } else {
                    changes.remove(row)?
                }
                continue;
            }
            if row.attributes & ATTRIBUTE_CONTROL != 0 {
                // Whoever was reading when its records went is done.
                let forgets = plan.checkpoint.forgets_tombstone(row.base_offset, now_ms, config.delete_retention_ms);
                match forgets {
                    true if self.is_told(partition.id, row.base_offset)? => {
                        told.push(Aborted::delete(partition.id, row.base_offset))
                    }
                    true => {
                        changes.remove(row)?;
                        continue;
                    }
                    false => {}
                }
                after += len;
                continue;
            }
            pace.spend(len);
            let Some(records) = self.readable(partition.id, &row)? else {
                after += len;
                continue;
            };
            after += changes.rewrite(row, &records, parked, &outdated)?;
        }
        changes.flush()?;
        if self.stopping.is_set() {
            return Ok(());
        }
        let Plan { end, mut checkpoint, .. } = plan;
        checkpoint.first_dirty = end;
        checkpoint.clean_bytes = after;
        checkpoint.add_run(end, now_ms, config.delete_retention_ms);
        let key = partition.id.to_be_bytes().to_vec();
        let write = Write::Put { table: tables::COMPACTIONS, key, value: checkpoint.encode() };
        self.commit(told.into_iter().chain([write]).collect(), Durability::Written).wait()?;
        METRICS.compacted_bytes.inc_by(before.saturating_sub(after));
        info!(partition = partition.id, up_to = end, before, after, "compacted");
        Ok(())
    }

    /// What to compact now, if anything: Kafka's `LogCleanerManager.grabFilthiestCompactedLog` for one partition.
    fn plan(&self, partition: &Partition, config: &TopicConfig, now_ms: i64) -> Result<Option<Plan>, StorageError> {
        let start = partition.log_start();
        let Some(last) = self.index.batch_before(partition.id, partition.last_stable_offset())? else {
            return Ok(None);
        };
        let checkpoint = self.checkpoint(partition.id)?.unwrap_or_default();
        let first_dirty = checkpoint.first_dirty.max(start);
        let mut end = last.base_offset;
        let Some(first) = self.index.batch(partition.id, first_dirty)?.filter(|first| first.base_offset < end) else {
            return Ok(None);
        };
        let overdue = first.max_timestamp < now_ms.saturating_sub(config.max_compaction_lag_ms);
        let mut dirty = last.cumulative_bytes.saturating_sub(first.cumulative_bytes);
        let clean = if checkpoint.first_dirty > start { checkpoint.clean_bytes } else { 0 };
        let filthy = |dirty: u64| dirty as f64 >= config.min_cleanable_dirty_ratio * (clean + dirty) as f64;
        if !overdue && !filthy(dirty) {
            return Ok(None);
        }
        if config.min_compaction_lag_ms > 0 {
            let youngest = now_ms.saturating_sub(config.min_compaction_lag_ms);
            for row in self.index.batches(partition.id, first_dirty) {
                let row = row?;
                if row.base_offset >= end {
                    break;
                }
                if row.max_timestamp > youngest {
                    end = row.base_offset;
                    dirty = row.cumulative_bytes.saturating_sub(first.cumulative_bytes);
                    break;
                }
            }
            if first.base_offset >= end || !overdue && !filthy(dirty) {
                return Ok(None);
            }
        }
        let mut aborted: HashMap<i64, Vec<Aborted>> = HashMap::new();
        for one in self.aborted(partition, start, end)? {
            aborted.entry(one.producer_id).or_default().push(one);
        }
        Ok(Some(Plan { start, first_dirty, end, checkpoint, aborted }))
    }

    /// Reads the keys of what is new. When there are too many, the plan ends where the map was full.
    fn collect_latest(
        &self,
        partition: &Partition,
        plan: &mut Plan,
        pace: &mut Pace<'_>,
    ) -> Result<Latest, StorageError> {
        let mut latest = Latest::default();
        for row in self.index.batches(partition.id, plan.first_dirty) {
            let row = row?;
            if row.base_offset >= plan.end || self.stopping.is_set() {
                break;
            }
            if latest.offsets.len() >= MAX_KEYS {
                plan.end = row.base_offset;
                break;
            }
            // A hidden or aborted record is nobody's latest value.
            if row.flags & HIDDEN_ALL != 0 || plan.is_aborted(&row) {
                continue;
            }
            let visible = Visible::of(&row);
            pace.spend(u64::from(row.location.len));
            let Some(records) = self.readable(partition.id, &row)? else { continue };
            for record in &records {
                let record = record.map_err(|error| unreadable(&row, &error))?;
                if let Some(key) = record.key.filter(|_| !visible.hides(record.offset - row.base_offset)) {
                    latest.see(key, record.offset);
                }
            }
        }
        Ok(latest)
    }

    /// A batch's records; `None` for one that compaction leaves alone: control records, and damage, which is reported
    /// and stays for whoever can do something about it.
    fn readable(&self, partition: PartitionId, row: &BatchRow) -> Result<Option<Records>, StorageError> {
        let read = self.retry(|shared| {
            // The cleaner may have moved it since the row was read.
            let current = shared.index.batch(partition, row.base_offset)?;
            shared.records(current.as_ref().filter(|now| now.base_offset == row.base_offset).unwrap_or(row))
        });
        match read {
            Ok(records) => Ok(Some(records).filter(|records| !records.header().is_control())),
            Err(error) if error.passing => {
                warn!(%error, base_offset = row.base_offset, "a batch is left out of compaction");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn unreadable(row: &BatchRow, error: &RecordsError) -> StorageError {
    StorageError { message: format!("the batch at offset {}: {error}", row.base_offset), passing: true, damaged: false }
}

/// Collects changed batches and has them written.
struct Changes<'a> {
    shared: &'a Shared,
    partition: &'a Arc<Partition>,
    changes: Vec<Change>,
    bytes: usize,
}

impl<'a> Changes<'a> {
    fn new(shared: &'a Shared, partition: &'a Arc<Partition>) -> Self {
        Changes { shared, partition, changes: Vec::new(), bytes: 0 }
    }

    /// Takes outdated records out of a batch, and hidden ones unless one of them is parked; returns the length of what is
    /// left.
    fn rewrite(
        &mut self,
        mut row: BatchRow,
        records: &Records,
        parked: bool,
        outdated: &impl Fn(&Record<'_>) -> bool,
    ) -> Result<u64, StorageError> {
        let mut builder = BatchBuilder::like(records.header());
        let visible = Visible::of(&row);
        let (mut count, mut hidden) = (0, 0);
        for record in records {
            let record = record.map_err(|error| unreadable(&row, &error))?;
            count += 1;
            let hides = visible.hides(record.offset - row.base_offset);
            if if hides { parked } else { !outdated(&record) } {
                builder.push_record(&record);
                hidden += i32::from(hides);
            }
        }
        if builder.count() == count {
            return Ok(u64::from(row.location.len));
        }
        if hidden == 0 {
            row.flags &= !HIDDEN;
            row.marks.clear();
        } else if hidden == builder.count() {
            row.flags |= HIDDEN_ALL;
        }
        let batch = builder.finish(LastOffset::Keep).map_err(|error| unreadable(&row, &error))?;
        let len = batch.as_ref().map_or(0, |batch| batch.len());
        self.push(Change { row, batch }, len)?;
        Ok(len as u64)
    }

    /// Takes a whole batch away.
    fn remove(&mut self, row: BatchRow) -> Result<(), StorageError> {
        self.push(Change { row, batch: None }, 0)
    }

    fn push(&mut self, change: Change, len: usize) -> Result<(), StorageError> {
        self.bytes += len;
        self.changes.push(change);
        if self.bytes >= FRAME_BYTES || self.changes.len() >= FRAME_CHANGES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        let changes = std::mem::take(&mut self.changes);
        self.bytes = 0;
        if changes.is_empty() {
            return Ok(());
        }
        let (answer, outcome) = oneshot::channel();
        self.shared.send(Command::Compact { partition: self.partition.clone(), changes, answer });
        Outcome::<(), StorageError>(outcome).wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_from_its_bytes() {
        let checkpoint = Checkpoint { first_dirty: 10, clean_bytes: 20, runs: vec![(5, 1000), (10, 2000)] };
        assert_eq!(Checkpoint::decode(&checkpoint.encode()), Some(checkpoint));
        assert_eq!(Checkpoint::decode(&[VERSION, 0]), None);
    }

    #[test]
    fn a_tombstone_goes_its_retention_after_the_first_run_that_saw_it() {
        let mut checkpoint = Checkpoint::default();
        assert!(!checkpoint.forgets_tombstone(3, 10_000, 100));
        checkpoint.add_run(5, 1000, 100);
        checkpoint.add_run(9, 1050, 100);
        assert!(!checkpoint.forgets_tombstone(3, 1099, 100));
        assert!(checkpoint.forgets_tombstone(3, 1100, 100));
        assert!(!checkpoint.forgets_tombstone(5, 1100, 100));
        assert!(checkpoint.forgets_tombstone(5, 1150, 100));
        checkpoint.add_run(20, 5000, 100);
        assert_eq!(checkpoint.runs, [(9, 1050), (20, 5000)]);
        for n in 0..1000 {
            checkpoint.add_run(21 + n, 5001 + n, i64::MAX);
        }
        assert!(checkpoint.runs.len() <= MAX_RUNS);
    }
}
