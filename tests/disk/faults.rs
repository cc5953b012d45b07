//! A disk that fails: each kind of call with each errno, at random instants while every feature is in use. Reads go on, what
//! cannot be written is refused, a failed fsync stops the log and /readyz says so, and a restart loses no promise.

use std::time::Duration;

use krocket_store::fs::double::{Call, Fault};
use krocket_testkit::http;
use krocket_testkit::promises::{Counts, Ended, Kind, Load, Survives};
use krocket_testkit::torture::{Life, Plan};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::machine::{Lost, copied, data, folder, restarted, start};

const QUICK_ROUNDS: u32 = 12;
const ROUNDS_PER_LIFE: u32 = 6;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// Faults that can be met: what, the calls, the errno.
const FAULTS: [(&str, &[Call], i32); 7] = [
    ("EIO on write", &[Call::Write], EIO),
    ("EIO on fsync", &[Call::Sync], EIO),
    ("EIO on fsync of the folder", &[Call::SyncDir], EIO),
    ("EIO on write, and no way to undo it", &[Call::Write, Call::SetLen], EIO),
    ("ENOSPC on write", &[Call::Write, Call::Create], ENOSPC),
    ("ENOSPC on a new file", &[Call::Create], ENOSPC),
    ("read-only remount", &[Call::Create, Call::Open, Call::Write, Call::SetLen, Call::Rename, Call::Remove], EROFS),
];

#[derive(Debug, Default)]
struct Seen {
    /// Faults of each kind that were met.
    met: [u64; FAULTS.len()],
    /// Logs that stopped.
    stopped: u64,
    /// Servers that went on when the disk did.
    went_on: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_are_kept_on_a_disk_that_fails() {
    let plan = Plan::of("KROCKET_DISK_FAULTS", QUICK_ROUNDS, 1);
    println!("disk faults: {} rounds, KROCKET_CRASH_SEED={}", plan.rounds, plan.seed);
    let (mut kept, mut done, mut seen) = (Counts::default(), Ended::default(), Seen::default());
    for life in plan.lives(ROUNDS_PER_LIFE) {
        match self::life(life, &mut seen).await {
            Ok((counts, ended)) => {
                kept.add(&counts);
                done.add(&ended);
            }
            Err(violation) => panic!("seed {}: {violation}", life.seed),
        }
    }
    println!("{kept:?}, {done}, {seen:?}, {:.0} s", plan.seconds());
    assert_eq!(done.unseen(), None, "{done}");
    assert!(seen.stopped > 0 && seen.went_on > 0 && kept.of(Kind::Delayed) > plan.rounds.into(), "{seen:?}, {kept:?}");
    for ((what, _, _), met) in FAULTS.iter().zip(seen.met) {
        // Rarely does a log begin a new file.
        assert!(met > 0 || what.contains("file") || what.contains("folder") || plan.rounds < 50, "{what}: {seen:?}");
        let result = "refused, reads go on, no promise broken after it";
        if met > 0 {
            plan.report("Disk", what, met, result);
        }
    }
}

/// Some faults on one data folder.
async fn life(life: Life, seen: &mut Seen) -> Result<(Counts, Ended), String> {
    let mut rng = StdRng::seed_from_u64(life.seed);
    let mut folder = folder();
    let (mut server, mut double) = start(folder.path()).await?;
    let mut load = Load::start(server.kafka, &mut rng, Survives::Syncs).await;
    for round in 1..=life.rounds {
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..400))).await;
        let kind = (life.number * ROUNDS_PER_LIFE + round) as usize % FAULTS.len();
        let (what, calls, errno) = FAULTS[kind];
        let told = |error: String| format!("round {round}, {what}: {error}");
        let (met, meets) = tokio::sync::watch::channel(0_u64);
        double.script(move |call, _| {
            let fails = calls.contains(&call);
            if fails {
                met.send_modify(|met| *met += 1);
            }
            fails.then_some(Fault::Errno(errno))
        });
        // New files are rare.
        let mut first = meets.clone();
        let _ = tokio::time::timeout(Duration::from_millis(1500), first.wait_for(|met| *met > 0)).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..200))).await;
        load.down();
        load.look(server.kafka, server.http).await.map_err(|error| told(format!("while it fails: {error}")))?;
        let met = *meets.borrow();
        seen.met[kind] += u64::from(met > 0);
        double.heal();
        let (status, answer) = ready(&server).await;
        if met > 0 && calls.iter().any(|call| matches!(call, Call::Sync | Call::SyncDir)) && status == 200 {
            return Err(told("a failed fsync did not stop the log".to_owned()));
        }
        if status == 200 {
            seen.went_on += u64::from(met > 0);
        } else {
            if !answer.contains("the log stopped") {
                return Err(told(format!("/readyz says {answer}")));
            }
            seen.stopped += 1;
            // The kernel has dropped what could not be synced.
            double.cut();
            let index = copied(&data(folder.path()).join("index"));
            server.abandon().await;
            folder = restarted(&folder, index, &double, &mut rng, &mut Lost::default());
            (server, double) = start(folder.path()).await.map_err(told)?;
            load.check(server.kafka, server.http).await.map_err(told)?;
        }
        load.up(server.kafka);
    }
    load.end_sending().await;
    let outcome = load.finish(server.kafka, server.http).await.map_err(|error| format!("at the end: {error}"));
    server.stop().await;
    outcome
}

/// What /readyz says.
async fn ready(server: &krocket_testkit::Krocket) -> (u16, String) {
    http::get(server.http, "/readyz").await
}
