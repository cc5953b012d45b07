//! Reading: batches by offset, offsets by time.

use std::sync::Arc;

use bytes::Bytes;
use krocket_protocol::chunk::{Chunk, FileSlice};
use krocket_protocol::records::{BatchHeader, Records, RecordsError};
use krocket_stack::ledger::StoredBatch;
use krocket_store::{BatchRow, Location, REPLACEMENT, ReadError};

use super::error::StorageError;
use super::marks::{Visible, without_hidden};
use super::metrics::METRICS;
use super::partition::{Partition, PartitionId};
use super::{Log, Shared};

/// Most bytes that a batch's records may decompress to: checked when it is produced, so that it can be read here.
pub const MAX_DECOMPRESSED: usize = 128 << 20;
/// Longer batches are left to the kernel to send. Others are read to be checked, several at a time where they are near each other,
/// and sent from there the first time. Measured with 16 KB batches of six interleaved partitions on loopback: read, check and
/// sendfile take 0.8 to 1.1 s of CPU per GB, read, check and writev 0.45 to 0.54.
const READ: usize = 256 << 10;
/// Most bytes between two batches that are read along with them rather than skipped with another call.
const GAP: u64 = 8 << 10;
/// Rows of the index that are stepped over on the way to one that is wanted.
const NEAR: usize = 8;
/// Most bytes read with one call.
const SPAN: u64 = READ as u64;
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

/// Batches of a partition that are to be read.
#[derive(Debug)]
pub(crate) struct Found {
    range: Range,
    pieces: Vec<Piece>,
    len: usize,
}

#[derive(Debug)]
enum Piece {
    Whole(BatchRow),
    /// What is shown of a batch of which some records are hidden.
    Part {
        batch: Option<Bytes>,
        end: i64,
    },
}

