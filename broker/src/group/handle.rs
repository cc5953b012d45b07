//! A group at work: its lock, its timer, and the rule that nothing leaves it before what it says is durable.

use std::sync::{Arc, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use krocket_protocol::ErrorCode;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::context::Ctx;
use super::journal::{Journal, JournalError};
use super::offsets::{Offset, OffsetChange};
use super::persist::{self, Restored};
use super::settings::GroupSettings;
use super::state::{GroupState, Kind};
use super::timers::Timers;
use super::topics::TopicImage;
use crate::log::tables::{GROUPS, OFFSETS};

/// What all groups share.
pub(super) struct Env {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) topics: Arc<dyn TopicImage>,
    /// The configs of a group as they are now.
    pub(super) settings: Box<dyn Fn(&str) -> GroupSettings + Send + Sync>,
}

type Commit = Shared<BoxFuture<'static, bool>>;

/// Resolves when everything that an answer tells is durable.
pub(super) struct Durable(Option<Commit>);

impl Durable {
    /// An error means that the log failed and that the group went back to what is in it.
    pub(super) async fn wait(self) -> Result<(), ErrorCode> {
        let written = match self.0 {
            Some(commit) => commit.await,
            None => true,
        };
        if written { Ok(()) } else { Err(ErrorCode::CoordinatorNotAvailable) }
    }
}

pub(super) struct Group {
    pub(super) id: Arc<str>,
    env: Arc<Env>,
    inner: Mutex<Inner>,
    alarm: Arc<Notify>,
}

struct Inner {
    state: GroupState,
    timers: Timers,
    commits: u64,
    /// The last commit that was under way when the group was read back from the log.
    reloaded: u64,
    /// The last commit of the group's own state, while it may be under way.
    last: Option<(u64, Commit)>,
    /// When the timer task wakes, if there is one.
    wakes: Option<Wake>,
    /// Taken out of the coordinator: whoever still holds it has to look it up again.
    dead: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wake {
    At(Instant),
    Now,
}

impl Group {
    pub(super) fn new(id: &str, env: Arc<Env>) -> Arc<Self> {
        let inner = Inner {
            state: GroupState::new(now_ms()),
            timers: Timers::default(),
            commits: 0,
            reloaded: 0,
            last: None,
            wakes: None,
            dead: false,
        };
        Arc::new(Group { id: id.into(), env, inner: Mutex::new(inner), alarm: Arc::default() })
    }

    /// Takes over what the log holds. Rows come without the group's part of the key.
    pub(super) fn restore(self: &Arc<Self>, rows: &[(&[u8], &[u8])], offsets: &[(&[u8], &[u8])]) {
        self.run(|state, ctx| {
            *state = GroupState::new(ctx.now_ms);
            match persist::restore(&self.id, rows) {
                Some(Restored::Classic(group)) => state.kind = Kind::Classic(group),
                Some(Restored::Consumer(group)) => state.kind = Kind::Consumer(group),
                Some(Restored::Share(group)) => state.kind = Kind::Share(group),
                Some(Restored::Streams(group)) => state.kind = Kind::Streams(group),
                None => {}
            }
            for (rest, value) in offsets {
                match (persist::split_offset_key(rest), Offset::decode(value)) {
                    (Some((topic, partition)), Some(offset)) => {
                        let topic = topic.to_owned();
                        state.offsets.apply(OffsetChange { topic, partition, offset: Some(offset) });
                    }
                    _ => tracing::error!(group = %self.id, "unreadable committed offset: left out"),
                }
            }
            ctx.timers.clear();
            state.resume(ctx);
        });
    }

    /// Reads what needs no change.
    pub(super) fn read<R>(&self, read: impl FnOnce(&GroupState) -> R) -> R {
        read(&self.inner.lock().state)
    }

