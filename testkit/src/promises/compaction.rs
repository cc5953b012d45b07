//! A compacted topic: a client that writes a few keys again and again. From the start of the topic on, the last record of a
//! key is the last that was acknowledged or a later one, whatever compaction took.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::wire::{self, Outgoing, Read};
use super::world::World;
use crate::session::Session;

const TOPIC: &str = "facts";
const KEYS: u32 = 20;
/// As eager as a topic can be; tombstones go soon.
const CONFIGS: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01"), ("delete.retention.ms", "300")];
const PAUSE: Duration = Duration::from_millis(10);

/// A record's key and, where it is no tombstone, the number of its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Fact {
    key: String,
    number: Option<u64>,
}

impl Fact {
    fn read(key: Option<&str>, value: &str) -> Option<Self> {
        let key = key?.to_owned();
        let number = value.split(' ').next().filter(|number| !number.is_empty());
        Some(Fact { key, number: number.map(str::parse).transpose().ok()? })
    }
}

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    sent: HashSet<Fact>,
    /// Acknowledged, by offset.
    written: BTreeMap<i64, Fact>,
    /// Tombstones whose answer has not come: their keys, and the last offset that was acknowledged before.
    in_doubt: Vec<(String, i64)>,
}

type Shared = Arc<Mutex<Facts>>;

pub(crate) async fn set_up(address: SocketAddr) {
    wire::create_topic_with(address, TOPIC, 1, &CONFIGS).await;
}

/// Writes whenever there is a server.
pub(crate) async fn produce(seed: u64, world: World, facts: Shared, acks: i16, pause: Duration) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut number = 0;
    let (mut steps, mut done) = (world.steps(PAUSE + pause), Ok(()));
    while let Some(session) = steps.next(done).await {
        done = send(session, &mut number, &mut rng, &facts, acks).await;
    }
}

async fn send(session: &mut Session, number: &mut u64, rng: &mut StdRng, facts: &Shared, acks: i16) -> io::Result<()> {
    let (mut records, mut sent) = (Vec::new(), Vec::new());
    for _ in 0..rng.random_range(1..=5) {
        *number += 1;
        let fact = Fact {
            key: format!("key-{}", rng.random_range(0..KEYS)),
            number: Some(*number).filter(|_| rng.random_range(0..10) > 0),
        };
        let value = fact.number.map(|number| format!("{number} {}", "x".repeat(rng.random_range(0..1500))));
        records.push(Outgoing::keyed(&fact.key, &value.unwrap_or_default()));
        sent.push(fact);
    }
    let answered = {
        let mut facts = facts.lock();
        let (answered, last) = (facts.in_doubt.len(), facts.written.keys().next_back().map_or(-1, |last| *last));
        facts.sent.extend(sent.iter().cloned());
        let tombstones = sent.iter().filter(|fact| fact.number.is_none());
        facts.in_doubt.extend(tombstones.map(|fact| (fact.key.clone(), last)));
        answered
    };
    let base = wire::produce(session, TOPIC, 0, acks, &records).await?.expect("accepted");
    let mut facts = facts.lock();
    facts.in_doubt.truncate(answered);
    facts.written.extend((base..).zip(sent));
    Ok(())
}

/// Holds the topic against what was written; how many acknowledged records compaction took.
pub(crate) async fn check(address: SocketAddr, facts: &Shared) -> Result<u64, String> {
    let before = facts.lock().written.clone();
    let records = wire::read_all(address, TOPIC, 0).await;
    check_records(&before, &facts.lock(), &records)
}

