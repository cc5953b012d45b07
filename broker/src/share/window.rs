//! Where each record of a partition stands with a share group: a sliding window of runs of offsets. No clock, no disk.
//!
//! Kafka's SharePartition has the same states; here a released record may have to wait, and a lock is a fact that is
//! stored like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod changes;
#[cfg(test)]
mod tests;

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// To be had: from this time on (epoch ms), or at once (0).
    Available { from_ms: i64 },
    /// Given to a member until then (epoch ms).
    Acquired { member: Arc<str>, until_ms: i64 },
    /// To be written to the dead-letter topic (Kafka's ARCHIVING).
    Dying(Cause),
    /// Acknowledged, or given up (Kafka's ACKNOWLEDGED and ARCHIVED).
    Done,
}

/// Why a record is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A consumer rejected it.
    Rejected,
    /// It was delivered as often as the group allows.
    Exhausted,
}

/// Offsets that stand the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Last offset, inclusive.
    pub(super) last: i64,
    /// Where they stand.
    pub(super) state: State,
    /// How often they were delivered.
    pub(super) count: u32,
}

/// A range of offsets, both ends inclusive, delivered so many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) count: u32,
}

impl Delivered {
    /// How many records.
    pub(super) fn len(&self) -> i64 {
        self.last - self.first + 1
    }
}

/// What a consumer says of records that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Done with it, or there was no record (Kafka's ACCEPT and GAP).
    Accept,
    /// Later, or somebody else.
    Release,
    /// Never.
    Reject,
    /// Still at it.
    Renew,
}

impl Verdict {
    /// Kafka's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Verdict::Accept => "ACCEPT",
            Verdict::Release => "RELEASE",
            Verdict::Reject => "REJECT",
            Verdict::Renew => "RENEW",
        }
    }
}

/// What happens to records that come back.
pub(super) struct Rules<'a> {
    /// The time, epoch ms.
    pub(super) now_ms: i64,
    /// Most deliveries.
    pub(super) limit: u32,
    /// Until when a lock that begins now lasts.
    pub(super) until_ms: i64,
    /// True where dead records are kept somewhere.
    pub(super) buries: bool,
    /// The wait after so many deliveries, ms.
    pub(super) backoff: &'a dyn Fn(u32) -> i64,
}

/// The member does not hold all of these records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotHeld;

/// The window: every offset from `start` to `end` is in one run.
#[derive(Debug, Default)]
pub(super) struct Window {
    start: i64,
    end: i64,
    runs: BTreeMap<i64, Run>,
    /// First offsets of runs that may be given out now.
    ready: BTreeSet<i64>,
    /// When a wait or a lock ends, and of which run.
    due: BTreeSet<(i64, i64)>,
    /// First offsets of runs that are to be buried.
    dying: BTreeSet<i64>,
    acquired: i64,
    done: i64,
    /// First offsets of runs that changed since they were last written down.
    changed: BTreeSet<i64>,
    /// First offsets of runs that are written down.
    stored: BTreeSet<i64>,
    start_stored: i64,
    given_back: u64,
}

impl Window {
    /// An empty window here.
    pub(super) fn new(start: i64) -> Self {
        Window { start, end: start, start_stored: -1, ..Window::default() }
    }

    /// The first record that is not done with.
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// The first record that was not looked at yet.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// Records that members hold.
    pub(super) fn acquired(&self) -> i64 {
        self.acquired
    }

    /// Records from `start` on that are done with.
    pub(super) fn done(&self) -> i64 {
        self.done
    }

    /// Grows when a member gives back what it held, as if it had never had it.
    pub(super) fn given_back(&self) -> u64 {
        self.given_back
    }

    /// Where a record stands; `None` outside of the window.
    pub(super) fn run_of(&self, offset: i64) -> Option<(i64, &Run)> {
        let (first, run) = self.runs.range(..=offset).next_back()?;
        (offset <= run.last).then_some((*first, run))
    }

    /// Where the run begins that holds this offset, or the offset itself.
    fn begin_of(&self, offset: i64) -> i64 {
        self.runs.range(..=offset).next_back().map_or(offset, |(at, _)| *at)
    }

    /// Every run, in order.
    #[cfg(test)]
    pub(super) fn runs(&self) -> impl Iterator<Item = (i64, &Run)> {
        self.runs.iter().map(|(first, run)| (*first, run))
    }

    /// When something ends by itself next, epoch ms.
    pub(super) fn next_due_ms(&self) -> Option<i64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Runs that may be given out, in order, and how often they were so far.
    pub(super) fn ready(&self) -> impl Iterator<Item = Delivered> {
        self.ready.iter().filter_map(|first| {
            let run = self.runs.get(first)?;
            Some(Delivered { first: *first, last: run.last, count: run.count })
        })
    }

