//! Appends to several lists in each transaction; some transactions it aborts, some requests come late on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rand::Rng;

use super::actor::{Actor, Over, Own, records, some_keys};
use super::history::partition_of;
use super::{LISTS, REFUSALS};
use crate::LONG;
use crate::client::{Failure, end};

/// What befalls a producer in the middle of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// Another one takes its id over, and it does not know.
    Fenced = 1,
    /// It says nothing for longer than its transaction.timeout.ms.
    Silent = 2,
}

/// Where the story leaves a mishap for an appender to walk into.
pub(crate) type Trap = Arc<AtomicU8>;

fn sprung(trap: &Trap) -> Option<Mishap> {
    match trap.swap(0, Ordering::Relaxed) {
        1 => Some(Mishap::Fenced),
        2 => Some(Mishap::Silent),
        _ => None,
    }
}

/// Appends until the test ends.
pub(crate) async fn run(mut actor: Actor, trap: Trap) {
    while !actor.world.is_ending() {
        let seconds = [1, 2, 4, LONG.as_secs()][actor.rng.random_range(0..4)];
        let mut own = actor.init(Duration::from_secs(seconds)).await;
        while !actor.world.is_ending() && one(&mut actor, &mut own, &trap).await.is_ok() {}
    }
}

async fn one(actor: &mut Actor, own: &mut Own, trap: &Trap) -> Result<(), Over> {
    let txn = actor.history.with(|log| log.begin(&actor.id, Vec::new()));
    for step in 0..actor.rng.random_range(1..6) {
        let keys = some_keys(&mut actor.rng);
        actor.append(own, txn, &keys).await?;
        match (step, sprung(trap)) {
            (_, Some(Mishap::Fenced)) => return fenced(actor, own).await,
            (_, Some(Mishap::Silent)) => {
                actor.history.with(|log| log.count("silent"));
                let more = Duration::from_millis(actor.rng.random_range(0..2000));
                tokio::time::sleep(own.timeout.min(Duration::from_secs(4)) + more).await;
            }
            (0, None) if actor.rng.random_ratio(1, 10) => late_end(actor, own).await,
            _ => {}
        }
    }
    let commit = actor.rng.random_ratio(3, 4);
    actor.end(own, txn, commit).await
}

/// A second producer of the id begins; then the first one wakes up, in the middle of the second one's transaction.
async fn fenced(actor: &mut Actor, own: &mut Own) -> Result<(), Over> {
    actor.history.with(|log| log.count("fenced"));
    let mut second = actor.init(LONG).await;
    let txn = actor.history.with(|log| log.begin(&actor.id, Vec::new()));
    let keys = some_keys(&mut actor.rng);
    actor.append(&mut second, txn, &keys).await?;
    let late = actor.history.with(|log| log.begin(&format!("{} (fenced)", actor.id), Vec::new()));
    let keys = some_keys(&mut actor.rng);
    let elements = actor.history.with(|log| log.append(late, &keys));
    let sent = own.producer.send(LISTS, partition_of(keys[0]), &records(&keys, &elements)).await;
    refused(actor, sent.map(|_| ()), "appended");
    let commit = actor.rng.random();
    refused(actor, own.producer.end(commit).await, "ended");
    let keys = some_keys(&mut actor.rng);
    actor.append(&mut second, txn, &keys).await?;
    actor.end(&mut second, txn, true).await?;
    *own = second;
    Ok(())
}

/// Notes when a fenced producer was not refused. What got no answer shows in what is read.
fn refused(actor: &Actor, answer: Result<(), Failure>, what: &str) {
    match answer {
        Ok(()) => actor.history.with(|log| log.obeyed.push(format!("{} {what} when it was fenced", actor.id))),
        Err(Failure::Lost(_)) => {}
        Err(Failure::Refused(code)) => assert!(REFUSALS.contains(&code), "{} is refused with {code}", actor.id),
    }
}

/// The end of the transaction before arrives again, in the middle of this one. Whatever it is answered, this one goes on.
async fn late_end(actor: &mut Actor, own: &Own) {
    let Some(before) = own.before else { return };
    let mut session = actor.connect().await;
    let commit = actor.rng.random();
    // An answer is as good as another: what it did shows in what is read.
    let _ = end(&mut session, &own.producer.id, before, commit).await;
    actor.history.with(|log| log.count("late end"));
}
