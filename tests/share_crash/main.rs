//! kill -9 at random instants while members of share groups do everything they may do, and the invariants S1 to S6 over
//! what they saw. S1: every record is accepted or a dead letter, once; none is lost. S2: what is done with is not
//! delivered again. S3: nobody gets what another holds. S4: deliveries are counted one by one up to the limit, and a
//! released record waits for its back-off. S5: records of a key come in their order. S6: dead letters fit their records.
//!
//! `make test` runs a few rounds from a fixed seed; `make torture` runs `KROCKET_CRASH_ROUNDS` from `KROCKET_CRASH_SEED`
//! (random, printed). Ten rounds share a data folder. With `KROCKET_CRASH_KEEP=1` the folder of a failure stays.

#![allow(clippy::print_stdout)]

mod checker;
mod history;
mod member;
mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use krocket_testkit::Process;
use krocket_testkit::session::Session;
use krocket_testkit::share::Place;
use krocket_testkit::torture::{Life, Plan};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use checker::{Checker, Truth};
use history::{Counts, History};
use member::{Member, World};
use wire::Record;

const KROCKET: &str = env!("CARGO_BIN_EXE_krocket");
/// Rounds in `make test`.
const QUICK_ROUNDS: u32 = 5;
/// Rounds on one data folder.
const ROUNDS_PER_LIFE: u32 = 10;
const TOPIC: &str = "jobs";
const PARTITIONS: i32 = 3;
const KEYS: u32 = 8;
/// Members of each group.
const MEMBERS: u32 = 3;
/// How long a lock lasts, ms; the least there is.
const LOCK_MS: i64 = 1000;
/// How long a fetch whose answer is lost may still deliver: its longest wait, and a slow machine.
const UNANSWERED_MS: i64 = member::WAIT_MS as i64 + 2000;
/// How long after the last crash it may take until every record is done with.
const PATIENCE: Duration = Duration::from_secs(60);

/// Members that drop their connections stay in the group for a session's time.
const CONFIG: &str = r#"
[kafka]
"group.share.max.size" = 1000
"group.share.min.record.lock.duration.ms" = 1000
"group.share.record.lock.duration.ms" = 1000
"#;

/// A share group and what it is set to.
#[derive(Debug)]
struct Group {
    name: &'static str,
    configs: &'static [(&'static str, &'static str)],
    limit: i16,
    key_order: bool,
    backoff: &'static [i64],
}

impl Group {
    /// The wait after so many deliveries, ms.
    fn backoff(&self, deliveries: i16) -> i64 {
        let at = usize::from(deliveries.unsigned_abs()).saturating_sub(1).min(self.backoff.len().saturating_sub(1));
        self.backoff.get(at).copied().unwrap_or(0)
    }
}

