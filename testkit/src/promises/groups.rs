//! K6, conservation per group: two groups with policies of their own consume, nack and commit. Of every message each
//! group has exactly what its nacks say, at any time; at the end each message was consumed or is dead, and none is both.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::http;
use crate::session::Session;
use parking_lot::Mutex;
use serde_json::Value;

use super::PATIENCE;
use super::wire::{self, Outgoing, Read};
use super::world::World;

/// The topic that both groups consume, and its partitions.
pub(crate) const WORK: &str = "work";
pub(crate) const PARTITIONS: i32 = 2;
/// Records that a consumer takes of a partition at a time, and of its retries: those are more than what is new.
const TAKEN: usize = 20;
const RETRIED: usize = 100;
/// The machine has other things to do.
const PAUSE: Duration = Duration::from_millis(10);

/// How a group consumes.
#[derive(Debug)]
pub(crate) struct Style {
    pub(crate) name: &'static str,
    /// Where it finds new messages: the topic, or a view that filters it.
    pub(crate) source: &'static str,
    /// Retries before a message is dead, as in the configuration.
    limit: u32,
    /// Nacks name the message, instead of being it.
    by_id: bool,
}

/// As `CONFIG` has them.
pub(crate) const STYLES: [Style; 2] = [
    Style { name: "eager", source: WORK, limit: 2, by_id: false },
    Style { name: "patient", source: "work--even", limit: 1, by_id: true },
];

impl Style {
    pub(crate) fn retry(&self) -> String {
        format!("retry.{}", self.name)
    }

    fn dlq(&self) -> String {
        format!("dlq.{}", self.name)
    }

    /// After how many retries this group is able to process a message; above the limit it never is.
    fn needs(&self, value: &str) -> u32 {
        let mut hasher = DefaultHasher::new();
        (value, self.name).hash(&mut hasher);
        (hasher.finish() % u64::from(self.limit + 2)) as u32
    }

    fn takes(&self, value: &str) -> bool {
        self.source == WORK || is_even(value)
    }
}

fn is_even(value: &str) -> bool {
    value.bytes().last().is_some_and(|digit| digit.is_ascii_digit() && digit % 2 == 0)
}

/// Nacks of a message at one level: each acknowledged one is one message more, each unanswered one may be.
#[derive(Clone, Copy, Debug, Default)]
struct Nacks {
    acked: usize,
    unknown: usize,
}

/// What a group did. Nacks are by value and by how often the message had been retried.
#[derive(Clone, Debug, Default)]
struct Book {
    nacks: HashMap<(String, u32), Nacks>,
    consumed: HashSet<String>,
}

/// What everybody did.
#[derive(Debug)]
pub(crate) struct Books {
    acks: i16,
    /// By value: true when it was acknowledged.
    produced: HashMap<String, bool>,
    groups: HashMap<&'static str, Book>,
}

type Shared = Arc<Mutex<Books>>;

impl Books {
    pub(crate) fn new(acks: i16) -> Self {
        Books { acks, produced: HashMap::new(), groups: HashMap::new() }
    }
}

/// Produces messages for the groups, each value once.
pub(crate) async fn produce(world: World, books: Shared, pause: Duration) {
    let (mut steps, mut done) = (world.steps(PAUSE + pause), Ok(()));
    let mut batch = 0_u64;
    while let Some(session) = steps.next(done).await {
        batch += 1;
        done = send(session, batch, &books).await;
    }
}

async fn send(session: &mut Session, batch: u64, books: &Shared) -> io::Result<()> {
    let values: Vec<String> = (0..5).map(|n| format!("work-{}", batch * 5 + n)).collect();
    let tagged = |value: &String| Outgoing::new(value).header("TAGS", if is_even(value) { "even" } else { "odd" });
    let records: Vec<Outgoing> = values.iter().map(tagged).collect();
    books.lock().produced.extend(values.iter().map(|value| (value.clone(), false)));
    let acks = books.lock().acks;
    wire::produce(session, WORK, (batch % 2) as i32, acks, &records).await?.expect("accepted");
    books.lock().produced.extend(values.into_iter().map(|value| (value, true)));
    Ok(())
}

/// Consumes as one group.
pub(crate) async fn consume(style: &'static Style, world: World, books: Shared) {
    let mut places: Vec<(String, i32)> =
        (0..PARTITIONS).map(|partition| (style.source.to_owned(), partition)).collect();
    places.push((style.retry(), 0));
    let (mut steps, mut done) = (world.steps(PAUSE), Ok(()));
    while let Some(session) = steps.next(done).await {
        done = take(style, &places, session, &books).await;
    }
}

