//! A share group (KIP-932) of two members, that accept, release, forget and give up: what was accepted never comes again,
//! deliveries are counted up to the limit, and in the end each record was accepted or is a dead letter, once.
//!
//! What a member says is written and not synced, as with Kafka: where the power goes, it holds until then.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::wire::{self, Outgoing, Read};
use super::world::World;
use super::{PATIENCE, Survives};
use crate::session::Session;
use crate::share::{self, Place, ShareMember, Taken, Verdict, Want};

const TOPIC: &str = "tasks";
const PARTITIONS: i32 = 2;
const GROUP: &str = "crew";
const DLQ: &str = "dlq.crew";
pub(crate) const MEMBERS: u32 = 2;
/// Deliveries before a record is dead.
const LIMIT: i16 = 4;
/// As `CONFIG` has it.
const LOCK: Duration = Duration::from_secs(1);
const INVALID_RECORD_STATE: i16 = 121;
/// Records that may wait for the members.
const BACKLOG: usize = 300;
const PAUSE: Duration = Duration::from_millis(10);
const BEAT: Duration = Duration::from_secs(3);

/// A record came to a member, between these.
#[derive(Clone, Debug)]
struct Delivery {
    count: i16,
    /// Of which server, where the power goes.
    life: u32,
    sent: Instant,
    got: Instant,
}

/// An ACCEPT. Without an answer it may have counted or not.
#[derive(Clone, Debug)]
struct Accept {
    life: u32,
    answered: Option<Instant>,
    /// While the member surely held the record.
    held: bool,
}

#[derive(Clone, Debug, Default)]
struct Story {
    value: String,
    deliveries: Vec<Delivery>,
    accepts: Vec<Accept>,
}

/// What everybody did.
#[derive(Debug)]
pub(crate) struct Tasks {
    survives: Survives,
    life: u32,
    sent: HashSet<String>,
    produced: HashMap<Place, String>,
    stories: HashMap<Place, Story>,
}

type Shared = Arc<Mutex<Tasks>>;

/// What became of the records.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) deliveries: u64,
    pub(crate) accepted: u64,
    pub(crate) dead: u64,
}

impl Tasks {
    pub(crate) fn new(survives: Survives) -> Self {
        let (produced, stories) = (HashMap::new(), HashMap::new());
        Tasks { survives, life: 0, sent: HashSet::new(), produced, stories }
    }

    /// There is a server again.
    pub(crate) fn next_life(&mut self) {
        // Where only a process is killed, all its lives are one.
        self.life += u32::from(self.survives == Survives::Syncs);
    }

    fn accepts(&mut self, words: &[(Held, Verdict)], life: u32, codes: Option<&BTreeMap<i32, i16>>) {
        let now = Instant::now();
        for (record, _) in words.iter().filter(|(_, verdict)| *verdict == Verdict::Accept) {
            let place = record.taken.place;
            if codes.is_none_or(|codes| codes.get(&place.0) == Some(&0)) {
                let held = now < record.sent + LOCK;
                let accept = Accept { life, answered: codes.map(|_| now), held };
                self.stories.entry(place).or_default().accepts.push(accept);
            }
        }
    }
}

pub(crate) async fn set_up(address: SocketAddr) {
    wire::create_topic(address, TOPIC, PARTITIONS).await;
    let mut session = Session::connect(address).await.expect("the server is ready");
    let limit = LIMIT.to_string();
    let configs = [("share.auto.offset.reset", "earliest"), ("share.delivery.count.limit", &*limit)];
    share::configure(&mut session, GROUP, &configs).await.expect("the server answers");
}

/// Produces records, each value once, no faster than they are taken.
pub(crate) async fn produce(world: World, tasks: Shared, acks: i16, pause: Duration) {
    let (mut steps, mut done) = (world.steps(PAUSE + pause), Ok(()));
    let mut batch = 0_u64;
    while let Some(session) = steps.next(done).await {
        let waiting = {
            let tasks = tasks.lock();
            tasks.produced.len().saturating_sub(tasks.stories.len())
        };
        done = Ok(());
        if waiting < BACKLOG {
            batch += 1;
            done = send(session, batch, &tasks, acks).await;
        }
    }
}

async fn send(session: &mut Session, batch: u64, tasks: &Shared, acks: i16) -> io::Result<()> {
    let values: Vec<String> = (0..=batch % 4).map(|n| format!("task-{batch}-{n}")).collect();
    let records: Vec<Outgoing> = values.iter().map(|value| Outgoing::new(value)).collect();
    tasks.lock().sent.extend(values.iter().cloned());
    let partition = (batch % PARTITIONS as u64) as i32;
    let base = wire::produce(session, TOPIC, partition, acks, &records).await?.expect("accepted");
    tasks.lock().produced.extend((base..).zip(values).map(|(offset, value)| ((partition, offset), value)));
    Ok(())
}

/// A record that a member has, and when it asked for it.
struct Held {
    taken: Taken,
    sent: Instant,
}

