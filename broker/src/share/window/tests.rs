use proptest::prelude::*;

use super::changes::is_stored;
use super::*;

fn none(_: u32) -> i64 {
    0
}

fn rules(now_ms: i64) -> Rules<'static> {
    Rules { now_ms, limit: 3, until_ms: now_ms + 100, buries: true, backoff: &none }
}

fn member(name: &str) -> Arc<str> {
    name.into()
}

#[test]
fn records_are_given_out_acknowledged_and_forgotten() {
    let mut window = Window::new(10);
    window.extend(19, true);
    let a = member("a");
    assert_eq!(window.acquire(10, 14, &a, 100), [Delivered { first: 10, last: 14, count: 1 }]);
    assert_eq!(window.acquired(), 5);
    assert_eq!(window.acknowledge(10, 15, "a", Verdict::Accept, &rules(0)), Err(NotHeld));
    assert_eq!(window.acknowledge(12, 13, "b", Verdict::Accept, &rules(0)), Err(NotHeld));
    window.acknowledge(12, 13, "a", Verdict::Accept, &rules(0)).expect("held");
    assert_eq!((window.start(), window.done(), window.acquired()), (10, 2, 3));
    window.acknowledge(10, 11, "a", Verdict::Accept, &rules(0)).expect("held");
    assert_eq!((window.start(), window.done()), (14, 0));
    // What lies before the start is passed over.
    window.acknowledge(10, 14, "a", Verdict::Accept, &rules(0)).expect("held");
    assert_eq!((window.start(), window.end()), (15, 20));
}

#[test]
fn a_released_record_waits_comes_again_and_dies_at_the_limit() {
    let mut window = Window::new(0);
    window.extend(0, true);
    let backoff = |count: u32| i64::from(count) * 1000;
    let at = |now_ms| Rules { backoff: &backoff, ..rules(now_ms) };
    for (now_ms, count) in [(0, 1), (1000, 2), (3000, 3)] {
        if now_ms > 0 {
            window.tick(&at(now_ms - 1));
            assert_eq!(window.acquire(0, 0, &member("a"), now_ms), [], "not before its time");
        }
        window.tick(&at(now_ms));
        assert_eq!(window.acquire(0, 0, &member("a"), now_ms + 100), [Delivered { first: 0, last: 0, count }]);
        window.acknowledge(0, 0, "a", Verdict::Release, &at(now_ms)).expect("held");
    }
    assert_eq!(window.dying().map(|(_, cause)| cause).collect::<Vec<_>>(), [Cause::Exhausted]);
    assert_eq!(window.start(), 0);
    window.bury(0, 0);
    assert_eq!((window.start(), window.dying().count()), (1, 0));
}

#[test]
fn a_lock_ends_and_may_be_renewed() {
    let mut window = Window::new(0);
    window.extend(3, true);
    window.acquire(0, 3, &member("a"), 100);
    window.acknowledge(2, 3, "a", Verdict::Renew, &rules(50)).expect("held");
    assert_eq!(window.next_due_ms(), Some(100));
    assert_eq!(window.tick(&rules(100)), 2);
    assert_eq!(window.ready().collect::<Vec<_>>(), [Delivered { first: 0, last: 1, count: 1 }]);
    assert_eq!(window.acknowledge(0, 0, "a", Verdict::Accept, &rules(101)), Err(NotHeld));
    window.acknowledge(2, 3, "a", Verdict::Accept, &rules(120)).expect("renewed");
}

#[test]
fn a_member_that_leaves_gives_back_and_one_that_is_lost_has_tried() {
    for (deliberate, count) in [(true, 0), (false, 1)] {
        let mut window = Window::new(0);
        window.extend(4, true);
        window.acquire(0, 2, &member("a"), 100);
        window.acquire(3, 4, &member("b"), 100);
        window.release("a", deliberate, &rules(0));
        assert_eq!(window.ready().collect::<Vec<_>>(), [Delivered { first: 0, last: 2, count }]);
        assert_eq!(window.acquired(), 2);
    }
}

