//! List-append: several producers append unique integers to lists in transactions over several partitions, some of them
//! for what they read; read_committed consumers watch; the server is killed and paused, producers are fenced and fall
//! silent. `append/checker.rs` says what must not be.

mod actor;
mod appender;
mod checker;
mod checker_tests;
mod history;
mod processor;
mod reader;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use kafka_protocol::messages::GroupId;
use krocket_testkit::session::Session;
use krocket_testkit::{PATIENCE, Process};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Producer, committed, fetch};
use crate::{LONG, PARTITIONS, ROUNDS_PER_LIFE, State, World, create_topics, plan, start};
use actor::Actor;
use appender::{Mishap, Trap};
use checker::{Inputs, check};
use history::{History, Log, Outcome};
use processor::Ends;
use reader::Seen;

pub(crate) const LISTS: &str = "lists";
pub(crate) const INPUTS: &str = "inputs";
pub(crate) const KEYS: u32 = 9;
const APPENDERS: usize = 4;
pub(crate) const PROCESSORS: usize = 2;

/// How a producer learns that its transaction is over: INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE,
/// INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED, TRANSACTION_ABORTABLE.
pub(crate) const REFUSALS: [i16; 5] = [47, 48, 49, 90, 120];

/// What happens to the server in a round.
#[derive(Clone, Copy)]
enum Blow {
    Kill,
    Pause(Duration),
    PauseThenKill(Duration),
}

impl Blow {
    fn draw(rng: &mut StdRng, longest: Duration) -> Self {
        let pause = Duration::from_millis(rng.random_range(1000..=longest.as_millis() as u64));
        match rng.random_range(0..10) {
            0..6 => Blow::Kill,
            6..9 => Blow::Pause(pause),
            _ => Blow::PauseThenKill(pause),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Blow::Kill => "kill -9",
            Blow::Pause(_) => "pause",
            Blow::PauseThenKill(_) => "pause, then kill -9",
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_many_append_to_are_whole_under_kill_9_and_pauses() {
    let plan = plan();
    let (rounds, long) = (plan.rounds, plan.long);
    // Longer than most of the producers' transaction.timeout.ms.
    let longest = Duration::from_secs(if long { 8 } else { 2 });
    println!("list-append: {rounds} rounds, KROCKET_CRASH_SEED={}", plan.seed);
    let mut total = Totals::default();
    for portion in plan.lives(ROUNDS_PER_LIFE) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let life = Life::begin(folder.path(), portion.seed, longest).await;
        life.play(portion.rounds, &mut total).await;
        println!("after {total:?}, {:.0} s", plan.seconds());
    }
    // A test that saw nothing has shown nothing.
    let least = u64::from(rounds);
    assert!(total.committed > 5 * least && total.aborted > least && total.inputs > 5 * least, "{total:?}");
    assert!(total.reads > 10 * least, "{total:?}");
    let all = ["kill -9", "pause", "pause, then kill -9", "fenced", "silent", "late end", "refused", "asked again"];
    assert!(rounds < 100 || all.iter().all(|event| total.events.contains_key(event)), "{:?}", total.events);
    let result = format!("{} transactions over lists and {} reads agree: K4", total.committed, total.reads);
    plan.report("kill -9", "list-append, with pauses and fenced producers", rounds.into(), &result);
}

/// What a test saw.
#[derive(Debug, Default)]
struct Totals {
    rounds: u32,
    committed: u64,
    aborted: u64,
    doubtful: u64,
    elements: u64,
    inputs: u64,
    reads: u64,
    read_records: u64,
    events: BTreeMap<&'static str, u64>,
}

/// Some rounds on one data folder.
struct Life<'a> {
    seed: u64,
    longest: Duration,
    folder: &'a Path,
    rng: StdRng,
    server: Option<Process>,
    address: SocketAddr,
    state: watch::Sender<State>,
    history: Arc<History>,
    seen: Arc<Seen>,
    traps: Vec<Trap>,
    ends: Ends,
    writers: JoinSet<()>,
    processors: JoinSet<()>,
    readers: JoinSet<()>,
}

impl<'a> Life<'a> {
    async fn begin(folder: &'a Path, seed: u64, longest: Duration) -> Self {
        let (server, address) = start(folder);
        create_topics(address, &[LISTS, INPUTS]).await;
        let (state, world) = watch::channel(State::Up(address));
        let mut life = Life {
            seed,
            longest,
            folder,
            rng: StdRng::seed_from_u64(seed),
            server: Some(server),
            address,
            state,
            history: Arc::default(),
            seen: Arc::default(),
            traps: (0..APPENDERS).map(|_| Arc::new(AtomicU8::new(0))).collect(),
            ends: Arc::default(),
            writers: JoinSet::new(),
            processors: JoinSet::new(),
            readers: JoinSet::new(),
        };
        let mut ids = ids();
        let mut actor = || Actor {
            id: ids.next().expect("an id for each"),
            rng: StdRng::seed_from_u64(life.rng.random()),
            history: life.history.clone(),
            world: World(world.clone()),
        };
        for trap in &life.traps {
            life.writers.spawn(appender::run(actor(), trap.clone()));
        }
        for number in 0..PROCESSORS {
            life.processors.spawn(processor::run(number as i32, actor(), life.ends.clone()));
        }
        life.writers.spawn(processor::feed(actor()));
        for again in [false, true] {
            let world = World(world.clone());
            life.readers.spawn(reader::run(again, life.seen.clone(), life.history.clone(), world));
        }
        life
    }

