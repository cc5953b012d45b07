//! A group's deadlines. The group's one task sleeps until the earliest.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What runs out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    /// Classic: the wait for members to join.
    GroupJoin,
    /// Classic: the wait for members to sync.
    GroupSync,
    /// Streams: the wait for more members before tasks are given out first.
    InitialRebalance,
    /// A member's session.
    Session(Arc<str>),
    /// KIP-848: a member's time to give up partitions.
    Revocation(Arc<str>),
    /// A classic member of a consumer group has to rejoin.
    MemberJoin(Arc<str>),
    /// A classic member of a consumer group has to sync.
    MemberSync(Arc<str>),
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    deadlines: HashMap<Timer, Instant>,
    queue: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    /// Starts the timer anew.
    pub(super) fn start(&mut self, timer: Timer, now: Instant, timeout_ms: i32) {
        self.cancel(&timer);
        let deadline = now + Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
        self.deadlines.insert(timer.clone(), deadline);
        self.queue.insert((deadline, timer));
    }

    /// Starts the timer unless it runs already.
    pub(super) fn start_if_absent(&mut self, timer: Timer, now: Instant, timeout_ms: i32) {
        if !self.is_running(&timer) {
            self.start(timer, now, timeout_ms);
        }
    }

    pub(super) fn is_running(&self, timer: &Timer) -> bool {
        self.deadlines.contains_key(timer)
    }

    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, deadline)) = self.deadlines.remove_entry(timer) {
            self.queue.remove(&(deadline, timer));
        }
    }

    /// Everything that a member leaves behind.
    pub(super) fn cancel_member(&mut self, member: &Arc<str>) {
        for timer in [Timer::Session, Timer::Revocation, Timer::MemberJoin, Timer::MemberSync] {
            self.cancel(&timer(member.clone()));
        }
    }

    pub(super) fn clear(&mut self) {
        self.deadlines.clear();
        self.queue.clear();
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(deadline, _)| *deadline)
    }

    /// Takes one timer that has run out.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }

    #[cfg(test)]
    pub(super) fn deadline(&self, timer: &Timer) -> Option<Instant> {
        self.deadlines.get(timer).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_due_in_order_and_a_restart_moves_them() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let member: Arc<str> = "a".into();
        let mut timers = Timers::default();
        timers.start(Timer::Session(member.clone()), now, 10);
        timers.start(Timer::GroupJoin, now, 20);
        timers.start(Timer::Session(member.clone()), now, 30);
        timers.start_if_absent(Timer::GroupJoin, now, 5);
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(timers.pop_due(at(19)), None);
        assert_eq!(timers.pop_due(at(40)), Some(Timer::GroupJoin));
        assert_eq!(timers.pop_due(at(40)), Some(Timer::Session(member.clone())));
        assert_eq!(timers.pop_due(at(40)), None);
        timers.start(Timer::MemberSync(member.clone()), now, 1);
        timers.cancel_member(&member);
        assert_eq!(timers.next(), None);
    }
}
