//! The index, built behind the produce path: the backend notes batches as work, the worker looks into them.

use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

use krocket_config::rules::Live;
use krocket_features::headers::{KEYS, MAX_DECOMPRESSED, ORIGIN_MESSAGE_ID, UNIQ_KEY};
use krocket_protocol::records::{BatchHeader, Record, Records};
use krocket_stack::ledger::{PartitionId, StoredBatch, tables};
use krocket_stack::{Handler, Ledger, LedgerError, Row};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::rebuild::Rebuild;

/// What a row of the index is by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum By {
    /// A word of `KEYS`.
    Key = 1,
    /// `UNIQ_KEY`.
    Uniq = 2,
    /// The record's key.
    RecordKey = 3,
    /// `ORIGIN_MESSAGE_ID`.
    Origin = 4,
}

/// Batches of work taken at a time.
const WORK: usize = 256;
/// Rows written at a time, at least.
const MAX_ROWS: usize = 50_000;
/// Looked for again after this, should a notice have been missed.
const IDLE: Duration = Duration::from_secs(5);
/// No row comes before this key.
pub(crate) const FIRST_ROW: &[u8] = &[1];

/// The look-up index of this process.
pub struct Lookup {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) next: Arc<dyn Handler>,
    pub(crate) rules: Live,
    pub(crate) rebuild: Rebuild,
    /// No work is left before this key. What was done leaves marks of deletion, and a scan should not walk over them.
    head: Mutex<Vec<u8>>,
}

impl Lookup {
    /// Over the backend's rows; `next` is asked for groups.
    pub fn new(ledger: Arc<dyn Ledger>, next: Arc<dyn Handler>, rules: Live) -> Arc<Self> {
        Arc::new(Lookup { ledger, next, rules, rebuild: Rebuild::default(), head: Mutex::default() })
    }

