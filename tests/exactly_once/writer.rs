//! Producers whose transactions span partitions.

use std::io;
use std::sync::Arc;

use krocket_testkit::session::Session;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::client::{Failure, Producer};
use crate::ledger::{Ledger, Outcome, Txn, value};
use crate::{LONG, PARTITIONS, SOURCE, WRITERS, World};

fn id(writer: u32) -> String {
    format!("writer-{writer}")
}

/// Writes one transaction after the other until the test ends.
pub(crate) async fn run(writer: u32, seed: u64, ledger: Arc<Ledger>, mut world: World) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut number = 0;
    loop {
        let (address, ending) = world.server().await;
        if ending {
            return;
        }
        let Ok(session) = Session::connect(address).await else {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        };
        let Ok(mut producer) = Producer::init(session, &id(writer), LONG).await else { continue };
        while !world.is_ending() {
            number += 1;
            if one(&mut producer, (writer, number), &mut rng, &ledger).await.is_err() {
                break;
            }
        }
    }
}

async fn one(producer: &mut Producer, txn: Txn, rng: &mut StdRng, ledger: &Ledger) -> io::Result<()> {
    let commit = rng.random_range(0..4) > 0;
    let mut place = 0;
    let mut batches = Vec::new();
    for _ in 0..rng.random_range(1..6) {
        let partition = rng.random_range(0..PARTITIONS);
        let values: Vec<String> = (0..rng.random_range(1..4))
            .map(|_| {
                place += 1;
                value(txn, place)
            })
            .collect();
        batches.push((partition, values));
    }
    let records = batches.iter().flat_map(|(partition, values)| values.iter().map(|value| (*partition, value.clone())));
    // Until its end is asked for nobody may commit it: the next producer of the id aborts it.
    ledger.begin(txn, records.collect(), Outcome::Aborted);
    for (partition, values) in &batches {
        let records: Vec<_> = values.iter().map(|value| (None, value.clone())).collect();
        producer.send(SOURCE, *partition, &records).await.map_err(Failure::lost)?;
    }
    if commit {
        ledger.settle(txn, Outcome::Doubtful);
    }
    producer.end(commit).await.map_err(Failure::lost)?;
    if commit {
        ledger.settle(txn, Outcome::Committed);
    }
    Ok(())
}

/// What the last crash left open.
pub(crate) async fn abort_what_is_left(session: &mut Session) {
    let peer = session.peer();
    for writer in 0..WRITERS {
        let session = Session::connect(peer).await.expect("the server is ready");
        Producer::init(session, &id(writer), LONG).await.expect("the server answers");
    }
}
