//! The newest batches of a partition in memory, so that a consumer at the tail costs neither index nor file reads.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use krocket_protocol::chunk::Chunk;
use krocket_protocol::records::batch::{HEADER_LEN, patch};
use krocket_store::BatchRow;

use super::LEADER_EPOCH;
use super::marks::{HIDDEN, HIDDEN_ALL};
use super::partition::Partition;
use super::read::Batches;

/// Bodies up to this size are cheaper copied than sent as a piece of their own.
const COPIED: usize = 2048;

/// A batch as appended: its header is patched, its body shares memory with the request that brought it. One with hidden
/// records has no body here.
#[derive(Clone, Debug)]
pub(super) struct Cached {
    base_offset: i64,
    last_offset: i64,
    header: [u8; HEADER_LEN],
    body: Bytes,
    flags: u8,
}

impl Cached {
    pub(super) fn new(row: &BatchRow, batch: &Bytes) -> Self {
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&batch[..HEADER_LEN]);
        patch(&mut header, row.base_offset, LEADER_EPOCH);
        Cached {
            base_offset: row.base_offset,
            last_offset: row.last_offset,
            header,
            body: if row.flags & HIDDEN != 0 { Bytes::new() } else { batch.slice(HEADER_LEN..) },
            flags: row.flags,
        }
    }

    fn len(&self) -> usize {
        HEADER_LEN + self.body.len()
    }
}

/// Contiguous batches up to the log's end.
#[derive(Debug, Default)]
pub(super) struct Recent {
    batches: VecDeque<Cached>,
}

impl Recent {
    /// Collects whole batches from the one that holds `offset`, up to `up_to`. `None` when they begin too late
    /// or records have to be taken out.
    pub(super) fn read(
        &self,
        offset: i64,
        up_to: i64,
        limit: &mut super::read::Limit,
        read: &mut Batches,
    ) -> Option<()> {
        if self.batches.front()?.base_offset > offset {
            return None;
        }
        let first = self.batches.partition_point(|batch| batch.last_offset < offset);
        let mut copied = BytesMut::new();
        for batch in self.batches.range(first..) {
            // A batch is visible as a whole, but for records hidden at its end.
            if batch.base_offset >= up_to {
                break;
            }
            if batch.flags & HIDDEN_ALL != 0 {
                continue;
            }
            if batch.flags & HIDDEN != 0 {
                // To take records out is work for a thread that may block, and not under this lock: the writer waits.
                return None;
            }
            if !limit.take(batch.len()) {
                break;
            }
            read.end = batch.last_offset + 1;
            copied.extend_from_slice(&batch.header);
            if batch.body.len() <= COPIED {
                copied.extend_from_slice(&batch.body);
            } else {
                read.chunks.push(Chunk::Bytes(copied.split().freeze()));
                read.chunks.push(Chunk::Bytes(batch.body.clone()));
            }
        }
        if !copied.is_empty() {
            read.chunks.push(Chunk::Bytes(copied.freeze()));
        }
        Some(())
    }

    /// Forgets batches that end before `log_start`.
    pub(super) fn trim(&mut self, log_start: i64) {
        while self.batches.front().is_some_and(|batch| batch.last_offset < log_start) {
            self.batches.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.batches = VecDeque::new();
    }
}

/// Keeps the memory of all partitions' newest batches within bounds: first in, first out. The writer's own.
#[derive(Debug)]
pub(super) struct Ring {
    entries: VecDeque<(Arc<Partition>, i64, usize)>,
    bytes: usize,
    max_bytes: usize,
    max_batches: usize,
}

impl Ring {
    pub(super) fn new(max_bytes: usize, max_batches: usize) -> Self {
        Ring { entries: VecDeque::new(), bytes: 0, max_bytes, max_batches }
    }

    /// Remembers a batch and forgets the oldest ones.
    pub(super) fn push(&mut self, partition: &Arc<Partition>, cached: Cached) {
        let len = cached.len();
        self.entries.push_back((partition.clone(), cached.last_offset, len));
        self.bytes += len;
        partition.recent.lock().batches.push_back(cached);
        while self.bytes > self.max_bytes || self.entries.len() > self.max_batches {
            let Some((partition, last_offset, len)) = self.entries.pop_front() else { break };
            self.bytes -= len;
            let mut recent = partition.recent.lock();
            if recent.batches.front().is_some_and(|batch| batch.last_offset <= last_offset) {
                recent.batches.pop_front();
            }
            if recent.batches.is_empty() {
                recent.clear();
            }
        }
    }
}
