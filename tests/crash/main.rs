//! kill -9 at random instants under load, and the invariants K1, K2, K3 and K5 afterwards.
//!
//! `make test` runs a few rounds from a fixed seed, `make torture` many: `krocket_testkit::torture`. Twenty rounds share a data folder, so that what survived one crash has to
//! survive the next. The load is the same for a seed; what the kill meets is not. With `KROCKET_CRASH_KEEP=1` the data
//! folder of a failure stays.

#![allow(clippy::print_stdout)]

mod backup;
mod member;
mod producer;
mod reader;
mod record;
mod world;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreateTopicsRequest, TopicName};
use krocket_protocol::StrBytes;
use krocket_testkit::Process;
use krocket_testkit::checker::check;
use krocket_testkit::history::{History, Partition, What};
use krocket_testkit::session::Session;
use krocket_testkit::torture::{Life, Plan};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use member::Member;
use producer::Producer;
use world::{PARTITIONS, State, World};

const KROCKET: &str = env!("CARGO_BIN_EXE_krocket");
/// Rounds in `make test`.
const QUICK_ROUNDS: u32 = 5;
/// Rounds on one data folder.
const ROUNDS_PER_LIFE: u32 = 20;
/// acks and idempotence of each producer.
const PRODUCERS: [(i16, bool); 6] = [(-1, true), (1, true), (-1, true), (1, false), (-1, false), (1, true)];
const MEMBERS: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_by_kill_9() {
    let plan = Plan::read(QUICK_ROUNDS, 1);
    let rounds = plan.rounds;
    println!("crash test: {rounds} rounds, KROCKET_CRASH_SEED={}", plan.seed);
    let mut total = Totals::default();
    for Life { number, seed, rounds } in plan.lives(ROUNDS_PER_LIFE) {
        match self::life(seed, rounds, |_| {}).await {
            Ok(seen) => total.add(&seen),
            Err(violations) => panic!("seed {seed}: {violations}"),
        }
        println!("after life {}: {total:?}, {:.0} s", number + 1, plan.seconds());
    }
    // A test that saw nothing has shown nothing.
    assert!(total.acked > 50 * u64::from(rounds), "{total:?}");
    assert!(total.kills >= rounds / 2, "{total:?}");
    assert!(total.commits > u64::from(rounds) && total.generations >= u64::from(rounds) / 2, "{total:?}");
    let result = format!("{} records acknowledged, none lost or doubled: K1, K2, K3, K5", total.acked);
    plan.report("kill -9", "producers, groups and deletions", rounds.into(), &result);
}

/// The test of the test: what no correct krocket does is noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_loses_its_tail_is_noticed() {
    let cut = |folder: &Path| {
        let segments = std::fs::read_dir(folder.join("log")).expect("the log's folder");
        let newest = segments.map(|entry| entry.expect("an entry").path()).max().expect("a segment");
        let file = std::fs::OpenOptions::new().write(true).open(newest).expect("a segment opens");
        let len = file.metadata().expect("its length").len();
        file.set_len(len / 2).expect("it can be cut");
        let _ = std::fs::remove_dir_all(folder.join("index"));
    };
    let violations = life(1, 1, cut).await.expect_err("half of the log is gone");
    assert!(violations.contains("K1: ") && violations.contains("K3: "), "{violations}");
}

/// What a test saw.
#[derive(Debug, Default)]
struct Totals {
    rounds: u32,
    kills: u32,
    acked: u64,
    kept: i64,
    trims: u32,
    read: usize,
    commits: u64,
    generations: u64,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.rounds += other.rounds;
        self.kills += other.kills;
        self.acked += other.acked;
        self.kept += other.kept;
        self.trims += other.trims;
        self.read += other.read;
        self.commits += other.commits;
        self.generations += other.generations;
    }
}

/// Some rounds on one data folder, which `while_down` may touch after each end of the server. Gives what was seen, or
/// what was wrong with it.
async fn life(seed: u64, rounds: u32, while_down: impl Fn(&Path)) -> Result<Totals, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let outcome = rounds_on(folder.path(), seed, rounds, while_down).await;
    if outcome.is_err() && std::env::var_os("KROCKET_CRASH_KEEP").is_some() {
        println!("data kept in {}", folder.keep().display());
    }
    outcome
}

