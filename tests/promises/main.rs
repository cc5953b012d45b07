//! kill -9 at random instants while every feature is in use, and the invariants K1, K2, K4 and K6 to K10, and S1, S2, S4 and S6
//! afterwards: see `krocket_testkit::promises`.
//!
//! `make test` runs a few rounds from a fixed seed; `make torture` many. Ten rounds share a data folder. With
//! `KROCKET_CRASH_KEEP=1` the folder of a failure stays.

#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use krocket_testkit::Process;
use krocket_testkit::promises::{CONFIG, Counts, Ended, Kind, Load, SMALL, Survives};
use krocket_testkit::torture::{Life, Plan};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;

const KROCKET: &str = env!("CARGO_BIN_EXE_krocket");
/// Rounds in `make test`.
const QUICK_ROUNDS: u32 = 4;
/// Rounds on one data folder.
const ROUNDS_PER_LIFE: u32 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn features_keep_their_promises_under_kill_9() {
    let plan = Plan::read(QUICK_ROUNDS, 1);
    println!("promises: {} rounds, KROCKET_CRASH_SEED={}", plan.rounds, plan.seed);
    let (mut kept, mut seen) = (Counts::default(), Ended::default());
    for life in plan.lives(ROUNDS_PER_LIFE) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let outcome = self::life(folder.path(), life).await;
        if outcome.is_err() && std::env::var_os("KROCKET_CRASH_KEEP").is_some() {
            println!("data kept in {}", folder.keep().display());
        }
        match outcome {
            Ok((counts, ended)) => {
                kept.add(&counts);
                seen.add(&ended);
            }
            Err(violation) => panic!("seed {}: {violation}", life.seed),
        }
        println!("after life {}: {kept:?}, {seen}, {:.0} s", life.number + 1, plan.seconds());
    }
    // A test that saw nothing has shown nothing.
    for kind in Kind::PROMISED {
        assert!(kept.of(kind) > u64::from(plan.rounds), "{kind:?}: {kept:?}");
    }
    assert_eq!(seen.unseen(), None, "{seen}");
    let result = format!("{} promises kept: K1, K2, K4, K6 to K10, S1, S2, S4, S6; {seen}", kept.total());
    plan.report("kill -9", "every feature in use", plan.rounds.into(), &result);
}

/// Some rounds on one data folder.
async fn life(folder: &Path, life: Life) -> Result<(Counts, Ended), String> {
    let mut rng = StdRng::seed_from_u64(life.seed);
    let config = folder.join("krocket.toml");
    std::fs::write(&config, format!("{CONFIG}{SMALL}")).expect("a file can be written");
    let (mut server, mut address, _) = start(folder, &config);
    let mut load = Load::start(address, &mut rng, Survives::Writes).await;
    for round in 1..=life.rounds {
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..1500))).await;
        server.signal(if rng.random_range(0..8) == 0 { Signal::TERM } else { Signal::KILL });
        load.down();
        server.wait();
        let http;
        (server, address, http) = start(folder, &config);
        load.check(address, http).await.map_err(|error| format!("round {round}: {error}"))?;
        load.up(address);
    }
    load.end_sending().await;
    server.signal(Signal::KILL);
    server.wait();
    let (server, address, http) = start(folder, &config);
    let outcome = load.finish(address, http).await.map_err(|error| format!("at the end: {error}"));
    drop(server);
    outcome
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
