//! Which faults a history has.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::history::{Append, Element, Log, Outcome, Partition, Place, Read, Txn, View, partition_of};

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Committed, and not to be read.
    Lost { txn: Txn },
    /// One element at two places.
    Duplicated { element: Element, places: Vec<Place> },
    /// Some of a transaction can be read and some cannot.
    Torn { txn: Txn, found: usize, of: usize },
    /// The same within one partition, to somebody who read past all of it.
    Half { txn: Txn, partition: i32, found: usize, of: usize },
    /// Read, though nobody asked to commit it (yet).
    Aborted { element: Element, txn: Txn },
    /// Read, and never appended; or not to that list.
    Unknown { element: Element, place: Place },
    /// Appended after the other was stored, and before it in the log.
    OutOfOrder { partition: i32, first: Element, second: Element },
    /// Not where the broker said that it is.
    Moved { element: Element, said: i64, is: i64 },
    /// An offset that named one thing and then another, or one and none.
    Changed { place: Place, before: Option<Element>, after: Option<Element> },
    /// Something read and processed so many times.
    Processed { input: Place, times: usize },
    /// The group's committed offset is not the end of what was processed.
    Position { partition: i32, committed: i64, end: i64 },
    /// A producer that was fenced had its way.
    Obeyed(String),
}

impl Fault {
    /// Whose it is.
    pub(crate) fn txn(&self, log: &Log) -> Option<Txn> {
        let of = |element: Element| log.appends.get(element).map(|append| append.txn);
        match self {
            Fault::Lost { txn } | Fault::Torn { txn, .. } | Fault::Half { txn, .. } => Some(*txn),
            Fault::Aborted { txn, .. } => Some(*txn),
            Fault::Duplicated { element, .. } | Fault::Unknown { element, .. } | Fault::Moved { element, .. } => {
                of(*element)
            }
            Fault::OutOfOrder { second, .. } => of(*second),
            Fault::Changed { before, after, .. } => after.or(*before).and_then(of),
            Fault::Processed { .. } | Fault::Position { .. } | Fault::Obeyed(_) => None,
        }
    }
}

impl View {
    /// Compares a read with those before it, and with what clients had done by now.
    pub(crate) fn merge(&mut self, read: &Read, log: &Log) -> Vec<Fault> {
        self.reads += 1;
        self.read_records += read.records.len() as u64;
        let known = self.partitions.entry(read.partition).or_default();
        let mut faults = known.changes(read);
        if read.from > known.end || read.to <= known.end {
            return faults;
        }
        let new = read.records.iter().filter(|(offset, ..)| *offset >= known.end);
        let new: Vec<_> = new.copied().collect();
        let mut txns = BTreeSet::new();
        for (offset, key, element) in &new {
            let append = log.appends.get(*element).filter(|append| append.key == *key);
            let Some(Append { txn, .. }) = append.filter(|_| partition_of(*key) == read.partition) else {
                faults.push(Fault::Unknown { element: *element, place: (read.partition, *offset) });
                continue;
            };
            if log.txns[*txn].outcome == Outcome::Aborted {
                faults.push(Fault::Aborted { element: *element, txn: *txn });
            }
            txns.insert(*txn);
        }
        known.records.extend(&new);
        known.end = read.to;
        let there: BTreeSet<Element> = known.records.iter().map(|(.., element)| *element).collect();
        let passed = |element: &Element| log.appends[*element].offset.is_some_and(|offset| offset < read.to);
        for txn in txns {
            // What is further on may be held back by a transaction of somebody else.
            let of: Vec<_> = log.of(txn, read.partition).filter(passed).collect();
            let found = of.iter().filter(|element| there.contains(element)).count();
            if found < of.len() {
                faults.push(Fault::Half { txn, partition: read.partition, found, of: of.len() });
            }
        }
        faults
    }
}