#[test]
fn retention_takes_what_it_takes() {
    let mut window = Window::new(0);
    window.extend(9, true);
    window.acquire(0, 4, &member("a"), 100);
    window.trim(3);
    assert_eq!((window.start(), window.acquired()), (3, 2));
    window.acknowledge(0, 4, "a", Verdict::Accept, &rules(0)).expect("the rest is held");
    window.trim(100);
    assert_eq!((window.start(), window.end(), window.runs().count()), (100, 100, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Extend(i64, bool),
    Acquire(i64, i64, u8),
    Acknowledge(i64, i64, u8, Verdict),
    Release(u8, bool),
    Pass(i64),
    Trim(i64),
    LeaveOut(i64, i64),
    Bury,
    Restart,
    WriteFails,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop::sample::select(vec![Verdict::Accept, Verdict::Release, Verdict::Reject, Verdict::Renew]);
    let step = prop_oneof![
        3 => (1..8_i64, prop::bool::weighted(0.8)).prop_map(|(n, records)| Step::Extend(n, records)),
        4 => (0..20_i64, 1..8_i64, 0..3_u8).prop_map(|(at, n, who)| Step::Acquire(at, n, who)),
        6 => (0..20_i64, 1..5_i64, 0..3_u8, verdict).prop_map(|(at, n, who, v)| Step::Acknowledge(at, n, who, v)),
        1 => (0..3_u8, any::<bool>()).prop_map(|(who, deliberate)| Step::Release(who, deliberate)),
        3 => (1..120_i64).prop_map(Step::Pass),
        1 => (0..10_i64).prop_map(Step::Trim),
        1 => (0..20_i64, 1..4_i64).prop_map(|(at, n)| Step::LeaveOut(at, n)),
        1 => Just(Step::Bury),
        2 => Just(Step::Restart),
        2 => Just(Step::WriteFails),
    ];
    prop::collection::vec(step, 1..120)
}

/// Every offset by itself.
#[derive(Default)]
struct Model {
    start: i64,
    records: BTreeMap<i64, (State, u32)>,
}

impl Model {
    fn each(&mut self, first: i64, last: i64, next: impl Fn(&(State, u32)) -> Option<(State, u32)>) {
        for (_, record) in self.records.range_mut(first..=last) {
            if let Some(next) = next(record) {
                *record = next;
            }
        }
    }

    fn apply(&mut self, (state, count): &(State, u32), verdict: Verdict, rules: &Rules<'_>) -> (State, u32) {
        let run = Run { last: 0, state: state.clone(), count: *count };
        let next = after(&run, verdict, rules);
        (next.state, next.count)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn runs_say_what_single_records_would(steps in steps()) {
        let backoff = |count: u32| i64::from(count) * 30 - 30;
        let mut window = Window::new(0);
        let mut model = Model::default();
        let mut rows: BTreeMap<i64, Run> = BTreeMap::new();
        let (mut now_ms, mut stored_start) = (1, 0);
        for step in steps {
            let rules = Rules { now_ms, limit: 3, until_ms: now_ms + 100, buries: true, backoff: &backoff };
            match step {
                Step::Extend(n, records) => {
                    let end = window.end();
                    window.extend(end + n - 1, records);
                    let state = if records { State::Available { from_ms: 0 } } else { State::Done };
                    (end..end + n).for_each(|offset| _ = model.records.insert(offset, (state.clone(), 0)));
                }
                Step::Acquire(at, n, who) => {
                    let who = member(&who.to_string());
                    let (first, last) = (model.start + at, model.start + at + n - 1);
                    // Two calls at the same time by the same member would look like one.
                    now_ms += 1;
                    let until_ms = now_ms + 100;
                    let given = window.acquire(first, last, &who, until_ms);
                    let mut wanted = Vec::new();
                    model.each(first, last, |(state, count)| {
                        (*state == State::Available { from_ms: 0 })
                            .then(|| (State::Acquired { member: who.clone(), until_ms }, count + 1))
                    });
                    for (offset, (state, count)) in model.records.range(first..=last) {
                        if matches!(state, State::Acquired { until_ms: until, .. } if *until == until_ms) {
                            wanted.push((*offset, *count));
                        }
                    }
                    let given: Vec<_> = given.iter().flat_map(|run| (run.first..=run.last).map(|o| (o, run.count))).collect();
                    prop_assert_eq!(given, wanted);
                }
                Step::Acknowledge(at, n, who, verdict) => {
                    let (first, last) = (model.start + at, model.start + at + n - 1);
                    let who = who.to_string();
                    let held = (first..=last).all(|offset| {
                        matches!(model.records.get(&offset), Some((State::Acquired { member, .. }, _)) if **member == *who)
                    });
                    prop_assert_eq!(window.acknowledge(first, last, &who, verdict, &rules).is_ok(), held);
                    if held {
                        for offset in first..=last {
                            let next = model.apply(&model.records[&offset].clone(), verdict, &rules);
                            model.records.insert(offset, next);
                        }
                    }
                }
                Step::Release(who, deliberate) => {
                    let who = who.to_string();
                    window.release(&who, deliberate, &rules);
                    model.each(0, i64::MAX, |(state, count)| match state {
                        State::Acquired { member, .. } if **member == *who => Some(if deliberate {
                            (State::Available { from_ms: 0 }, count - 1)
                        } else {
                            let next = after(&Run { last: 0, state: state.clone(), count: *count }, Verdict::Release, &rules);
                            (next.state, next.count)
                        }),
                        _ => None,
                    });
                }
                Step::Pass(ms) => {
                    now_ms += ms;
                    let rules = Rules { now_ms, until_ms: now_ms + 100, ..rules };
                    window.tick(&rules);
                    // A wait can begin and end within one tick only where it is none.
                    model.each(0, i64::MAX, |(state, count)| match state {
                        State::Acquired { until_ms, .. } if *until_ms <= now_ms => {
                            let next = after(&Run { last: 0, state: state.clone(), count: *count }, Verdict::Release, &rules);
                            Some((next.state, next.count))
                        }
                        State::Available { from_ms } if *from_ms <= now_ms => Some((State::Available { from_ms: 0 }, *count)),
                        _ => None,
                    });
                }
                Step::Trim(n) => {
                    window.trim(model.start + n);
                    model.records = model.records.split_off(&(model.start + n));
                    model.start += n;
                }
                Step::LeaveOut(at, n) => {
                    let (first, last) = (model.start + at, model.start + at + n - 1);
                    window.leave_out(first, last);
                    model.each(first, last, |(state, count)| {
                        matches!(state, State::Available { .. }).then_some((State::Done, *count))
                    });
                }
                Step::Bury => {
                    let dying: Vec<_> = window.dying().map(|(run, _)| run).collect();
                    dying.iter().for_each(|run| window.bury(run.first, run.last));
                    model.each(0, i64::MAX, |(state, count)| matches!(state, State::Dying(_)).then_some((State::Done, *count)));
                }
                Step::WriteFails => {
                    let (start, changes) = window.take_changes();
                    window.write_again(start.is_some(), changes.into_iter().map(|(first, _)| first));
                }
                Step::Restart => {
                    let (start, changes) = window.take_changes();
                    stored_start = start.unwrap_or(stored_start);
                    for (first, run) in changes {
                        match run {
                            Some(run) => rows.insert(first, run),
                            None => rows.remove(&first),
                        };
                    }
                    let restored = Window::restored(stored_start, rows.clone());
                    // What was never delivered may be missing at the end: the log has it.
                    let missing: Vec<i64> = (restored.end()..window.end()).collect();
                    for offset in missing {
                        let never_delivered = window.run_of(offset).is_some_and(|(_, run)| !is_stored(run));
                        prop_assert!(never_delivered, "{offset} is forgotten");
                    }
                    let end = window.end();
                    window = restored;
                    window.extend(end - 1, true);
                    window.tick(&rules);
                    model.each(0, i64::MAX, |(state, count)| match state {
                        State::Acquired { until_ms, .. } if *until_ms <= now_ms => {
                            let next = after(&Run { last: 0, state: state.clone(), count: *count }, Verdict::Release, &rules);
                            Some((next.state, next.count))
                        }
                        State::Available { from_ms } if *from_ms <= now_ms => Some((State::Available { from_ms: 0 }, *count)),
                        _ => None,
                    });
                }
            }
            while model.records.first_key_value().is_some_and(|(_, (state, _))| *state == State::Done) {
                let (offset, _) = model.records.pop_first().expect("seen");
                model.start = offset + 1;
            }
            prop_assert_eq!(window.start(), model.start);
            let told: Vec<_> = window.runs().flat_map(|(first, run)| (first..=run.last).map(move |o| (o, (run.state.clone(), run.count)))).collect();
            let wanted: Vec<_> = model.records.iter().map(|(o, r)| (*o, r.clone())).collect();
            prop_assert_eq!(told, wanted);
            let count = |is: fn(&State) -> bool| model.records.values().filter(|(state, _)| is(state)).count() as i64;
            prop_assert_eq!(window.acquired(), count(|state| matches!(state, State::Acquired { .. })));
            prop_assert_eq!(window.done(), count(|state| *state == State::Done));
            let ready: i64 = window.ready().map(|run| run.last - run.first + 1).sum();
            prop_assert_eq!(ready, count(|state| *state == State::Available { from_ms: 0 }));
        }
    }
}