const GROUPS: [Group; 2] = [
    Group {
        name: "plain",
        configs: &[("share.auto.offset.reset", "earliest"), ("share.delivery.count.limit", "1000")],
        limit: 1000,
        key_order: false,
        backoff: &[],
    },
    Group {
        name: "ordered",
        configs: &[
            ("share.auto.offset.reset", "earliest"),
            ("share.delivery.count.limit", "3"),
            ("krocket.share.key.order", "true"),
            ("krocket.retry.backoff", "50ms 100ms"),
        ],
        limit: 3,
        key_order: true,
        backoff: &[50, 100],
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn share_groups_keep_their_promises_under_kill_9() {
    let plan = Plan::read(QUICK_ROUNDS, 1);
    let rounds = plan.rounds;
    println!("share groups: {rounds} rounds, KROCKET_CRASH_SEED={}", plan.seed);
    let mut all = Counts::default();
    for Life { number, seed, rounds: count } in plan.lives(ROUNDS_PER_LIFE) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let outcome = self::life(folder.path(), seed, count).await;
        if outcome.is_err() && std::env::var_os("KROCKET_CRASH_KEEP").is_some() {
            println!("data kept in {}", folder.keep().display());
        }
        match outcome {
            Ok(counts) => all.add(&counts),
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
        println!("after life {} (seed {seed}): {all:?}, {:.0} s", number + 1, plan.seconds());
    }
    // A test that saw nothing has shown nothing.
    for (what, count) in [
        ("deliveries", all.deliveries),
        ("accepted", all.accepted),
        ("released", all.released),
        ("rejected", all.rejected),
        ("dead", all.dead),
    ] {
        assert!(count > u64::from(rounds), "{what}: {all:?}");
    }
    let result = format!("{} deliveries, {} accepted, {} dead: S1 to S6", all.deliveries, all.accepted, all.dead);
    plan.report("kill -9", "share groups", rounds.into(), &result);
}

/// Some rounds on one data folder.
async fn life(folder: &Path, seed: u64, rounds: u32) -> Result<Counts, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let config = folder.join("krocket.toml");
    std::fs::write(&config, CONFIG).expect("a file can be written");
    let (mut server, mut address) = start(folder, &config);
    wire::set_up(address, &GROUPS).await;
    let (world, seen) = watch::channel::<World>(None);
    let produced = Arc::new(Mutex::new(HashMap::new()));
    let histories = GROUPS.each_ref().map(|_| Arc::new(Mutex::new(History::default())));
    let mut clients = JoinSet::new();
    clients.spawn(produce(StdRng::seed_from_u64(rng.random()), produced.clone(), seen.clone()));
    for (group, history) in GROUPS.iter().zip(&histories) {
        for at in 0..MEMBERS {
            let member = Member::new(group.name, at, rng.random(), history.clone());
            clients.spawn(member.run(seen.clone()));
        }
    }
    world.send_replace(Some((address, false)));
    for round in 1..=rounds {
        tokio::time::sleep(Duration::from_millis(rng.random_range(200..1500))).await;
        server.signal(Signal::KILL);
        world.send_replace(None);
        server.wait();
        (server, address) = start(folder, &config);
        if let Some(ended) = clients.try_join_next() {
            return Err(format!("round {round}: a client gave up: {ended:?}"));
        }
        world.send_replace(Some((address, round == rounds)));
    }
    let truth = read_topic(address).await;
    for (place, value) in &*produced.lock() {
        if truth.get(place).map(|record| &record.value) != Some(value) {
            return Err(format!("K1: {value} was acknowledged at {place:?}, where there is {:?}", truth.get(place)));
        }
    }
    drain(address, &truth, &histories).await?;
    // What is done with would come again within a lock's time.
    tokio::time::sleep(Duration::from_millis(LOCK_MS as u64 + 1500)).await;
    drop(world);
    while let Some(ended) = clients.join_next().await {
        ended.map_err(|error| format!("a client gave up: {error}"))?;
    }
    let mut counts = Counts::default();
    for (group, history) in GROUPS.iter().zip(&histories) {
        let letters = letters(address, group).await;
        let history = history.lock();
        let checker = Checker { group, truth: &truth, history: &history, letters: &letters };
        checker.check()?;
        counts.add(&Counts { dead: letters.len() as u64, ..history.counts });
    }
    drop(server);
    Ok(counts)
}

/// Waits until the groups are done with every record.
async fn drain(address: SocketAddr, truth: &Truth, histories: &[Arc<Mutex<History>>; 2]) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    for (group, history) in GROUPS.iter().zip(histories) {
        loop {
            let letters = letters(address, group).await;
            let missing = Checker { group, truth, history: &history.lock(), letters: &letters }.missing();
            if missing.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                let history = history.lock();
                let stories = missing.iter().take(3).map(|place| (place, history.records.get(place)));
                let stories: Vec<_> = stories.collect();
                return Err(format!("S1: {} of {} has {} lost: {stories:?}", missing.len(), truth.len(), group.name));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// Writes whenever there is a server, until members are to drain; what was acknowledged is noted.
async fn produce(mut rng: StdRng, produced: Arc<Mutex<HashMap<Place, String>>>, mut world: watch::Receiver<World>) {
    let mut next = 0_u64;
    loop {
        let Ok(now) = world.wait_for(Option::is_some).await.map(|now| *now) else { return };
        if let Some((address, false)) = now
            && let Ok(mut session) = Session::connect(address).await
        {
            while matches!(world.has_changed(), Ok(false)) {
                let partition = rng.random_range(0..PARTITIONS);
                let records: Vec<Record> = (0..rng.random_range(1..6))
                    .map(|_| {
                        next += 1;
                        Record { key: format!("k{}", rng.random_range(0..KEYS)), value: format!("v{next}") }
                    })
                    .collect();
                let Ok(base) = wire::produce(&mut session, partition, &records).await else { break };
                produced
                    .lock()
                    .extend((base..).zip(records).map(|(offset, record)| ((partition, offset), record.value)));
                // As fast as members that dawdle: the groups are to be near the end of the log, and among old records.
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..30))).await;
            }
        }
        if world.wait_for(|other| *other != now).await.is_err() {
            return;
        }
    }
}

async fn read_topic(address: SocketAddr) -> Truth {
    let mut truth = Truth::new();
    for partition in 0..PARTITIONS {
        for (offset, read) in wire::read_all(address, TOPIC, partition).await {
            truth.insert((partition, offset), Record { key: read.key, value: read.value });
        }
    }
    truth
}

async fn letters(address: SocketAddr, group: &Group) -> Vec<wire::Letter> {
    let topic = format!("dlq.{}", group.name);
    wire::read_all(address, &topic, 0).await.into_iter().map(|(_, letter)| letter).collect()
}

fn start(folder: &Path, config: &Path) -> (Process, SocketAddr) {
    let data = folder.join("data");
    let (data, config) = (data.to_str().expect("text"), config.to_str().expect("text"));
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", data, "--config", config];
    let mut server = Process::start(KROCKET, &arguments);
    let (kafka, _) = server.wait_until_ready();
    (server, kafka)
}