/// What a member says of a record, or nothing, and then its lock is to end.
fn verdict(record: &Taken) -> Option<Verdict> {
    let mut hasher = DefaultHasher::new();
    record.value.hash(&mut hasher);
    match (hasher.finish() % 10, record.count) {
        (0, 1) => None,
        (1, _) | (2, 1) => Some(Verdict::Release),
        _ => Some(Verdict::Accept),
    }
}

/// A member, whenever there is a server.
pub(crate) async fn work(id: u32, seed: u64, mut world: World, tasks: Shared, pause: Duration) {
    let mut rng = StdRng::seed_from_u64(seed);
    while let Some(session) = world.next_life().await {
        // What it held comes again.
        let _ = stay(session, id, &mut rng, &world, &tasks, pause).await;
    }
}

async fn stay(
    session: Session,
    id: u32,
    rng: &mut StdRng,
    world: &World,
    tasks: &Shared,
    pause: Duration,
) -> io::Result<()> {
    let life = tasks.lock().life;
    let joined = ShareMember::join(session, GROUP, &format!("{GROUP}-{id}"), TOPIC, PARTITIONS).await?;
    let mut member = wire::or_gone(joined)?;
    let (mut beat, mut held) = (Instant::now(), Vec::<Held>::new());
    while world.is_same() {
        if beat.elapsed() > BEAT {
            wire::or_gone(member.beat().await?)?;
            beat = Instant::now();
        }
        let words = held.drain(..).filter_map(|record| verdict(&record.taken).map(|verdict| (record, verdict)));
        let mut words: Vec<(Held, Verdict)> = words.collect();
        words.sort_unstable_by_key(|(record, _)| record.taken.place);
        if !words.is_empty() && rng.random() {
            let answer = member.acknowledge(&said(&words)).await;
            let words = std::mem::take(&mut words);
            heard(tasks, &words, life, answer.map(|answer| answer.map(|codes| ((), codes))))?;
        }
        let sent = Instant::now();
        let want = Want { wait_ms: rng.random_range(0..100), records: rng.random_range(1..=20), exact: rng.random() };
        let answer = member.fetch(&want, &said(&words)).await;
        let answer = answer.map(|answer| answer.map(|fetched| (fetched.records, fetched.codes)));
        let records = heard(tasks, &words, life, answer)?;
        let got = Instant::now();
        for taken in records {
            let mut tasks = tasks.lock();
            let story = tasks.stories.entry(taken.place).or_default();
            // That it is always the same is looked at where it is not what is in the topic.
            story.value.clone_from(&taken.value);
            story.deliveries.push(Delivery { count: taken.count, life, sent, got });
            held.push(Held { taken, sent });
        }
        tokio::time::sleep(pause.max(PAUSE)).await;
    }
    Ok(())
}

fn said(words: &[(Held, Verdict)]) -> Vec<(Place, Verdict)> {
    words.iter().map(|(record, verdict)| (record.taken.place, *verdict)).collect()
}

/// Notes what came of words.
fn heard<T>(
    tasks: &Shared,
    words: &[(Held, Verdict)],
    life: u32,
    answer: io::Result<Result<(T, BTreeMap<i32, i16>), i16>>,
) -> io::Result<T> {
    let answer = answer.and_then(wire::or_gone);
    tasks.lock().accepts(words, life, answer.as_ref().ok().map(|(_, codes)| codes));
    let (result, codes) = answer?;
    for code in codes.into_values().filter(|code| ![0, INVALID_RECORD_STATE].contains(code)) {
        // Whether they counted is not known, but who is not sure that one did is not wrong.
        tasks.lock().accepts(words, life, None);
        wire::or_gone(Err::<(), _>(code))?;
    }
    Ok(result)
}

/// Holds what came to members against what there is; where `all`, the group has to be done with everything ("late" may come
/// yet).
pub(crate) async fn check(address: SocketAddr, tasks: &Shared, all: bool) -> Result<Done, String> {
    // What comes to a member while the log is read need not be in what was read.
    let (produced, known) = {
        let tasks = tasks.lock();
        (tasks.produced.clone(), tasks.stories.keys().copied().collect::<HashSet<Place>>())
    };
    let mut truth: BTreeMap<Place, String> = BTreeMap::new();
    for partition in 0..PARTITIONS {
        for record in wire::read_all(address, TOPIC, partition).await {
            truth.insert((partition, record.offset), record.value);
        }
    }
    for (place, value) in &produced {
        if truth.get(place) != Some(value) {
            return Err(format!(
                "K1: {value} was acknowledged at {TOPIC}:{place:?}, where there is {:?}",
                truth.get(place)
            ));
        }
    }
    let letters = wire::read_all(address, DLQ, 0).await;
    let tasks = tasks.lock();
    if let Some((place, value)) = truth.iter().find(|(_, value)| !tasks.sent.contains(*value)) {
        return Err(format!("K1: nobody sent {value}, which is at {TOPIC}:{place:?}"));
    }
    let dead = buried(&letters, &truth)?;
    for (place, story) in &tasks.stories {
        let told = |what: &str| format!("{what}: {TOPIC}:{place:?} {story:?}");
        if !known.contains(place) && !truth.contains_key(place) {
            continue;
        }
        if truth.get(place) != Some(&story.value) {
            return Err(told(&format!("S1: delivered, and there is {:?}", truth.get(place))));
        }
        check_story(story).map_err(&told)?;
        let accepted = story.accepts.iter().any(|accept| accept.held && accept.answered.is_some());
        if accepted && dead.contains(place) && tasks.survives == Survives::Writes {
            return Err(told("S1: accepted, and a dead letter"));
        }
    }
    let accepted = |place: &Place| tasks.stories.get(place).is_some_and(|story| !story.accepts.is_empty());
    let missing: Vec<_> = truth.keys().filter(|place| !accepted(place) && !dead.contains(*place)).collect();
    if let Some(place) = missing.first().filter(|_| all) {
        let story = tasks.stories.get(place);
        return Err(format!("late: S1: {} of {} are lost, as {place:?}: {story:?}", missing.len(), truth.len()));
    }
    let deliveries = tasks.stories.values().map(|story| story.deliveries.len() as u64).sum();
    let accepted = truth.keys().filter(|place| accepted(place)).count() as u64;
    Ok(Done { deliveries, accepted, dead: dead.len() as u64 })
}

