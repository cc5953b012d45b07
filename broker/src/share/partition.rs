//! One partition of one share group.

use std::sync::Arc;

use krocket_protocol::ErrorCode;
use parking_lot::Mutex;
use uuid::Uuid;

use super::metrics::METRICS;
use super::policy::Policy;
use super::rows;
use super::sieve::Sieve;
use super::window::{Cause, Delivered, Rules, Run, State, Verdict, Window};
use crate::config::OffsetReset;
use crate::log::{Committing, Durability, Log, Partition, StorageError, Write};

/// A partition that a share group reads.
#[derive(Debug)]
pub(crate) struct SharePartition {
    pub(super) group: Arc<str>,
    pub(super) topic: Uuid,
    pub(super) topic_name: String,
    pub(super) index: i32,
    pub(super) partition: Arc<Partition>,
    /// Held by whoever looks for records to hand out.
    pub(super) reading: tokio::sync::Mutex<Sieve>,
    /// Held by whoever writes dead letters.
    pub(super) burying: tokio::sync::Mutex<()>,
    /// `None` until it is decided where the group begins.
    pub(super) window: Mutex<Option<Window>>,
}

/// A client's word for some records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) verdict: Verdict,
}

impl Acknowledgement {
    /// Reads one range of a request: one type for all of it, or one for each record.
    pub(crate) fn read(first: i64, last: i64, types: &[i8], policy: &Policy) -> Result<Vec<Self>, ErrorCode> {
        let verdict = |kind: i8| match kind {
            0 | 1 => Ok(Verdict::Accept),
            2 => Ok(Verdict::Release),
            3 => Ok(Verdict::Reject),
            4 if policy.renewals => Ok(Verdict::Renew),
            _ => Err(ErrorCode::InvalidRequest),
        };
        let len = last.checked_sub(first).filter(|len| *len >= 0).ok_or(ErrorCode::InvalidRequest)?;
        match types {
            [kind] => Ok(vec![Acknowledgement { first, last, verdict: verdict(*kind)? }]),
            types if types.len() as i64 == len.saturating_add(1) => {
                let mut runs: Vec<Acknowledgement> = Vec::new();
                for (offset, kind) in (first..).zip(types) {
                    let verdict = verdict(*kind)?;
                    match runs.last_mut() {
                        Some(run) if run.verdict == verdict => run.last = offset,
                        _ => runs.push(Acknowledgement { first: offset, last: offset, verdict }),
                    }
                }
                Ok(runs)
            }
            _ => Err(ErrorCode::InvalidRequest),
        }
    }
}

impl SharePartition {
    /// Decides where the group begins, once.
    pub(super) async fn begin(self: &Arc<Self>, log: &Log, policy: &Policy) -> Result<(), StorageError> {
        if self.window.lock().is_some() {
            return Ok(());
        }
        let partition = &self.partition;
        let end = if policy.read_committed { partition.last_stable_offset() } else { partition.high_watermark() };
        let start = match policy.reset {
            OffsetReset::Latest => end,
            OffsetReset::Earliest => partition.log_start(),
            OffsetReset::ByDuration(age) => {
                let (log, partition, from) = (
                    log.clone(),
                    partition.clone(),
                    log.clock().now_ms().saturating_sub_unsigned(age.as_millis() as u64),
                );
                let found = tokio::task::spawn_blocking(move || log.offset_for_timestamp(&partition, from)).await;
                found.unwrap_or(Ok(None))?.map_or(end, |found| found.offset)
            }
        };
        self.reset(log, start).await
    }

    /// Starts anew at an offset.
    pub(super) async fn reset(&self, log: &Log, start: i64) -> Result<(), StorageError> {
        let committing = {
            let mut slot = self.window.lock();
            let mut writes = vec![rows::put_start(&self.group, self.partition.id, start)];
            if let Some(window) = slot.as_mut() {
                // Writes down the deletion of each run.
                window.trim(i64::MAX - 1);
                let (_, changes) = window.take_changes();
                writes.extend(changes.into_iter().map(|(first, _)| rows::delete(self.key(first))));
            }
            *slot = Some(Window::restored(start, []));
            log.commit(writes, Durability::Written)
        };
        committing.await
    }

    /// Forgets everything.
    pub(super) async fn forget(&self, log: &Log) -> Result<(), StorageError> {
        let committing = {
            let mut slot = self.window.lock();
            let Some(mut window) = slot.take() else { return Ok(()) };
            window.trim(i64::MAX - 1);
            let (_, changes) = window.take_changes();
            let mut writes: Vec<Write> = changes.into_iter().map(|(first, _)| rows::delete(self.key(first))).collect();
            writes.push(rows::delete(rows::prefix(&self.group, self.partition.id)));
            log.commit(writes, Durability::Written)
        };
        committing.await
    }

    pub(super) fn key(&self, first: i64) -> Vec<u8> {
        rows::run_key(&self.group, self.partition.id, first)
    }