/// Takes some records of each place, processes or nacks each, and commits.
async fn take(
    style: &'static Style,
    places: &[(String, i32)],
    session: &mut Session,
    books: &Shared,
) -> io::Result<()> {
    for (topic, partition) in places {
        let position = wire::committed(session, style.name, topic, *partition).await?;
        // A view is filled before it can be read.
        let Ok((records, end, _)) = wire::fetch(session, topic, *partition, position).await? else { continue };
        let most = if topic == style.source { TAKEN } else { RETRIED };
        let (taken, rest) = records.split_at(records.len().min(most));
        for record in taken {
            process(style, session, record, books).await?;
        }
        let next = rest.first().map_or(end, |record| record.offset);
        if next > position {
            wire::commit(session, style.name, topic, *partition, next).await?;
        }
    }
    Ok(())
}

async fn process(style: &'static Style, session: &mut Session, record: &Read, books: &Shared) -> io::Result<()> {
    let value = &record.value;
    let times = retries(record);
    if times >= style.needs(value) {
        books.lock().groups.entry(style.name).or_default().consumed.insert(value.clone());
        return Ok(());
    }
    let nack = if style.by_id { Outgoing::empty() } else { Outgoing::new(value) };
    let mut nack = nack.header("RECONSUME_TIMES", &times.to_string()).header("ERROR", "not yet");
    if record.origin.is_none() || style.by_id {
        nack = nack.header("ORIGIN_MESSAGE_ID", &record.id());
    } else if let Some(origin) = &record.origin {
        nack = nack.header("ORIGIN_MESSAGE_ID", origin);
    }
    let key = (value.clone(), times);
    let change = |change: fn(&mut Nacks)| {
        change(books.lock().groups.entry(style.name).or_default().nacks.entry(key.clone()).or_default());
    };
    change(|nacks| nacks.unknown += 1);
    let acks = books.lock().acks;
    wire::produce(session, &style.retry(), 0, acks, &[nack]).await?.expect("a nack of what was consumed is accepted");
    change(|nacks| {
        nacks.unknown -= 1;
        nacks.acked += 1;
    });
    Ok(())
}

fn retries(record: &Read) -> u32 {
    let found = record.headers.iter().find(|(name, _)| name == "RECONSUME_TIMES").and_then(|(_, times)| times.as_ref());
    found.map_or(0, |times| times.parse().expect("a number"))
}

/// What became of the messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Worked {
    /// Messages that were processed.
    pub(crate) consumed: usize,
    /// Dead letters.
    pub(crate) dead: usize,
    /// Retries that came.
    pub(crate) retried: usize,
}

