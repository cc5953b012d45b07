//! Reads inputs, appends for each of them, and commits how far it is, all in one transaction.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kafka_protocol::messages::GroupId;
use kafka_protocol::protocol::StrBytes;
use krocket_protocol::records::BatchBuilder;
use rand::Rng;
use rand::rngs::StdRng;

use super::actor::{Actor, Over, Own, some_keys};
use super::{INPUTS, PROCESSORS};
use crate::client::{committed, fetch, now_ms, produce};
use crate::{LONG, PARTITIONS};

pub(crate) const GROUP: StrBytes = StrBytes::from_static_str("processors");
const MOST: usize = 20;

/// Where the inputs end, once nothing is fed any more.
pub(crate) type Ends = Arc<OnceLock<Vec<i64>>>;

/// Feeds the processors until the test ends. A batch whose answer is lost is other inputs when it comes again.
pub(crate) async fn feed(mut actor: Actor) {
    let mut session = actor.connect().await;
    while !actor.world.is_ending() {
        let partition = actor.rng.random_range(0..PARTITIONS);
        let records = vec![(None, "input".to_owned()); actor.rng.random_range(1..6)];
        let batch = BatchBuilder::new(0, now_ms());
        if produce(&mut session, None, INPUTS, partition, batch, &records).await.is_err() {
            session = actor.connect().await;
        }
        tokio::time::sleep(Duration::from_millis(actor.rng.random_range(5..30))).await;
    }
}

/// Processes its share of the partitions until nothing is left.
pub(crate) async fn run(number: i32, mut actor: Actor, ends: Ends) {
    let own_partitions: Vec<i32> =
        (0..PARTITIONS).filter(|partition| partition % PROCESSORS as i32 == number).collect();
    loop {
        let seconds = [2, LONG.as_secs()][actor.rng.random_range(0..2)];
        let mut own = actor.init(Duration::from_secs(seconds)).await;
        if process(&mut actor, &mut own, &own_partitions, &ends).await.is_ok() {
            return;
        }
    }
}

/// Comes back when all is done, or when it has to begin again.
async fn process(actor: &mut Actor, own: &mut Own, partitions: &[i32], ends: &Ends) -> Result<(), Over> {
    let group = GroupId(GROUP);
    let lost = |_: io::Error| Over;
    let mut offsets = committed(&mut own.producer.session, &group, INPUTS).await.map_err(lost)?;
    loop {
        let all = ends.get();
        let mut inputs = Vec::new();
        for partition in partitions {
            let from = &mut offsets[*partition as usize];
            let fetched = fetch(&mut own.producer.session, INPUTS, *partition, *from, 10).await.map_err(lost)?;
            inputs.extend(fetched.records.iter().take(MOST).map(|record| (*partition, record.offset)));
            *from = fetched.records.iter().take(MOST).next_back().map_or(*from, |record| record.offset + 1);
        }
        if inputs.is_empty() {
            if all.is_some_and(|ends| partitions.iter().all(|one| offsets[*one as usize] >= ends[*one as usize])) {
                return Ok(());
            }
            continue;
        }
        let txn = actor.history.with(|log| log.begin(&actor.id, inputs.clone()));
        for chunk in inputs.chunks(3) {
            let keys: Vec<u32> = keys_for(&mut actor.rng, chunk.len());
            actor.append(own, txn, &keys).await?;
        }
        let read: Vec<_> = partitions.iter().map(|partition| (*partition, offsets[*partition as usize])).collect();
        actor.stage(own, &group, &read).await?;
        let commit = actor.rng.random_ratio(9, 10);
        actor.end(own, txn, commit).await?;
        if !commit {
            offsets = committed(&mut own.producer.session, &group, INPUTS).await.map_err(lost)?;
        }
    }
}

/// One list for each of so many inputs, all in one partition.
fn keys_for(rng: &mut StdRng, count: usize) -> Vec<u32> {
    let keys = some_keys(rng);
    keys.iter().copied().cycle().take(count).collect()
}
