//! The power goes at random instants while every feature is in use: the disk keeps what was synced, and of the rest any
//! pages and any of the last changes of the directory. The invariants K1, K2, K4 and K6 to K10, and S1, S2, S4 and S6 over what
//! was promised with acks=all: see `krocket_testkit::promises`.
//!
//! A whole krocket in this process, on `krocket_store::fs::double`. `make test` runs a few cuts from a fixed seed;
//! `KROCKET_POWER_CUTS=1000` many. Five cuts share a data folder.

use std::time::Duration;

use krocket_testkit::promises::{Counts, Ended, Kind, Load, Survives};
use krocket_testkit::torture::{Life, Plan};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::machine::{Lost, copied, data, folder, restarted, start};

/// Cuts in `make test`.
const QUICK_CUTS: u32 = 10;
/// Cuts on one data folder.
const CUTS_PER_LIFE: u32 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn features_keep_their_promises_when_the_power_goes() {
    let plan = Plan::of("KROCKET_POWER_CUTS", QUICK_CUTS, 1);
    println!("power loss: {} cuts, KROCKET_CRASH_SEED={}", plan.rounds, plan.seed);
    let (mut kept, mut done, mut seen) = (Counts::default(), Ended::default(), Lost::default());
    for life in plan.lives(CUTS_PER_LIFE) {
        match self::life(life, &mut seen).await {
            Ok((counts, ended)) => {
                kept.add(&counts);
                done.add(&ended);
            }
            Err(violation) => panic!("seed {}: {violation}", life.seed),
        }
        if life.number % 20 == 19 {
            println!("after life {}: {kept:?}, {done}, {seen:?}, {:.0} s", life.number + 1, plan.seconds());
        }
    }
    println!("{kept:?}, {done}, {seen:?}");
    // A test that saw nothing has shown nothing.
    for kind in Kind::PROMISED {
        assert!(kept.of(kind) > u64::from(plan.rounds) / 2, "{kind:?}: {kept:?}");
    }
    assert_eq!(done.unseen(), None, "{done}");
    assert!(seen.changes > 0 && (seen.without_index > 0 || plan.rounds < 50), "{seen:?}");
    let result = format!(
        "{} promises kept: K1, K2, K4, K6 to K10, S1, S2, S4, S6; {done}; {} unsynced pages and names lost",
        kept.total(),
        seen.changes
    );
    plan.report("Power loss", "every feature in use, acks=all", plan.rounds.into(), &result);
}

/// Some cuts, each on what the last one left.
async fn life(life: Life, seen: &mut Lost) -> Result<(Counts, Ended), String> {
    let mut rng = StdRng::seed_from_u64(life.seed);
    let mut folder = folder();
    let (mut server, mut double) = start(folder.path()).await?;
    let mut load = Load::start(server.kafka, &mut rng, Survives::Syncs).await;
    for round in 1..=life.rounds {
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..700))).await;
        double.cut();
        let index = copied(&data(folder.path()).join("index"));
        load.down();
        server.abandon().await;
        folder = restarted(&folder, index, &double, &mut rng, seen);
        (server, double) = start(folder.path()).await.map_err(|error| format!("cut {round}: {error}"))?;
        load.check(server.kafka, server.http).await.map_err(|error| format!("cut {round}: {error}"))?;
        load.up(server.kafka);
    }
    load.end_sending().await;
    let outcome = load.finish(server.kafka, server.http).await.map_err(|error| format!("at the end: {error}"));
    server.stop().await;
    outcome
}
