//! Partitions over the one commit log.
//!
//! One thread writes ([`writer`]), one syncs ([`sync`]), one keeps house (retention, compaction, cleaning). Readers take
//! no lock of theirs: they go by a partition's high watermark, the batches in memory and the index.

mod ahead;
mod append;
mod clock;
mod compaction;
mod disk;
mod end_txn;
mod error;
mod found;
mod housekeeping;
mod marks;
mod metrics;
mod partition;
mod pending;
mod prepared;
mod producers;
mod queue;
mod read;
mod recent;
mod replay;
mod span;
mod sync;
pub mod tables;
mod times;
mod trim;
mod txn;
mod unsent;
mod watch;
mod writer;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod hidden_tests;
#[cfg(test)]
mod housekeeping_tests;
#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use dashmap::DashMap;
use krocket_protocol::records::batch::ATTRIBUTE_CONTROL;
use krocket_stack::ledger::Fate;
use krocket_store::{BatchRow, Cleaner, Index, LogReader};
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use append::{Append, Appended, Appending, Committing, Durability, Outcome, Write};
pub use clock::Clock;
pub use disk::DiskLimits;
pub use end_txn::EndTxn;
pub use error::{AppendError, StorageError};
pub(crate) use found::Found;
pub use krocket_protocol::records::MAX_DECOMPRESSED;
pub use partition::{Partition, PartitionId};
pub use producers::{ProducerView, SequenceError};
pub use read::{Batches, Range};
pub use times::TimedOffset;
pub use txn::{Aborted, COORDINATOR_EPOCH, Marker, Open};
pub use watch::Watch;

pub use housekeeping::Job;
use housekeeping::Stopping;
use marks::Visible;
use partition::{Extent, Tracked};
use prepared::Prepared;
use producers::{Numbered, Producers};
use queue::Queue;
use recent::Ring;
use sync::Round;
use trim::LogStart;
use unsent::Unsent;
use writer::{Command, Writer};

/// There is one leader and it never changes.
pub const LEADER_EPOCH: i32 = 0;
/// The log start of a deleted partition.
const DELETED: i64 = i64::MAX;

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The store's part.
    pub store: krocket_store::Options,
    /// Most bytes of newest batches kept in memory, all partitions together.
    pub recent_bytes: usize,
    /// Most batches kept in memory, all partitions together.
    pub recent_batches: usize,
    /// Most bytes read from disk that wait to be sent. What is more the kernel sends from the files.
    pub unsent_bytes: usize,
    /// producer.id.expiration.ms: how long an idle producer's sequences are remembered.
    pub producer_expiration_ms: i64,
    /// When producers are refused because the disk fills up.
    pub disk: DiskLimits,
    /// Tells the time.
    pub clock: Clock,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            store: krocket_store::Options::default(),
            recent_bytes: 32 << 20,
            recent_batches: 64 << 10,
            unsent_bytes: 64 << 20,
            producer_expiration_ms: 24 * 3600 * 1000,
            disk: DiskLimits::default(),
            clock: Clock::System,
        }
    }
}

