//! Reads a view: matching records out of the source's batches into batches of their own.

use bytes::Bytes;
use krocket_features::headers::MAX_DECOMPRESSED;
use krocket_protocol::chunk::{Chunk, FileSlice};
use krocket_protocol::records::batch::{ATTRIBUTE_COMPRESSION, ATTRIBUTE_TIMESTAMP_TYPE};
use krocket_protocol::records::{BatchBuilder, BatchHeader, Codec, LastOffset, Records};
use krocket_stack::ledger::{Fate, tables};
use krocket_stack::{Ledger, LedgerError};

use crate::row::{Match, Matches, key, offset_in};
use crate::view::Part;

/// Records of several batches of the source are put into one of about this many bytes.
const BATCH_BYTES: usize = 256 << 10;
/// Bytes between two matches that are rather read than skipped with another read.
const GAP: u32 = 16 << 10;
/// Rows that are taken off the index at a time.
const ROWS: usize = 64;

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) chunks: Vec<Chunk>,
    /// Bytes of the chunks.
    pub(crate) len: usize,
    /// Offset after the last record; 0 for none.
    pub(crate) end: i64,
}

/// Matching records from this offset on, about `max_bytes`; more if the first is larger and `at_least_one` is asked for.
/// With `stable`, the source's last stable offset, nothing from there on and nothing that was aborted: clients need no list
/// of aborted transactions then. Blocks on the disk.
pub(crate) fn read(
    ledger: &dyn Ledger,
    part: &Part,
    offset: i64,
    max_bytes: usize,
    at_least_one: bool,
    stable: Option<i64>,
) -> Result<Found, LedgerError> {
    let mut output = Output { max_bytes, at_least_one, ..Output::default() };
    let mut from = offset;
    loop {
        let rows = rows(ledger, part, from)?;
        let Some(last) = rows.last() else { break };
        from = last.last_offset() + 1;
        let more = rows.len() == ROWS;
        let in_place: Vec<i64> = rows.iter().filter(|row| row.is_in_place()).map(Matches::last_offset).collect();
        let mut slices = ledger.locate(part.source, &in_place)?.into_iter();
        for row in &rows {
            let slice = if row.is_in_place() { slices.next().flatten() } else { None };
            if let Some(stable) = stable {
                if row.header.base_offset >= stable {
                    return output.finish();
                }
                let in_txn = row.header.is_transactional();
                if in_txn && ledger.fate(part.source, row.last_offset())? == Fate::Aborted {
                    continue;
                }
            }
            if !row_into(ledger, part, (row, slice), offset, &mut output)? {
                return output.finish();
            }
        }
        if !more {
            break;
        }
    }
    output.finish()
}

/// Rows of the index with a match at this offset or after it.
pub(crate) fn rows(ledger: &dyn Ledger, part: &Part, from: i64) -> Result<Vec<Matches>, LedgerError> {
    let mut rows = Vec::new();
    let mut broken = false;
    ledger.scan(tables::MATCHES, &key(part.id, from), &mut |found, value| {
        if offset_in(found, part.id).is_none() {
            return false;
        }
        match Matches::decode(value) {
            Some(row) => rows.push(row),
            None => broken = true,
        }
        !broken && rows.len() < ROWS
    })?;
    if broken { Err(LedgerError("a row of the index of matches is broken".to_owned())) } else { Ok(rows) }
}