    async fn play(mut self, rounds: u32, total: &mut Totals) {
        for round in 1..=rounds {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(50..700))).await;
            if self.rng.random_ratio(2, 3) {
                let mishap = [Mishap::Fenced, Mishap::Silent][self.rng.random_range(0..2)];
                self.traps[self.rng.random_range(0..APPENDERS)].store(mishap as u8, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..100))).await;
            }
            let blow = Blow::draw(&mut self.rng, self.longest);
            self.strike(blow).await;
            self.history.with(|log| log.count(blow.name()));
            let faults = self.seen.faults.lock().clone();
            assert!(faults.is_empty(), "seed {}, round {round}: {}", self.seed, self.explain(&faults));
        }
        total.rounds += rounds;
        self.finish(total).await;
    }

    async fn strike(&mut self, blow: Blow) {
        let server = self.server.take().expect("it runs");
        if let Blow::Pause(time) | Blow::PauseThenKill(time) = blow {
            server.signal(Signal::STOP);
            tokio::time::sleep(time).await;
        }
        if let Blow::Pause(_) = blow {
            server.signal(Signal::CONT);
            self.server = Some(server);
            return;
        }
        server.signal(Signal::KILL);
        self.state.send_replace(State::Down);
        server.wait();
        let (server, address) = start(self.folder);
        (self.server, self.address) = (Some(server), address);
        self.state.send_replace(State::Up(address));
    }

    /// Lets everybody end, aborts what is left open, and looks at all of it.
    async fn finish(mut self, total: &mut Totals) {
        self.state.send_replace(State::Ending(self.address));
        join(&mut self.writers).await;
        let mut session = Session::connect(self.address).await.expect("the server is ready");
        let mut ends = Vec::new();
        for partition in 0..PARTITIONS {
            let fetched = fetch(&mut session, INPUTS, partition, 0, 0).await.expect("the server answers");
            ends.push(fetched.high_watermark);
        }
        self.ends.set(ends.clone()).expect("set once");
        join(&mut self.processors).await;
        join(&mut self.readers).await;
        for id in ids() {
            let session = Session::connect(self.address).await.expect("the server is ready");
            Producer::init(session, &id, LONG).await.expect("the server answers");
        }
        for partition in 0..PARTITIONS {
            self.read_to_the_end(&mut session, partition).await;
        }
        let committed = committed(&mut session, &GroupId(processor::GROUP), INPUTS).await.expect("the server answers");
        let inputs = Inputs { ends, committed: committed.to_vec() };
        let mut faults = self.seen.faults.lock().clone();
        let view = self.seen.view.lock().clone();
        faults.extend(self.history.with(|log| check(log, &view, &inputs)));
        assert!(faults.is_empty(), "seed {}, at the end: {}", self.seed, self.explain(&faults));
        let server = self.server.take().expect("it runs");
        server.signal(Signal::TERM);
        server.wait();
        total.reads += view.reads;
        total.read_records += view.read_records;
        total.elements += view.partitions.values().map(|partition| partition.records.len() as u64).sum::<u64>();
        total.inputs += inputs.ends.iter().sum::<i64>() as u64;
        self.history.with(|log| total.add(log));
    }

    async fn read_to_the_end(&self, session: &mut Session, partition: i32) {
        let begun = Instant::now();
        loop {
            let (read, end) = reader::read(session, partition, 0, 0).await;
            let end = end.expect("the server answers");
            self.seen.add(&read, &self.history);
            if read.to >= end {
                return;
            }
            let at = read.to;
            assert!(begun.elapsed() < PATIENCE, "partition {partition} ends at {end} and is held back at {at}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The first faults, with the transactions that they name.
    fn explain(&self, faults: &[checker::Fault]) -> String {
        let first: Vec<_> = faults.iter().take(10).map(|fault| format!("{fault:?}")).collect();
        let txns = |log: &mut Log| -> Vec<String> {
            let named = faults.iter().take(10).filter_map(|fault| fault.txn(log));
            let tell = |txn: history::Txn| {
                let (own, appends) =
                    (&log.txns[txn], |element: &usize| format!("{element}: {:?}", log.appends[*element]));
                let appends: Vec<_> = own.appends.iter().map(appends).collect();
                format!("{txn} of {}, {:?}, {:?}: {appends:?}", own.actor, own.outcome, own.inputs)
            };
            named.map(tell).collect()
        };
        format!("{} faults\n{}\n{}", faults.len(), first.join("\n"), self.history.with(txns).join("\n"))
    }
}

impl Totals {
    fn add(&mut self, log: &Log) {
        let count = |outcome| log.txns.iter().filter(|txn| txn.outcome == outcome).count() as u64;
        self.committed += count(Outcome::Committed);
        self.aborted += count(Outcome::Aborted);
        self.doubtful += count(Outcome::Doubtful);
        for (event, times) in &log.events {
            *self.events.entry(event).or_default() += times;
        }
    }
}

fn ids() -> impl Iterator<Item = String> {
    let appenders = (0..APPENDERS).map(|number| format!("appender-{number}"));
    let processors = (0..PROCESSORS).map(|number| format!("processor-{number}"));
    appenders.chain(processors).chain(["feeder".to_owned()])
}

async fn join(set: &mut JoinSet<()>) {
    while let Some(ended) = set.join_next().await {
        ended.expect("no client gave up");
    }
}
