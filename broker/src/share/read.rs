//! Reading batches for a share group: from memory where they are there, else on a thread that may wait for the disk.

use std::sync::Arc;

use super::piece::{Piece, pieces};
use crate::log::{Aborted, Batches, Log, Partition, Range, StorageError};

/// Most bytes read at a time.
pub(super) const STEP: usize = 1 << 20;

/// Where records may be read from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Memory,
    Disk,
}

/// What is to be read.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Ranges that come again, in order.
    pub(super) again: Vec<(i64, i64)>,
    /// Where new records begin, and how many are wanted.
    pub(super) fresh: Option<(i64, i64)>,
    pub(super) up_to: i64,
    pub(super) bytes: usize,
    pub(super) read_committed: bool,
}

impl Plan {
    pub(super) fn is_empty(&self) -> bool {
        self.again.is_empty() && self.fresh.is_none()
    }

    /// Reads it all.
    pub(super) async fn read(&self, log: &Log, partition: &Arc<Partition>) -> Result<Found, StorageError> {
        if let Some(found) = self.read_from(log, partition, Source::Memory) {
            return found;
        }
        let (plan, log, partition) = (self.clone(), log.clone(), partition.clone());
        let read = tokio::task::spawn_blocking(move || plan.read_from(&log, &partition, Source::Disk));
        // Only a panic or the end of the runtime get in between.
        read.await.ok().flatten().unwrap_or_else(|| Ok(Found::default()))
    }

    /// `None` when something is not in memory.
    fn read_from(&self, log: &Log, partition: &Partition, source: Source) -> Option<Result<Found, StorageError>> {
        let mut found = Found { reached: i64::MIN, ..Found::default() };
        let mut left = self.bytes;
        let ranges = self.again.iter().map(|(first, last)| (*first, *last + 1, i64::MAX));
        let fresh = self.fresh.map(|(first, records)| (first, self.up_to, records));
        for (first, end, records) in ranges.chain(fresh) {
            let mut at = first.max(found.reached);
            let mut missing = records;
            // As many offsets hold at most as many records; where compaction left gaps, more are looked at.
            let mut offsets = records;
            while at < end && missing > 0 {
                if left == 0 {
                    return Some(Ok(found));
                }
                let up_to = end.min(at.saturating_add(offsets));
                let range = Range { offset: at, up_to, max_bytes: left.min(STEP), at_least_one: true };
                match read(log, partition, range, source)? {
                    Ok(pieces) if pieces.is_empty() => (at, found.reached) = (up_to, up_to),
                    Ok(pieces) => at = found.add(pieces, &mut left, &mut missing),
                    Err(error) => return Some(Err(error)),
                }
                offsets = offsets.saturating_mul(2);
            }
        }
        if self.read_committed
            && let (Some(first), Some(last)) = (found.pieces.first(), found.pieces.last())
            && partition.has_aborts_from(first.base())
        {
            if source == Source::Memory {
                return None;
            }
            match log.aborted(partition, first.base(), last.last() + 1) {
                Ok(aborted) => found.aborted = aborted,
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(found))
    }
}

fn read(log: &Log, partition: &Partition, range: Range, source: Source) -> Option<Result<Vec<Piece>, StorageError>> {
    let Batches { chunks, .. } = match (log.read_recent(partition, range), source) {
        (Some(read), _) => read,
        (None, Source::Memory) => return None,
        (None, Source::Disk) => match log.read(partition, range) {
            Ok(read) => read,
            Err(error) => return Some(Err(error)),
        },
    };
    Some(pieces(chunks))
}

impl Found {
    fn add(&mut self, pieces: Vec<Piece>, left: &mut usize, missing: &mut i64) -> i64 {
        for piece in &pieces {
            *left = left.saturating_sub(piece.header.len);
            *missing -= i64::from(piece.header.count);
            self.reached = piece.last() + 1;
        }
        self.pieces.extend(pieces);
        self.reached
    }

    pub(super) fn is_aborted(&self, piece: &Piece) -> bool {
        piece.header.is_transactional()
            && self.aborted.iter().any(|aborted| {
                aborted.producer_id == piece.header.producer_id
                    && (aborted.first_offset..aborted.last_offset).contains(&piece.base())
            })
    }
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) pieces: Vec<Piece>,
    pub(super) aborted: Vec<Aborted>,
    /// Everything before was looked at; the bytes did not reach further.
    pub(super) reached: i64,
}
