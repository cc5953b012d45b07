//! One partition: what readers see of it, and what the writer keeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use krocket_store::Position;
use parking_lot::Mutex;

use super::producers::Producers;
use super::recent::Recent;
use super::txn::{OpenTxns, STABLE, first_unstable};
use super::watch::Waiter;

/// Names a partition inside this broker: dense, never used again after a deletion.
pub type PartitionId = u32;

/// A partition of the log. Only the log's own threads move its offsets.
#[derive(Debug)]
pub struct Partition {
    /// Names it in the log.
    pub id: PartitionId,
    log_start: AtomicI64,
    high_watermark: AtomicI64,
    /// End of what is as durable as its producer asked for, hidden or not.
    durable_end: AtomicI64,
    /// First offset of the oldest open transaction.
    first_unstable: AtomicI64,
    /// Offset of the last marker of an aborted transaction, -1 for none.
    last_abort: AtomicI64,
    log_end: AtomicI64,
    deleted: AtomicBool,
    /// The writer's; others only look.
    pub(super) state: Mutex<State>,
    /// The newest batches, for tail reads without the index.
    pub(super) recent: Mutex<Recent>,
    waiters: Mutex<Vec<Arc<Waiter>>>,
}

/// What the writer knows of a partition.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Highest timestamp so far, -1 for none.
    pub(super) running_max_timestamp: i64,
    /// Bytes ever appended.
    pub(super) cumulative_bytes: u64,
    /// End of the last record appended that readers will see.
    pub(super) visible_end: i64,
    /// Transactions that are open.
    pub(super) open: OpenTxns,
    /// End of the last frame whose batches only the sync thread may publish.
    pub(super) unsynced: Position,
    /// Loaded when the first numbered batch comes.
    pub(super) producers: Option<Box<Tracked>>,
}

/// Idempotent producers and how much happened since their last snapshot.
#[derive(Debug, Default)]
pub(super) struct Tracked {
    pub(super) producers: Producers,
    pub(super) since_snapshot: u32,
}

/// Batches of idempotent producers after which a partition's producers are written down again.
const SNAPSHOT_INTERVAL: u32 = 512;

impl Tracked {
    /// Counts a batch; true when a snapshot is due.
    pub(super) fn counts_one(&mut self) -> bool {
        self.since_snapshot += 1;
        self.since_snapshot.is_multiple_of(SNAPSHOT_INTERVAL)
    }
}

/// How far a partition goes once an append is published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) visible: i64,
    pub(super) durable: i64,
    /// First offset that a transaction has yet to decide about.
    pub(super) unstable: i64,
}

impl From<i64> for Ends {
    /// Nothing is hidden or undecided at the end.
    fn from(end: i64) -> Self {
        Ends { visible: end, durable: end, unstable: STABLE }
    }
}

/// Where a partition begins and ends, as read from the index.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    pub(super) log_start: i64,
    pub(super) log_end: i64,
    pub(super) running_max_timestamp: i64,
    pub(super) cumulative_bytes: u64,
    pub(super) visible_end: i64,
    pub(super) open: OpenTxns,
    pub(super) last_abort: i64,
}

impl Partition {
    /// An empty partition.
    pub(super) fn new(id: PartitionId) -> Self {
        let extent = Extent {
            log_start: 0,
            log_end: 0,
            running_max_timestamp: -1,
            cumulative_bytes: 0,
            visible_end: 0,
            open: OpenTxns::new(),
            last_abort: -1,
        };
        Partition::open(id, extent)
    }

    /// A partition as the index has it. All that survived a restart is visible.
    pub(super) fn open(id: PartitionId, extent: Extent) -> Self {
        Partition {
            id,
            log_start: AtomicI64::new(extent.log_start),
            high_watermark: AtomicI64::new(extent.visible_end),
            durable_end: AtomicI64::new(extent.log_end),
            first_unstable: AtomicI64::new(first_unstable(&extent.open)),
            last_abort: AtomicI64::new(extent.last_abort),
            log_end: AtomicI64::new(extent.log_end),
            deleted: AtomicBool::new(false),
            state: Mutex::new(State {
                running_max_timestamp: extent.running_max_timestamp,
                cumulative_bytes: extent.cumulative_bytes,
                visible_end: extent.visible_end,
                open: extent.open,
                ..State::default()
            }),
            recent: Mutex::default(),
            waiters: Mutex::default(),
        }
    }

    /// First offset still there.
    pub fn log_start(&self) -> i64 {
        self.log_start.load(Ordering::Acquire)
    }

    /// End of the last visible record.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.load(Ordering::Acquire)
    }

    /// End of what is as durable as its producer asked for, hidden records included.
    pub fn durable_end(&self) -> i64 {
        self.durable_end.load(Ordering::Acquire)
    }

    /// End of the last record that readers under `read_committed` may see.
    pub fn last_stable_offset(&self) -> i64 {
        // In this order: a transaction that begins meanwhile is above both.
        let end = self.high_watermark();
        end.min(self.first_unstable.load(Ordering::Acquire)).max(self.log_start())
    }

    /// False when no transaction was aborted at this offset or later.
    pub fn has_aborts_from(&self, offset: i64) -> bool {
        self.last_abort.load(Ordering::Acquire) >= offset
    }

    /// Before the marker is seen.
    pub(super) fn note_abort(&self, marker: i64) {
        self.last_abort.fetch_max(marker, Ordering::AcqRel);
    }

    /// End of the last record appended, visible or not.
    pub fn log_end(&self) -> i64 {
        self.log_end.load(Ordering::Acquire)
    }

    /// True once the partition's topic was deleted.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(super) fn set_log_end(&self, end: i64) {
        self.log_end.store(end, Ordering::Release);
    }

    /// Makes records up to `ends` visible, `bytes` of them, and wakes who waited.
    pub(super) fn publish(&self, ends: Ends, bytes: i64) {
        // Before its records are seen a transaction is known to be open; its end may be known early.
        self.first_unstable.store(ends.unstable, Ordering::Release);
        self.durable_end.fetch_max(ends.durable, Ordering::AcqRel);
        if self.high_watermark.fetch_max(ends.visible, Ordering::AcqRel) >= ends.visible {
            return;
        }
        for waiter in self.waiters.lock().iter() {
            waiter.add(bytes);
        }
    }

    /// Moves the start forward; readers below it have to learn of that.
    pub(super) fn move_log_start(&self, offset: i64) {
        if self.log_start.fetch_max(offset, Ordering::AcqRel) < offset {
            self.interrupt();
        }
    }

    pub(super) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
        self.interrupt();
    }

    fn interrupt(&self) {
        for waiter in self.waiters.lock().iter() {
            waiter.interrupt();
        }
    }

    pub(super) fn register(&self, waiter: &Arc<Waiter>) {
        self.waiters.lock().push(waiter.clone());
    }

    pub(super) fn deregister(&self, waiter: &Arc<Waiter>) {
        let mut waiters = self.waiters.lock();
        if let Some(at) = waiters.iter().position(|other| Arc::ptr_eq(other, waiter)) {
            waiters.swap_remove(at);
        }
        if waiters.is_empty() {
            *waiters = Vec::new();
        }
    }

    #[cfg(test)]
    pub(super) fn waiter_count(&self) -> usize {
        self.waiters.lock().len()
    }
}