    /// The offset of the n-th record from here on that may be given out, or of the last there is.
    pub(super) fn nth_ready(&self, from: i64, n: i64) -> i64 {
        let (mut left, mut at) = (n, from - 1);
        for first in self.ready.range(from..) {
            let Some(run) = self.runs.get(first) else { continue };
            let len = run.last - first + 1;
            if len >= left {
                return first + left - 1;
            }
            left -= len;
            at = run.last;
        }
        at
    }

    /// Runs that are to be buried.
    pub(super) fn dying(&self) -> impl Iterator<Item = (Delivered, Cause)> {
        self.dying.iter().filter_map(|first| match self.runs.get(first)? {
            Run { last, state: State::Dying(cause), count } => {
                Some((Delivered { first: *first, last: *last, count: *count }, *cause))
            }
            _ => None,
        })
    }

    /// Takes up new offsets, to this one: records to be given out, or nothing that anybody is to have.
    pub(super) fn extend(&mut self, last: i64, records: bool) {
        if last < self.end {
            return;
        }
        let first = std::mem::replace(&mut self.end, last + 1);
        let state = if records { State::Available { from_ms: 0 } } else { State::Done };
        self.insert(first, Run { last, state, count: 0 });
        self.settle(first, last);
    }

    /// Nobody is to have these after all.
    pub(super) fn leave_out(&mut self, first: i64, last: i64) {
        self.change(first, last, |run| {
            matches!(run.state, State::Available { .. }).then_some(Run { state: State::Done, ..run.clone() })
        });
    }

    /// Moves the start, as retention does: what lies before is gone.
    pub(super) fn trim(&mut self, to: i64) {
        if to <= self.start {
            return;
        }
        if to > self.end {
            self.extend(to - 1, false);
        }
        self.split(to);
        let gone: Vec<i64> = self.runs.range(..to).map(|(first, _)| *first).collect();
        for first in gone {
            self.remove(first);
        }
        self.start = to;
        self.advance();
    }

    /// Gives what is ready in this range to a member.
    pub(super) fn acquire(&mut self, first: i64, last: i64, member: &Arc<str>, until_ms: i64) -> Vec<Delivered> {
        let mut given = Vec::new();
        self.change(first, last, |run| {
            let ready = matches!(run.state, State::Available { from_ms: 0 });
            let state = State::Acquired { member: member.clone(), until_ms };
            ready.then(|| Run { last: run.last, state, count: run.count.saturating_add(1) })
        });
        let from = self.begin_of(first);
        for (at, run) in self.runs.range(from..=last) {
            if matches!(&run.state, State::Acquired { member: holder, until_ms: until } if holder == member && *until == until_ms)
            {
                let (first, last) = ((*at).max(first), run.last.min(last));
                if first <= last {
                    given.push(Delivered { first, last, count: run.count });
                }
            }
        }
        given
    }

    /// Takes a member's word for what it holds. All or nothing; what lies before the start is passed over.
    pub(super) fn acknowledge(
        &mut self,
        first: i64,
        last: i64,
        member: &str,
        verdict: Verdict,
        rules: &Rules<'_>,
    ) -> Result<(), NotHeld> {
        let first = first.max(self.start);
        if !self.holds(first, last, member) {
            return Err(NotHeld);
        }
        self.change(first, last, |run| Some(after(run, verdict, rules)));
        Ok(())
    }

    /// True when the member holds all of these, but for what lies before the start.
    pub(super) fn holds(&self, first: i64, last: i64, member: &str) -> bool {
        let first = first.max(self.start);
        if first > last {
            return true;
        }
        let from = self.begin_of(first);
        let held = |run: &Run| matches!(&run.state, State::Acquired { member: holder, .. } if &**holder == member);
        last < self.end && self.runs.range(from..=last).all(|(_, run)| held(run))
    }

    /// Takes back all that a member holds, as if it had said so; `deliberate` does not count as a delivery.
    pub(super) fn release(&mut self, member: &str, deliberate: bool, rules: &Rules<'_>) {
        let held = self
            .runs
            .iter()
            .filter(|(_, run)| matches!(&run.state, State::Acquired { member: holder, .. } if &**holder == member));
        let held: Vec<(i64, i64)> = held.map(|(first, run)| (*first, run.last)).collect();
        self.given_back += u64::from(!held.is_empty());
        for (first, last) in held {
            self.change(first, last, |run| {
                Some(if deliberate {
                    Run { last: run.last, state: State::Available { from_ms: 0 }, count: run.count.saturating_sub(1) }
                } else {
                    after(run, Verdict::Release, rules)
                })
            });
        }
    }

    /// Ends waits and locks whose time has come; how many records were locked.
    pub(super) fn tick(&mut self, rules: &Rules<'_>) -> i64 {
        let mut lost = 0;
        while let Some((at, first)) = self.due.first().copied().filter(|(at, _)| *at <= rules.now_ms) {
            let Some(run) = self.runs.get(&first) else {
                self.due.remove(&(at, first));
                continue;
            };
            let last = run.last;
            let next = match &run.state {
                State::Acquired { .. } => {
                    lost += last - first + 1;
                    after(run, Verdict::Release, rules)
                }
                _ => Run { state: State::Available { from_ms: 0 }, ..run.clone() },
            };
            self.change(first, last, |_| Some(next.clone()));
        }
        lost
    }