async fn rounds_on(folder: &Path, seed: u64, rounds: u32, while_down: impl Fn(&Path)) -> Result<Totals, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let history = Arc::new(History::default());
    let (state, world) = watch::channel(State::Down);
    let (mut server, mut address) = start(folder);
    create_topics(address).await;
    let mut clients = clients(&mut rng, &history, &World(world));
    state.send_replace(State::Up(address));
    let mut total = Totals::default();
    for round in 1..=rounds {
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..1500))).await;
        let gentle = round > 1 && rng.random_range(0..8) == 0;
        server.signal(if gentle { Signal::TERM } else { Signal::KILL });
        state.send_replace(State::Down);
        server.wait();
        total.rounds += 1;
        total.kills += u32::from(!gentle);
        if rng.random_range(0..4) == 0 {
            // Once more, within the recovery.
            let recovering = Process::serve(KROCKET, folder);
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
            recovering.signal(Signal::KILL);
            recovering.wait();
            total.kills += 1;
        }
        while_down(folder);
        (server, address) = start(folder);
        let bounds = inspect(address, &history).await;
        let violations = check(&history.events());
        if !violations.is_empty() {
            return Err(format!("round {round}:\n{}", violations.join("\n")));
        }
        if let Some(ended) = clients.try_join_next() {
            return Err(format!("round {round}: a client gave up: {ended:?}"));
        }
        if rng.random_range(0..3) == 0 {
            let (partition, start, end) = bounds[rng.random_range(0..bounds.len())];
            let mut session = Session::connect(address).await.expect("the server is ready");
            let to = rng.random_range(start..=end);
            reader::trim(&mut session, &history, partition, to).await.expect("the server answers");
        }
        state.send_replace(State::Up(address));
    }
    state.send_replace(State::Ended);
    while let Some(ended) = clients.join_next().await {
        ended.expect("no client gave up");
    }
    total.kept = inspect(address, &history).await.iter().map(|(_, start, end)| end - start).sum();
    server.signal(Signal::TERM);
    server.wait();
    let events = history.events();
    let violations = check(&events);
    if !violations.is_empty() {
        return Err(format!("at the end:\n{}", violations.join("\n")));
    }
    for event in &events {
        match &event.what {
            What::Acked { count, .. } => total.acked += u64::from(*count),
            What::Read { records, .. } => total.read += records.len(),
            What::Commit { .. } => total.commits += 1,
            What::Trimmed { .. } => total.trims += 1,
            What::Owns { .. } => total.generations += 1,
            _ => {}
        }
    }
    Ok(total)
}

/// Producers and group members, at work as long as the world is.
fn clients(rng: &mut StdRng, history: &Arc<History>, world: &World) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for (id, (acks, idempotent)) in PRODUCERS.into_iter().enumerate() {
        let producer = Producer::new(id as u32, acks, idempotent, rng.random(), history.clone());
        clients.spawn(producer.run(world.clone()));
    }
    for _ in 0..MEMBERS {
        clients.spawn(Member::new(rng.random(), history.clone()).run(world.clone()));
    }
    clients
}

fn start(folder: &Path) -> (Process, SocketAddr) {
    let mut server = Process::serve(KROCKET, folder);
    let (kafka, _) = server.wait_until_ready();
    (server, kafka)
}

/// Reads everything that a restarted server has; gives where each partition starts and ends.
async fn inspect(address: SocketAddr, history: &History) -> Vec<(Partition, i64, i64)> {
    let mut session = Session::connect(address).await.expect("the server is ready");
    let mut bounds = Vec::new();
    for partition in PARTITIONS {
        let (start, end) = reader::scan(&mut session, history, partition).await.expect("the server answers");
        bounds.push((partition, start, end));
        while member::committed(&mut session, history, partition).await.expect("the server answers").is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    bounds
}

async fn create_topics(address: SocketAddr) {
    let config = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("message.timestamp.type"))
        .with_value(Some(StrBytes::from_static_str("LogAppendTime")));
    let topic = |name: &'static str, partitions: i32, configs: Vec<CreatableTopicConfig>| {
        CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_static_str(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs)
    };
    let topics = vec![topic("plain", 3, vec![]), topic("stamped", 2, vec![config]), topic("narrow", 1, vec![])];
    let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(10_000);
    let mut session = Session::connect(address).await.expect("the server is ready");
    let response = session.call(5, &request).await.expect("the server answers");
    for topic in response.topics {
        assert_eq!(topic.error_code, 0, "creating {:?}: {:?}", topic.name, topic.error_message);
    }
}
