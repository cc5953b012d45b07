//! Batches that a fetch found in the index, and reading them from the log.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use krocket_protocol::chunk::Chunk;
use krocket_store::{BatchRow, Location, ReadError};

use super::error::StorageError;
use super::marks::{Visible, without_hidden};
use super::partition::{Partition, PartitionId};
use super::read::{Attempt, Batches, Limit, Range, unreadable};
use super::span::{READ, near, span_len};
use super::{Log, Shared};

/// Batches of a partition that are to be read.
#[derive(Debug)]
pub(crate) struct Found {
    partition: PartitionId,
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

/// Batches that were read, and what is wrong with those that are not sound.
type Memory = HashMap<Location, Result<Bytes, ReadError>>;

impl Found {
    /// Bytes of all batches.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where the last one ends.
    pub(crate) fn end(&self) -> i64 {
        match self.pieces.last() {
            None => self.range.offset,
            Some(Piece::Whole(row)) => row.last_offset + 1,
            Some(Piece::Part { end, .. }) => *end,
        }
    }

    /// Those that have yet to be read.
    fn rows(&self) -> impl Iterator<Item = &BatchRow> {
        self.pieces.iter().filter_map(|piece| if let Piece::Whole(row) = piece { Some(row) } else { None })
    }
}

impl Log {
    /// Reads whole batches from index and log. Blocks on the disk.
    pub fn read(&self, partition: &Partition, range: Range) -> Result<Batches, StorageError> {
        let found = self.find(partition, range)?;
        let mut memory = self.0.read_together(found.rows().collect());
        self.0.take_one(found, &mut memory)
    }

    /// Finds batches in the index, to be [taken](Self::take).
    pub(crate) fn find(&self, partition: &Partition, range: Range) -> Result<Found, StorageError> {
        self.0.retry(|shared| shared.find(partition.id, range))
    }

    /// What was found, read and checked. Partitions share the log: what lies near each other is read together. Blocks on the
    /// disk; to be called within a runtime.
    pub(crate) fn take(&self, found: Vec<Found>) -> Vec<Result<Batches, StorageError>> {
        self.read_ahead(found.iter().flat_map(Found::rows).map(|row| row.location));
        let mut memory = self.0.read_together(found.iter().flat_map(Found::rows).collect());
        found.into_iter().map(|found| self.0.take_one(found, &mut memory)).collect()
    }
}

impl Shared {
    fn find(&self, partition: PartitionId, range: Range) -> Result<Found, Attempt> {
        let mut found = Found { partition, range, pieces: Vec::new(), len: 0 };
        if range.offset >= range.up_to {
            return Ok(found);
        }
        let mut limit = Limit::new(range.max_bytes, range.at_least_one);
        for row in self.index.batches(partition, range.offset) {
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
    fn take_one(&self, found: Found, memory: &mut Memory) -> Result<Batches, StorageError> {
        let (partition, range) = (found.partition, found.range);
        let mut first = Some(found);
        self.retry(|shared| {
            let found = first.take().map_or_else(|| shared.find(partition, range), Ok)?;
            let mut out = Batches::default();
            for piece in found.pieces {
                let (chunk, end) = match piece {
                    Piece::Part { batch, end } => (batch.map(Chunk::Bytes), end),
                    Piece::Whole(row) => match shared.chunk(&row, memory) {
                        Err(ReadError::Damaged { .. }) if !out.chunks.is_empty() => break,
                        chunk => (Some(chunk?), row.last_offset + 1),
                    },
                };
                out.chunks.extend(chunk);
                out.end = end;
            }
            Ok(out)
        })
    }

    fn chunk(&self, row: &BatchRow, memory: &mut Memory) -> Result<Chunk, ReadError> {
        match memory.remove(&row.location) {
            Some(read) => read.map(Chunk::Bytes),
            None => self.reader.sound(row).map(Chunk::File),
        }
    }

    /// Reads batches that are not too long, as far as there is memory for them, and checks them, also those that were checked
    /// before: what the kernel still had then may come from the disk now.
    fn read_together(&self, mut rows: Vec<&BatchRow>) -> Memory {
        rows.retain(|row| row.location.len as usize <= READ);
        rows.sort_unstable_by_key(|row| row.location);
        let mut memory = Memory::with_capacity(rows.len());
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let (run, others) = rest.split_at(near(rest).max(1));
            rest = others;
            let Some(reserved) = self.unsent.reserve(span_len(run)) else { continue };
            let reserved = Arc::new(reserved);
            let Ok(batches) = self.span(run, |bytes| reserved.clone().with(bytes)) else { continue };
            for (row, bytes) in run.iter().zip(batches) {
                memory.insert(row.location, self.reader.check_and_remember(row, &bytes).map(|()| bytes));
            }
        }
        memory
    }
}
