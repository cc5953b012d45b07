//! The process stands still (SIGSTOP) while everything is pending, and goes on.

use std::time::{Duration, Instant};

use krocket_testkit::Process;
use krocket_testkit::promises::wire::now_ms;
use krocket_testkit::promises::{CONFIG, Load, Survives};
use krocket_testkit::torture::{Plan, setting};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;

use crate::waiting::{Member, Sharer, connect};
use krocket_testkit::promises::wire::{self, Outgoing};

const KROCKET: &str = env!("CARGO_BIN_EXE_krocket");
const QUICK_ROUNDS: u32 = 1;
/// Longer than the sessions.
const QUICK_MS: u64 = 2500;
const SESSION_MS: i32 = 1500;
const SHARED: &str = "jobs";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stood_still_keeps_its_promises_and_its_groups() {
    let plan = Plan::of("KROCKET_PAUSES", QUICK_ROUNDS, 1);
    let longest = setting("KROCKET_PAUSE_MS").unwrap_or(QUICK_MS);
    println!("pauses: {} of {longest} ms, KROCKET_CRASH_SEED={}", plan.rounds, plan.seed);
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, config) = (folder.path().join("data"), folder.path().join("krocket.toml"));
    let toml = format!("{CONFIG}\"group.min.session.timeout.ms\" = 1000\n\"group.initial.rebalance.delay.ms\" = 0\n");
    std::fs::write(&config, toml).expect("a file can be written");
    let (data, config) = (data.to_str().expect("text"), config.to_str().expect("text"));
    let mut server = Process::start(
        KROCKET,
        &["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", data, "--config", config],
    );
    let (address, web) = server.wait_until_ready();
    let mut load = Load::start(address, &mut rng, Survives::Writes).await;
    wire::create_topic(address, SHARED, 1).await;
    let configs = [
        ("share.auto.offset.reset", "earliest"),
        ("share.record.lock.duration.ms", "1000"),
        ("share.delivery.count.limit", "1000"),
    ];
    let mut sharer = Sharer::join(address, "sharers", SHARED, &configs).await;
    wire::produce(&mut connect(address).await, SHARED, 0, 1, &[Outgoing::new("job")])
        .await
        .expect("an answer")
        .expect("accepted");
    for round in 1..=plan.rounds {
        let mut member = Member::join(address, "still", SESSION_MS).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(200..700))).await;
        assert_eq!(member.beat().await, 0);
        let stopped = now_ms();
        server.signal(Signal::STOP);
        // The test is to wait, and nothing tells when it has waited long enough.
        tokio::time::sleep(Duration::from_millis(longest)).await;
        server.signal(Signal::CONT);
        // A member that did not beat for so long is out or still in, and one that joins anew is in.
        let code = member.beat().await;
        assert!([0, 25].contains(&code), "round {round}: {code}");
        let mut member = Member::join(address, "still", SESSION_MS).await;
        assert_eq!(member.beat().await, 0, "round {round}");
        // Longer than a share group's session.
        if longest > 45_000 {
            sharer = Sharer::join(address, "sharers", SHARED, &configs).await;
        }
        let begun = Instant::now();
        while sharer.take(500).await.0 == 0 {
            assert!(begun.elapsed() < Duration::from_secs(10), "round {round}: the share group gives nothing out");
        }
        load.down();
        load.check(address, web).await.unwrap_or_else(|error| panic!("seed {}, round {round}: {error}", plan.seed));
        assert!(now_ms() - stopped >= longest as i64);
        load.up(address);
    }
    load.end_sending().await;
    let (counts, ended) = load.finish(address, web).await.unwrap_or_else(|error| panic!("{error}"));
    server.signal(Signal::TERM);
    server.wait();
    // The load of a round is too short for all of its work to come about.
    assert!(counts.total() > 0, "{ended}");
    let result = format!("{} promises kept, groups go on; {ended}", counts.total());
    plan.report("Time", &format!("the process stopped for {:.1} s", longest as f64 / 1e3), plan.rounds.into(), &result);
}
