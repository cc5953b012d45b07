//! Handing out records: what comes again first, then what is new.

use std::sync::Arc;

use krocket_protocol::chunk::Chunk;

use super::partition::SharePartition;
use super::piece::{Piece, pieces};
use super::policy::Policy;
use super::window::{Delivered, Window};
use crate::log::{Aborted, Batches, Log, Partition, Range, StorageError};

/// Bytes read at a time: how many records they hold is seen afterwards.
const STEP: usize = 1 << 20;

/// What a member may be given.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) member: Arc<str>,
    /// Most records.
    pub(super) records: i64,
    /// Never more, not even to the end of a batch (KIP-1206).
    pub(super) exact: bool,
    /// Most bytes, but for the first batch.
    pub(super) bytes: usize,
}

/// What it was given.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) acquired: Vec<Delivered>,
    /// Batches that hold the records, and maybe others.
    pub(super) records: Vec<Chunk>,
}

/// Where records may be read from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Memory,
    Disk,
}

/// What is to be read.
#[derive(Clone, Debug)]
struct Plan {
    /// Ranges that come again, in order.
    again: Vec<(i64, i64)>,
    /// Where new records begin, and how many are wanted.
    fresh: Option<(i64, i64)>,
    up_to: i64,
    bytes: usize,
    read_committed: bool,
}

impl Plan {
    fn new(window: &Window, partition: &Partition, policy: &Policy, wanted: &Wanted) -> Self {
        let most = wanted.records.min(policy.max_locks - window.acquired());
        let up_to = if policy.read_committed { partition.last_stable_offset() } else { partition.high_watermark() };
        let mut plan = Plan { again: Vec::new(), fresh: None, up_to, bytes: wanted.bytes, read_committed: policy.read_committed };
        let mut left = most;
        for run in window.ready() {
            if left <= 0 {
                break;
            }
            let portion = portion(run.count, policy.limit, wanted.records);
            if portion < wanted.records {
                // Its batch may hold the record that consumers die of: not together with others, on the last try alone.
                if left == most {
                    plan.again.push((run.first, run.last.min(run.first + portion.min(left) - 1)));
                }
                left = 0;
                break;
            }
            let last = run.last.min(run.first + left - 1);
            left -= last - run.first + 1;
            plan.again.push((run.first, last));
        }
        if left > 0 && window.end() < up_to {
            plan.fresh = Some((window.end(), left));
        }
        plan
    }

    fn is_empty(&self) -> bool {
        self.again.is_empty() && self.fresh.is_none()
    }
}

/// How many records that were delivered so often go out together: from half of the limit on ever fewer, one on the last
/// try (SharePartition.maybeThrottle...).
fn portion(count: u32, limit: u32, most: i64) -> i64 {
    let threshold = limit.div_ceil(2).max(2);
    if count < threshold {
        most
    } else if count + 1 >= limit {
        1
    } else {
        (most >> (count - threshold + 1).min(62)).max(1)
    }
}

/// What was read.
#[derive(Debug, Default)]
struct Found {
    pieces: Vec<Piece>,
    aborted: Vec<Aborted>,
    /// Everything before was looked at; the bytes did not reach further.
    reached: i64,
}

impl SharePartition {
    /// Bytes of new records in memory; `None` where there is more to be had than that.
    pub(super) fn fresh_bytes(&self, log: &Log, most: usize) -> Option<usize> {
        let from = {
            let slot = self.window.lock();
            let window = slot.as_ref()?;
            if window.ready().next().is_some() {
                return None;
            }
            window.end()
        };
        let up_to = self.partition.high_watermark();
        let read = log.read_recent(&self.partition, Range { offset: from, up_to, max_bytes: most, at_least_one: true })?;
        Some(read.chunks.iter().map(Chunk::len).sum())
    }