impl Partition {
    /// Where a read and what is known differ.
    fn changes(&self, read: &Read) -> Vec<Fault> {
        let both = read.from..read.to.min(self.end);
        let within = |records: &[(i64, u32, Element)]| -> BTreeMap<i64, Element> {
            let there = records.iter().filter(|(offset, ..)| both.contains(offset));
            there.map(|(offset, _, element)| (*offset, *element)).collect()
        };
        let start = self.records.partition_point(|(offset, ..)| *offset < read.from);
        let (before, after) = (within(&self.records[start..]), within(&read.records));
        let offsets: BTreeSet<i64> = before.keys().chain(after.keys()).copied().collect();
        let change = |offset: i64| {
            let (before, after) = (before.get(&offset).copied(), after.get(&offset).copied());
            (before != after).then_some(Fault::Changed { place: (read.partition, offset), before, after })
        };
        offsets.into_iter().filter_map(change).collect()
    }
}

/// How far the readers of the inputs have come, by partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    pub(crate) ends: Vec<i64>,
    pub(crate) committed: Vec<i64>,
}

/// Everything that is wrong once all has ended. The view has to reach the ends of the partitions.
pub(crate) fn check(log: &Log, view: &View, inputs: &Inputs) -> Vec<Fault> {
    let mut faults: Vec<Fault> = log.obeyed.iter().cloned().map(Fault::Obeyed).collect();
    let mut places: HashMap<Element, Vec<Place>> = HashMap::new();
    for (partition, seen) in &view.partitions {
        for (offset, _, element) in &seen.records {
            places.entry(*element).or_default().push((*partition, *offset));
        }
        faults.extend(order(log, *partition, seen));
    }
    for (element, found) in &places {
        if found.len() > 1 {
            faults.push(Fault::Duplicated { element: *element, places: found.clone() });
        }
        let said = log.appends.get(*element).and_then(|append| append.offset);
        if let Some((said, (_, is))) = said.zip(found.first()).filter(|(said, (_, is))| said != is) {
            faults.push(Fault::Moved { element: *element, said, is: *is });
        }
    }
    let mut processed: BTreeMap<Place, usize> = BTreeMap::new();
    for (txn, entry) in log.txns.iter().enumerate() {
        let of = entry.appends.len();
        let found = entry.appends.iter().filter(|element| places.contains_key(element)).count();
        match entry.outcome {
            _ if found > 0 && found < of => faults.push(Fault::Torn { txn, found, of }),
            Outcome::Committed if found < of => faults.push(Fault::Lost { txn }),
            // Those who read them have said so.
            Outcome::Committed | Outcome::Doubtful | Outcome::Aborted => {}
        }
        if found > 0 {
            entry.inputs.iter().for_each(|input| *processed.entry(*input).or_default() += 1);
        }
    }
    faults.extend(positions(&processed, inputs));
    faults
}

/// What was stored before something else was sent is before it.
fn order(log: &Log, partition: i32, seen: &Partition) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut earliest: Option<(u64, Element)> = None;
    for (.., element) in seen.records.iter().rev() {
        let Some(append) = log.appends.get(*element) else { continue };
        if let Some((_, first)) = earliest.filter(|(stored, _)| *stored < append.sent) {
            faults.push(Fault::OutOfOrder { partition, first, second: *element });
        }
        let stored = append.stored.map(|stored| (stored, *element));
        earliest = earliest.into_iter().chain(stored).min();
    }
    faults
}

/// Each input once, and the group is where the last one is.
fn positions(processed: &BTreeMap<Place, usize>, inputs: &Inputs) -> Vec<Fault> {
    let mut faults = Vec::new();
    let ends = || (0..).zip(&inputs.ends);
    for input in ends().flat_map(|(partition, end)| (0..*end).map(move |offset| (partition, offset))) {
        let times = processed.get(&input).copied().unwrap_or_default();
        if times != 1 {
            faults.push(Fault::Processed { input, times });
        }
    }
    for ((partition, end), committed) in ends().zip(&inputs.committed) {
        if committed != end {
            faults.push(Fault::Position { partition, committed: *committed, end: *end });
        }
    }
    faults
}
