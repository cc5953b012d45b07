//! K4 and exactly once under kill -9: transactions are seen whole or not at all, and a copier that reads, writes and
//! commits its offsets in transactions copies each record once. `append` is the harder story: lists that many append to,
//! under pauses and with producers that are fenced as well.
//!
//! `make test` runs a few rounds from a fixed seed, `make torture` many: `krocket_testkit::torture`. Twenty rounds share a data folder.

#![allow(clippy::print_stdout)]

mod append;
mod client;
mod copier;
mod ledger;
mod writer;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use krocket_testkit::Process;
use krocket_testkit::session::Session;
use krocket_testkit::torture::{Life, Plan};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use client::{scan, topic};
use ledger::{Counts, Ledger};

const KROCKET: &str = env!("CARGO_BIN_EXE_krocket");
const QUICK_ROUNDS: u32 = 4;
/// Its four rounds have most of what can happen.
const QUICK_SEED: u64 = 5;
const ROUNDS_PER_LIFE: u32 = 20;
const WRITERS: u32 = 3;
/// A transaction.timeout.ms that nothing here outlives.
pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const PARTITIONS: i32 = 3;
pub(crate) const SOURCE: &str = "source";
pub(crate) const COPY: &str = "copy";

#[derive(Clone, Copy)]
pub(crate) enum State {
    Down,
    Up(SocketAddr),
    /// No new transactions; who copies goes on to the end of the source.
    Ending(SocketAddr),
}

/// Where the server is, for clients that outlive it.
#[derive(Clone)]
pub(crate) struct World(watch::Receiver<State>);

impl World {
    /// The server, and whether the test is about to end.
    pub(crate) async fn server(&mut self) -> (SocketAddr, bool) {
        loop {
            match *self.0.borrow_and_update() {
                State::Down => {}
                State::Up(address) => return (address, false),
                State::Ending(address) => return (address, true),
            }
            self.0.changed().await.expect("the test outlives its clients");
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        matches!(*self.0.borrow(), State::Ending(_))
    }
}

/// How long to play, and with which dice.
fn plan() -> Plan {
    Plan::read(QUICK_ROUNDS, QUICK_SEED)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_whole_and_copies_exact_under_kill_9() {
    let plan = plan();
    let rounds = plan.rounds;
    println!("exactly once: {rounds} rounds, KROCKET_CRASH_SEED={}", plan.seed);
    let mut total = Counts::default();
    for Life { number, seed, rounds } in plan.lives(ROUNDS_PER_LIFE) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        total += self::life(folder.path(), seed, rounds).await;
        println!("after life {}: {total:?}, {:.0} s", number + 1, plan.seconds());
    }
    // A test that saw nothing has shown nothing.
    let least = u64::from(rounds);
    assert!(total.committed > 5 * least && total.aborted > least && total.copied > 5 * least, "{total:?}");
    let result =
        format!("{} transactions committed, {} aborted, each seen whole or not: K4", total.committed, total.aborted);
    plan.report("kill -9", "transactions and exactly-once copies", rounds.into(), &result);
}

async fn life(folder: &Path, seed: u64, rounds: u32) -> Counts {
    let mut rng = StdRng::seed_from_u64(seed);
    let ledger = Arc::new(Ledger::default());
    let (state, world) = watch::channel(State::Down);
    let (mut server, mut address) = start(folder);
    create_topics(address, &[SOURCE, COPY]).await;
    let (mut writers, mut others) = (JoinSet::new(), JoinSet::new());
    for id in 0..WRITERS {
        writers.spawn(writer::run(id, rng.random(), ledger.clone(), World(world.clone())));
    }
    others.spawn(copier::run(World(world.clone())));
    others.spawn(client::watch_committed(ledger.clone(), World(world.clone())));
    state.send_replace(State::Up(address));
    for round in 1..=rounds {
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..900))).await;
        let gentle = rng.random_range(0..8) == 0;
        server.signal(if gentle { Signal::TERM } else { Signal::KILL });
        state.send_replace(State::Down);
        server.wait();
        (server, address) = start(folder);
        let mut session = Session::connect(address).await.expect("the server is ready");
        // What is open holds back what is behind it, in each partition from another place on.
        writer::abort_what_is_left(&mut session).await;
        let seen = scan(&mut session, SOURCE).await.expect("the server answers");
        ledger.check(&seen, &format!("seed {seed}, round {round}"));
        state.send_replace(State::Up(address));
    }
    state.send_replace(State::Ending(address));
    while let Some(ended) = writers.join_next().await {
        ended.expect("no writer gave up");
    }
    let mut session = Session::connect(address).await.expect("the server is ready");
    writer::abort_what_is_left(&mut session).await;
    let seen = scan(&mut session, SOURCE).await.expect("the server answers");
    ledger.check_whole(&seen, &format!("seed {seed}, at the end"));
    while let Some(ended) = others.join_next().await {
        ended.expect("no client gave up");
    }
    let copies = scan(&mut session, COPY).await.expect("the server answers");
    assert_eq!(copies, seen, "seed {seed}: the copy is not what was committed");
    server.signal(Signal::TERM);
    server.wait();
    ledger.counts(copies.iter().map(Vec::len).sum())
}

fn start(folder: &Path) -> (Process, SocketAddr) {
    let mut server = Process::serve(KROCKET, folder);
    let (kafka, _) = server.wait_until_ready();
    (server, kafka)
}

async fn create_topics(address: SocketAddr, names: &[&'static str]) {
    let new = |name: &&'static str| {
        CreatableTopic::default().with_name(topic(name)).with_num_partitions(PARTITIONS).with_replication_factor(1)
    };
    let topics = names.iter().map(new).collect();
    let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(10_000);
    let mut session = Session::connect(address).await.expect("the server is ready");
    let response = session.call(5, &request).await.expect("the server answers");
    assert!(response.topics.iter().all(|topic| topic.error_code == 0));
}
