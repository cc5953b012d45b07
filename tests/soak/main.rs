//! A load that goes on: 70 % of the knee on a main topic with every feature in use beside it, then the same with a group that
//! nacks everything, then with readers that are slow or stand still and clients that come and go.
//!
//! `make test` runs 20 seconds of it and holds only what no machine may break; `make soak MINUTES=60` the long form, which
//! writes p50, p99 and memory of each interval to docs/soak.csv and docs/soak.svg. KROCKET_SOAK_RATE sets the batches a second,
//! to compare builds.

#![allow(clippy::print_stdout)]

mod chart;
mod crowd;
mod paced;

use std::path::Path;
use std::time::Duration;

use krocket_testkit::Process;
use krocket_testkit::promises::{CONFIG, Load, Survives};
use krocket_testkit::torture::{Plan, setting};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rustix::process::Signal;

use paced::{Paced, Sample, Server};

const KROCKET: &str = env!("CARGO_BIN_EXE_krocket");
/// Of the knee.
const SHARE: f64 = 0.7;
const QUICK_SECONDS: u64 = 20;
/// Most memory that this load may take, anywhere.
const MOST_MEMORY: u64 = 1 << 30;
/// Most of the disk that the log may take, where topics keep [`KEPT`].
const MOST_LOG: u64 = 6 << 30;
/// How much memory may grow from the second quarter of a phase to its last.
const MOST_GROWTH: f64 = 0.05;

/// What goes on beside the main topic.
const PHASES: [&str; 3] =
    ["every feature in use", "a group that nacks everything", "slow, stalled and reconnecting clients"];

/// Everything is kept small enough for an hour of it, and short enough that what is there soon stays the same: a topic that
/// takes twenty minutes to reach its limit has index, cleaning and memory grow for so long.
const KEPT: &str = r#"
"log.retention.bytes" = 134217728
"log.retention.ms" = 120000

[[retry]]
groups = ["hopeless"]
backoff = { steps = ["100ms"] }
max_attempts = 3

[log]
segment_bytes = "64MiB"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency_and_memory_stay_flat() {
    let plan = Plan::of("KROCKET_SOAK_MINUTES", 0, 1);
    let seconds = if plan.long { u64::from(plan.rounds) * 60 } else { QUICK_SECONDS };
    let interval = Duration::from_secs(if seconds >= 1800 { 60 } else { (seconds / 30).max(1) });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (server, address) = start(folder.path());
    let mut rng = StdRng::seed_from_u64(plan.seed);
    // At the least what the features' clients do in their own time.
    let load = Load::start_paced(address, &mut rng, Survives::Writes, Duration::from_millis(20)).await;
    let log = folder.path().join("data/log");
    let target = Server { address, pid: server.id(), log: &log };
    let knee = paced::knee(target, Duration::from_secs(if plan.long { 60 } else { 2 })).await;
    let rate = setting("KROCKET_SOAK_RATE").map_or(knee * SHARE, |rate| rate as f64);
    println!("{seconds} s at {rate:.0} batches a second, KROCKET_CRASH_SEED={}", plan.seed);
    let (mut samples, mut broken): (Vec<Sample>, Vec<String>) = Default::default();
    let phase = Duration::from_secs(seconds) / PHASES.len() as u32;
    for (at, name) in PHASES.iter().enumerate() {
        let mut crowd = match at {
            1 => crowd::hopeless(address).await,
            2 => crowd::motley(address, if plan.long { 1000 } else { 100 }).await,
            _ => tokio::task::JoinSet::new(),
        };
        println!("{name}");
        let taken = Paced { server: target, rate }.run(phase, interval, |sample| println!("  {sample}")).await;
        if let Some(ended) = crowd.try_join_next() {
            panic!("{name}: a client gave up: {ended:?}");
        }
        broken.extend(check(name, &taken, &plan));
        samples.extend(taken.into_iter().map(|sample| Sample { phase: at, ..sample }));
        drop(crowd);
    }
    if plan.long
        && let Some(out) = std::env::var_os("KROCKET_SOAK_OUT")
    {
        chart::write(Path::new(&out), &samples, &PHASES, rate).expect("it can be written");
    }
    assert!(broken.is_empty(), "{broken:#?}");
    drop(load);
    server.signal(Signal::TERM);
    server.wait();
}

/// Memory that does not grow, and latency that does not; told as it is, and held where the form is long enough: what is broken.
fn check(name: &str, samples: &[Sample], plan: &Plan) -> Option<String> {
    let most = samples.iter().map(|sample| sample.rss).max().unwrap_or(0);
    assert!(most < MOST_MEMORY, "{name}: {most} bytes of memory");
    let log = samples.iter().map(|sample| sample.log).max().unwrap_or(0);
    assert!(log < MOST_LOG, "{name}: a log of {log} bytes: retention does not keep up");
    let quarter = (samples.len() / 4).max(1);
    let mean = |samples: &[Sample], of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / samples.len() as f64;
    let (early, late) = (&samples[quarter..(2 * quarter).min(samples.len())], &samples[samples.len() - quarter..]);
    let early = if early.is_empty() { late } else { early };
    let rss = |sample: &Sample| sample.rss as f64;
    let growth = mean(late, rss) / mean(early, rss) - 1.0;
    let result = format!(
        "{:.0} batches of 10 KB a second, p99 {:.1} ms early, {:.1} ms late and {:.0} ms at worst, memory {:.0} MB, {:+.1} %, \
         log of {:.1} GB at most; {:.0} % of the CPU time was other machines'",
        mean(samples, |sample| sample.done),
        median_p99(early),
        median_p99(late),
        samples.iter().map(|sample| sample.p99_ms).fold(0.0, f64::max),
        mean(late, rss) / 1e6,
        growth * 100.0,
        log as f64 / 1e9,
        mean(samples, |sample| sample.stolen) * 100.0,
    );
    println!("  {result}");
    plan.report("Load", name, samples.len() as u64, &result);
    let grows = setting("KROCKET_SOAK_MINUTES").is_some_and(|minutes| minutes >= 15) && growth >= MOST_GROWTH;
    grows.then(|| format!("{name}: memory grows: {result}"))
}

/// Of the intervals.
fn median_p99(samples: &[Sample]) -> f64 {
    let mut all: Vec<f64> = samples.iter().map(|sample| sample.p99_ms).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn start(folder: &Path) -> (Process, std::net::SocketAddr) {
    let config = folder.join("krocket.toml");
    std::fs::write(&config, format!("{CONFIG}{KEPT}")).expect("a file can be written");
    let data = folder.join("data");
    let (data, config) = (data.to_str().expect("text"), config.to_str().expect("text"));
    let mut server = Process::start(
        KROCKET,
        &["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", data, "--config", config],
    );
    let (kafka, _) = server.wait_until_ready();
    (server, kafka)
}