/// What is acknowledged meanwhile is known to `after` alone.
fn check_records(before: &BTreeMap<i64, Fact>, after: &Facts, records: &[Read]) -> Result<u64, String> {
    let places: HashMap<&Fact, i64> =
        after.written.iter().filter(|(_, fact)| fact.number.is_some()).map(|(at, fact)| (fact, *at)).collect();
    let (mut newest, mut last): (HashMap<&str, i64>, _) = (HashMap::new(), -1);
    for record in records {
        let told = |what: &str| format!("{what} at {}: {:?} = {:.20}", record.id(), record.key, record.value);
        if record.offset <= last {
            return Err(told("compaction: offsets do not rise"));
        }
        last = record.offset;
        let fact = Fact::read(record.key.as_deref(), &record.value);
        let Some(fact) = fact.filter(|fact| after.sent.contains(fact)) else {
            return Err(told("compaction: what nobody sent"));
        };
        if let Some(written) = after.written.get(&record.offset).filter(|written| **written != fact) {
            return Err(told(&format!("compaction: instead of {written:?}")));
        }
        if let Some(place) = places.get(&fact).filter(|place| **place != record.offset) {
            return Err(told(&format!("compaction: what was acknowledged at {place}")));
        }
        newest.insert(record.key.as_deref().unwrap_or_default(), record.offset);
    }
    let latest: HashMap<&str, (i64, &Fact)> =
        before.iter().map(|(offset, fact)| (fact.key.as_str(), (*offset, fact))).collect();
    for (key, (offset, fact)) in latest {
        let kept = match newest.get(key) {
            Some(newest) => *newest >= offset,
            // A tombstone goes after all that it stands over, one without an answer too.
            None => {
                let doubt = |(tomb, last): &(String, i64)| tomb == key && *last >= offset;
                fact.number.is_none() || after.in_doubt.iter().any(doubt)
            }
        };
        if !kept {
            return Err(format!(
                "compaction: the last acknowledged of {key} was {fact:?} at {offset}, there is {:?}",
                newest.get(key)
            ));
        }
    }
    let there: HashSet<i64> = records.iter().map(|record| record.offset).collect();
    Ok(before.keys().filter(|offset| !there.contains(offset)).count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(key: &str, number: u64) -> Fact {
        Fact { key: key.to_owned(), number: Some(number).filter(|number| *number > 0) }
    }

    /// Offset, key and number; 0 for a tombstone.
    fn records(records: &[(i64, &str, u64)]) -> Vec<Read> {
        let read = |&(offset, key, number): &(i64, &str, u64)| Read {
            topic: TOPIC.to_owned(),
            partition: 0,
            offset,
            timestamp: 0,
            key: Some(key.to_owned()),
            value: if number > 0 { format!("{number} xx") } else { String::new() },
            headers: Vec::new(),
            origin: None,
        };
        records.iter().map(read).collect()
    }

    #[test]
    fn a_broken_promise_is_seen() {
        let written: BTreeMap<i64, Fact> =
            [(0, fact("a", 1)), (1, fact("a", 2)), (2, fact("b", 3)), (4, fact("b", 0))].into();
        let mut sent: HashSet<Fact> = written.values().cloned().collect();
        sent.insert(fact("a", 5));
        let facts = Facts { sent, written: written.clone(), in_doubt: vec![("a".to_owned(), 0)] };
        for (there, outcome) in [
            (&[(0, "a", 1), (1, "a", 2), (2, "b", 3), (4, "b", 0)][..], Ok(0)),
            (&[(1, "a", 2), (4, "b", 0)], Ok(2)),
            (&[(1, "a", 2)], Ok(3)),
            (&[(5, "a", 5)], Ok(4)),
            // The last of a key is gone, a tombstone before what it stands over.
            (&[(0, "a", 1)], Err("the last acknowledged of a")),
            (&[], Err("the last acknowledged of a")),
            (&[(1, "a", 2), (2, "b", 3)], Err("the last acknowledged of b")),
            (&[(4, "b", 0), (1, "a", 2)], Err("do not rise")),
            (&[(1, "a", 1)], Err("instead of")),
            (&[(1, "a", 2), (5, "a", 1)], Err("what was acknowledged at 0")),
            (&[(1, "a", 2), (5, "a", 6)], Err("nobody sent")),
        ] {
            let found = check_records(&written, &facts, &records(there));
            match (&found, outcome) {
                (Ok(found), Ok(taken)) => assert_eq!(*found, taken, "{there:?}"),
                (Err(found), Err(why)) => assert!(found.contains(why), "{found} for {there:?}"),
                _ => panic!("{found:?} for {there:?}"),
            }
        }
        // Sent after all the others, and not answered.
        let facts = Facts { in_doubt: vec![("a".to_owned(), 4)], ..facts };
        assert_eq!(check_records(&written, &facts, &records(&[(4, "b", 0)])), Ok(3));
        assert!(
            check_records(&written, &facts, &records(&[(0, "a", 1), (4, "b", 0)])).is_err(),
            "an older one is back"
        );
    }
}
