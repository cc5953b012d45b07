//! A topic that loses its oldest records, to retention.bytes and to DeleteRecords: its log start never moves back, below it
//! there is nothing, and from it on everything that was acknowledged, in order.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Survives;
use super::wire::{self, OFFSET_OUT_OF_RANGE, Outgoing, Read};
use super::world::World;
use crate::session::Session;

const TOPIC: &str = "window";
const RETENTION_BYTES: usize = 40 << 10;
/// A record's and a batch's bytes beside its value, at most.
const OVERHEAD: usize = 100;
/// Bytes at the end that may be counted and not be visible yet, while a disk fails.
const UNSEEN: usize = 16 << 10;
/// One in so many steps deletes records.
const DELETES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// What was written and deleted.
#[derive(Debug)]
pub(crate) struct Window {
    survives: Survives,
    sent: HashSet<String>,
    /// Acknowledged: the first word of the value, by offset.
    written: BTreeMap<i64, String>,
    /// The furthest that DeleteRecords was asked for, and that it answered.
    asked: i64,
    deleted: i64,
    /// The log start that was seen.
    seen: i64,
    /// Records beyond `asked` that retention was seen to take.
    expired: u64,
}

type Shared = Arc<Mutex<Window>>;

/// What went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gone {
    /// By DeleteRecords.
    pub(crate) deleted: u64,
    /// By retention.
    pub(crate) expired: u64,
}

impl Window {
    pub(crate) fn new(survives: Survives) -> Self {
        let (sent, written) = (HashSet::new(), BTreeMap::new());
        Window { survives, sent, written, asked: 0, deleted: 0, seen: 0, expired: 0 }
    }

    fn saw(&mut self, start: i64) {
        self.seen = start;
        self.expired = self.expired.max((start - self.asked).max(0).unsigned_abs());
    }
}

fn word(value: &str) -> &str {
    value.split(' ').next().unwrap_or_default()
}

pub(crate) async fn set_up(address: SocketAddr) {
    let bytes = RETENTION_BYTES.to_string();
    let configs = [("cleanup.policy", "delete"), ("retention.bytes", bytes.as_str())];
    wire::create_topic_with(address, TOPIC, 1, &configs).await;
}

/// Writes and deletes whenever there is a server.
pub(crate) async fn produce(seed: u64, world: World, window: Shared, acks: i16, pause: Duration) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut steps, mut done) = (world.steps(PAUSE + pause), Ok(()));
    while let Some(session) = steps.next(done).await {
        done = match rng.random_range(0..DELETES) {
            0 => delete(session, &mut rng, &window).await,
            _ => send(session, &mut rng, &window, acks).await,
        };
    }
}

async fn send(session: &mut Session, rng: &mut StdRng, window: &Shared, acks: i16) -> io::Result<()> {
    let first = window.lock().sent.len();
    let values = (0..rng.random_range(1..5)).map(|at| {
        // Nothing that a codec makes much shorter.
        let length = rng.random_range(200..1500);
        let padding = Alphanumeric.sample_string(rng, length);
        format!("window-{} {padding}", first + at)
    });
    let values: Vec<String> = values.collect();
    let words: Vec<String> = values.iter().map(|value| word(value).to_owned()).collect();
    let records: Vec<Outgoing> = values.iter().map(|value| Outgoing::new(value)).collect();
    window.lock().sent.extend(words.iter().cloned());
    let base = wire::produce(session, TOPIC, 0, acks, &records).await?.expect("accepted");
    window.lock().written.extend((base..).zip(words));
    Ok(())
}

async fn delete(session: &mut Session, rng: &mut StdRng, window: &Shared) -> io::Result<()> {
    let Some(last) = window.lock().written.keys().next_back().copied() else { return Ok(()) };
    let offset = (last - rng.random_range(5..60)).max(0);
    let start = wire::log_start(session, TOPIC, 0).await?;
    window.lock().saw(start);
    let before = window.lock().asked;
    window.lock().asked = before.max(offset);
    match wire::delete_records(session, TOPIC, 0, offset).await? {
        Ok(start) => {
            assert!(start >= offset, "DeleteRecords to {offset} says {start}");
            let mut window = window.lock();
            window.deleted = window.deleted.max(offset);
            Ok(())
        }
        // Not visible yet: it is refused, and nothing of it is under way.
        Err(OFFSET_OUT_OF_RANGE) => {
            window.lock().asked = before;
            Ok(())
        }
        Err(code) => wire::or_gone(Err(code)),
    }
}

