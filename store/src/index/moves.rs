//! What the cleaner asks of the index.

use std::collections::BTreeMap;

use rocksdb::{ReadOptions, WriteBatch};

use super::options::{BATCHES, META, TABLES};
use super::state::FileRow;
use super::{BatchRow, Index, batch_key};
use crate::error::IndexError;
use crate::op::{Location, Op, Position};
use crate::segment::Segment;

/// Rows moved under one hold of the commit lock: the writer waits for that long.
pub(crate) const MOVES_AT_ONCE: usize = 512;

impl Index {
    /// Bytes that the index believes alive, per segment.
    pub(crate) fn live_bytes(&self) -> BTreeMap<u32, i64> {
        self.inner.state.lock().meta.files.iter().map(|(id, row)| (*id, row.live)).collect()
    }

    /// Whether a row points at this op. Deletions point at nothing: `None`.
    pub(crate) fn is_live(&self, position: Position, op: &Op<'_>) -> Result<Option<bool>, IndexError> {
        match op {
            Op::Batch(batch) => {
                let row = self.batch_row(batch.partition, batch.header.last_offset())?;
                Ok(Some(row.is_some_and(|row| row.location == batch.location)))
            }
            Op::Put { table, key, .. } => Ok(Some(self.put_position(*table, key)? == Some(position))),
            Op::Delete { .. } | Op::Drop { .. } => Ok(None),
        }
    }

    /// The batch that ends exactly here.
    fn batch_row(&self, partition: u32, last_offset: i64) -> Result<Option<BatchRow>, IndexError> {
        let key = batch_key(partition, last_offset);
        let value = self.checked(self.inner.db.get_pinned_cf(self.family(BATCHES), key))?;
        value.map(|value| BatchRow::decode(last_offset, &value)).transpose()
    }

    /// Makes a cleaned segment known, before any row points at it.
    pub(crate) fn add_file(&self, segment: Segment, live: i64) -> Result<(), IndexError> {
        let mut state = self.inner.state.lock();
        let mut batch = WriteBatch::default();
        let row = FileRow { base: segment.base, live };
        state.add_file(&mut batch, self.family(META), segment.id, row);
        self.write(batch).inspect_err(|_| state.meta.files.remove(&segment.id).map_or((), drop))
    }

    /// Points rows at new places, unless they meanwhile point elsewhere than into the `old` segments.
    pub(crate) fn move_batches(&self, old: &[Segment], moves: &[(u32, i64, Location)]) -> Result<(), IndexError> {
        let _state = self.inner.state.lock();
        let mut batch = WriteBatch::default();
        for (partition, last_offset, location) in moves {
            let Some(mut row) = self.batch_row(*partition, *last_offset)? else { continue };
            if old.iter().any(|old| old.id == row.location.file) {
                row.location = *location;
                batch.put_cf(self.family(BATCHES), batch_key(*partition, *last_offset), row.encode());
            }
        }
        self.write(batch)
    }

    /// Takes replaced segments out, with `then` under the same lock.
    pub(crate) fn remove_files(&self, old: &[Segment], then: impl FnOnce()) -> Result<(), IndexError> {
        let mut state = self.inner.state.lock();
        let mut batch = WriteBatch::default();
        for segment in old {
            state.remove_file(&mut batch, self.family(META), segment.id);
        }
        self.write(batch)?;
        then();
        Ok(())
    }

    /// Whether any row points into a segment: reads the whole index.
    pub(crate) fn points_into(&self, segment: Segment, end: Position) -> Result<bool, IndexError> {
        let scan = |family, hit: &dyn Fn(&[u8]) -> bool| {
            let mut options = ReadOptions::default();
            options.fill_cache(false);
            let mut raw = self.inner.db.raw_iterator_cf_opt(self.family(family), options);
            raw.seek_to_first();
            while let Some(value) = raw.value() {
                if hit(value) {
                    return Ok(true);
                }
                raw.next();
            }
            self.checked(raw.status()).map(|()| false)
        };
        let position = |value: &[u8]| value.first_chunk().map_or(0, |position| u64::from_le_bytes(*position));
        Ok(scan(BATCHES, &|value| BatchRow::decode(0, value).is_ok_and(|row| row.location.file == segment.id))?
            || scan(TABLES, &|value| (segment.base..end).contains(&position(value)))?)
    }
}
