//! One partition as readers see it.

use std::sync::atomic::{AtomicI64, Ordering};

/// Names a partition inside this broker: dense, never used again after a deletion.
pub type PartitionId = u32;

/// A partition's public state. Only the log's writer moves the offsets.
#[derive(Debug)]
pub struct Partition {
    /// Names it in the log.
    pub id: PartitionId,
    /// Index within its topic.
    pub index: i32,
    log_start: AtomicI64,
    high_watermark: AtomicI64,
}

impl Partition {
    /// An empty partition.
    pub fn new(id: PartitionId, index: i32) -> Self {
        Partition { id, index, log_start: AtomicI64::new(0), high_watermark: AtomicI64::new(0) }
    }

    /// First offset still there.
    pub fn log_start(&self) -> i64 {
        self.log_start.load(Ordering::Acquire)
    }

    /// End of the last visible record.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.load(Ordering::Acquire)
    }
}
