//! The background thread: retention, compaction, forgetting producers, giving disk space back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use krocket_stack::ledger::tables::{DUE, ENDED, PARKED, UNIQ};
use krocket_store::{BatchRow, IndexError};
use parking_lot::{Condvar, Mutex};
use tracing::{debug, error, info};

use super::append::{Durability, Write};
use super::error::StorageError;
use super::marks::HIDDEN;
use super::metrics::METRICS;
use super::partition::{Partition, PartitionId, State};
use super::{DELETED, Shared, tables};
use crate::config::TopicConfig;

/// Pause between two rounds, unless the longest is to be shorter.
const INTERVAL: Duration = Duration::from_secs(10);
/// A round that takes long is followed by a pause this many times as long: idle partitions must not cost CPU.
const PAUSE_FACTOR: u32 = 50;
/// A segment file is rewritten when at least this part of it is garbage.
const GARBAGE_RATIO: f64 = 0.5;
/// Bytes that compaction and cleaning handle per second at most, so that they leave disk and CPU to clients.
const BACKGROUND_RATE: u64 = 64 << 20;
/// Every so many bytes of garbage let cleaning go once more as fast: who writes more than it gives back would fill the disk.
const GARBAGE_PER_RATE: u64 = 1 << 30;
/// Of the thread, where 0 is what clients are served at: a round has bursts of 100 ms, for which they should not wait.
const NICE: i32 = 5;
/// Work between two pauses, in bytes and in time: small frames cost more time than their bytes tell.
const PACE_BYTES: u64 = 1 << 20;
const PACE_TIME: Duration = Duration::from_millis(2);

/// Most rows that one command deletes while everybody waits.
pub(super) const DELETED_AT_ONCE: usize = 512;

/// Tables whose keys begin with a partition and go with it.
const PARTITIONED: [u8; 6] = [PARKED, DUE, UNIQ, ENDED, tables::TXN_OPEN, tables::TXN_ABORTED];

/// A partition and the configuration to keep it by.
pub type Job = (Arc<Partition>, Arc<TopicConfig>);

/// Ends pauses of the background thread.
#[derive(Debug, Default)]
pub(super) struct Stopping {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Stopping {
    pub(super) fn set(&self) {
        *self.set.lock() = true;
        self.changed.notify_all();
    }

    pub(super) fn is_set(&self) -> bool {
        *self.set.lock()
    }

    /// Waits; true when it is time to stop.
    fn wait(&self, pause: Duration) -> bool {
        let mut set = self.set.lock();
        if !*set {
            self.changed.wait_for(&mut set, pause);
        }
        *set
    }
}

/// Keeps background work at a rate, and at half of a core.
pub(super) struct Pace<'a> {
    stopping: &'a Stopping,
    /// More of both by this.
    times: f64,
    bytes: u64,
    /// When the last pause ended.
    since: Instant,
}

impl<'a> Pace<'a> {
    pub(super) fn new(stopping: &'a Stopping) -> Self {
        Pace { stopping, times: 1.0, bytes: 0, since: Instant::now() }
    }

    /// The more garbage there is, the faster.
    fn for_garbage(stopping: &'a Stopping, garbage: u64) -> Self {
        Pace { times: 1.0 + garbage as f64 / GARBAGE_PER_RATE as f64, ..Pace::new(stopping) }
    }

    /// Counts work, and pauses after each piece of some size.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.bytes += bytes;
        let worked = self.since.elapsed();
        if self.bytes >= PACE_BYTES || worked >= PACE_TIME {
            self.stopping.wait(pause(self.bytes, worked, self.times));
            (self.bytes, self.since) = (0, Instant::now());
        }
    }
}

/// What work of so many bytes and so long is followed by: as long again, or longer for the bytes; less of both by `times`.
pub(super) fn pause(bytes: u64, worked: Duration, times: f64) -> Duration {
    let due = Duration::from_secs_f64(bytes as f64 / (BACKGROUND_RATE as f64 * times));
    due.saturating_sub(worked).max(worked.div_f64(times))
}

/// Runs until the log is closed or there is nobody to work for.
pub(super) fn run(shared: &Arc<Shared>, longest: Duration, jobs: &dyn Fn() -> Option<Vec<Job>>) {
    // Linux takes this for the calling thread alone.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        debug!(%error, "house-keeping has the priority of everything else");
    }
    let shortest = INTERVAL.min(longest);
    let mut pause = shortest;
    while !shared.stopping.wait(pause) {
        let started = Instant::now();
        let Some(jobs) = jobs() else { return };
        if let Err(error) = shared.keep_house(&jobs)
            && !shared.stopping.is_set()
        {
            error!(%error, "house-keeping of the log failed, it will be tried again");
        }
        pause = (started.elapsed() * PAUSE_FACTOR).clamp(shortest, longest);
    }
}

impl Shared {
    /// One round.
    pub(super) fn keep_house(&self, jobs: &[Job]) -> Result<(), StorageError> {
        self.prepared.expire();
        for (partition, config) in jobs {
            if self.stopping.is_set() {
                return Ok(());
            }
            if partition.is_deleted() {
                continue;
            }
            if config.delete {
                self.expire(partition, config)?;
            }
            if config.compact {
                self.compact(partition, config)?;
            }
            self.sweep(partition)?;
            self.forget_aborts(partition)?;
            self.forget_producers(partition);
        }
        self.remove_remains()?;
        self.clean()
    }

