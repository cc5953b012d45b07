//! The wall clock is set, and everything that waits is looked at.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use krocket_broker::log::Clock;
use krocket_testkit::promises::wire::{self, Outgoing};
use krocket_testkit::torture::Plan;
use krocket_testkit::{Krocket, soon};

use crate::waiting::{Member, Sharer, Txn, connect, seen, stable};

const QUICK_ROUNDS: u32 = 1;
const HOUR_MS: i64 = 3_600_000;
const TOPIC: &str = "events";
const SHARED: &str = "jobs";
const OPEN: &str = "open";
/// More than a busy machine needs to beat, and less than the clock jumps.
const SESSION_MS: i32 = 5000;
/// How soon after its time something has to be there, by a clock that was set.
const SOON: Duration = Duration::from_secs(4);
/// CPU that an idle krocket may take, with its clients.
const MOST_CPU: f64 = 0.3;

const TOML: &str = r#"
[kafka]
"group.min.session.timeout.ms" = 1000
"group.share.min.record.lock.duration.ms" = 1000
[[retry]]
groups = ["billing"]
backoff = { steps = ["30m"] }
max_attempts = 2
"#;

/// A record that is delivered after so long.
async fn delay(address: SocketAddr, value: &str, ms: i64) {
    let record = Outgoing::new(value).header("TIMER_DELAY_MS", &ms.to_string());
    wire::produce(&mut connect(address).await, TOPIC, 0, -1, &[record]).await.expect("an answer").expect("accepted");
}

/// Waits for a value and gives its timestamp.
async fn comes(address: SocketAddr, topic: &str, value: &str) -> i64 {
    let begun = Instant::now();
    loop {
        if let Some(at) = seen(address, topic, value).await {
            return at;
        }
        assert!(begun.elapsed() < SOON, "{value} does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A member that beats stays, whatever the clock says.
async fn beat(mut member: Member) {
    loop {
        assert_eq!(member.beat().await, 0, "a member that beats stays");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits, and looks how much CPU this process takes. That something does not happen can only be seen by waiting.
async fn quiet(ms: u64) {
    let (cpu, begun) = (cpu_seconds(), Instant::now());
    tokio::time::sleep(Duration::from_millis(ms)).await;
    let share = (cpu_seconds() - cpu) / begun.elapsed().as_secs_f64();
    assert!(share < MOST_CPU, "{share:.2} of a CPU for waiting");
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("ticks")).sum();
    ticks as f64 / 100.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_brings_nothing_early_and_holds_nothing_up() {
    let plan = Plan::of("KROCKET_TIME_ROUNDS", QUICK_ROUNDS, 1);
    for _ in 0..plan.rounds {
        round().await;
    }
    let result = "delays and retries in their time, sessions, share locks and transactions by their own, no busy loop";
    plan.report("Time", "the wall clock set an hour forward and back", 4 * u64::from(plan.rounds), result);
}

async fn round() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = Clock::shifted();
    let injected = clock.clone();
    let data = folder.path().join("data");
    let open = Krocket::open(&data, TOML, move |settings| settings.log.clock = injected);
    let krocket = open.await.expect("it starts");
    let address = krocket.kafka;
    for topic in [TOPIC, SHARED, OPEN] {
        wire::create_topic(address, topic, 1).await;
    }
    wire::ask_for(address, "retry.billing").await;
    let member = tokio::spawn(beat(Member::join(address, "still", SESSION_MS).await));

    // Back: what is due in a second waits for the clock to say so, and new delays begin at the new time.
    delay(address, "before", 1000).await;
    let due = clock.now_ms();
    clock.advance(-HOUR_MS);
    delay(address, "meanwhile", 500).await;
    let at = comes(address, TOPIC, "meanwhile").await;
    assert!(at <= due - HOUR_MS + 5000, "a delay that began after the clock was set");
    quiet(1500).await;
    assert_eq!(seen(address, TOPIC, "before").await, None, "K7: early by the clock that there is");
    clock.advance(HOUR_MS);
    let at = comes(address, TOPIC, "before").await;
    assert!(at >= due, "K7: {} ms early", due - at);

    // Forward: what is past due then comes at once, retries as well as delays; the rest does not.
    delay(address, "within the hour", HOUR_MS / 2).await;
    delay(address, "after it", 3 * HOUR_MS).await;
    let nack = Outgoing::new("again").header("RECONSUME_TIMES", "0").header("REAL_TOPIC", TOPIC);
    wire::produce(&mut connect(address).await, "retry.billing", 0, -1, &[nack])
        .await
        .expect("an answer")
        .expect("taken");
    quiet(300).await;
    assert_eq!(seen(address, "retry.billing", "again").await, None, "K6: a retry that is early");
    clock.advance(HOUR_MS);
    comes(address, TOPIC, "within the hour").await;
    comes(address, "retry.billing", "again").await;
    quiet(500).await;
    assert_eq!(seen(address, TOPIC, "after it").await, None, "K7: early");

    locks(address, &clock).await;
    transactions(address, &clock).await;
    assert!(!member.is_finished(), "the member is out");
    member.abort();
    soon("stopping", krocket.stop()).await;
}

/// What a member of a share group holds is locked for a second, not for an hour and not for nothing.
async fn locks(address: SocketAddr, clock: &Clock) {
    let configs = [("share.auto.offset.reset", "earliest"), ("share.record.lock.duration.ms", "2000")];
    let mut sharer = Sharer::join(address, "sharers", SHARED, &configs).await;
    let mut session = connect(address).await;
    wire::produce(&mut session, SHARED, 0, -1, &[Outgoing::new("job")]).await.expect("an answer").expect("accepted");
    let taken = take(&mut sharer).await;
    assert_eq!(taken, (1, 1));
    let held = Instant::now();
    clock.advance(HOUR_MS);
    let early = sharer.take(300).await;
    assert!(early.0 == 0 || held.elapsed() >= Duration::from_secs(2), "S3: the lock ended with the clock");
    clock.advance(-2 * HOUR_MS);
    quiet(200).await;
    let again = take(&mut sharer).await;
    assert_eq!(again, (1, 2));
    assert!(held.elapsed() >= Duration::from_secs(2), "S3: the lock lasted {:?}", held.elapsed());
    clock.advance(HOUR_MS);
}

async fn take(sharer: &mut Sharer) -> (usize, i16) {
    let begun = Instant::now();
    loop {
        let taken = sharer.take(200).await;
        if taken.0 > 0 {
            return taken;
        }
        assert!(begun.elapsed() < 2 * SOON, "no record is given out");
    }
}

/// A transaction ends by its own time-out.
async fn transactions(address: SocketAddr, clock: &Clock) {
    let long = Txn::begin(address, "long", OPEN, "kept", 60_000).await;
    clock.advance(HOUR_MS);
    quiet(1500).await;
    assert_eq!(long.commit().await, 0, "a transaction that is not overdue");
    let _silent = Txn::begin(address, "silent", OPEN, "given up", 1000).await;
    clock.advance(-HOUR_MS);
    let begun = Instant::now();
    loop {
        let (stable, high_watermark) = stable(address, OPEN).await.expect("an answer");
        if stable == high_watermark {
            break;
        }
        assert!(begun.elapsed() < 3 * SOON, "an overdue transaction holds readers up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
