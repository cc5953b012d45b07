//! How much waits, counted now and then: deliveries and cancellations come from many places, rows from one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use krocket_stack::LedgerError;
use krocket_stack::ledger::tables;
use tokio_util::sync::CancellationToken;

use crate::Parking;
use crate::metrics::METRICS;
use crate::rows::{Entry, parse_due_key};

/// Pause between two counts.
const INTERVAL: Duration = Duration::from_secs(10);
/// A count that takes long is followed by a pause this many times as long.
const PAUSE_FACTOR: u32 = 50;

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Census {
    delayed: i64,
    retries: i64,
    half: i64,
    set_aside: i64,
    /// Since when the oldest is due, epoch ms.
    first_due: Option<i64>,
}

/// Counts until stopped.
pub(crate) async fn run(parking: Arc<Parking>, stop: CancellationToken) {
    loop {
        let counting = parking.clone();
        let started = Instant::now();
        match tokio::task::spawn_blocking(move || counting.census()).await {
            Ok(Ok(census)) => census.publish(parking.ledger.now_ms()),
            Ok(Err(error)) => tracing::warn!(%error, "cannot count what is parked"),
            Err(_) => return,
        }
        let pause = (started.elapsed() * PAUSE_FACTOR).max(INTERVAL);
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

impl Parking {
    fn census(&self) -> Result<Census, LedgerError> {
        let mut census = Census::default();
        self.ledger.scan(tables::DUE, &[], &mut |key, value| {
            let (Some((_, due, _)), Some(entry)) = (parse_due_key(key), Entry::decode(value)) else { return true };
            census.count(due, &entry);
            true
        })?;
        Ok(census)
    }
}

impl Census {
    fn count(&mut self, due: i64, entry: &Entry) {
        let kind = match (entry.half(), &entry.more) {
            (Some(_), _) if due == i64::MAX => &mut self.set_aside,
            (Some(_), _) => &mut self.half,
            // A delivery that adds headers is an attempt to retry.
            (None, Some(more)) if !more.headers.is_empty() => &mut self.retries,
            (None, _) => &mut self.delayed,
        };
        *kind += 1;
        if due != i64::MAX && entry.half().is_none() {
            self.first_due = Some(self.first_due.map_or(due, |first| first.min(due)));
        }
    }

    fn publish(&self, now: i64) {
        let kinds =
            [("delayed", self.delayed), ("retry", self.retries), ("half", self.half), ("set_aside", self.set_aside)];
        for (kind, count) in kinds {
            METRICS.waiting.with_label_values(&[kind]).set(count);
        }
        let overdue = self.first_due.map_or(0, |due| now.saturating_sub(due).max(0));
        METRICS.overdue.set(overdue as f64 / 1000.0);
    }
}
