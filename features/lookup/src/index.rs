//! The index, built behind the produce path: the backend notes batches as work, the worker looks into them.

use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use krocket_config::rules::Live;
use krocket_features::headers::{KEYS, MAX_DECOMPRESSED, ORIGIN_MESSAGE_ID, UNIQ_KEY};
use krocket_protocol::records::{BatchHeader, Record, Records};
use krocket_stack::ledger::{PartitionId, StoredBatch, tables};
use krocket_stack::{Handler, Ledger, LedgerError, Row};
use tokio_util::sync::CancellationToken;

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
/// Bytes read at a time by a rebuild.
const READ_BYTES: usize = 4 << 20;

/// The look-up index of this process.
pub struct Lookup {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) next: Arc<dyn Handler>,
    pub(crate) rules: Live,
    pub(crate) rebuild: Rebuild,
}

/// How far a rebuild is, in offsets.
#[derive(Debug, Default)]
pub(crate) struct Rebuild {
    pub(crate) running: AtomicBool,
    pub(crate) done: AtomicU64,
    pub(crate) total: AtomicU64,
}

impl Lookup {
    /// Over the backend's rows; `next` is asked for groups.
    pub fn new(ledger: Arc<dyn Ledger>, next: Arc<dyn Handler>, rules: Live) -> Arc<Self> {
        Arc::new(Lookup { ledger, next, rules, rebuild: Rebuild::default() })
    }

    /// Indexes what comes until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
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
        self.ledger.scan(tables::WORK, &[], &mut |key, _| {
            if let Some((partition, rest)) = key.split_first_chunk()
                && let Ok(offset) = rest.try_into()
            {
                let (partition, offset) = (u32::from_be_bytes(*partition), i64::from_be_bytes(offset));
                // Not yet as durable as its producer asked for: it may still go.
                if self.ledger.partition(partition).is_none_or(|info| offset < info.end) {
                    batches.push((partition, offset, key.to_vec()));
                }
            }
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
        Ok(count)
    }

    /// Batches that wait to be indexed.
    pub(crate) fn waiting(&self) -> Result<u64, LedgerError> {
        let mut count = 0;
        self.ledger.scan(tables::WORK, &[], &mut |_, _| {
            count += 1;
            true
        })?;
        Ok(count)
    }

    /// Makes the index again from the log; false where that is under way already.
    pub(crate) fn start_rebuild(self: &Arc<Self>) -> bool {
        if self.rebuild.running.swap(true, Ordering::AcqRel) {
            return false;
        }
        let lookup = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = lookup.rebuild_now() {
                tracing::error!(%error, "the look-up index could not be made again");
            }
            lookup.rebuild.running.store(false, Ordering::Release);
        });
        true
    }

    fn rebuild_now(&self) -> Result<(), LedgerError> {
        let partitions: Vec<PartitionId> = self.ledger.topics().into_iter().flat_map(|topic| topic.partitions).collect();
        let infos: Vec<_> = partitions.iter().filter_map(|id| Some((*id, self.ledger.partition(*id)?))).collect();
        let total = infos.iter().map(|(_, info)| info.end.saturating_sub(info.log_start) as u64).sum();
        self.rebuild.done.store(0, Ordering::Release);
        self.rebuild.total.store(total, Ordering::Release);
        self.clear()?;
        let mut done = 0;
        for (partition, info) in infos {
            let Some(rules) = self.rules.get().topic(&info.topic).lookup.clone() else { continue };
            let mut position = 0;
            while position < info.end {
                let stored = self.ledger.batches(partition, position, READ_BYTES)?;
                let mut rows = Vec::new();
                let before = position;
                for stored in &stored {
                    self.index(partition, stored, rules.key, &mut rows)?;
                    let end = BatchHeader::read(&stored.batch).map_or(position, |header| header.last_offset() + 1);
                    position = position.max(end);
                }
                self.ledger.derive(rows)?;
                if position == before {
                    break;
                }
                let so_far = position.saturating_sub(info.log_start).max(0) as u64;
                self.rebuild.done.store((done + so_far).min(total), Ordering::Release);
            }
            done += info.end.saturating_sub(info.log_start) as u64;
            self.rebuild.done.store(done.min(total), Ordering::Release);
        }
        Ok(())
    }

    /// The rows of a batch; they are written now and then, for a batch can have more than there is memory for.
    fn index(
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

    fn clear(&self) -> Result<(), LedgerError> {
        loop {
            let mut rows = Vec::new();
            self.ledger.scan(tables::LOOKUP, &[], &mut |key, _| {
                rows.push(Row::delete(tables::LOOKUP, key));
                rows.len() < 10_000
            })?;
            if rows.is_empty() {
                return Ok(());
            }
            self.ledger.derive(rows)?;
        }
    }
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
