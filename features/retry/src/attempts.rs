//! How often a group has nacked a message, for nacks that do not say so themselves. A row by group and first copy, written
//! in the frame of the nack; it goes when the message dies, or some time after its first copy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use krocket_parking::Locator;
use krocket_parking::rows::{locator, parse_locator};
use krocket_stack::ledger::{PartitionId, tables};
use krocket_stack::{Ledger, LedgerError, Row};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Before the locator of a first copy and a group.
const NACKED: &[u8] = b"retry/nacked/";
/// Before the locator of a dead letter that was redriven.
pub(crate) const REDRIVEN: &[u8] = b"retry/redriven/";
/// A count stays for so long after the retry that it was written for, though the first copy is gone.
const KEPT_MS: i64 = 7 * 24 * 3600 * 1000;
/// How often old rows are swept, and how many at a time.
const SWEEP: Duration = Duration::from_secs(3600);
const SWEPT: usize = 10_000;

/// The counts, with those of nacks that are on their way to the log.
pub(crate) struct Attempts {
    ledger: Arc<dyn Ledger>,
    under_way: Mutex<HashMap<Vec<u8>, UnderWay>>,
}

#[derive(Clone, Copy)]
struct UnderWay {
    /// `None`: there is no row.
    count: Option<u32>,
    holders: usize,
}

/// The count of one message in one group, until the nack is stored.
pub(crate) struct Counting {
    attempts: Arc<Attempts>,
    key: Vec<u8>,
    /// Nacks so far; `None` where none was counted.
    pub(crate) before: Option<u32>,
}

impl Attempts {
    pub(crate) fn new(ledger: Arc<dyn Ledger>) -> Arc<Self> {
        Arc::new(Attempts { ledger, under_way: Mutex::default() })
    }

    /// The count of a first copy in a group.
    pub(crate) fn of(self: &Arc<Self>, group: &str, first: Locator) -> Result<Counting, LedgerError> {
        let key = [NACKED, &locator(first), group.as_bytes()].concat();
        let mut under_way = self.under_way.lock();
        let before = match under_way.get_mut(&key) {
            Some(held) => {
                held.holders += 1;
                held.count
            }
            None => {
                let stored = self.ledger.get(tables::FACTS, &key)?;
                let count = stored.and_then(|value| value.first_chunk().map(|count| u32::from_be_bytes(*count)));
                under_way.insert(key.clone(), UnderWay { count, holders: 1 });
                count
            }
        };
        Ok(Counting { attempts: self.clone(), key, before })
    }
}

impl Counting {
    /// The row that says so many; it is needed until the message has come back (epoch ms), and some time on.
    pub(crate) fn set(&self, count: u32, due: i64) -> Row {
        self.note(Some(count));
        let value = [&count.to_be_bytes()[..], &due.saturating_add(KEPT_MS).to_be_bytes()].concat();
        Row::put(tables::FACTS, self.key.clone(), value)
    }

    /// The row goes: counting begins again.
    pub(crate) fn clear(&self) -> Row {
        self.note(None);
        Row::delete(tables::FACTS, self.key.clone())
    }

    fn note(&self, count: Option<u32>) {
        if let Some(held) = self.attempts.under_way.lock().get_mut(&self.key) {
            held.count = count;
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let mut under_way = self.attempts.under_way.lock();
        if let Some(held) = under_way.get_mut(&self.key) {
            held.holders -= 1;
            if held.holders == 0 {
                under_way.remove(&self.key);
            }
        }
    }
}

/// Takes away what is known of messages that are long gone, until stopped.
pub async fn sweep(ledger: Arc<dyn Ledger>, stop: CancellationToken) {
    let mut from = Vec::new();
    loop {
        let (reading, start) = (ledger.clone(), std::mem::take(&mut from));
        let found = tokio::task::spawn_blocking(move || old(&*reading, &start)).await;
        let swept = match found {
            Ok(Ok((rows, next))) => {
                from = next.unwrap_or_default();
                if rows.is_empty() { Ok(()) } else { ledger.commit(rows, false).await }
            }
            Ok(Err(error)) => Err(error),
            Err(error) => Err(LedgerError(error.to_string())),
        };
        if let Err(error) = swept {
            tracing::warn!(%error, "facts about old retries could not be swept");
        }
        let pause = if from.is_empty() { SWEEP } else { Duration::ZERO };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Some rows to be deleted, and where to go on.
fn old(ledger: &dyn Ledger, from: &[u8]) -> Result<(Vec<Row>, Option<Vec<u8>>), LedgerError> {
    let (mut rows, mut next, now) = (Vec::new(), None, ledger.now_ms());
    let start = if from.is_empty() { NACKED } else { from };
    ledger.scan(tables::FACTS, start, &mut |key, value| {
        if rows.len() == SWEPT {
            next = Some(key.to_vec());
            return false;
        }
        let log_start = |partition| ledger.partition(partition).map(|info| info.log_start);
        match is_old(key, value, now, log_start) {
            Some(true) => rows.push(Row::delete(tables::FACTS, key)),
            Some(false) => {}
            None => return key < REDRIVEN,
        }
        true
    })?;
    Ok((rows, next))
}

/// Whether a row is of a message that is gone; `None` for other features' rows.
fn is_old(key: &[u8], value: &[u8], now: i64, log_start: impl Fn(PartitionId) -> Option<i64>) -> Option<bool> {
    let (at, over) = match key.strip_prefix(NACKED) {
        Some(at) => {
            let until = value.get(4..).and_then(<[u8]>::first_chunk).map_or(0, |until| i64::from_be_bytes(*until));
            (at, now > until)
        }
        None => (key.strip_prefix(REDRIVEN)?, true),
    };
    let (partition, offset) = parse_locator(at)?;
    Some(log_start(partition).is_none_or(|log_start| over && offset < log_start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_old_when_its_message_is_gone_and_no_retry_of_it_can_come() {
        let log_start = |partition| (partition == 7).then_some(100);
        let value = [&3_u32.to_be_bytes()[..], &5000_i64.to_be_bytes()].concat();
        let nacked = |at| [NACKED, &locator(at), b"group"].concat();
        let redriven = |at| [REDRIVEN, &locator(at)].concat();
        for (key, now, old) in [
            (nacked((7, 99)), 5001, Some(true)),
            (nacked((7, 99)), 5000, Some(false)),
            (nacked((7, 100)), 5001, Some(false)),
            (nacked((8, 100)), 0, Some(true)),
            (redriven((7, 99)), 0, Some(true)),
            (redriven((7, 100)), 0, Some(false)),
            (redriven((8, 100)), 0, Some(true)),
            (b"schedule/x".to_vec(), 0, None),
        ] {
            assert_eq!(is_old(&key, &value, now, log_start), old, "{key:?} at {now}");
        }
    }
}