/// Holds the topic against what was written and deleted.
pub(crate) async fn check(address: SocketAddr, window: &Shared) -> Result<Gone, String> {
    let (written, deleted, seen) = {
        let window = window.lock();
        (window.written.clone(), window.deleted, window.seen)
    };
    let mut session = Session::connect(address).await.expect("the server is ready");
    let mut start = wire::log_start(&mut session, TOPIC, 0).await.expect("the server answers");
    let records = loop {
        match wire::read_from(address, TOPIC, 0, start).await {
            Ok(records) => break records,
            // Retention goes on.
            Err(later) => start = later,
        }
    };
    if start > 0 {
        let below = wire::fetch(&mut session, TOPIC, 0, start - 1).await.expect("the server answers");
        if below.as_ref().err() != Some(&OFFSET_OUT_OF_RANGE) {
            return Err(format!("retention: below the start of {TOPIC}, {start}, there is {below:?}"));
        }
    }
    let mut window = window.lock();
    // What was only seen may go back with what was not synced.
    let least = if window.survives == Survives::Writes { deleted.max(seen) } else { deleted };
    window.saw(start);
    check_records(&written, &window.sent, start, least, &records)?;
    if start > window.asked {
        let bytes: usize = records.iter().map(|record| record.value.len() + OVERHEAD).sum();
        if bytes + UNSEEN < RETENTION_BYTES {
            return Err(format!("retention: from {start} on there are {bytes} bytes, and nobody deleted the rest"));
        }
    }
    Ok(Gone { deleted: window.deleted as u64, expired: window.expired })
}

fn check_records(
    written: &BTreeMap<i64, String>,
    sent: &HashSet<String>,
    start: i64,
    least: i64,
    records: &[Read],
) -> Result<(), String> {
    if start < least {
        return Err(format!("retention: {TOPIC} begins at {start}, and began at {least}"));
    }
    for (due, record) in (start..).zip(records) {
        let found = word(&record.value);
        if record.offset != due {
            return Err(format!("retention: offset {due} is not there, {} is", record.id()));
        }
        if !sent.contains(found) || written.get(&due).is_some_and(|written| written != found) {
            return Err(format!("retention: {found} is at {}, not {:?}", record.id(), written.get(&due)));
        }
    }
    let end = start + records.len() as i64;
    match written.range(end.max(start)..).next() {
        Some((offset, value)) => Err(format!("K1: {value} was acknowledged at {offset}, and {TOPIC} ends at {end}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_seen() {
        let word = |at: i64| format!("window-{at}");
        let read = |offset: i64, value: &str| Read {
            topic: TOPIC.to_owned(),
            partition: 0,
            offset,
            timestamp: 0,
            key: None,
            value: format!("{value} padding"),
            headers: Vec::new(),
            origin: None,
        };
        let written: BTreeMap<i64, String> = (0..6).map(|at| (at, word(at))).collect();
        let mut sent: HashSet<String> = written.values().cloned().collect();
        sent.insert("unanswered".to_owned());
        let all: Vec<Read> = (0..6).map(|at| read(at, &word(at))).collect();
        let check = |start, least, records: &[Read]| check_records(&written, &sent, start, least, records);
        assert_eq!(check(0, 0, &all), Ok(()));
        assert_eq!(check(2, 2, &all[2..]), Ok(()));
        assert_eq!(check(2, 0, &[&all[2..], &[read(6, "unanswered")]].concat()), Ok(()));
        for (start, least, records, why) in [
            (2, 3, all[2..].to_vec(), "began at 3"),
            (2, 2, all[3..].to_vec(), "is not there"),
            (2, 2, all[2..5].to_vec(), "ends at 5"),
            (2, 2, Vec::new(), "ends at 2"),
            (0, 0, [&all[..], &[read(6, "nobody's")]].concat(), "not None"),
            (4, 0, vec![all[4].clone(), read(5, "window-4")], "is at"),
        ] {
            let found = check(start, least, &records).expect_err(why);
            assert!(found.contains(why), "{found}");
        }
    }
}
