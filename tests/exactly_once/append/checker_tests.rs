//! The checker sees each fault in a history made up for it, and none in a sound one.

use super::checker::{Fault, Inputs, check};
use super::history::{Element, Log, Outcome, Read, Txn, View};

/// Two transactions over two partitions; keys 0 and 3 are in partition 0, key 1 in partition 1. The second one read an
/// input. Offset 2 of partition 0 and 1 of partition 1 are the first one's marker.
struct Story {
    log: Log,
    txns: [Txn; 2],
    reads: Vec<Read>,
    inputs: Inputs,
}

const FIRST: [Element; 3] = [0, 1, 2];

fn sound() -> Story {
    let mut log = Log::default();
    let first = log.begin("a", vec![]);
    assert_eq!(log.append(first, &[0, 3]), [0, 1]);
    log.stored(&[0, 1], Some(0));
    assert_eq!(log.append(first, &[1]), [2]);
    log.stored(&[2], Some(0));
    log.txns[first].outcome = Outcome::Committed;
    let second = log.begin("b", vec![(0, 0)]);
    assert_eq!(log.append(second, &[0]), [3]);
    log.stored(&[3], Some(3));
    assert_eq!(log.append(second, &[1]), [4]);
    log.stored(&[4], None);
    log.txns[second].outcome = Outcome::Doubtful;
    let reads = vec![read(0, 0, 3, &[(0, 0, 0), (1, 3, 1)]), read(0, 0, 5, &[(0, 0, 0), (1, 3, 1), (3, 0, 3)]), {
        read(1, 0, 4, &[(0, 1, 2), (2, 1, 4)])
    }];
    Story { log, txns: [first, second], reads, inputs: Inputs { ends: vec![1], committed: vec![1] } }
}

fn read(partition: i32, from: i64, to: i64, records: &[(i64, u32, Element)]) -> Read {
    Read { partition, from, to, records: records.to_vec() }
}

impl Story {
    fn faults(&self) -> Vec<Fault> {
        let mut view = View::default();
        let mut faults: Vec<_> = self.reads.iter().flat_map(|read| view.merge(read, &self.log)).collect();
        faults.extend(check(&self.log, &view, &self.inputs));
        faults
    }

    fn forget(&mut self, elements: &[Element]) {
        for read in &mut self.reads {
            read.records.retain(|(.., element)| !elements.contains(element));
        }
    }
}

/// The faults of the sound story after a change.
fn after(change: impl FnOnce(&mut Story)) -> Vec<Fault> {
    let mut story = sound();
    change(&mut story);
    story.faults()
}

#[test]
fn a_sound_history_has_no_fault() {
    assert_eq!(sound().faults(), []);
}

#[test]
fn a_doubtful_transaction_may_be_there_or_not() {
    let faults = after(|story| {
        story.forget(&[3, 4]);
        story.inputs = Inputs::default();
    });
    assert_eq!(faults, []);
}

#[test]
fn what_is_lost_is_seen() {
    assert_eq!(after(|story| story.forget(&FIRST)), [Fault::Lost { txn: 0 }]);
}

#[test]
fn what_is_there_twice_is_seen() {
    let faults = after(|story| {
        story.reads[2].records.push((3, 1, 4));
        story.reads[2].to = 5;
    });
    assert_eq!(faults, [Fault::Duplicated { element: 4, places: vec![(1, 2), (1, 3)] }]);
}

#[test]
fn what_is_torn_between_partitions_is_seen() {
    let torn = |txn, found, of| vec![Fault::Torn { txn, found, of }];
    assert_eq!(after(|story| story.forget(&[2])), torn(0, 2, 3));
    assert_eq!(after(|story| story.forget(&[4])), torn(1, 1, 2), "its outcome is not known, but it is one");
}

#[test]
fn what_is_torn_within_a_partition_is_seen() {
    let faults = after(|story| story.reads[0] = read(0, 0, 2, &[(0, 0, 0)]));
    let half = Fault::Half { txn: 0, partition: 0, found: 1, of: 2 };
    let later = Fault::Changed { place: (0, 1), before: None, after: Some(1) };
    assert_eq!(faults, [half, later, Fault::Torn { txn: 0, found: 2, of: 3 }], "the first read counts");
    let faults = after(|story| story.reads[0] = read(0, 0, 1, &[(0, 0, 0)]));
    assert_eq!(faults, [], "a read may end in the middle: another transaction may hold back the rest");
}

#[test]
fn what_is_read_though_aborted_is_seen() {
    let faults = after(|story| story.log.txns[story.txns[1]].outcome = Outcome::Aborted);
    assert_eq!(faults, [Fault::Aborted { element: 3, txn: 1 }, Fault::Aborted { element: 4, txn: 1 }]);
}

#[test]
fn what_was_never_appended_is_seen() {
    let faults = after(|story| {
        story.reads[2].records.push((3, 1, 99));
        story.reads[2].to = 5;
    });
    assert_eq!(faults, [Fault::Unknown { element: 99, place: (1, 3) }]);
    let faults = after(|story| story.reads[2].records[1].1 = 4);
    assert_eq!(faults, [Fault::Unknown { element: 4, place: (1, 2) }], "it went to another list");
}

#[test]
fn what_is_out_of_order_is_seen() {
    let faults = after(|story| {
        story.log.appends[2].offset = None;
        story.reads[2] = read(1, 0, 4, &[(0, 1, 4), (2, 1, 2)]);
    });
    assert_eq!(faults, [Fault::OutOfOrder { partition: 1, first: 2, second: 4 }]);
}

#[test]
fn what_is_not_where_the_answer_said_is_seen() {
    assert_eq!(after(|story| story.log.appends[2].offset = Some(7)), [Fault::Moved { element: 2, said: 7, is: 0 }]);
}

#[test]
fn reads_that_change_are_seen() {
    let changed = |before, after| vec![Fault::Changed { place: (0, 1), before, after }];
    let other = after(|story| story.reads.push(read(0, 0, 5, &[(0, 0, 0), (1, 0, 3), (3, 0, 3)])));
    assert_eq!(other, changed(Some(1), Some(3)));
    let vanished = after(|story| story.reads.push(read(0, 0, 2, &[(0, 0, 0)])));
    assert_eq!(vanished, changed(Some(1), None));
    let appeared = after(|story| story.reads.push(read(0, 2, 4, &[(2, 0, 1), (3, 0, 3)])));
    assert_eq!(appeared, [Fault::Changed { place: (0, 2), before: None, after: Some(1) }]);
}

#[test]
fn what_is_processed_twice_or_never_is_seen() {
    let twice = after(|story| story.log.txns[story.txns[0]].inputs.push((0, 0)));
    assert_eq!(twice, [Fault::Processed { input: (0, 0), times: 2 }]);
    let never = after(|story| story.log.txns[story.txns[1]].inputs.clear());
    assert_eq!(never, [Fault::Processed { input: (0, 0), times: 0 }]);
    let behind = after(|story| story.inputs.committed = vec![0]);
    assert_eq!(behind, [Fault::Position { partition: 0, committed: 0, end: 1 }]);
}

#[test]
fn a_fenced_producer_that_has_its_way_is_seen() {
    let faults = after(|story| story.log.obeyed.push("a".to_owned()));
    assert_eq!(faults, [Fault::Obeyed("a".to_owned())]);
}