    /// Trims batches past retention.ms, and the oldest while retention.bytes are kept without them (Kafka's
    /// `deleteOldSegments`, by the batch).
    fn expire(&self, partition: &Arc<Partition>, config: &TopicConfig) -> Result<(), StorageError> {
        let start = partition.log_start();
        // Kafka's limit is the high watermark: what a transaction has yet to decide about stays here.
        let end = partition.last_stable_offset();
        if start >= end {
            return Ok(());
        }
        let cutoff = config.retention_ms.map_or(i64::MIN, |retention| self.clock.now_ms().saturating_sub(retention));
        let mut surplus = match config.retention_bytes {
            Some(keep) => self.size(partition)?.saturating_sub(keep),
            None => 0,
        };
        let mut to = start;
        let mut bytes = 0;
        let mut undated = 0;
        for row in self.index.batches(partition.id, start) {
            let row = row?;
            let len = u64::from(row.location.len);
            if row.last_offset >= end {
                break;
            }
            let too_many = len <= surplus;
            surplus = if too_many { surplus - len } else { 0 };
            if !too_many && row.max_timestamp < 0 && cutoff > 0 {
                // No timestamp, no age of its own: it goes with the next batch that has one.
                undated += len;
                continue;
            }
            if !too_many && row.max_timestamp >= cutoff {
                break;
            }
            bytes += len + std::mem::take(&mut undated);
            to = row.last_offset + 1;
        }
        if to > start {
            self.trim(partition.clone(), to, Durability::Written).wait()?;
            METRICS.expired_bytes.inc_by(bytes);
            debug!(partition = partition.id, log_start = to, bytes, "retention moved the log start");
        }
        Ok(())
    }

    /// Deletes what is known of transactions that were aborted below the log start.
    fn forget_aborts(&self, partition: &Partition) -> Result<(), StorageError> {
        loop {
            let writes = self.outdated_aborts(partition.id, partition.log_start(), DELETED_AT_ONCE)?;
            if writes.is_empty() {
                return Ok(());
            }
            self.commit(writes, Durability::Written).wait()?;
        }
    }

    /// True while a record of the batch waits to be delivered. Only hidden ones do.
    pub(super) fn is_parked(&self, id: PartitionId, row: &BatchRow) -> Result<bool, IndexError> {
        if row.flags & HIDDEN == 0 {
            return Ok(false);
        }
        let mut from = id.to_be_bytes().to_vec();
        from.extend_from_slice(&row.base_offset.to_be_bytes());
        let Some(first) = self.index.scan_from(PARKED, &from).next().transpose()? else { return Ok(false) };
        let mut last = id.to_be_bytes().to_vec();
        last.extend_from_slice(&row.last_offset.to_be_bytes());
        Ok(first.0 <= last)
    }

    fn forget_producers(&self, partition: &Partition) {
        let before = self.clock.now_ms().saturating_sub(self.config.producer_expiration_ms);
        let mut state = partition.state.lock();
        let State { producers, open, .. } = &mut *state;
        if let Some(tracked) = producers {
            tracked.producers.expire(before, |id| open.contains_key(&id));
        }
    }

    /// Notes the deleted partitions that a crash left with rows.
    pub(super) fn find_remains(&self) -> Result<(), IndexError> {
        for row in self.index.scan(tables::LOG_STARTS, b"") {
            let (key, start) = row?;
            if start == DELETED.to_be_bytes()
                && let Ok(id) = key.try_into()
                && let id = u32::from_be_bytes(id)
                && (self.index.batch(id, 0)?.is_some() || self.has_rows(id)?)
            {
                self.remains.lock().push(Arc::new(Partition::new(id)));
            }
        }
        Ok(())
    }

    /// Deletes the rows of deleted partitions, a few thousand at a time.
    fn remove_remains(&self) -> Result<(), StorageError> {
        let remains = std::mem::take(&mut *self.remains.lock());
        for partition in remains {
            while self.index.batch(partition.id, 0)?.is_some() {
                self.trim(partition.clone(), DELETED, Durability::Written).wait()?;
            }
            self.forget_rows(partition.id)?;
        }
        Ok(())
    }

    /// True when features still have rows under a partition.
    fn has_rows(&self, id: PartitionId) -> Result<bool, IndexError> {
        for table in PARTITIONED {
            if self.index.scan(table, &id.to_be_bytes()).next().transpose()?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Deletes what features kept under a deleted partition.
    fn forget_rows(&self, id: PartitionId) -> Result<(), StorageError> {
        for table in PARTITIONED {
            loop {
                let rows = self.index.scan(table, &id.to_be_bytes()).take(DELETED_AT_ONCE);
                let deletes: Vec<Write> =
                    rows.map(|row| row.map(|(key, _)| Write::Delete { table, key })).collect::<Result<_, _>>()?;
                if deletes.is_empty() {
                    break;
                }
                self.commit(deletes, Durability::Written).wait()?;
            }
        }
        Ok(())
    }

    /// Rewrites segment files that are mostly garbage.
    fn clean(&self) -> Result<(), StorageError> {
        let victims = self.cleaner.victims(GARBAGE_RATIO);
        let garbage = victims.iter().map(|victim| victim.total() - victim.live()).sum();
        for victim in victims {
            if self.stopping.is_set() {
                return Ok(());
            }
            let mut pace = Pace::for_garbage(&self.stopping, garbage);
            let cleaned = self.cleaner.rewrite(&victim, &mut |bytes| pace.spend(bytes))?;
            if !cleaned.skipped {
                info!(files = victim.segments.len(), before = cleaned.before, after = cleaned.after, "cleaned the log");
            }
        }
        Ok(())
    }
}
