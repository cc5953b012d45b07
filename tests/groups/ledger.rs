//! What every member holds and has read, and the rules that this has to follow.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::Notify;

/// A member, by the number of the task that plays it.
pub(crate) type Number = u32;

#[derive(Clone, Default)]
struct Partition {
    owner: Option<Number>,
    /// The next offset to read: all before are committed.
    next: i64,
    /// The end of what was written.
    written: i64,
}

struct State {
    partitions: Vec<Partition>,
    /// How many partitions each living member holds.
    held: BTreeMap<Number, usize>,
    /// How often a member that goes on lost a partition.
    revoked: u64,
    last_change: Instant,
}

pub(crate) struct Ledger {
    state: Mutex<State>,
    pub(crate) changed: Notify,
}

impl Ledger {
    pub(crate) fn new(partitions: i32) -> Self {
        let partitions = vec![Partition::default(); partitions as usize];
        let state = State { partitions, held: BTreeMap::new(), revoked: 0, last_change: Instant::now() };
        Ledger { state: Mutex::new(state), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no member panicked")
    }

    pub(crate) fn arrives(&self, member: Number) {
        self.state().held.insert(member, 0);
    }

    /// K5: nobody is given what another still holds.
    pub(crate) fn take(&self, member: Number, partition: i32) {
        let mut state = self.state();
        let entry = &mut state.partitions[partition as usize];
        let before = entry.owner.replace(member);
        assert_eq!(before, None, "partition {partition} is given to {member}");
        *state.held.get_mut(&member).expect("a living member") += 1;
        state.last_change = Instant::now();
        drop(state);
        self.changed.notify_waiters();
    }

    /// The member goes on without the partition.
    pub(crate) fn give(&self, member: Number, partition: i32) {
        let mut state = self.state();
        state.release(member, partition);
        state.revoked += 1;
    }

    /// The member is no more.
    pub(crate) fn ends(&self, member: Number, partitions: impl Iterator<Item = i32>) {
        let mut state = self.state();
        partitions.for_each(|partition| state.release(member, partition));
        assert_eq!(state.held.remove(&member), Some(0), "what member {member} held");
        drop(state);
        self.changed.notify_waiters();
    }

    /// K5: offsets that were committed are what the next owner is told.
    pub(crate) fn found(&self, partition: i32, committed: i64) {
        let next = self.state().partitions[partition as usize].next;
        assert_eq!(committed, if next == 0 { -1 } else { next }, "the committed offset of partition {partition}");
    }

    /// Records were read and their offset committed.
    pub(crate) fn read(&self, member: Number, partition: i32, from: i64, to: i64) {
        let mut state = self.state();
        let entry = &mut state.partitions[partition as usize];
        assert_eq!((entry.owner, entry.next), (Some(member), from), "partition {partition} is read by {member}");
        entry.next = to;
        let more = entry.next < entry.written;
        drop(state);
        if !more {
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn wrote(&self, partition: i32, end: i64) {
        self.state().partitions[partition as usize].written = end;
    }

    pub(crate) fn has_more(&self, partition: i32, position: i64) -> bool {
        self.state().partitions[partition as usize].written > position
    }

    /// Every partition has an owner and the members have equally many.
    pub(crate) fn is_settled(&self, members: usize) -> bool {
        let state = self.state();
        let owned: usize = state.held.values().sum();
        let most = state.held.values().max().copied().unwrap_or(0);
        let least = state.held.values().min().copied().unwrap_or(0);
        state.held.len() == members && owned == state.partitions.len() && most - least <= 1
    }

    /// The end of each partition.
    pub(crate) fn written(&self) -> Vec<i64> {
        self.state().partitions.iter().map(|partition| partition.written).collect()
    }

    pub(crate) fn is_read_to(&self, ends: &[i64]) -> bool {
        self.state().partitions.iter().zip(ends).all(|(partition, end)| partition.next >= *end)
    }

    pub(crate) fn last_change(&self) -> Instant {
        self.state().last_change
    }

    pub(crate) fn revoked(&self) -> u64 {
        self.state().revoked
    }

    pub(crate) fn records(&self) -> i64 {
        self.state().partitions.iter().map(|partition| partition.next).sum()
    }

    pub(crate) fn describe(&self) -> String {
        let state = self.state();
        let free = state.partitions.iter().filter(|partition| partition.owner.is_none()).count();
        let idle = state.held.values().filter(|held| **held == 0).count();
        format!("{} members, {idle} of them with nothing, {free} partitions free", state.held.len())
    }
}

impl State {
    fn release(&mut self, member: Number, partition: i32) {
        let owner = self.partitions[partition as usize].owner.take();
        assert_eq!(owner, Some(member), "who gives partition {partition} up");
        *self.held.get_mut(&member).expect("a living member") -= 1;
        self.last_change = Instant::now();
    }
}
