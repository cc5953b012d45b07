//! Handing out records: what comes again first, then what is new.

use std::sync::Arc;

use krocket_protocol::chunk::Chunk;

use super::partition::SharePartition;
use super::piece::Piece;
use super::policy::Policy;
use super::read::{Found, Plan};
use super::sieve::{Sieve, ranges};
use super::window::{Delivered, State, Window};
use crate::log::{Log, Partition, Range, StorageError};

/// Bytes that one request looks through for records that a group wants to see.
const LOOK_BYTES: usize = 16 << 20;
/// Records that are looked at ahead, so that an urgent one is found among them or one whose key is free.
const LOOK_AHEAD: usize = 4000;

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
    /// There is more to look through.
    pub(super) more: bool,
}

impl Plan {
    fn empty(partition: &Partition, policy: &Policy, bytes: usize) -> Self {
        let up_to = if policy.read_committed { partition.last_stable_offset() } else { partition.high_watermark() };
        Plan { again: Vec::new(), fresh: None, up_to, bytes, read_committed: policy.read_committed }
    }

    pub(super) fn new(window: &Window, partition: &Partition, policy: &Policy, wanted: &Wanted) -> Self {
        let mut plan = Plan::empty(partition, policy, wanted.bytes);
        let most = wanted.records.min(policy.max_locks - window.acquired());
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
        if left > 0 && window.end() < plan.up_to {
            plan.fresh = Some((window.end(), left));
        }
        plan
    }
}

/// How many records that were delivered so often go out together: from half of the limit on ever fewer, one on the last
/// try (as Kafka's SharePartition).
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
        let read =
            log.read_recent(&self.partition, Range { offset: from, up_to, max_bytes: most, at_least_one: true })?;
        Some(read.chunks.iter().map(Chunk::len).sum())
    }

    /// Gives a member what there is. Rests of transactions that were aborted, gaps and markers are passed over.
    pub(super) async fn take(
        self: &Arc<Self>,
        log: &Log,
        policy: &Policy,
        wanted: &Wanted,
    ) -> Result<Taken, StorageError> {
        let mut sieve = self.reading.lock().await;
        self.begin(log, policy).await?;
        let (plan, more) = if policy.sight.is_plain() {
            let plan = self.change(log, policy, |window, _| Plan::new(window, &self.partition, policy, wanted)).await?;
            (plan, false)
        } else {
            self.sift(&mut sieve, log, policy, wanted).await?
        };
        let Some(plan) = plan.filter(|plan| !plan.is_empty()) else { return Ok(Taken { more, ..Taken::default() }) };
        let taken = self.give(&plan, log, policy, wanted).await;
        sieve.put_back(&plan.again, taken.as_ref().map_or(&[], |taken| &taken.acquired));
        taken
    }

    async fn give(&self, plan: &Plan, log: &Log, policy: &Policy, wanted: &Wanted) -> Result<Taken, StorageError> {
        let found = plan.read(log, &self.partition).await?;
        let taken =
            self.change(log, policy, |window, rules| acquire(window, plan, found, wanted, rules.until_ms)).await?;
        taken.unwrap_or_else(|| Ok(Taken::default()))
    }

    /// Chooses records by what is in them, and looks further where too few are known. True where it did not look at all
    /// that there is.
    async fn sift(
        self: &Arc<Self>,
        sieve: &mut Sieve,
        log: &Log,
        policy: &Policy,
        wanted: &Wanted,
    ) -> Result<(Option<Plan>, bool), StorageError> {
        let mut left = LOOK_BYTES;
        let mut chosen: Vec<i64> = Vec::new();
        loop {
            let mut plan = Plan::empty(&self.partition, policy, LOOK_BYTES.min(left));
            let must_look = policy.sight.priority.is_some() && sieve.len() < LOOK_AHEAD;
            let step = self.change(log, policy, |window, _| {
                sieve.follow(window, &policy.sight);
                let ended = sieve.seen_to >= plan.up_to || left == 0;
                if ended || !must_look {
                    let most = wanted.records.min(policy.max_locks - window.acquired()) - chosen.len() as i64;
                    chosen.extend(sieve.choose(window, most, |count| portion(count, policy.limit, wanted.records)));
                    if ended || chosen.len() as i64 >= most || sieve.len() >= LOOK_AHEAD {
                        return None;
                    }
                }
                Some(sieve.seen_to)
            });
            let Some(from) = step.await?.flatten() else { break };
            plan.fresh = Some((from, policy.max_locks));
            let found = plan.read(log, &self.partition).await?;
            left = left.saturating_sub(found.pieces.iter().map(|piece| piece.header.len).sum());
            let looked = self.change(log, policy, |window, _| look(window, sieve, &found, policy));
            looked.await?.transpose()?;
        }
        chosen.sort_unstable();
        chosen.dedup();
        let plan = Plan { again: ranges(&chosen), ..Plan::empty(&self.partition, policy, wanted.bytes) };
        let more = chosen.is_empty() && sieve.seen_to < plan.up_to && sieve.len() < LOOK_AHEAD;
        Ok((Some(plan), more))
    }
}

/// Takes up what was read: into the window what is new, into the sieve what the group wants to see.
fn look(window: &mut Window, sieve: &mut Sieve, found: &Found, policy: &Policy) -> Result<(), StorageError> {
    for piece in &found.pieces {
        if piece.last() >= window.end() {
            take_up(window, piece, found.is_aborted(piece))?;
        }
        for record in &piece.records()? {
            let record = record.map_err(StorageError::unreadable)?;
            let state = window.run_of(record.offset).map(|(_, run)| run.state.clone());
            if record.offset < sieve.seen_to || state.is_none_or(|state| state == State::Done) {
                continue;
            }
            match &policy.sight.filter {
                Some(filter) if !filter.matches(&record) => window.leave_out(record.offset, record.offset),
                _ => sieve.add(&record, &policy.sight),
            }
        }
        sieve.seen_to = sieve.seen_to.max(piece.last() + 1);
    }
    sieve.seen_to = sieve.seen_to.max(found.reached);
    Ok(())
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
        let at = found.pieces.partition_point(|piece| piece.last() < *first);
        if found.pieces.get(at).is_none_or(|piece| piece.base() > last) {
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
            left -= run.len();
            acquired.push(run);
        }
    }
    let is_wanted = |piece: &Piece| {
        let at = acquired.partition_point(|run: &Delivered| run.last < piece.base());
        acquired.get(at).is_some_and(|run| run.first <= piece.last())
    };
    let records = found.pieces.into_iter().filter(is_wanted).flat_map(|piece| piece.chunks).collect();
    Ok(Taken { acquired, records, more: false })
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
            let record = record.map_err(StorageError::unreadable)?;
            window.extend(record.offset - 1, false);
            window.extend(record.offset, true);
        }
        window.extend(piece.last(), false);
    }
    Ok(())
}
