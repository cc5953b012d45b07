//! The worker: partitions whose time has come, in turns, so that one that has a lot to deliver does not hold up the rest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use krocket_stack::Handler;
use krocket_stack::ledger::PartitionId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Parking;
use crate::deliver;

/// Partitions that are delivered at a time.
const AT_ONCE: usize = 4;
/// Pause of a partition after a failure, ms.
const RETRY_MS: i64 = 500;
/// How often everything that waits is looked for, should anything have been missed, and old rows are swept.
const SWEEP: Duration = Duration::from_secs(300);
/// How often the clock is looked at while something waits for its time: it may be set, and the machine may sleep.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until stopped.
pub(crate) async fn run(parking: &Arc<Parking>, next: Arc<dyn Handler>, stop: &CancellationToken) {
    let (mut sweep, mut seen) = (Instant::now(), i64::MIN);
    let mut running: FuturesUnordered<_> = FuturesUnordered::new();
    let mut busy: Vec<PartitionId> = Vec::new();
    let (mut turn, mut turns) = (0_u64, HashMap::new());
    loop {
        if stop.is_cancelled() {
            break;
        }
        let now = parking.ledger.now_ms();
        // A clock that was set back: what was put off until a moment is to come sooner than that.
        if Instant::now() >= sweep || now < seen {
            sweep = Instant::now() + SWEEP;
            look_around(parking).await;
        }
        seen = now;
        let (ready, next_due) = parking.heads.ready(now);
        let mut waiting: Vec<PartitionId> = ready.into_iter().filter(|partition| !busy.contains(partition)).collect();
        // Who had its turn last comes last.
        waiting.sort_by_key(|partition| turns.get(partition).copied().unwrap_or(0));
        turns.retain(|partition, _| waiting.contains(partition) || busy.contains(partition));
        for partition in waiting {
            if busy.len() == AT_ONCE {
                break;
            }
            busy.push(partition);
            turn += 1;
            turns.insert(partition, turn);
            let (parking, next) = (parking.clone(), next.clone());
            running.push(tokio::spawn(
                async move { (partition, deliver::round(&parking, &*next, partition).await.err()) },
            ));
        }
        let until_due = |due: i64| Duration::from_millis(due.saturating_sub(now).max(0) as u64).min(LOOK);
        let until_due = next_due.map_or(SWEEP, until_due);
        let wait = until_due.min(sweep.saturating_duration_since(Instant::now()));
        tokio::select! {
            done = running.next(), if !running.is_empty() => {
                if let Some(Ok((partition, retry))) = done {
                    busy.retain(|one| *one != partition);
                    if let Some(error) = retry {
                        crate::metrics::METRICS.failed.inc();
                        tracing::warn!(%error, partition, "parked records could not be delivered, they will be again");
                        parking.heads.lower(partition, parking.ledger.now_ms() + RETRY_MS);
                    }
                }
            }
            () = parking.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
    while running.next().await.is_some() {}
    parking.asking.stop().await;
    parking.check.lock().take();
}

async fn look_around(parking: &Arc<Parking>) {
    let looking = parking.clone();
    let looked = tokio::task::spawn_blocking(move || {
        for (partition, due) in looking.first_dues()? {
            looking.heads.lower(partition, due);
        }
        looking.sweep()
    });
    match looked.await {
        Ok(Ok(rows)) if !rows.is_empty() => {
            if let Err(error) = parking.ledger.commit(rows, false).await {
                tracing::warn!(%error, "rows of old messages could not be swept");
            }
        }
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::error!(%error, "cannot look for what is parked"),
        Err(error) => tracing::error!(%error, "looking for what is parked failed"),
    }
}