/// The log of all partitions and tables. Cheap to clone; the last one to go stops its threads.
#[derive(Clone)]
pub struct Log(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the log's threads and its readers share.
struct Shared {
    index: Index,
    reader: LogReader,
    unsent: Arc<Unsent>,
    prepared: Prepared,
    partitions: DashMap<PartitionId, Arc<Partition>>,
    commands: Queue<Command>,
    rounds: Queue<Round>,
    /// End of the last round whose batches are visible.
    published: AtomicU64,
    /// Partitions that are deleted but still have rows.
    remains: Mutex<Vec<Arc<Partition>>>,
    /// Why nothing more is written, once the index could not be read.
    failed: OnceLock<StorageError>,
    /// Woken when a batch was appended that is to be indexed.
    work: tokio::sync::Notify,
    cleaner: Cleaner,
    disk: disk::Disk,
    stopping: Stopping,
    clock: Clock,
    config: LogConfig,
}

impl Log {
    /// Opens the data folder, recovers what a crash left, and starts the log's threads.
    pub fn open(dir: &Path, config: LogConfig) -> Result<Self, krocket_store::StoreError> {
        let opened = krocket_store::open(dir, config.store.clone(), &mut replay::apply)?;
        // What a killed process wrote is read from now on, so it has to stay.
        let synced = opened.syncer.sync()?;
        let shared = Arc::new(Shared {
            index: opened.index,
            reader: opened.reader,
            unsent: Unsent::new(config.unsent_bytes),
            prepared: Prepared::default(),
            partitions: DashMap::new(),
            commands: Queue::default(),
            rounds: Queue::default(),
            published: AtomicU64::new(synced),
            remains: Mutex::default(),
            failed: OnceLock::new(),
            work: tokio::sync::Notify::new(),
            cleaner: opened.cleaner,
            disk: disk::Disk::new(dir, config.disk),
            stopping: Stopping::default(),
            clock: config.clock.clone(),
            config,
        });
        shared.find_remains()?;
        let ring = Ring::new(shared.config.recent_bytes, shared.config.recent_batches);
        let writer = Writer::new(shared.clone(), opened.appender, ring);
        let syncer = opened.syncer;
        let threads = vec![
            spawn("log-writer", move || writer.run()),
            spawn("log-sync", {
                let shared = shared.clone();
                move || sync::run(&shared, &syncer)
            }),
        ];
        Ok(Log(Arc::new(Handle { shared, threads: Mutex::new(threads) })))
    }

    /// Stops the threads after all that was asked so far, and writes the index to disk, so that the next start has
    /// nothing to replay. Later calls get an error.
    pub fn close(&self) -> Result<(), StorageError> {
        self.0.stop();
        self.0.index.flush()?;
        Ok(())
    }

    /// An error once the log has stopped for good: a failed sync, or an index that cannot be read. A full disk is not
    /// one; that may pass.
    pub fn health(&self) -> Result<(), StorageError> {
        self.0.reader.health()?;
        self.0.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// The partition of this id; one that was never written to is empty.
    pub fn partition(&self, id: PartitionId) -> Result<Arc<Partition>, StorageError> {
        self.0.partition(id)
    }

    /// Counts bytes of a producer against the disk's room; an error, which may pass, while it is nearly full. What
    /// krocket itself writes is not asked: deletions free space.
    pub fn admit(&self, bytes: usize) -> Result<(), StorageError> {
        self.0.disk.admit(bytes)
    }

    /// Where the log ends, as far as it is visible.
    pub fn position(&self) -> u64 {
        self.0.published.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Makes everything durable and takes hold of the log's files.
    pub fn snapshot(&self) -> Result<krocket_store::Snapshot, krocket_store::StoreError> {
        self.0.reader.snapshot()
    }

    /// Appends a batch. It is queued when this is called, not when the outcome is awaited: calls made one after the
    /// other are in the log in that order.
    pub fn append(&self, append: Append) -> Appending {
        let (answer, outcome) = oneshot::channel();
        self.0.send(Command::Append(append, answer));
        Outcome(outcome)
    }

    /// Changes tables: all writes or none, visible to [`Log::get`] and [`Log::scan`] when answered, in the order of the
    /// calls.
    pub fn commit(&self, writes: Vec<Write>, durability: Durability) -> Committing {
        self.0.commit(writes, durability)
    }

    /// Ends a transaction: in every partition where the producer has one open a marker is appended, and the writes are
    /// done, all in one frame. In the order of the calls, as appends.
    pub fn end_txn(&self, end: EndTxn) -> Committing {
        let (answer, outcome) = oneshot::channel();
        self.0.send(Command::EndTxn(end, answer));
        Outcome(outcome)
    }

    /// Every open transaction of every partition, with its producer's id. Reads the index.
    pub fn open_txns(&self) -> Result<Vec<(PartitionId, i64, Open)>, StorageError> {
        Ok(self.0.all_open()?)
    }

    /// Aborted transactions that have records at `from..up_to`. Reads the index.
    pub fn aborted(&self, partition: &Partition, from: i64, up_to: i64) -> Result<Vec<Aborted>, StorageError> {
        Ok(self.0.aborted(partition, from, up_to)?)
    }

    /// What the transaction of the batch that holds this offset makes of it. Reads the index.
    pub(crate) fn fate(&self, partition: &Partition, offset: i64) -> Result<Fate, StorageError> {
        Ok(self.0.fate(partition, offset)?)
    }

    /// The value of a key.
    pub fn get(&self, table: u8, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0.index.get(table, key)?)
    }

    /// Keys and values of a table whose keys begin with `prefix`, ascending.
    pub fn scan<'a>(
        &'a self,
        table: u8,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StorageError>> + 'a {
        self.0.index.scan(table, prefix).map(|row| row.map_err(StorageError::from))
    }

    /// Moves the log start to `before_offset`, which must not lie beyond the high watermark; a start that is there
    /// already stays.
    pub fn delete_records(&self, partition: &Arc<Partition>, before_offset: i64, durability: Durability) -> Committing {
        self.0.trim(partition.clone(), before_offset, durability)
    }

    /// Takes a partition away for ever.
    pub fn delete_partition(&self, partition: Arc<Partition>) -> Committing {
        self.0.trim(partition, DELETED, Durability::Written)
    }

    /// The idempotent producers that a partition remembers.
    pub fn producers(&self, partition: &Partition) -> Result<Vec<ProducerView>, StorageError> {
        let mut state = partition.state.lock();
        if state.producers.is_none() {
            state.producers = Some(Box::new(self.0.load_producers(partition.id)?));
        }
        let mut views = state.producers.as_ref().map(|tracked| tracked.producers.views()).unwrap_or_default();
        for view in &mut views {
            if let Some(open) = state.open.get(&view.producer_id) {
                (view.txn_start, view.coordinator_epoch) = (open.first_offset, COORDINATOR_EPOCH);
            }
        }
        Ok(views)
    }

    /// Starts the thread that applies retention and compaction and gives space back, with pauses no longer than that. `jobs`
    /// tells what there is to keep in order; `None` ends the thread.
    pub fn start_housekeeping(&self, longest: Duration, jobs: impl Fn() -> Option<Vec<Job>> + Send + 'static) {
        let shared = self.0.shared.clone();
        self.0.threads.lock().push(spawn("log-keeper", move || housekeeping::run(&shared, longest, &jobs)));
    }

    /// One round of house-keeping, here and now.
    pub fn keep_house(&self, jobs: &[Job]) -> Result<(), StorageError> {
        self.0.keep_house(jobs)
    }

    /// What features ask of the index.
    pub(crate) fn index(&self) -> &Index {
        &self.0.index
    }

    /// Woken when there is new work for indexers.
    pub(crate) fn work(&self) -> &tokio::sync::Notify {
        &self.0.work
    }

    /// Tells the time.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("applied", &self.0.index.applied()).finish_non_exhaustive()
    }
}

