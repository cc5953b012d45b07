//! What clients did and were told, in the order of one clock.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use crate::PARTITIONS;

/// An integer that is appended once.
pub(crate) type Element = usize;

/// A transaction's number.
pub(crate) type Txn = usize;

/// Partition and offset.
pub(crate) type Place = (i32, i64);

/// A list is the records of a key, in the order of their offsets.
pub(crate) const fn partition_of(key: u32) -> i32 {
    key as i32 % PARTITIONS
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its commit was never asked for: nobody may see it.
    Aborted,
    /// Its commit was asked for, and nobody knows.
    Doubtful,
    Committed,
}

#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) actor: String,
    pub(crate) outcome: Outcome,
    pub(crate) appends: Vec<Element>,
    /// What it read and committed as read.
    pub(crate) inputs: Vec<Place>,
}

#[derive(Clone, Debug)]
pub(crate) struct Append {
    pub(crate) txn: Txn,
    pub(crate) key: u32,
    /// When it was sent first.
    pub(crate) sent: u64,
    /// When its broker had it, once that is known.
    pub(crate) stored: Option<u64>,
    pub(crate) offset: Option<i64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) txns: Vec<Transaction>,
    pub(crate) appends: Vec<Append>,
    /// Answers to producers that another one had fenced: there must be none but refusals.
    pub(crate) obeyed: Vec<String>,
    /// What happened, and how often.
    pub(crate) events: BTreeMap<&'static str, u64>,
    clock: u64,
}

impl Log {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(crate) fn count(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    pub(crate) fn begin(&mut self, actor: &str, inputs: Vec<Place>) -> Txn {
        let (actor, outcome) = (actor.to_owned(), Outcome::Aborted);
        self.txns.push(Transaction { actor, outcome, appends: Vec::new(), inputs });
        self.txns.len() - 1
    }

    pub(crate) fn append(&mut self, txn: Txn, keys: &[u32]) -> Vec<Element> {
        let sent = self.tick();
        let elements: Vec<_> = (self.appends.len()..).take(keys.len()).collect();
        self.appends.extend(keys.iter().map(|key| Append { txn, key: *key, sent, stored: None, offset: None }));
        self.txns[txn].appends.extend(&elements);
        elements
    }

    /// The answer to a batch. A duplicate's answer does not say where the original is.
    pub(crate) fn stored(&mut self, elements: &[Element], base_offset: Option<i64>) {
        let now = self.tick();
        for (place, element) in (0..).zip(elements) {
            let append = &mut self.appends[*element];
            append.stored = Some(now);
            append.offset = base_offset.map(|base| base + place);
        }
    }

    /// Elements of a transaction that belong into a partition.
    pub(crate) fn of(&self, txn: Txn, partition: i32) -> impl Iterator<Item = Element> {
        let appends = self.txns[txn].appends.iter().copied();
        appends.filter(move |element| partition_of(self.appends[*element].key) == partition)
    }
}

/// The log, for many clients.
#[derive(Default)]
pub(crate) struct History(Mutex<Log>);

impl History {
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Log) -> T) -> T {
        work(&mut self.0.lock())
    }

    pub(crate) fn settle(&self, txn: Txn, outcome: Outcome) {
        self.0.lock().txns[txn].outcome = outcome;
    }
}

/// What somebody read of a partition with read_committed: all of it between two offsets.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) partition: i32,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) records: Vec<(i64, u32, Element)>,
}

/// What all reads together say of a partition, as long as they agree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    pub(crate) end: i64,
    pub(crate) records: Vec<(i64, u32, Element)>,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) partitions: HashMap<i32, Partition>,
    pub(crate) reads: u64,
    pub(crate) read_records: u64,
}