    /// One step of the window, at a time that it is brought to before. Comes back when the step is in the log; with nothing
    /// where the group has not begun here.
    pub(super) async fn change<R>(
        &self,
        log: &Log,
        policy: &Policy,
        step: impl FnOnce(&mut Window, &Rules<'_>) -> R,
    ) -> Result<Option<R>, StorageError> {
        let (result, step) = self.step(log, policy, step);
        if let Some((committing, mut taken)) = step {
            committing.await?;
            taken.written = true;
        }
        Ok(result)
    }

    fn step<R>(
        &self,
        log: &Log,
        policy: &Policy,
        step: impl FnOnce(&mut Window, &Rules<'_>) -> R,
    ) -> (Option<R>, Option<(Committing, Taken<'_>)>) {
        let now_ms = log.clock().steady_ms();
        let backoff = |deliveries| policy.backoff_ms(deliveries);
        let rules = Rules {
            now_ms,
            limit: policy.limit,
            until_ms: now_ms.saturating_add(policy.lock_ms),
            buries: policy.dead_letters.is_some(),
            backoff: &backoff,
        };
        let mut slot = self.window.lock();
        let Some(window) = slot.as_mut() else { return (None, None) };
        if !self.partition.is_deleted() {
            window.trim(self.partition.log_start());
        }
        METRICS.lost_locks.inc_by(window.tick(&rules).unsigned_abs());
        let result = step(window, &rules);
        let (start, changes) = window.take_changes();
        if start.is_none() && changes.is_empty() {
            return (Some(result), None);
        }
        let firsts = changes.iter().map(|(first, _)| *first).collect();
        let taken = Taken { of: self, start: start.is_some(), firsts, written: false };
        let id = self.partition.id;
        let mut writes: Vec<Write> = changes
            .into_iter()
            .map(|(first, run)| match run {
                Some(run) => rows::put_run(&self.group, id, first, &run),
                None => rows::delete(self.key(first)),
            })
            .collect();
        writes.extend(start.map(|start| rows::put_start(&self.group, id, start)));
        // Queued under the lock: steps are in the log in their order.
        (Some(result), Some((log.commit(writes, Durability::Written), taken)))
    }

    /// Takes a member's acknowledgements: all of them, or none where it does not hold a record.
    pub(super) async fn acknowledge(
        &self,
        log: &Log,
        policy: &Policy,
        member: &str,
        acknowledgements: &[Acknowledgement],
    ) -> Result<(), ErrorCode> {
        let held = self.change(log, policy, |window, rules| {
            let holds = |one: &Acknowledgement| window.holds(one.first, one.last, member);
            if !acknowledgements.iter().all(holds) {
                return false;
            }
            acknowledgements
                .iter()
                .all(|one| window.acknowledge(one.first, one.last, member, one.verdict, rules).is_ok())
        });
        match held.await {
            Ok(Some(true)) => {
                for one in acknowledgements {
                    let answer = METRICS.acknowledged.with_label_values(&[one.verdict.name()]);
                    answer.inc_by((one.last - one.first + 1).unsigned_abs());
                }
                Ok(())
            }
            Ok(_) => Err(ErrorCode::InvalidRecordState),
            Err(error) => {
                tracing::error!(%error, group = &*self.group, topic = self.topic_name, "acknowledgements cannot be written");
                Err(error.code())
            }
        }
    }

    /// Takes back what a member holds. One that is lost may have died of it; one that leaves has not tried it.
    pub(super) async fn release(
        &self,
        log: &Log,
        policy: &Policy,
        member: &str,
        lost: bool,
    ) -> Result<(), StorageError> {
        self.change(log, policy, |window, rules| window.release(member, !lost, rules)).await.map(drop)
    }

    /// True when a wait or a lock has ended, or somebody is to be buried.
    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        let slot = self.window.lock();
        slot.as_ref().is_some_and(|window| {
            window.next_due_ms().is_some_and(|due| due <= now_ms) || window.dying().next().is_some()
        })
    }

    pub(super) fn next_dead(&self) -> Option<(Delivered, Cause)> {
        self.window.lock().as_ref()?.dying().next()
    }

    /// What is left of a run of dead records after this part of it.
    pub(super) fn dead_after(&self, part: Delivered) -> Option<Run> {
        let slot = self.window.lock();
        let (_, run) = slot.as_ref()?.run_of(part.last + 1)?;
        (matches!(run.state, State::Dying(_)) && run.count == part.count).then(|| run.clone())
    }

    pub(super) fn buried(&self, run: Delivered) {
        if let Some(window) = self.window.lock().as_mut() {
            window.bury(run.first, run.last);
        }
    }

    /// Brings it to the present. When something ends by itself next, epoch ms.
    pub(super) async fn tick(&self, log: &Log, policy: &Policy) -> Result<Option<i64>, StorageError> {
        self.change(log, policy, |window, _| window.next_due_ms()).await.map(Option::flatten)
    }
}

/// Changes on their way into the log. What does not arrive there is written with the next ones: a restart would go on from an
/// older state than the one that the next rows were made for.
struct Taken<'a> {
    of: &'a SharePartition,
    start: bool,
    firsts: Vec<i64>,
    written: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if self.written {
            return;
        }
        if let Some(window) = self.of.window.lock().as_mut() {
            window.write_again(self.start, std::mem::take(&mut self.firsts));
        }
    }
}