    /// Takes one step. None when the group was taken out of the coordinator.
    pub(super) fn run<R>(
        self: &Arc<Self>,
        step: impl FnOnce(&mut GroupState, &mut Ctx<'_>) -> R,
    ) -> Option<(R, Durable)> {
        let config = (self.env.settings)(&self.id);
        let mut inner = self.inner.lock();
        if inner.dead {
            return None;
        }
        let Inner { state, timers, .. } = &mut *inner;
        let mut ctx = Ctx {
            group: self.id.clone(),
            now: Instant::now(),
            now_ms: now_ms(),
            config: &config,
            topics: &*self.env.topics,
            timers,
            writes: Vec::new(),
            offsets: Vec::new(),
            answers: Vec::new(),
        };
        let result = step(state, &mut ctx);
        let Ctx { mut writes, offsets, answers, .. } = ctx;

        let changes_state = !writes.is_empty();
        writes.extend(offsets.iter().map(|change| change.write(&self.id)));
        let durable = if writes.is_empty() {
            // Nothing new, but what it tells may still be on its way.
            inner.last.as_ref().map(|(_, commit)| commit.clone())
        } else {
            inner.commits += 1;
            let number = inner.commits;
            if !offsets.is_empty() {
                inner.state.offsets.expect(number, offsets);
            }
            // Called under the lock, so that the log has the order of the steps.
            let commit = self.clone().settle(number, self.env.journal.commit(writes));
            if changes_state {
                inner.last = Some((number, commit.clone()));
            }
            tokio::spawn(commit.clone());
            Some(commit)
        };
        self.set_alarm(&mut inner);
        drop(inner);

        match (&durable, answers.is_empty()) {
            (_, true) => {}
            (None, false) => answers.into_iter().for_each(|answer| answer.send()),
            (Some(commit), false) => {
                let commit = commit.clone();
                // Where the log failed they are dropped, and whoever waits for them hears that.
                tokio::spawn(async move {
                    if commit.await {
                        answers.into_iter().for_each(|answer| answer.send());
                    }
                });
            }
        }
        Some((result, Durable(durable)))
    }

    /// What happens once the log has answered, whether or not anybody waits for it.
    fn settle(
        self: Arc<Self>,
        number: u64,
        written: krocket_stack::BoxFuture<'static, Result<(), JournalError>>,
    ) -> Commit {
        async move {
            match written.await {
                Ok(()) => {
                    let mut inner = self.inner.lock();
                    inner.state.offsets.settle(number);
                    if inner.last.as_ref().is_some_and(|(last, _)| *last == number) {
                        inner.last = None;
                    }
                    // An earlier one failed, and what was read back then may lack this one.
                    let unseen = number <= inner.reloaded;
                    drop(inner);
                    if unseen {
                        self.reload();
                    }
                    true
                }
                Err(error) => {
                    tracing::error!(group = %self.id, %error, "the group goes back to what the log holds");
                    self.reload();
                    false
                }
            }
        }
        .boxed()
        .shared()
    }

    /// Forgets what could not be written.
    fn reload(self: &Arc<Self>) {
        let prefix = persist::prefix(&self.id);
        let read = |table| self.env.journal.scan(table, &prefix);
        match (read(GROUPS), read(OFFSETS)) {
            (Ok(rows), Ok(offsets)) => {
                let rest = |rows: &[(Vec<u8>, Vec<u8>)]| -> Vec<(Vec<u8>, Vec<u8>)> {
                    rows.iter().map(|(key, value)| (key[prefix.len()..].to_vec(), value.clone())).collect()
                };
                let (rows, offsets) = (rest(&rows), rest(&offsets));
                let mut inner = self.inner.lock();
                inner.last = None;
                inner.reloaded = inner.commits;
                drop(inner);
                self.restore(&borrow(&rows), &borrow(&offsets));
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(group = %self.id, %error, "the group cannot be read back");
            }
        }
    }

    /// Wakes the timer task early enough for the next deadline; starts it if there is none.
    fn set_alarm(self: &Arc<Self>, inner: &mut Inner) {
        let Some(next) = inner.timers.next() else { return };
        match inner.wakes {
            None => {
                inner.wakes = Some(Wake::At(next));
                tokio::spawn(watch(Arc::downgrade(self), self.alarm.clone()));
            }
            Some(Wake::At(at)) if next < at => {
                inner.wakes = Some(Wake::Now);
                self.alarm.notify_one();
            }
            Some(_) => {}
        }
    }

    /// When the timer task has to wake next; None ends it.
    fn next_wake(&self) -> Option<Instant> {
        let mut inner = self.inner.lock();
        let next = inner.timers.next().filter(|_| !inner.dead);
        inner.wakes = next.map(Wake::At);
        next
    }

    fn fire(self: &Arc<Self>) {
        self.run(|state, ctx| {
            while let Some(timer) = ctx.timers.pop_due(ctx.now) {
                state.on_timer(ctx, &timer);
            }
        });
    }

    /// Marks a group that nobody would miss as taken out. False when somebody would.
    pub(super) fn retire(&self) -> bool {
        let mut inner = self.inner.lock();
        let vacant = !inner.state.exists() && inner.state.offsets.is_empty() && inner.last.is_none();
        if vacant {
            inner.dead = true;
            inner.timers.clear();
            self.alarm.notify_one();
        }
        vacant
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.alarm.notify_one();
    }
}

/// Sleeps from deadline to deadline while the group is there and has any. It does not keep the group: when the broker
/// closes, nothing may hold its log.
async fn watch(group: Weak<Group>, alarm: Arc<Notify>) {
    loop {
        let Some(next) = group.upgrade().and_then(|group| group.next_wake()) else { return };
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            () = alarm.notified() => {}
        }
        match group.upgrade() {
            Some(group) => group.fire(),
            None => return,
        }
    }
}

pub(super) fn borrow(rows: &[(Vec<u8>, Vec<u8>)]) -> Vec<(&[u8], &[u8])> {
    rows.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect()
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