/// What one record's deliveries and acknowledgements say of each other.
fn check_story(story: &Story) -> Result<(), &'static str> {
    for (at, one) in story.deliveries.iter().enumerate() {
        if !(1..=LIMIT).contains(&one.count) {
            return Err("S4: delivered more often than the limit");
        }
        // Two members are told at about the same time in no order.
        let wrong = |other: &Delivery| {
            other.life == one.life && (other.count == one.count || other.sent > one.got && other.count < one.count)
        };
        if story.deliveries[at + 1..].iter().any(wrong) {
            return Err("S4: a delivery count went back");
        }
        let done = |accept: &Accept| accept.life == one.life && accept.answered.is_some_and(|at| at < one.sent);
        if story.accepts.iter().any(done) {
            return Err("S2: delivered after it was accepted");
        }
    }
    Ok(())
}

/// The records that are dead letters.
fn buried(letters: &[Read], truth: &BTreeMap<Place, String>) -> Result<HashSet<Place>, String> {
    let mut dead = HashSet::new();
    for letter in letters {
        let header = |name: &str| letter.header(&format!("__dlq.errors.{name}")).unwrap_or_default();
        let number = |name: &str| header(name).parse::<i64>().map_err(|_| format!("S6: no {name}: {letter:?}"));
        let place = (number("partition")? as i32, number("offset")?);
        if truth.get(&place) != Some(&letter.value) || header("topic") != TOPIC || header("group") != GROUP {
            return Err(format!("S6: of no record, which is {:?}: {letter:?}", truth.get(&place)));
        }
        if number("delivery.count")? != i64::from(LIMIT) {
            return Err(format!("S6: dead before its {LIMIT} deliveries: {letter:?}"));
        }
        if !dead.insert(place) {
            return Err(format!("S1: dead twice: {letter:?}"));
        }
    }
    Ok(dead)
}

/// Waits until the group is done with everything.
pub(crate) async fn check_all(address: SocketAddr, tasks: &Shared) -> Result<Done, String> {
    let progress = || tasks.lock().stories.values().map(|story| story.deliveries.len()).sum::<usize>();
    let (mut before, mut deadline) = (progress(), Instant::now() + PATIENCE);
    loop {
        let now = progress();
        if now > before {
            (before, deadline) = (now, Instant::now() + PATIENCE);
        }
        match check(address, tasks, true).await {
            Err(late) if late.starts_with("late") && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(deliveries: &[(i16, u32, u64)], accepts: &[(u32, u64)]) -> Story {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let delivery = |&(count, life, ms): &(i16, u32, u64)| Delivery { count, life, sent: at(ms), got: at(ms + 5) };
        let accept = |&(life, ms): &(u32, u64)| Accept { life, answered: Some(at(ms)), held: true };
        let (deliveries, accepts) = (deliveries.iter().map(delivery), accepts.iter().map(accept));
        Story { value: String::new(), deliveries: deliveries.collect(), accepts: accepts.collect() }
    }

    #[test]
    fn a_broken_promise_is_seen() {
        for (deliveries, accepts, broken) in [
            (&[(1, 0, 0), (2, 0, 10)][..], &[(0, 20)][..], None),
            (&[(1, 0, 0), (2, 0, 10)], &[(0, 6)], Some("S2")),
            (&[(2, 0, 0), (1, 0, 10)], &[], Some("S4")),
            (&[(1, 0, 0), (1, 0, 10)], &[], Some("S4")),
            // Told at the same time.
            (&[(2, 0, 4), (1, 0, 3)], &[], None),
            (&[(LIMIT + 1, 0, 0)], &[], Some("S4")),
            // The power went in between.
            (&[(1, 0, 0), (1, 1, 10)], &[(0, 6)], None),
        ] {
            let found = check_story(&story(deliveries, accepts));
            assert_eq!(found.err().map(|what| &what[..2]), broken, "{deliveries:?} {accepts:?}");
        }
    }
}
