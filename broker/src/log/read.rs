//! Reading: batches by offset, offsets by time.

use krocket_protocol::chunk::{Chunk, FileSlice};
use krocket_protocol::records::{BatchHeader, MAX_DECOMPRESSED, Records, RecordsError};
use krocket_stack::ledger::StoredBatch;
use krocket_store::{BatchRow, REPLACEMENT, ReadError};

use super::error::StorageError;
use super::marks::Visible;
use super::metrics::METRICS;
use super::partition::Partition;
use super::span::near;
use super::{Log, Shared};

/// Rows of the index that are stepped over on the way to one that is wanted.
const NEAR: usize = 8;
/// How often to look again when the cleaner moved what a row pointed to.
const RETRIES: usize = 10;

/// How many bytes a read may still return.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    left: usize,
    at_least_one: bool,
}

impl Limit {
    pub(super) fn new(max_bytes: usize, at_least_one: bool) -> Self {
        Limit { left: max_bytes, at_least_one }
    }

    /// Takes a batch of this length; false when it is too long. The first one may be, if so asked (KIP-74).
    pub(super) fn take(&mut self, len: usize) -> bool {
        if len > self.left && !self.at_least_one {
            return false;
        }
        self.at_least_one = false;
        self.left = self.left.saturating_sub(len);
        true
    }
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// First offset wanted; the batch that holds it is returned whole.
    pub offset: i64,
    /// End of what may be seen.
    pub up_to: i64,
    /// Most bytes.
    pub max_bytes: usize,
    /// Return one batch even if it is larger than `max_bytes`.
    pub at_least_one: bool,
}

/// Batches that were read.
#[derive(Debug, Default)]
pub struct Batches {
    /// Their bytes.
    pub chunks: Vec<Chunk>,
    /// End of the last one.
    pub end: i64,
}

impl Batches {
    /// Bytes of all of them.
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(Chunk::len).sum()
    }
}

impl Log {
    /// Reads from memory only; `None` when the range begins before what is kept there.
    pub fn read_recent(&self, partition: &Partition, range: Range) -> Option<Batches> {
        let mut out = Batches::default();
        if range.offset < range.up_to {
            let mut limit = Limit::new(range.max_bytes, range.at_least_one);
            partition.recent.lock().read(range.offset, range.up_to, &mut limit, &mut out)?;
        }
        Some(out)
    }

    /// Batches as they lie in the log, hidden or not, below the log start or not, up to `up_to`. What is damaged is told
    /// and left out. Blocks on the disk.
    pub(crate) fn stored(
        &self,
        partition: &Partition,
        from: i64,
        up_to: i64,
        max_bytes: usize,
    ) -> Result<Vec<StoredBatch>, StorageError> {
        self.0.retry(|shared| {
            let mut limit = Limit::new(max_bytes, true);
            let mut rows = shared.index.batches(partition.id, from);
            let mut found = Vec::new();
            loop {
                let mut wanted = Vec::new();
                for row in rows.by_ref() {
                    let row = row?;
                    if row.base_offset >= up_to || !limit.take(row.location.len as usize) {
                        break;
                    }
                    wanted.push(row);
                }
                if wanted.is_empty() {
                    return Ok(found);
                }
                shared.stored(&wanted, &mut found)?;
                if !found.is_empty() {
                    return Ok(found);
                }
                // All of it was damaged: what follows is the first of the answer.
                limit = Limit::new(max_bytes, true);
                let next = wanted.last().map_or(up_to, |row| row.last_offset + 1);
                rows = shared.index.batches(partition.id, next);
            }
        })
    }

    /// Where the batches lie that hold these offsets, ascending; `None` for one that is gone, damaged or rewritten.
    pub(crate) fn locate(
        &self,
        partition: &Partition,
        offsets: &[i64],
    ) -> Result<Vec<Option<FileSlice>>, StorageError> {
        self.0.retry(|shared| {
            let mut rows: Option<krocket_store::Batches<'_>> = None;
            let mut row: Option<BatchRow> = None;
            let mut found = Vec::with_capacity(offsets.len());
            for &offset in offsets {
                // The next one wanted is mostly near: a few steps cost less than a search.
                for _ in 0..NEAR {
                    match (&row, &mut rows) {
                        (Some(at), Some(rows)) if at.last_offset < offset => row = rows.next().transpose()?,
                        _ => break,
                    }
                }
                if row.as_ref().is_none_or(|at| at.last_offset < offset) {
                    row = rows.insert(shared.index.batches(partition.id, offset)).next().transpose()?;
                }
                let holds = |row: &&BatchRow| row.base_offset <= offset && row.flags & REPLACEMENT == 0;
                let slice = match row.as_ref().filter(holds).map(|row| shared.reader.sound(row)).transpose() {
                    Err(damage @ ReadError::Damaged { .. }) => {
                        tell(&damage);
                        None
                    }
                    slice => slice?,
                };
                found.push(slice);
            }
            Ok(found)
        })
    }

