//! kill -9 at random instants while every feature is in use, and the invariants K6 to K10 afterwards: nothing early,
//! nothing lost, nothing twice, a confirmed cancel is never delivered, a half message is invisible until its commit.
//!
//! `make test` runs a few rounds from a fixed seed; `make torture` runs `KROCKET_CRASH_ROUNDS` from `KROCKET_CRASH_SEED`
//! (random, printed). Ten rounds share a data folder. With `KROCKET_CRASH_KEEP=1` the folder of a failure stays.

#![allow(clippy::print_stdout)]

mod client;
mod groups;
mod ledger;
mod wire;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use krocket_testkit::Process;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use client::Client;
use ledger::{Kind, Ledger};
use wire::Read;

const KROCKET: &str = env!("CARGO_BIN_EXE_krocket");
/// Rounds in `make test`.
const QUICK_ROUNDS: u32 = 4;
/// Rounds on one data folder.
const ROUNDS_PER_LIFE: u32 = 10;
const CLIENTS: u32 = 4;
/// The topic that all clients write to, and its partitions.
const TOPIC: &str = "events";
const PARTITIONS: i32 = 3;
const RETRY: &str = "retry.billing";
const DLQ: &str = "dlq.billing";
/// How long after the last crash everything that was due may still be under way.
const PATIENCE: Duration = Duration::from_secs(20);

const CONFIG: &str = r#"
[[retry]]
groups = ["billing"]
backoff = { steps = ["150ms", "400ms"] }
max_attempts = 2

[[retry]]
groups = ["eager"]
backoff = { steps = ["50ms", "100ms"] }
max_attempts = 2

[[retry]]
groups = ["patient"]
backoff = { initial = "200ms", multiplier = 2.0, max = "1s", jitter = 0.2 }
max_attempts = 1
"#;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn features_keep_their_promises_under_kill_9() {
    let rounds = setting("KROCKET_CRASH_ROUNDS").unwrap_or(QUICK_ROUNDS.into()) as u32;
    let long = std::env::var_os("KROCKET_CRASH_ROUNDS").is_some();
    let seed = setting("KROCKET_CRASH_SEED").unwrap_or_else(|| if long { rand::random() } else { 1 });
    println!("promises: {rounds} rounds, KROCKET_CRASH_SEED={seed}");
    let started = Instant::now();
    let mut kept = ledger::Counts::default();
    for life in 0..rounds.div_ceil(ROUNDS_PER_LIFE) {
        let count = ROUNDS_PER_LIFE.min(rounds - life * ROUNDS_PER_LIFE);
        let seed = seed.wrapping_add(life.into());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let outcome = self::life(folder.path(), seed, count).await;
        if outcome.is_err() && std::env::var_os("KROCKET_CRASH_KEEP").is_some() {
            println!("data kept in {}", folder.keep().display());
        }
        match outcome {
            Ok(counts) => kept.add(&counts),
            Err(violations) => panic!("seed {seed}: {violations}"),
        }
        println!("after life {}: {kept:?}, {:.0} s", life + 1, started.elapsed().as_secs_f64());
    }
    // A test that saw nothing has shown nothing.
    for kind in [Kind::Delayed, Kind::Cancelled, Kind::Committed, Kind::RolledBack, Kind::Retried, Kind::Dead] {
        assert!(kept.of(kind) > u64::from(rounds), "{kind:?}: {kept:?}");
    }
}