impl Deref for Handle {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Handle {
    fn stop(&self) {
        self.stopping.set();
        self.commands.close();
        for thread in self.threads.lock().drain(..) {
            // The house-keeping thread may hold the last reference to what holds the log.
            if thread.thread().id() == std::thread::current().id() {
                continue;
            }
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn send(&self, command: Command) {
        // When the log is closed the command is dropped, and with it the answer: the outcome is an error.
        let _ = self.commands.push(command);
    }

    fn commit(&self, writes: Vec<Write>, durability: Durability) -> Committing {
        let (answer, outcome) = oneshot::channel();
        self.send(Command::Commit { writes, durability, answer });
        Outcome(outcome)
    }

    fn partition(&self, id: PartitionId) -> Result<Arc<Partition>, StorageError> {
        if let Some(partition) = self.partitions.get(&id) {
            return Ok(partition.clone());
        }
        let entry = self.partitions.entry(id).or_try_insert_with(|| self.load(id).map(Arc::new))?;
        Ok(entry.clone())
    }

    fn load(&self, id: PartitionId) -> Result<Partition, StorageError> {
        let last = self.index.last_batch(id)?;
        let LogStart { start: log_start, .. } = self.log_start(id)?;
        if log_start == DELETED {
            let partition = Partition::new(id);
            partition.mark_deleted();
            return Ok(partition);
        }
        Ok(Partition::open(
            id,
            Extent {
                log_start,
                log_end: last.as_ref().map_or(0, |last| last.last_offset + 1).max(log_start),
                running_max_timestamp: last.as_ref().map_or(-1, |last| last.running_max_timestamp),
                cumulative_bytes: last.as_ref().map_or(0, |last| last.cumulative_bytes),
                visible_end: self.visible_end(id, last, log_start)?,
                open: self.load_open(id)?,
                last_abort: self.last_abort(id)?,
            },
        ))
    }

    /// Where a partition's visible records end. A batch that is hidden says where they ended before it, but the disk may
    /// have lost the batch that it means: who asks for the end then has to find the one before.
    fn visible_end(&self, id: PartitionId, last: Option<BatchRow>, log_start: i64) -> Result<i64, StorageError> {
        let mut row = last;
        while let Some(hidden) = row {
            let end = marks::visible_end(&hidden);
            if Visible::of(&hidden) != Visible::None {
                return Ok(end.max(log_start));
            }
            let end = end.min(hidden.base_offset);
            if end <= log_start {
                break;
            }
            row = match self.index.batch(id, end - 1)? {
                Some(holds) if holds.base_offset < end => Some(holds),
                _ => self.index.batch_before(id, end)?,
            };
        }
        Ok(log_start)
    }

    /// A partition's producers: the last snapshot and the batches since.
    fn load_producers(&self, id: PartitionId) -> Result<Tracked, StorageError> {
        let snapshot = self.index.get(tables::PRODUCERS, &id.to_be_bytes())?;
        let (mut producers, from) = snapshot.and_then(|bytes| Producers::from_snapshot(&bytes)).unwrap_or_default();
        // Nobody knows when those wrote; counting from now errs on the side of remembering.
        let now_ms = self.clock.now_ms();
        let mut since_snapshot = 0;
        producers.expire(now_ms.saturating_sub(self.config.producer_expiration_ms), |_| false);
        for row in self.index.batches(id, from) {
            let row = row?;
            if row.producer_id < 0 || row.base_offset < from {
                continue;
            }
            since_snapshot += 1;
            if row.attributes & ATTRIBUTE_CONTROL != 0 {
                producers.end_txn(row.producer_id, row.producer_epoch, now_ms);
                continue;
            }
            let numbered = Numbered {
                producer_id: row.producer_id,
                epoch: row.producer_epoch,
                base_sequence: row.base_sequence,
                offset_delta: (row.last_offset - row.base_offset) as i32,
                timestamp: row.max_timestamp,
            };
            producers.record(&numbered, row.base_offset, now_ms);
        }
        Ok(Tracked { producers, since_snapshot })
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread can be started")
}