/// Holds what each group has against its nacks; where `all`, nothing may be on its way any more ("late" may come yet).
pub(crate) async fn check(address: SocketAddr, web: SocketAddr, books: &Shared, all: bool) -> Result<Worked, String> {
    let acked = |(value, acked): (&String, &bool)| acked.then(|| value.clone());
    let acked: Vec<String> = books.lock().produced.iter().filter_map(acked).collect();
    let mut ids: HashMap<String, String> = HashMap::new();
    for partition in 0..PARTITIONS {
        for record in wire::read_all(address, WORK, partition).await {
            ids.insert(record.id(), record.value);
        }
    }
    let produced: HashSet<String> = ids.values().cloned().collect();
    if produced.len() != ids.len() {
        return Err(format!("K2: {} records of {} messages in {WORK}", ids.len(), produced.len()));
    }
    if let Some(value) = acked.iter().find(|value| !produced.contains(*value)) {
        return Err(format!("K1: {value} was acknowledged and is gone"));
    }
    let mut worked = Worked::default();
    for style in &STYLES {
        let before = books.lock().groups.get(style.name).cloned().unwrap_or_default();
        let waiting = waiting(web, style, &ids).await?;
        let mut there: HashMap<(String, u32), usize> = HashMap::new();
        let mut dead = HashSet::new();
        for record in wire::read_all(address, &style.retry(), 0).await {
            let times = retries(&record);
            if times == 0 || times > style.limit {
                return Err(format!("K6: {} in {} was retried {times} times", record.value, record.id()));
            }
            *there.entry((record.value, times - 1)).or_default() += 1;
        }
        for record in wire::read_all(address, &style.dlq(), 0).await {
            if retries(&record) != style.limit {
                return Err(format!("K6: {} died after {} retries", record.value, retries(&record)));
            }
            *there.entry((record.value.clone(), style.limit)).or_default() += 1;
            dead.insert(record.value);
        }
        let still_waiting = self::waiting(web, style, &ids).await?;
        let after = books.lock().groups.get(style.name).cloned().unwrap_or_default();
        let count = |of: &HashMap<(String, u32), usize>, key| of.get(key).copied().unwrap_or(0);
        // A message that comes back in between is seen in both the first list and the topic, and never in neither.
        for (key, nacks) in &before.nacks {
            let found = count(&waiting, key) + count(&there, key);
            if found < nacks.acked {
                // A delivery that is written and not synced yet has ended the wait, and is not visible.
                let name = style.name;
                return Err(format!("late: K6: {name}: {key:?} was nacked {nacks:?} and is there {found} times"));
            }
        }
        for key in there.keys().chain(still_waiting.keys()) {
            let nacks = after.nacks.get(key).copied().unwrap_or_default();
            let found = count(&still_waiting, key) + count(&there, key);
            if found > nacks.acked + nacks.unknown {
                return Err(format!("K6: {}: {key:?} was nacked {nacks:?} and is there {found} times", style.name));
            }
        }
        if let Some(value) = after.consumed.iter().find(|value| dead.contains(*value) || !style.takes(value)) {
            return Err(format!("K6: {} consumed {value}, which is dead or not for it", style.name));
        }
        let missing = produced.iter().filter(|value| style.takes(value)).find(|value| {
            let fails = style.needs(value) > style.limit;
            !if fails { dead.contains(*value) } else { after.consumed.contains(*value) }
        });
        if let Some(value) = missing.filter(|_| all) {
            return Err(format!("late: K6: {} has neither consumed {value} nor given it up", style.name));
        }
        if all && !still_waiting.is_empty() {
            return Err(format!("late: K6: {} waits for {still_waiting:?}", style.name));
        }
        let taken = produced.iter().filter(|value| style.takes(value)).count();
        if all && after.consumed.len() + dead.len() != taken {
            return Err(format!(
                "K6: {}: {} consumed and {} dead of {taken}",
                style.name,
                after.consumed.len(),
                dead.len()
            ));
        }
        worked.consumed += after.consumed.len();
        worked.dead += dead.len();
        worked.retried += there.values().sum::<usize>() - dead.len();
    }
    Ok(worked)
}

/// What waits for a group, by value and by how often it had been retried before.
async fn waiting(
    web: SocketAddr,
    style: &Style,
    ids: &HashMap<String, String>,
) -> Result<HashMap<(String, u32), usize>, String> {
    let mut found = HashMap::new();
    let mut next = String::new();
    loop {
        let (_, body) = http::get(web, &format!("/v1/retry/{}?limit=1000{next}", style.name)).await;
        let page: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        for item in page["items"].as_array().ok_or(body)? {
            let text = |name: &str| item[name].as_str().ok_or_else(|| format!("K6: no {name} in {item}"));
            let origin = text("origin_message_id")?;
            let value = ids.get(origin).ok_or_else(|| format!("K6: a retry of {origin}, which is not there"))?;
            let times: u32 = text("reconsume_times")?.parse().map_err(|error| format!("{error}: {item}"))?;
            let before = if item["dead"] == true { times } else { times.saturating_sub(1) };
            *found.entry((value.clone(), before)).or_default() += 1;
        }
        match page["next"].as_str() {
            Some(token) => next = format!("&next={token}"),
            None => return Ok(found),
        }
    }
}

/// Checks until nothing is on its way any more; a group that goes on through what it has is waited for.
pub(crate) async fn check_all(address: SocketAddr, web: SocketAddr, books: &Shared) -> Result<Worked, String> {
    let done = || books.lock().groups.values().map(|book| book.consumed.len() + book.nacks.len()).sum::<usize>();
    let (mut before, mut deadline) = (done(), Instant::now() + PATIENCE);
    loop {
        let now = done();
        if now > before {
            (before, deadline) = (now, Instant::now() + PATIENCE);
        }
        match check(address, web, books, true).await {
            Err(late) if late.starts_with("late") && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            outcome => return outcome,
        }
    }
}