impl Found {
    /// Bytes of all batches.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where those lie that have yet to be read.
    pub(crate) fn locations(&self) -> impl Iterator<Item = Location> {
        self.pieces.iter().filter_map(|piece| if let Piece::Whole(row) = piece { Some(row.location) } else { None })
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

    /// Reads whole batches from index and log. Blocks on the disk.
    pub fn read(&self, partition: &Partition, range: Range) -> Result<Batches, StorageError> {
        self.take(partition, self.find(partition, range)?)
    }

    /// The first half of [`read`](Self::read): finds the batches in the index. Who reads several partitions can have the disk
    /// read all of them at once before it takes them.
    pub(crate) fn find(&self, partition: &Partition, range: Range) -> Result<Found, StorageError> {
        self.0.retry(|shared| shared.find(partition.id, range))
    }

    /// The second half: what was found, read and checked. Blocks on the disk.
    pub(crate) fn take(&self, partition: &Partition, found: Found) -> Result<Batches, StorageError> {
        let range = found.range;
        let mut found = Some(found);
        self.0.retry(|shared| {
            let found = found.take().map_or_else(|| shared.find(partition.id, range), Ok)?;
            shared.take(found)
        })
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
    fn is_damage(&self) -> bool {
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

    fn find(&self, id: PartitionId, range: Range) -> Result<Found, Attempt> {
        let mut found = Found { range, pieces: Vec::new(), len: 0 };
        if range.offset >= range.up_to {
            return Ok(found);
        }
        let mut limit = Limit::new(range.max_bytes, range.at_least_one);
        for row in self.index.batches(id, range.offset) {
            let row = row?;
            // A batch is visible as a whole, but for records hidden at its end.
            if row.base_offset >= range.up_to {
                break;
            }
            let visible = Visible::of(&row);
            if visible == Visible::None {
                continue;
            }
            let before = limit;
            if !limit.take(row.location.len as usize) {
                break;
            }
            if visible == Visible::All {
                found.len += row.location.len as usize;
                found.pieces.push(Piece::Whole(row));
                continue;
            }
            let records = match self.records(&row) {
                Err(error) if error.is_damage() && found.len > 0 => break,
                records => records?,
            };
            let batch = without_hidden(&records, &visible, range.offset).map_err(|error| unreadable(&error))?;
            match &batch {
                Some(batch) => found.len += batch.len(),
                // Nothing of it is given, so the next batch is still the first one.
                None => limit = before,
            }
            found.pieces.push(Piece::Part { batch, end: row.last_offset + 1 });
        }
        Ok(found)
    }

    /// Ends before a batch that is damaged; an error where it would be the first.
    fn take(&self, found: Found) -> Result<Batches, Attempt> {
        let mut out = Batches::default();
        let mut rows = Vec::new();
        for piece in found.pieces {
            match piece {
                Piece::Whole(row) => rows.push(row),
                Piece::Part { batch, end } => {
                    if !self.chunks(&std::mem::take(&mut rows), &mut out)? {
                        return Ok(out);
                    }
                    out.chunks.extend(batch.map(Chunk::Bytes));
                    out.end = end;
                }
            }
        }
        self.chunks(&rows, &mut out)?;
        Ok(out)
    }

    /// Adds batches: as slices of their files those that are very long, known to be sound or that there is no memory for. False at
    /// one that is damaged, which is an error where it would be the first.
    fn chunks(&self, rows: &[BatchRow], out: &mut Batches) -> Result<bool, Attempt> {
        let mut add = |row: &BatchRow, chunk: Result<Chunk, ReadError>| match chunk {
            Ok(chunk) => {
                out.chunks.push(chunk);
                out.end = row.last_offset + 1;
                Ok(true)
            }
            Err(ReadError::Damaged { .. }) if !out.chunks.is_empty() => Ok(false),
            Err(error) => Err(error),
        };
        let mut rest = rows;
        while !rest.is_empty() {
            let near = near(rest, |row| self.reader.is_known(row));
            let (run, others) = rest.split_at(near.max(1));
            rest = others;
            let memory = if near > 0 { self.unsent.reserve(span_len(run)) } else { None };
            let Some(memory) = memory else {
                for row in run {
                    if !add(row, self.reader.sound(row).map(Chunk::File))? {
                        return Ok(false);
                    }
                }
                continue;
            };
            // One for all: their bytes are one buffer.
            let memory = Arc::new(memory);
            for (row, bytes) in run.iter().zip(self.span(run)?) {
                let checked = self.reader.check_and_remember(row, &bytes);
                if !add(row, checked.map(|()| Chunk::Bytes(memory.clone().with(bytes))))? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The batches of rows that lie near each other, read with one call.
    fn span(&self, rows: &[BatchRow]) -> Result<Vec<Bytes>, ReadError> {
        let Some(first) = rows.first().map(|row| row.location) else { return Ok(Vec::new()) };
        let start = u64::from(first.offset);
        let span = FileSlice { len: span_len(rows), ..self.reader.slice(first)? };
        let bytes = match span.read() {
            // Shorter than the index says: batch by batch it is seen which of them are there.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                let each = |row: &BatchRow| match self.reader.slice(row.location)?.read() {
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(Bytes::new()),
                    read => read.map_err(|source| ReadError::Io { file: first.file, source }),
                };
                return rows.iter().map(each).collect();
            }
            read => read.map_err(|source| ReadError::Io { file: first.file, source })?,
        };
        let part = |row: &BatchRow| {
            let at = (u64::from(row.location.offset) - start) as usize;
            bytes.slice(at..at + row.location.len as usize)
        };
        Ok(rows.iter().map(part).collect())
    }

    /// Adds batches with what is hidden of them, but for damaged ones.
    fn stored(&self, rows: &[BatchRow], found: &mut Vec<StoredBatch>) -> Result<(), Attempt> {
        let mut rest = rows;
        while !rest.is_empty() {
            let (run, others) = rest.split_at(near(rest, |_| false).max(1));
            rest = others;
            for (row, batch) in run.iter().zip(self.span(run)?) {
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

/// How many batches at the beginning of these rows are read with one call; none when the first is left to the kernel, as all that
/// were checked before are.
fn near(rows: &[BatchRow], is_known: impl Fn(&BatchRow) -> bool) -> usize {
    let read = |row: &BatchRow| row.location.len as usize <= READ && !is_known(row);
    let Some(first) = rows.first().filter(|row| read(row)).map(|row| row.location) else {
        return 0;
    };
    let start = u64::from(first.offset);
    let mut end = start + u64::from(first.len);
    let joins = |row: &&BatchRow| {
        let (next, next_end) = (row.location, u64::from(row.location.offset) + u64::from(row.location.len));
        let near = u64::from(next.offset) >= end && u64::from(next.offset) - end <= GAP && next_end - start <= SPAN;
        end = next_end;
        next.file == first.file && near && read(row)
    };
    1 + rows[1..].iter().take_while(joins).count()
}

/// Bytes from the start of the first to the end of the last.
fn span_len(rows: &[BatchRow]) -> usize {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return 0 };
    (last.location.offset + last.location.len).saturating_sub(first.location.offset) as usize
}
