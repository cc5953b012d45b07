//! What writers know of their transactions, and whether a reader may have seen what it saw.

use std::collections::{BTreeMap, HashMap, HashSet};

use parking_lot::Mutex;

/// Writer and number of a transaction.
pub(crate) type Txn = (u32, u64);

/// Values of each partition, in order.
pub(crate) type Seen = Vec<Vec<String>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nobody knows: the answer was lost.
    Doubtful,
    Committed,
    Aborted,
}

#[derive(Debug)]
struct Entry {
    outcome: Outcome,
    /// Partition and value of each record.
    records: Vec<(i32, String)>,
}

/// All transactions.
#[derive(Default)]
pub(crate) struct Ledger {
    txns: Mutex<BTreeMap<Txn, Entry>>,
    /// What somebody was shown as committed.
    shown: Mutex<HashSet<String>>,
}

/// What a test saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) committed: u64,
    pub(crate) aborted: u64,
    pub(crate) doubtful: u64,
    pub(crate) shown: u64,
    pub(crate) copied: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.doubtful += other.doubtful;
        self.shown += other.shown;
        self.copied += other.copied;
    }
}

impl Ledger {
    /// A transaction is about to be written.
    pub(crate) fn begin(&self, txn: Txn, records: Vec<(i32, String)>, outcome: Outcome) {
        self.txns.lock().insert(txn, Entry { outcome, records });
    }

    pub(crate) fn settle(&self, txn: Txn, outcome: Outcome) {
        self.txns.lock().get_mut(&txn).expect("it began").outcome = outcome;
    }

    pub(crate) fn show(&self, value: String) {
        self.shown.lock().insert(value);
    }

    /// Committed ones are there once and whole, aborted ones are not, doubtful ones are whole or not there.
    pub(crate) fn check(&self, seen: &Seen, when: &str) {
        let mut places: HashMap<&str, Vec<i32>> = HashMap::new();
        for (partition, values) in (0..).zip(seen) {
            let mut last: HashMap<u32, (u64, u64)> = HashMap::new();
            for value in values {
                places.entry(value).or_default().push(partition);
                let (writer, order) = order(value);
                assert!(last.insert(writer, order) < Some(order), "{when}: {value} is out of order");
            }
        }
        for (value, partitions) in &places {
            assert_eq!(partitions.len(), 1, "{when}: {value} is there more than once");
        }
        for (txn, entry) in self.txns.lock().iter() {
            let there = |(partition, value): &&(i32, String)| places.get(&value[..]) == Some(&vec![*partition]);
            let found = entry.records.iter().filter(there).count();
            let all = entry.records.len();
            let right = match entry.outcome {
                Outcome::Committed => found == all,
                Outcome::Aborted => found == 0,
                Outcome::Doubtful => found == all || found == 0,
            };
            assert!(right, "{when}: {found} of {all} records of {txn:?}, which is {:?}", entry.outcome);
        }
    }

    /// And whatever somebody was shown before is there.
    pub(crate) fn check_whole(&self, seen: &Seen, when: &str) {
        self.check(seen, when);
        let all: HashSet<&str> = seen.iter().flatten().map(String::as_str).collect();
        for value in self.shown.lock().iter() {
            assert!(all.contains(&value[..]), "{when}: {value} was shown as committed, and is not");
        }
    }

    pub(crate) fn counts(&self, copied: usize) -> Counts {
        let txns = self.txns.lock();
        let count = |outcome| txns.values().filter(|entry| entry.outcome == outcome).count() as u64;
        Counts {
            committed: count(Outcome::Committed),
            aborted: count(Outcome::Aborted),
            doubtful: count(Outcome::Doubtful),
            shown: self.shown.lock().len() as u64,
            copied: copied as u64,
        }
    }
}

/// The value of a record: its writer, its transaction and its place there.
pub(crate) fn value((writer, number): Txn, place: u64) -> String {
    format!("{writer}/{number}/{place}")
}

fn order(value: &str) -> (u32, (u64, u64)) {
    let mut parts = value.split('/').map(|part| part.parse::<u64>().expect("a number"));
    let mut next = || parts.next().expect("three parts");
    (next() as u32, (next(), next()))
}