    /// Counts bytes that were read and sent.
    pub fn count_fetched(&self, bytes: usize) {
        METRICS.fetched_bytes.inc_by(bytes as u64);
    }

    /// Bytes of a partition's batches in the log. Costs a few index reads; on a compacted partition, one per batch.
    pub fn size(&self, partition: &Partition) -> Result<u64, StorageError> {
        self.0.size(partition)
    }
}

/// Why one attempt to read failed.
pub(super) enum Attempt {
    /// The cleaner moved a file: its rows point elsewhere by now.
    Gone(StorageError),
    /// Anything else.
    Failed(StorageError),
}

impl From<ReadError> for Attempt {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone(_) => Attempt::Gone(error.into()),
            ReadError::Damaged { .. } => {
                tell(&error);
                Attempt::Failed(error.into())
            }
            ReadError::Io { .. } => Attempt::Failed(error.into()),
        }
    }
}

impl Attempt {
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Attempt::Failed(error) if error.damaged)
    }
}

/// Says where the disk gave other bytes than were written.
fn tell(damage: &ReadError) {
    METRICS.damaged_reads.inc();
    tracing::error!("{damage}; `krocket verify` shows all of the damage");
}

impl From<krocket_store::IndexError> for Attempt {
    fn from(error: krocket_store::IndexError) -> Self {
        Attempt::Failed(error.into())
    }
}

impl Shared {
    pub(super) fn retry<T>(&self, mut attempt: impl FnMut(&Shared) -> Result<T, Attempt>) -> Result<T, StorageError> {
        for _ in 0..RETRIES {
            match attempt(self) {
                Ok(value) => return Ok(value),
                Err(Attempt::Failed(error)) => return Err(error),
                Err(Attempt::Gone(_)) => {}
            }
        }
        match attempt(self) {
            Ok(value) => Ok(value),
            Err(Attempt::Failed(error) | Attempt::Gone(error)) => Err(error),
        }
    }

    /// Adds batches with what is hidden of them, but for damaged ones.
    fn stored(&self, rows: &[BatchRow], found: &mut Vec<StoredBatch>) -> Result<(), Attempt> {
        let mut rest = rows;
        while !rest.is_empty() {
            let (run, others) = rest.split_at(near(rest).max(1));
            rest = others;
            for (row, batch) in run.iter().zip(self.span(run, |bytes| bytes)?) {
                if let Err(damage) = self.reader.check(row, &batch) {
                    tell(&damage);
                    continue;
                }
                let hidden = match Visible::of(row) {
                    Visible::All => Vec::new(),
                    Visible::None => (row.base_offset..=row.last_offset).collect(),
                    Visible::Except(places) => places.iter().map(|place| row.base_offset + i64::from(*place)).collect(),
                };
                found.push(StoredBatch { batch, hidden, rewritten: row.flags & REPLACEMENT != 0 });
            }
        }
        Ok(())
    }

    pub(super) fn size(&self, partition: &Partition) -> Result<u64, StorageError> {
        let start = partition.log_start();
        if self.checkpoint(partition.id)?.is_some() {
            // Compaction takes bytes from the middle, which the cumulative counts don't show.
            let lens = self.index.batches(partition.id, start).map(|row| row.map(|row| u64::from(row.location.len)));
            return Ok(lens.sum::<Result<u64, _>>()?);
        }
        let Some(first) = self.index.batch(partition.id, start)? else { return Ok(0) };
        let Some(last) = self.index.last_batch(partition.id)? else { return Ok(0) };
        Ok((last.cumulative_bytes + u64::from(first.location.len)).saturating_sub(first.cumulative_bytes))
    }

    /// A row's records.
    pub(super) fn records(&self, row: &BatchRow) -> Result<Records, Attempt> {
        let batch = self.reader.checked(row)?;
        let damaged = |error: String| {
            let message =
                format!("the batch at offset {} of file {} is damaged: {error}", row.base_offset, row.location.file);
            tracing::error!("{message}");
            Attempt::Failed(StorageError { message, passing: true, damaged: true })
        };
        let header = BatchHeader::read(&batch).map_err(|error| damaged(error.to_string()))?;
        Records::open(&batch, &header, MAX_DECOMPRESSED).map_err(|error| damaged(error.to_string()))
    }
}

pub(super) fn unreadable(error: &RecordsError) -> Attempt {
    Attempt::Failed(StorageError::unreadable(error))
}