/// Some rounds on one data folder.
async fn life(folder: &Path, seed: u64, rounds: u32) -> Result<ledger::Counts, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let config = folder.join("krocket.toml");
    std::fs::write(&config, CONFIG).expect("a file can be written");
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let (world, seen) = watch::channel(None);
    let (mut server, mut address, _) = start(folder, &config);
    wire::create_topic(address, TOPIC, PARTITIONS).await;
    wire::create_topic(address, groups::WORK, groups::PARTITIONS).await;
    wire::ask_for(address, RETRY).await;
    let books: Arc<Mutex<groups::Books>> = Arc::default();
    // The groups go on when everybody else has ended.
    let (work, seen_by_groups) = watch::channel(None);
    let mut consumers = JoinSet::new();
    for style in &groups::STYLES {
        wire::ask_for(address, style.source).await;
        wire::ask_for(address, &style.retry()).await;
        consumers.spawn(groups::consume(style, seen_by_groups.clone(), books.clone()));
    }
    let mut clients = JoinSet::new();
    for id in 0..CLIENTS {
        clients.spawn(Client::new(id, rng.random(), ledger.clone()).run(seen.clone()));
    }
    clients.spawn(groups::produce(seen.clone(), books.clone()));
    drop(seen);
    world.send_replace(Some(address));
    work.send_replace(Some(address));
    for round in 1..=rounds {
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..1500))).await;
        server.signal(if rng.random_range(0..8) == 0 { Signal::TERM } else { Signal::KILL });
        world.send_replace(None);
        work.send_replace(None);
        server.wait();
        let http;
        (server, address, http) = start(folder, &config);
        look(address, http, &ledger, false).await.map_err(|error| format!("round {round}: {error}"))?;
        groups::check(address, http, &books, false).await.map_err(|error| format!("round {round}: {error}"))?;
        if let Some(ended) = clients.try_join_next().or_else(|| consumers.try_join_next()) {
            return Err(format!("round {round}: a client gave up: {ended:?}"));
        }
        world.send_replace(Some(address));
        work.send_replace(Some(address));
    }
    drop(world);
    while let Some(ended) = clients.join_next().await {
        ended.expect("no client gave up");
    }
    let (_server, address, http) = {
        work.send_replace(None);
        server.signal(Signal::KILL);
        server.wait();
        start(folder, &config)
    };
    work.send_replace(Some(address));
    let ended = groups::check_all(address, http, &books).await.map_err(|error| format!("at the end: {error}"))?;
    println!("groups: {ended:?}");
    if ended.consumed == 0 || ended.dead == 0 || ended.retried == 0 {
        return Err(format!("the groups did too little: {ended:?}"));
    }
    drop(work);
    while let Some(ended) = consumers.join_next().await {
        ended.expect("no consumer gave up");
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look(address, http, &ledger, true).await {
            Ok(()) => return Ok(ledger.lock().counts()),
            // Something may still be due.
            Err(missing) if missing.starts_with("K7") && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(violation) => return Err(format!("at the end: {violation}")),
        }
    }
}

/// Reads all there is and holds it against what was promised; at the end of a life everything has to be there.
async fn look(address: SocketAddr, http: SocketAddr, ledger: &Mutex<Ledger>, all: bool) -> Result<(), String> {
    let mut records = Vec::new();
    for partition in 0..PARTITIONS {
        records.extend(wire::read_all(address, TOPIC, partition).await);
    }
    for topic in [RETRY, DLQ] {
        records.extend(wire::read_all(address, topic, 0).await);
    }
    ledger.lock().check(&records, all)?;
    if all {
        for record in records.iter().step_by(records.len() / 20 + 1) {
            let body = wire::get(http, &format!("/v1/messages/{}", record.id())).await;
            if serde_json::from_str::<Value>(&body).ok().as_ref() != Some(&as_json(record)) {
                return Err(format!("K10: look-up of {} says {body}, fetch says {record:?}", record.id()));
            }
            let uniq = record.headers.iter().find_map(|(name, value)| value.as_ref().filter(|_| name == "UNIQ_KEY"));
            let Some(uniq) = uniq else { continue };
            // The index is built behind the produce path.
            let deadline = Instant::now() + PATIENCE;
            loop {
                let body = wire::get(http, &format!("/v1/messages?uniq_key={uniq}")).await;
                let found: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
                let items = found["items"].as_array().cloned().unwrap_or_default();
                if items.contains(&as_json(record)) {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!("K10: look-up of {uniq} says {body}, fetch says {record:?}"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(())
}

/// A record as the look-up shows it.
fn as_json(record: &Read) -> Value {
    let header = |(name, value): &(String, Option<String>)| match value {
        Some(value) => json!({ "name": name, "value": value }),
        None => json!({ "name": name }),
    };
    let headers: Vec<Value> = record.headers.iter().map(header).collect();
    let (id, timestamp) = (record.id(), record.timestamp);
    let mut shown = json!({
        "id": id, "timestamp_ms": timestamp, "hidden": false, "value": record.value, "headers": headers,
    });
    if let Some(key) = &record.key {
        shown["key"] = json!(key);
    }
    shown
}

fn start(folder: &Path, config: &Path) -> (Process, SocketAddr, SocketAddr) {
    let data = folder.join("data");
    let (data, config) = (data.to_str().expect("text"), config.to_str().expect("text"));
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", data, "--config", config];
    let mut server = Process::start(KROCKET, &arguments);
    let (kafka, http) = server.wait_until_ready();
    (server, kafka, http)
}