    /// Indexes what comes, sweeps what goes, and makes the index again where that is wanted, until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::join!(self.index_what_comes(&stop), self.sweep_until(&stop), self.rebuild_when_wanted(&stop));
    }

    async fn index_what_comes(self: &Arc<Self>, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let lookup = self.clone();
            let worked = tokio::task::spawn_blocking(move || lookup.work()).await;
            let idle = match worked {
                Ok(Ok(batches)) => batches < WORK,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the look-up index is behind");
                    true
                }
                Err(error) => {
                    tracing::error!(%error, "indexing failed");
                    true
                }
            };
            if idle {
                tokio::select! {
                    () = self.ledger.work().notified() => {}
                    () = tokio::time::sleep(IDLE) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    /// Takes some work; how much there was.
    fn work(&self) -> Result<usize, LedgerError> {
        let mut batches: Vec<(PartitionId, i64, Vec<u8>)> = Vec::new();
        let head = self.head.lock().clone();
        let (mut left, mut next) = (None, head.clone());
        self.ledger.scan(tables::WORK, &head, &mut |key, _| {
            if let Some((partition, offset)) = parse_work(key) {
                // Not yet as durable as its producer asked for: it may still go.
                if self.ledger.partition(partition).is_none_or(|info| offset < info.end) {
                    batches.push((partition, offset, key.to_vec()));
                } else if left.is_none() {
                    left = Some(key.to_vec());
                }
            }
            next.clear();
            next.extend_from_slice(key);
            next.push(0);
            batches.len() < WORK
        })?;
        let count = batches.len();
        let mut rows = Vec::new();
        for (partition, offset, key) in batches {
            let Some(info) = self.ledger.partition(partition) else {
                rows.push(Row::delete(tables::WORK, key));
                continue;
            };
            let by_key = self.rules.get().topic(&info.topic).lookup.as_ref().map(|lookup| lookup.key);
            if let Some(by_key) = by_key {
                match self.ledger.batches(partition, offset, 1) {
                    Ok(stored) => {
                        for stored in &stored {
                            self.index(partition, stored, by_key, &mut rows)?;
                        }
                    }
                    // It must not keep the rest from being found; a rebuild looks at it again.
                    Err(error) => tracing::error!(%error, partition, offset, "a batch is not in the look-up index"),
                }
            }
            rows.push(Row::delete(tables::WORK, key));
        }
        self.ledger.derive(rows)?;
        *self.head.lock() = left.unwrap_or(next);
        Ok(count)
    }

    /// Batches that wait to be indexed.
    pub(crate) fn waiting(&self) -> Result<u64, LedgerError> {
        let mut count = 0;
        let head = self.head.lock().clone();
        self.ledger.scan(tables::WORK, &head, &mut |_, _| {
            count += 1;
            true
        })?;
        Ok(count)
    }

    /// The rows of a batch; they are written now and then, for a batch can have more than there is memory for.
    pub(crate) fn index(
        &self,
        partition: PartitionId,
        stored: &StoredBatch,
        by_key: bool,
        rows: &mut Vec<Row>,
    ) -> Result<(), LedgerError> {
        let Ok(header) = BatchHeader::read(&stored.batch) else { return Ok(()) };
        let Ok(records) = Records::open(&stored.batch, &header, MAX_DECOMPRESSED) else { return Ok(()) };
        for record in records.iter().map_while(Result::ok) {
            let mut add = |by: By, text: &[u8]| {
                let key = row_key(by, text, record.timestamp, partition, record.offset);
                rows.push(Row::put(tables::LOOKUP, key, Vec::new()));
            };
            words(&record).for_each(|word| add(By::Key, word));
            if let Some(Some(uniq)) = record.header(UNIQ_KEY.as_bytes()).filter(|uniq| *uniq != Some(b"")) {
                add(By::Uniq, uniq);
            }
            if let Some(Some(origin)) = record.header(ORIGIN_MESSAGE_ID.as_bytes()) {
                add(By::Origin, origin);
            }
            if let (true, Some(key)) = (by_key, record.key) {
                add(By::RecordKey, key);
            }
            if rows.len() > MAX_ROWS {
                self.ledger.derive(std::mem::take(rows))?;
            }
        }
        Ok(())
    }
}

/// Partition and last offset of a batch that is work.
fn parse_work(key: &[u8]) -> Option<(PartitionId, i64)> {
    let (partition, offset) = key.get(8..)?.split_first_chunk()?;
    Some((u32::from_be_bytes(*partition), i64::from_be_bytes(offset.try_into().ok()?)))
}

/// The words of a record's `KEYS`.
pub(crate) fn words<'a>(record: &Record<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let keys = record.header(KEYS.as_bytes()).flatten().unwrap_or_default();
    keys.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
}

/// Kind and hash of a text: what its rows begin with.
pub(crate) fn prefix(by: By, text: &[u8]) -> Vec<u8> {
    // The index is on disk: SipHash with fixed keys never changes.
    #[allow(deprecated, reason = "the std hasher with a fixed algorithm and keys")]
    let mut hasher = std::hash::SipHasher::new_with_keys(0x6b72_6f63, 0x6b65_7421);
    hasher.write(text);
    let mut key = vec![by as u8];
    key.extend_from_slice(&hasher.finish().to_be_bytes());
    key
}

/// Partition and offset as other features' rows have them.
pub(crate) fn locator((partition, offset): (PartitionId, i64)) -> Vec<u8> {
    [&partition.to_be_bytes()[..], &offset.to_be_bytes()].concat()
}

