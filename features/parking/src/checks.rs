//! Half messages are asked about beside the deliveries: who is asked may take its time.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use krocket_stack::ledger::tables;
use krocket_stack::{LedgerError, Row};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::rows::{Locator, due_key};
use crate::{Due, Parking};

/// Questions of one partition that are asked at a time.
const AT_ONCE: usize = 16;
/// Pause after a question that could not be asked, ms.
const AGAIN_MS: i64 = 1_000;

/// The half messages that are being asked about.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    those: Mutex<HashSet<Locator>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Asking {
    /// Asks about those that nobody is asking about. They stay parked, and free for whoever ends them meanwhile.
    pub(crate) fn start(&self, parking: &Arc<Parking>, mut due: Vec<Due>) {
        {
            let mut those = self.those.lock();
            due.retain(|one| those.insert(one.at));
        }
        if due.is_empty() {
            return;
        }
        let parking = parking.clone();
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let ask = |one: Due| {
                let parking = &parking;
                async move {
                    let at = one.at;
                    ask(parking, one).await;
                    parking.asking.those.lock().remove(&at);
                }
            };
            futures_util::stream::iter(due).for_each_concurrent(AT_ONCE, ask).await;
        });
    }

    /// What is being asked is asked again after the next start.
    pub(crate) async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        self.those.lock().clear();
    }
}

async fn ask(parking: &Arc<Parking>, one: Due) {
    let (at, due) = (one.at, one.due);
    let check = parking.check.lock().clone();
    let asked = match check {
        Some(check) => check.check(one).await,
        None => None,
    };
    let again = parking.ledger.now_ms() + AGAIN_MS;
    let Some((rows, next)) = asked else { return parking.look_again(at, due, again) };
    match change(parking, at, due, rows).await {
        Ok(true) => {
            if let Some(next) = next {
                parking.heads.lower(at.0, next);
                parking.wake.notify_one();
            }
        }
        // Somebody ended it meanwhile, or is about to.
        Ok(false) => parking.look_again(at, due, again),
        Err(error) => {
            tracing::warn!(%error, partition = at.0, offset = at.1, "what was heard of a half message could not be written");
            parking.look_again(at, due, again);
        }
    }
}

/// Writes what was heard, if the message is still as it was when it was asked about.
async fn change(parking: &Parking, at: Locator, due: i64, rows: Vec<Row>) -> Result<bool, LedgerError> {
    let Some(claim) = parking.claims.take(at) else { return Ok(false) };
    if parking.ledger.get(tables::DUE, &due_key(at, due))?.is_none() {
        return Ok(false);
    }
    parking.ledger.commit(rows, false).await?;
    drop(claim);
    Ok(true)
}