    /// These have been buried.
    pub(super) fn bury(&mut self, first: i64, last: i64) {
        self.change(first, last, |run| {
            matches!(run.state, State::Dying(_)).then_some(Run { state: State::Done, ..run.clone() })
        });
    }

    /// Changes runs within a range; those for which `next` has nothing stay.
    fn change(&mut self, first: i64, last: i64, next: impl Fn(&Run) -> Option<Run>) {
        let (first, last) = (first.max(self.start), last.min(self.end - 1));
        if first > last {
            return;
        }
        let from = self.begin_of(first);
        let touched: Vec<i64> = self.runs.range(from..=last).map(|(at, _)| *at).collect();
        for at in touched {
            let Some(run) = self.runs.get(&at) else { continue };
            let Some(next) = next(run) else { continue };
            let (from, to) = (at.max(first), run.last.min(last));
            self.split(from);
            self.split(to + 1);
            self.remove(from);
            self.insert(from, Run { last: to, ..next });
        }
        self.settle(first, last);
    }

    /// Joins equal neighbours from `first` to `last`, and moves the start past what is done.
    fn settle(&mut self, first: i64, last: i64) {
        let mut at = self.runs.range(..first).next_back().map_or(first, |(at, _)| *at);
        while at <= last + 1 {
            let Some(run) = self.runs.get(&at).cloned() else { break };
            let next = run.last + 1;
            match self.runs.get(&next) {
                // One that is being buried is written down by others: it stays as it is.
                Some(neighbour)
                    if neighbour.state == run.state
                        && neighbour.count == run.count
                        && !matches!(run.state, State::Dying(_)) =>
                {
                    let to = neighbour.last;
                    self.remove(next);
                    self.remove(at);
                    self.insert(at, Run { last: to, ..run });
                }
                Some(_) => at = next,
                None => break,
            }
        }
        self.advance();
    }

    fn advance(&mut self) {
        while let Some((first, run)) = self.runs.first_key_value() {
            if run.state != State::Done {
                break;
            }
            let (first, last) = (*first, run.last);
            self.remove(first);
            self.start = last + 1;
        }
        self.end = self.end.max(self.start);
    }

    /// Makes a run begin here, if the offset is inside one.
    fn split(&mut self, at: i64) {
        let Some((first, run)) = self.runs.range(..at).next_back() else { return };
        if run.last < at {
            return;
        }
        let (first, run) = (*first, run.clone());
        self.remove(first);
        self.insert(first, Run { last: at - 1, ..run.clone() });
        self.insert(at, run);
    }

    fn insert(&mut self, first: i64, run: Run) {
        let len = run.last - first + 1;
        match &run.state {
            State::Available { from_ms: 0 } => _ = self.ready.insert(first),
            State::Available { from_ms } => _ = self.due.insert((*from_ms, first)),
            State::Acquired { until_ms, .. } => {
                self.acquired += len;
                self.due.insert((*until_ms, first));
            }
            State::Dying(_) => _ = self.dying.insert(first),
            State::Done => self.done += len,
        }
        self.changed.insert(first);
        self.runs.insert(first, run);
    }

    fn remove(&mut self, first: i64) {
        let Some(run) = self.runs.remove(&first) else { return };
        let len = run.last - first + 1;
        match &run.state {
            State::Available { from_ms: 0 } => _ = self.ready.remove(&first),
            State::Available { from_ms } => _ = self.due.remove(&(*from_ms, first)),
            State::Acquired { until_ms, .. } => {
                self.acquired -= len;
                self.due.remove(&(*until_ms, first));
            }
            State::Dying(_) => _ = self.dying.remove(&first),
            State::Done => self.done -= len,
        }
        self.changed.insert(first);
    }
}

/// What a held run becomes.
fn after(run: &Run, verdict: Verdict, rules: &Rules<'_>) -> Run {
    let dead = |cause| if rules.buries { State::Dying(cause) } else { State::Done };
    let state = match verdict {
        Verdict::Accept => State::Done,
        Verdict::Reject => dead(Cause::Rejected),
        Verdict::Release if run.count >= rules.limit => dead(Cause::Exhausted),
        Verdict::Release => match (rules.backoff)(run.count) {
            ..=0 => State::Available { from_ms: 0 },
            wait => State::Available { from_ms: rules.now_ms.saturating_add(wait) },
        },
        Verdict::Renew => match &run.state {
            State::Acquired { member, .. } => State::Acquired { member: member.clone(), until_ms: rules.until_ms },
            other => other.clone(),
        },
    };
    Run { last: run.last, state, count: run.count }
}
