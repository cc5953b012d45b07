use std::sync::Arc;

use bytes::Bytes;
use krocket_protocol::records::{BatchBuilder, BatchHeader, Header, LastOffset, Records};

use super::super::window::{Rules, Verdict};
use super::*;

const AT: i64 = 1_700_000_000_000;

/// Records with a key, a priority and the seconds after [`AT`] at which they were produced.
fn records(of: &[(&str, &str, i64)]) -> Records {
    let mut builder = BatchBuilder::new(0, AT);
    for (offset, (key, priority, seconds)) in (0..).zip(of) {
        let header = Header { key: b"prio", value: Some(priority.as_bytes()) };
        builder.push(offset, AT + seconds * 1000, Some(key.as_bytes()), Some(b"v"), &[header]);
    }
    let batch: Bytes = builder.finish(LastOffset::Trim).expect("builds").expect("records");
    Records::open(&batch, &BatchHeader::read(&batch).expect("a header"), 1 << 20).expect("opens")
}

fn sieve(sight: &Sight, of: &[(&str, &str, i64)]) -> (Sieve, Window) {
    let mut window = Window::new(0);
    let mut sieve = Sieve::default();
    sieve.follow(&window, sight);
    for record in &records(of) {
        sieve.add(&record.expect("a record"), sight);
    }
    window.extend(of.len() as i64 - 1, true);
    (sieve, window)
}

fn give(sieve: &mut Sieve, window: &mut Window, sight: &Sight, most: i64) -> Vec<i64> {
    sieve.follow(window, sight);
    let chosen = sieve.choose(window, most, |_| i64::MAX);
    for offset in &chosen {
        window.acquire(*offset, *offset, &Arc::from("m"), i64::MAX);
    }
    chosen
}

fn answer(window: &mut Window, offset: i64, verdict: Verdict) {
    let rules = Rules { now_ms: 1, limit: 9, until_ms: 1, buries: false, backoff: &|_| 0 };
    window.acknowledge(offset, offset, "m", verdict, &rules).expect("held");
}

#[test]
fn records_of_a_key_go_one_at_a_time_and_other_keys_flow() {
    let sight = Sight { key_order: true, ..Sight::default() };
    let (mut sieve, mut window) =
        sieve(&sight, &[("a", "", 0), ("a", "", 0), ("b", "", 0), ("a", "", 0), ("c", "", 0)]);
    assert_eq!(give(&mut sieve, &mut window, &sight, 10), [0, 2, 4]);
    assert!(give(&mut sieve, &mut window, &sight, 10).is_empty());
    answer(&mut window, 2, Verdict::Accept);
    assert!(give(&mut sieve, &mut window, &sight, 10).is_empty());
    // The first comes again before the second comes at all.
    answer(&mut window, 0, Verdict::Release);
    assert_eq!(give(&mut sieve, &mut window, &sight, 10), [0]);
    answer(&mut window, 0, Verdict::Accept);
    assert_eq!(give(&mut sieve, &mut window, &sight, 10), [1]);
    answer(&mut window, 1, Verdict::Reject);
    assert_eq!(give(&mut sieve, &mut window, &sight, 10), [3]);
}

#[test]
fn the_most_urgent_goes_first_and_none_waits_for_ever() {
    let sight = Sight { priority: Some("prio".to_owned()), ..Sight::default() };
    let of = [("a", "0", 0), ("b", "5", 10), ("c", "1", 20), ("d", "soon", 30), ("e", "1", 70), ("f", "2", 200)];
    let (mut sieve, mut window) = sieve(&sight, &of);
    let order: Vec<i64> = (0..6).flat_map(|_| give(&mut sieve, &mut window, &sight, 1)).collect();
    // Two minutes are worth two steps of priority: f came too late to overtake anybody but itself.
    assert_eq!(order, [1, 2, 0, 4, 3, 5]);
}

#[test]
fn what_a_member_gives_back_is_chosen_again() {
    let sight = Sight { key_order: true, ..Sight::default() };
    let (mut sieve, mut window) = sieve(&sight, &[("a", "", 0), ("b", "", 0)]);
    assert_eq!(give(&mut sieve, &mut window, &sight, 10), [0, 1]);
    let rules = Rules { now_ms: 1, limit: 9, until_ms: 1, buries: false, backoff: &|_| 0 };
    window.release("m", true, &rules);
    assert_eq!(give(&mut sieve, &mut window, &sight, 10), [0, 1]);
}

#[test]
fn other_configs_begin_again() {
    let sight = Sight { key_order: true, ..Sight::default() };
    let (mut sieve, window) = sieve(&sight, &[("a", "", 0), ("b", "", 0)]);
    sieve.seen_to = 2;
    sieve.follow(&window, &Sight { priority: Some("prio".to_owned()), ..sight });
    assert_eq!((sieve.seen_to, sieve.len()), (0, 0));
}

#[test]
fn ranges_join_neighbours() {
    assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), [(1, 3), (7, 7), (9, 10)]);
    assert_eq!(ranges(&[]), []);
}