fn row_key(by: By, text: &[u8], timestamp: i64, partition: PartitionId, offset: i64) -> Vec<u8> {
    let mut key = prefix(by, text);
    key.extend_from_slice(&timestamp.max(0).to_be_bytes());
    key.extend_from_slice(&partition.to_be_bytes());
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

/// True for the key of a row of this kind and text.
pub(crate) fn is_row(key: &[u8], by: By, text: &[u8]) -> bool {
    key.starts_with(&prefix(by, text)) && parse(key).is_some()
}

/// Timestamp, partition and offset of a row.
pub(crate) fn parse(key: &[u8]) -> Option<(i64, PartitionId, i64)> {
    let (timestamp, rest) = key.get(9..)?.split_first_chunk()?;
    let (partition, rest) = rest.split_first_chunk()?;
    Some((i64::from_be_bytes(*timestamp), u32::from_be_bytes(*partition), i64::from_be_bytes(rest.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Memory, lookup, record};

    fn work(at: u64, partition: PartitionId, offset: i64) -> Vec<u8> {
        [&at.to_be_bytes()[..], &locator((partition, offset))].concat()
    }

    #[test]
    fn a_row_tells_its_kind_text_time_and_place() {
        let key = row_key(By::Uniq, b"u", 1000, 7, 300);
        assert_eq!(parse(&key), Some((1000, 7, 300)));
        assert!(is_row(&key, By::Uniq, b"u"));
        for (by, text) in [(By::Key, &b"u"[..]), (By::Uniq, b"v"), (By::Uniq, b"")] {
            assert!(!is_row(&key, by, text), "{by:?} {text:?}");
        }
        assert!(!is_row(&key[..28], By::Uniq, b"u"), "cut short");
        assert!(row_key(By::Key, b"u", -5, 7, 300) < row_key(By::Key, b"u", 1, 7, 300), "before 1970 counts as 1970");
        // On disk: it may never change.
        assert_eq!(prefix(By::Key, b"order-7"), [1, 85, 66, 130, 156, 124, 243, 238, 166]);
    }

    #[test]
    fn work_becomes_rows_and_is_done() {
        let memory = Memory::new(&["orders", "off"]);
        memory.append(0, 0, &record(&[("KEYS", " a  b a "), ("UNIQ_KEY", "u"), ("ORIGIN_MESSAGE_ID", "orders:0:0")]));
        memory.append(0, 1, &record(&[("KEYS", ""), ("UNIQ_KEY", "")]));
        memory.append(1, 0, &record(&[("KEYS", "a")]));
        let lookup = lookup(&memory, &["orders"]);
        for (key, why) in [
            (work(0, 0, 0), "two words"),
            (work(1, 0, 1), "empty ones"),
            (work(2, 1, 0), "off"),
            (work(3, 9, 0), "deleted"),
        ] {
            memory.put(tables::WORK, &key, why.as_bytes());
        }
        assert_eq!(lookup.waiting(), Ok(4));
        assert_eq!(lookup.work(), Ok(4));
        assert_eq!(memory.keys(tables::WORK), Vec::<Vec<u8>>::new());
        let kinds: Vec<u8> = memory.keys(tables::LOOKUP).iter().map(|key| key[0]).collect();
        assert_eq!(kinds, [By::Key as u8, By::Key as u8, By::Uniq as u8, By::Origin as u8]);
    }

    #[test]
    fn what_may_still_go_is_not_indexed_yet() {
        let memory = Memory::new(&["orders"]);
        memory.append(0, 0, &record(&[("KEYS", "a")]));
        let lookup = lookup(&memory, &["orders"]);
        memory.put(tables::WORK, &work(5, 0, 1), b"");
        memory.put(tables::WORK, &work(6, 0, 0), b"");
        assert_eq!(lookup.work(), Ok(1), "what comes later does not wait for it");
        assert_eq!(lookup.work(), Ok(0));
        memory.append(0, 1, &record(&[("KEYS", "b")]));
        memory.put(tables::WORK, &work(7, 0, 0), b"");
        assert_eq!(lookup.waiting(), Ok(2));
        assert_eq!(lookup.work(), Ok(2));
        assert_eq!((memory.keys(tables::LOOKUP).len(), memory.keys(tables::WORK).len()), (2, 0));
    }
}
