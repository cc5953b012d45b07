//! Batches that lie near each other in a file, read with one call.

use std::borrow::Borrow;

use bytes::Bytes;
use krocket_protocol::chunk::FileSlice;
use krocket_store::{BatchRow, ReadError};

use super::Shared;

/// Most bytes read with one call. Longer batches are left to the kernel to send.
pub(super) const READ: usize = 256 << 10;
/// Most bytes between two batches that are read along with them rather than skipped with another call.
const GAP: u64 = 8 << 10;

/// How many batches at the beginning of these rows are read with one call; none when the first is too long.
pub(super) fn near<R: Borrow<BatchRow>>(rows: &[R]) -> usize {
    let short = |row: &BatchRow| row.location.len as usize <= READ;
    let Some(first) = rows.first().map(R::borrow).filter(|row| short(row)).map(|row| row.location) else {
        return 0;
    };
    let start = u64::from(first.offset);
    let mut end = start + u64::from(first.len);
    let joins = |row: &&R| {
        let row: &BatchRow = (*row).borrow();
        let (next, next_end) = (row.location, u64::from(row.location.offset) + u64::from(row.location.len));
        let near = u64::from(next.offset) >= end && u64::from(next.offset) - end <= GAP;
        end = next_end;
        next.file == first.file && near && next_end - start <= READ as u64 && short(row)
    };
    1 + rows[1..].iter().take_while(joins).count()
}

/// Bytes from the start of the first to the end of the last.
pub(super) fn span_len<R: Borrow<BatchRow>>(rows: &[R]) -> usize {
    let location = |row: Option<&R>| row.map(|row| row.borrow().location);
    let (Some(first), Some(last)) = (location(rows.first()), location(rows.last())) else { return 0 };
    (last.offset + last.len).saturating_sub(first.offset) as usize
}

impl Shared {
    /// Their bytes, one after the other; none of one that the file ends within. What is read goes through `hold`, and is divided
    /// then.
    pub(super) fn span<R: Borrow<BatchRow>>(
        &self,
        rows: &[R],
        hold: impl Fn(Bytes) -> Bytes,
    ) -> Result<Vec<Bytes>, ReadError> {
        let Some(first) = rows.first().map(|row| row.borrow().location) else { return Ok(Vec::new()) };
        let io = |source| ReadError::Io { file: first.file, source };
        let span = FileSlice { len: span_len(rows), ..self.reader.slice(first)? };
        let bytes = match span.read() {
            // Shorter than the index says: batch by batch it is seen which of them are there.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                let each = |row: &R| match self.reader.slice(row.borrow().location)?.read() {
                    Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(Bytes::new()),
                    read => read.map(&hold).map_err(io),
                };
                return rows.iter().map(each).collect();
            }
            read => read.map(&hold).map_err(io)?,
        };
        let part = |row: &R| {
            let location = row.borrow().location;
            let at = (location.offset - first.offset) as usize;
            bytes.slice(at..at + location.len as usize)
        };
        Ok(rows.iter().map(part).collect())
    }
}
