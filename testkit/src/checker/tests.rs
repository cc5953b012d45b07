use super::*;

const P: Partition = ("orders", 0);

fn id(number: u64) -> RecordId {
    RecordId { producer: 1, number }
}

fn acked(base_offset: i64, first: u64, count: u32) -> What {
    What::Acked { partition: P, base_offset: Some(base_offset), first: id(first), count, acks: -1 }
}

fn scan(numbers: &[u64]) -> What {
    let records = numbers.iter().enumerate().map(|(offset, number)| (offset as i64, Some(id(*number)))).collect();
    What::Scan { partition: P, records, sequences: vec![], high_watermark: numbers.len() as i64, log_start: 0 }
}

fn read(high_watermark: i64, log_start: i64) -> What {
    What::Read { partition: P, records: vec![], high_watermark, log_start }
}

fn sequences(batches: &[(i32, i32)]) -> What {
    let batch = |(base_sequence, count): &(i32, i32)| Sequences {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence: *base_sequence,
        count: *count,
    };
    let sequences = batches.iter().map(batch).collect();
    What::Scan { partition: P, records: vec![], sequences, high_watermark: 0, log_start: 0 }
}

fn owns(generation: i32, member: &str) -> What {
    What::Owns { generation, member: member.to_owned(), partitions: vec![P] }
}

fn commit(offset: i64) -> What {
    What::Commit { partition: P, offset }
}

fn committed(offset: i64) -> What {
    What::Committed { partition: P, offset }
}

/// Events one after the other.
fn sequential(whats: Vec<What>) -> Vec<Event> {
    let ticks = (0..).step_by(2);
    whats.into_iter().zip(ticks).map(|(what, tick)| Event { invoked: tick, completed: tick + 1, what }).collect()
}

#[track_caller]
fn violates(rule: &str, whats: Vec<What>) {
    let violations = check(&sequential(whats));
    assert!(violations.iter().any(|violation| violation.starts_with(rule)), "{rule}: {violations:?}");
}

#[track_caller]
fn passes(events: &[Event]) {
    assert_eq!(check(events), Vec::<String>::new());
}

#[test]
fn a_correct_history_passes() {
    let good = vec![
        acked(0, 1, 2),
        read(2, 0),
        scan(&[1, 2]),
        acked(2, 5, 1),
        What::Acked { partition: P, base_offset: None, first: id(5), count: 1, acks: 1 },
        scan(&[1, 2, 5]),
        sequences(&[]),
        owns(1, "a"),
        committed(-1),
        commit(2),
        committed(2),
        owns(2, "b"),
        commit(3),
        committed(3),
    ];
    // The empty scan of `sequences` would be a loss: leave it out.
    let good = good.into_iter().filter(|what| !matches!(what, What::Scan { records, .. } if records.is_empty()));
    passes(&sequential(good.collect()));
    passes(&sequential(vec![sequences(&[(0, 5), (5, 1), (6, 2)])]));
}

#[test]
fn k1_an_acknowledged_record_that_is_gone() {
    violates("K1", vec![acked(0, 1, 3), scan(&[1, 2])]);
    violates("K1", vec![scan(&[1, 2]), scan(&[1])]);
    let duplicate = What::Acked { partition: P, base_offset: None, first: id(9), count: 1, acks: 1 };
    violates("K1", vec![duplicate, scan(&[1])]);
}

#[test]
fn k2_a_record_that_is_there_twice_or_out_of_order() {
    violates("K2", vec![scan(&[1, 2, 1])]);
    violates("K2", vec![acked(0, 1, 1), acked(1, 1, 1)]);
    violates("K2", vec![scan(&[2, 1])]);
    violates("K2", vec![sequences(&[(0, 5), (4, 1)])]);
    violates("K2", vec![sequences(&[(0, 5), (6, 1)])]);
    violates("K2", vec![sequences(&[(3, 5)])]);
}

#[test]
fn k3_an_offset_that_changes_its_meaning() {
    violates("K3", vec![scan(&[1, 2]), scan(&[1, 3])]);
    violates("K3", vec![acked(0, 1, 1), scan(&[2])]);
    let unknown = What::Read { partition: P, records: vec![(0, None)], high_watermark: 1, log_start: 0 };
    violates("K3", vec![unknown]);
    let gap = What::Scan {
        partition: P,
        records: vec![(0, Some(id(1))), (2, Some(id(2)))],
        sequences: vec![],
        high_watermark: 3,
        log_start: 0,
    };
    violates("K3", vec![gap]);
}

#[test]
fn k3_a_watermark_that_goes_back() {
    violates("K3", vec![read(5, 0), read(4, 0)]);
    violates("K3", vec![read(5, 2), read(5, 1)]);
    violates("K3", vec![acked(0, 1, 3), read(2, 0)]);
}

#[test]
fn what_was_deleted_may_be_gone_and_may_not_come_back() {
    let trimmed = || What::Trimmed { partition: P, log_start: 2 };
    let rest = |log_start| What::Scan {
        partition: P,
        records: vec![(0, id(1)), (1, id(2)), (2, id(3))]
            .into_iter()
            .skip(log_start)
            .map(|(at, id)| (at, Some(id)))
            .collect(),
        sequences: vec![],
        high_watermark: 3,
        log_start: log_start as i64,
    };
    passes(&sequential(vec![acked(0, 1, 3), trimmed(), rest(2)]));
    violates("K3", vec![acked(0, 1, 3), trimmed(), rest(1)]);
}

#[test]
fn acks_1_promises_that_a_record_is_kept_but_not_that_it_is_seen_yet() {
    let acked = || What::Acked { partition: P, base_offset: Some(0), first: id(1), count: 3, acks: 1 };
    passes(&sequential(vec![acked(), read(2, 0), scan(&[1, 2, 3])]));
    violates("K1", vec![acked(), read(2, 0), scan(&[1, 2])]);
}

#[test]
fn answers_to_requests_that_overlap_may_come_in_either_order() {
    let early = Event { invoked: 0, completed: 9, what: read(4, 0) };
    let late = Event { invoked: 1, completed: 2, what: read(5, 0) };
    passes(&[early, late]);
    let unanswered = Event { invoked: 0, completed: u64::MAX, what: commit(7) };
    passes(&[unanswered.clone(), Event { invoked: 1, completed: 2, what: committed(-1) }]);
    passes(&[unanswered, Event { invoked: 1, completed: 2, what: committed(7) }]);
}

#[test]
fn k5_two_owners_in_one_generation() {
    violates("K5", vec![owns(3, "a"), owns(3, "b")]);
    passes(&sequential(vec![owns(3, "a"), owns(3, "a"), owns(4, "b")]));
}

#[test]
fn k5_a_commit_that_is_forgotten_or_invented() {
    violates("K5", vec![commit(4), committed(-1)]);
    violates("K5", vec![commit(4), commit(6), committed(4)]);
    violates("K5", vec![commit(4), committed(5)]);
}

#[test]
fn an_error_that_no_correct_server_gives() {
    violates("", vec![What::Refused { partition: P, first: id(1), code: 45 }]);
}