/// Adds a row's matches from `offset` on; false when there is no more room.
fn row_into(
    ledger: &dyn Ledger,
    part: &Part,
    (row, slice): (&Matches, Option<FileSlice>),
    offset: i64,
    output: &mut Output,
) -> Result<bool, LedgerError> {
    let wanted = &row.records[row.records.partition_point(|record| record.offset < offset)..];
    if let Some(slice) = slice {
        let (done, room) = in_place(&slice, row, wanted, output)?;
        if done {
            return Ok(room);
        }
    }
    let Some(stored) = ledger.batches(part.source, row.last_offset(), 1)?.into_iter().next() else { return Ok(true) };
    let header = BatchHeader::read(&stored.batch).map_err(|error| LedgerError(error.to_string()))?;
    if header.base_offset > row.last_offset() {
        return Ok(true); // Retention took the batch after the row was read.
    }
    if row.all && stored.hidden.is_empty() && header.count as usize == row.records.len() {
        return output.whole(&header, stored.batch);
    }
    let records =
        Records::open(&stored.batch, &header, MAX_DECOMPRESSED).map_err(|error| LedgerError(error.to_string()))?;
    for record in records.iter() {
        let record = record.map_err(|error| LedgerError(error.to_string()))?;
        if wanted.binary_search_by_key(&record.offset, |wanted| wanted.offset).is_ok()
            && !output.push(&header, record.offset, record.raw())?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads the matches' bytes and nothing else. (false, _) when they do not lie where they lay any more.
fn in_place(
    batch: &FileSlice,
    row: &Matches,
    wanted: &[Match],
    output: &mut Output,
) -> Result<(bool, bool), LedgerError> {
    let mut left = wanted;
    while let Some(first) = left.first() {
        let mut end = first.start + first.len;
        let mut count = 1;
        while let Some(next) = left.get(count)
            && next.start.saturating_sub(end) <= GAP
            && (end - first.start) as usize <= output.room()
        {
            end = next.start + next.len;
            count += 1;
        }
        let (run, rest) = left.split_at(count);
        if end as usize > batch.len {
            return Ok((false, true));
        }
        let part = FileSlice {
            file: batch.file.clone(),
            offset: batch.offset + u64::from(first.start),
            len: (end - first.start) as usize,
        };
        let bytes = part.read().map_err(|error| LedgerError(error.to_string()))?;
        for record in run {
            let start = (record.start - first.start) as usize;
            let Some(raw) = bytes.get(start..start + record.len as usize) else { return Ok((false, true)) };
            if !output.push(&row.header, record.offset, raw)? {
                return Ok((true, false));
            }
        }
        left = rest;
    }
    Ok((true, true))
}

/// Puts records into batches. Those of one batch have a codec and a timestamp type in common.
#[derive(Default)]
struct Output {
    max_bytes: usize,
    at_least_one: bool,
    found: Found,
    open: Option<(BatchHeader, BatchBuilder)>,
}

impl Output {
    fn used(&self) -> usize {
        self.found.len + self.open.as_ref().map_or(0, |(_, builder)| builder.section_len())
    }

    fn room(&self) -> usize {
        self.max_bytes.saturating_sub(self.used())
    }

    /// True for a record that is still wanted: the first one always is.
    fn takes(&self, len: usize) -> bool {
        len <= self.room() || self.at_least_one && self.found.end == 0
    }

    fn push(&mut self, header: &BatchHeader, offset: i64, raw: &[u8]) -> Result<bool, LedgerError> {
        if offset < self.found.end {
            return Ok(true); // It came with a run that was then read another way.
        }
        if !self.takes(raw.len()) {
            return Ok(false);
        }
        let fits = |(open, builder): &(BatchHeader, BatchBuilder)| {
            builder.section_len() < BATCH_BYTES
                && open.attributes & ATTRIBUTE_COMPRESSION == header.attributes & ATTRIBUTE_COMPRESSION
                && !open.is_log_append_time()
                && !header.is_log_append_time()
                && i32::try_from(offset - open.base_offset).is_ok()
        };
        let same = |(open, _): &(BatchHeader, BatchBuilder)| {
            open.is_log_append_time() && open.base_offset == header.base_offset
        };
        if !self.open.as_ref().is_some_and(|open| fits(open) || same(open)) {
            self.close()?;
            let codec = header.codec().unwrap_or(Codec::None);
            let header = BatchHeader { attributes: header.attributes & ATTRIBUTE_TIMESTAMP_TYPE, ..*header };
            let builder = BatchBuilder::like(&header).codec(codec).without_producer();
            self.open = Some((BatchHeader { attributes: header.attributes | codec.id(), ..header }, builder));
        }
        if let Some((_, builder)) = &mut self.open {
            builder.push_raw(offset, header.base_timestamp, raw).map_err(|fault| LedgerError(fault.to_string()))?;
        }
        self.found.end = offset + 1;
        Ok(true)
    }

    /// A batch as it is stored.
    fn whole(&mut self, header: &BatchHeader, batch: Bytes) -> Result<bool, LedgerError> {
        if !self.takes(batch.len()) {
            return Ok(false);
        }
        self.close()?;
        self.found.len += batch.len();
        self.found.chunks.push(Chunk::Bytes(batch));
        self.found.end = header.last_offset() + 1;
        Ok(true)
    }

    fn close(&mut self) -> Result<(), LedgerError> {
        let Some((_, builder)) = self.open.take() else { return Ok(()) };
        let batch = builder.finish(LastOffset::Trim).map_err(|error| LedgerError(error.to_string()))?;
        if let Some(batch) = batch {
            self.found.len += batch.len();
            self.found.chunks.push(Chunk::Bytes(batch));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Found, LedgerError> {
        self.close()?;
        Ok(self.found)
    }
}

/// The first match from the log start on whose timestamp is at least this, as (offset, timestamp). Blocks on the disk.
pub(crate) fn at_or_after(
    ledger: &dyn Ledger,
    part: &Part,
    log_start: i64,
    timestamp: i64,
) -> Result<Option<(i64, i64)>, LedgerError> {
    let mut from = log_start;
    loop {
        let rows = rows(ledger, part, from)?;
        let Some(last) = rows.last() else { return Ok(None) };
        from = last.last_offset() + 1;
        for row in rows.iter().filter(|row| row.max_timestamp >= timestamp) {
            if let Some(found) = first_in(ledger, part, row, log_start, timestamp)? {
                return Ok(Some(found));
            }
        }
        if rows.len() < ROWS {
            return Ok(None);
        }
    }
}

fn first_in(
    ledger: &dyn Ledger,
    part: &Part,
    row: &Matches,
    log_start: i64,
    timestamp: i64,
) -> Result<Option<(i64, i64)>, LedgerError> {
    let Some(stored) = ledger.batches(part.source, row.last_offset(), 1)?.into_iter().next() else { return Ok(None) };
    let header = BatchHeader::read(&stored.batch).map_err(|error| LedgerError(error.to_string()))?;
    let records =
        Records::open(&stored.batch, &header, MAX_DECOMPRESSED).map_err(|error| LedgerError(error.to_string()))?;
    let wanted = |offset: i64| row.records.binary_search_by_key(&offset, |record| record.offset).is_ok();
    let found = records
        .iter()
        .map_while(Result::ok)
        .find(|record| record.offset >= log_start && record.timestamp >= timestamp && wanted(record.offset));
    Ok(found.map(|record| (record.offset, record.timestamp)))
}
