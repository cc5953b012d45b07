//! ShareFetch's long poll: woken by new records, by records that come back, and when a wait or a lock ends.

use std::sync::Arc;
use std::time::Duration;

use krocket_protocol::ErrorCode;
use krocket_protocol::share_fetch::{AcquiredRecords, ShareFetchPartition};
use tokio::time::{Instant, timeout_at};

use super::metrics::METRICS;
use super::partition::SharePartition;
use super::take::{Taken, Wanted};
use super::window::Delivered;
use super::{Asked, Policy, Shares};
use crate::log::Watch;

/// What a member asks for.
#[derive(Clone, Debug)]
pub(crate) struct Poll {
    /// The member.
    pub(crate) member: Arc<str>,
    /// Partitions, in the order in which they are served.
    pub(crate) asked: Vec<Asked>,
    /// Least bytes of new records to wait for.
    pub(crate) min_bytes: i64,
    /// Most bytes.
    pub(crate) max_bytes: usize,
    /// Most records.
    pub(crate) max_records: i64,
    /// Never more records than that.
    pub(crate) exact: bool,
    /// When it is answered in any case.
    pub(crate) deadline: Instant,
}

impl Shares {
    /// Gives the member records, or waits for some. Only partitions of which there is something to say.
    pub(crate) async fn fetch(&self, group: &str, poll: &Poll, policy: &Policy) -> Vec<(Asked, ShareFetchPartition)> {
        let mut told = Vec::new();
        let mut targets = Vec::new();
        for asked in &poll.asked {
            match self.partition_of(group, asked.0, asked.1) {
                Some(partition) => targets.push((*asked, partition)),
                None => told.push((*asked, failed(asked.1, self.unknown(asked.0)))),
            }
        }
        let group = self.group(group);
        let partitions = targets.iter().map(|(_, target)| target.partition.clone()).collect();
        let watch = Watch::new(partitions, poll.min_bytes);
        loop {
            let changed = group.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (found, more) = if self.is_worth_it(&targets, poll) {
                self.collect(&targets, poll, policy).await
            } else {
                (Vec::new(), false)
            };
            if !found.is_empty() || !told.is_empty() || Instant::now() >= poll.deadline {
                told.extend(found);
                return told;
            }
            if more {
                continue;
            }
            let until = self.next_due(&targets, policy).await.map_or(poll.deadline, |due| due.min(poll.deadline));
            tokio::select! {
                _ = timeout_at(until, watch.ready()) => watch.rearm(poll.min_bytes),
                () = changed => {}
            }
        }
    }

    /// False while there are only new records, and fewer bytes of them than the member waits for.
    fn is_worth_it(&self, targets: &[(Asked, Arc<SharePartition>)], poll: &Poll) -> bool {
        if poll.min_bytes <= 1 || Instant::now() >= poll.deadline {
            return true;
        }
        let mut bytes = 0;
        for (_, target) in targets {
            match target.fresh_bytes(&self.log, poll.min_bytes as usize) {
                Some(found) => bytes += found as i64,
                None => return true,
            }
        }
        bytes >= poll.min_bytes
    }

    async fn collect(
        &self,
        targets: &[(Asked, Arc<SharePartition>)],
        poll: &Poll,
        policy: &Policy,
    ) -> (Vec<(Asked, ShareFetchPartition)>, bool) {
        let mut more = false;
        let (mut records, mut bytes) = (poll.max_records, poll.max_bytes);
        let mut found = Vec::new();
        for (asked, target) in targets {
            if records <= 0 || bytes == 0 {
                break;
            }
            let wanted = Wanted { member: poll.member.clone(), records, exact: poll.exact, bytes };
            match target.take(&self.log, policy, &wanted).await {
                Ok(taken) if taken.acquired.is_empty() => more |= taken.more,
                Ok(taken) => {
                    let count = taken.acquired.iter().map(Delivered::len).sum::<i64>();
                    METRICS.delivered.inc_by(count.unsigned_abs());
                    records -= count;
                    let data = data(asked.1, taken);
                    bytes = bytes.saturating_sub(data.records_len());
                    found.push((*asked, data));
                }
                Err(error) => {
                    tracing::error!(%error, topic = target.topic_name, partition = target.index, "a share fetch failed");
                    found.push((*asked, failed(asked.1, error.code())));
                }
            }
        }
        (found, more)
    }

    /// When the next wait or lock ends.
    async fn next_due(&self, targets: &[(Asked, Arc<SharePartition>)], policy: &Policy) -> Option<Instant> {
        let mut next: Option<i64> = None;
        for (_, target) in targets {
            match target.tick(&self.log, policy).await {
                Ok(due) => next = next.into_iter().chain(due).min(),
                Err(error) => tracing::warn!(%error, "the state of a share group cannot be written"),
            }
        }
        let wait = next?.saturating_sub(self.log.clock().steady_ms()).max(1);
        Instant::now().checked_add(Duration::from_millis(wait as u64))
    }
}

fn data(index: i32, taken: Taken) -> ShareFetchPartition {
    let acquired = taken.acquired.iter().map(|run| AcquiredRecords {
        first_offset: run.first,
        last_offset: run.last,
        delivery_count: i16::try_from(run.count).unwrap_or(i16::MAX),
    });
    ShareFetchPartition {
        index,
        acquired: acquired.collect(),
        records: taken.records,
        ..ShareFetchPartition::default()
    }
}

fn failed(index: i32, code: ErrorCode) -> ShareFetchPartition {
    ShareFetchPartition { index, error_code: code.code(), ..ShareFetchPartition::default() }
}