    /// Gives a member what there is. Rests of transactions that were aborted, gaps and markers are passed over.
    pub(super) async fn take(self: &Arc<Self>, log: &Log, policy: &Policy, wanted: &Wanted) -> Result<Taken, StorageError> {
        let _turn = self.reading.lock().await;
        self.begin(log, policy).await?;
        let plan = self.change(log, policy, |window, _| Plan::new(window, &self.partition, policy, wanted)).await?;
        let Some(plan) = plan.filter(|plan| !plan.is_empty()) else { return Ok(Taken::default()) };
        let found = match plan.read(log, &self.partition, Source::Memory) {
            Some(found) => found?,
            None => {
                let (plan, log, partition) = (plan.clone(), log.clone(), self.partition.clone());
                let read = tokio::task::spawn_blocking(move || plan.read(&log, &partition, Source::Disk));
                // Only a panic or the end of the runtime get in between.
                read.await.ok().flatten().transpose()?.unwrap_or_default()
            }
        };
        let taken =
            self.change(log, policy, |window, rules| acquire(window, &plan, found, wanted, rules.until_ms)).await?;
        taken.unwrap_or_else(|| Ok(Taken::default()))
    }
}

impl Plan {
    /// `None` when something is not in memory.
    fn read(&self, log: &Log, partition: &Partition, source: Source) -> Option<Result<Found, StorageError>> {
        let mut found = Found { reached: i64::MIN, ..Found::default() };
        let mut left = self.bytes;
        let ranges = self.again.iter().map(|(first, last)| (*first, *last + 1, i64::MAX));
        let fresh = self.fresh.map(|(first, records)| (first, self.up_to, records));
        for (first, end, records) in ranges.chain(fresh) {
            let mut at = first.max(found.reached);
            let mut missing = records;
            while at < end && missing > 0 {
                if left == 0 {
                    return Some(Ok(found));
                }
                let range = Range { offset: at, up_to: end, max_bytes: left.min(STEP), at_least_one: true };
                match read(log, partition, range, source)? {
                    Ok(pieces) if pieces.is_empty() => {
                        found.reached = end;
                        break;
                    }
                    Ok(pieces) => at = found.add(pieces, &mut left, &mut missing),
                    Err(error) => return Some(Err(error)),
                }
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

    fn is_aborted(&self, piece: &Piece) -> bool {
        piece.header.is_transactional()
            && self.aborted.iter().any(|aborted| {
                aborted.producer_id == piece.header.producer_id
                    && (aborted.first_offset..aborted.last_offset).contains(&piece.base())
            })
    }
}

fn acquire(
    window: &mut Window,
    plan: &Plan,
    found: Found,
    wanted: &Wanted,
    until_ms: i64,
) -> Result<Taken, StorageError> {
    let mut acquired = Vec::new();
    for (first, last) in &plan.again {
        let last = (*last).min(found.reached - 1);
        if !found.pieces.iter().any(|piece| piece.base() <= last && *first <= piece.last()) {
            // Compaction or retention took them since they were delivered last.
            window.leave_out(*first, last);
            continue;
        }
        acquired.extend(window.acquire(*first, last, &wanted.member, until_ms));
    }
    let mut left = plan.fresh.map_or(0, |(_, records)| records);
    for piece in &found.pieces {
        if left <= 0 {
            break;
        }
        if piece.last() < window.end() {
            continue;
        }
        let first = window.end();
        take_up(window, piece, found.is_aborted(piece))?;
        // The rest of a batch goes with its beginning, unless the client wants no more.
        let last = if wanted.exact { window.nth_ready(first, left).min(piece.last()) } else { piece.last() };
        for run in window.acquire(first, last, &wanted.member, until_ms) {
            left -= run.last - run.first + 1;
            acquired.push(run);
        }
    }
    let is_wanted = |piece: &Piece| acquired.iter().any(|run| run.first <= piece.last() && piece.base() <= run.last);
    let records = found.pieces.into_iter().filter(is_wanted).flat_map(|piece| piece.chunks).collect();
    Ok(Taken { acquired, records })
}

/// Extends the window by the new records of a batch.
fn take_up(window: &mut Window, piece: &Piece, aborted: bool) -> Result<(), StorageError> {
    window.extend(piece.base() - 1, false);
    if aborted || piece.header.is_control() {
        window.extend(piece.last(), false);
    } else if piece.is_dense() {
        window.extend(piece.last(), true);
    } else {
        for record in &piece.records()? {
            let record = record.map_err(|error| StorageError { message: error.to_string(), passing: true })?;
            window.extend(record.offset - 1, false);
            window.extend(record.offset, true);
        }
        window.extend(piece.last(), false);
    }
    Ok(())
}
