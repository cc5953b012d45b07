//! A change of the index: visible and durable as a whole.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use rocksdb::{WriteBatch, WriteOptions};
use smallvec::SmallVec;

use super::options::{ALL, BATCHES, DERIVED, META, TABLES};
use super::{BatchRow, Index, Key, batch_key, flush_options, position_of, table_key};
use crate::error::IndexError;
use crate::frame::FRAME_HEADER_LEN;
use crate::op::{BATCH_OP_LEN, Location, Position, REPLACEMENT};

/// From so many deletions in a row on, one range deletion is cheaper.
const RANGE_DELETION: usize = 4096;

/// Rows to write, in the order of the calls; later calls see the effect of earlier ones.
///
/// Made by the one thread that applies the log, and committed in the order of the log.
pub struct Rows {
    index: Index,
    batch: WriteBatch,
    /// Change of live bytes per segment.
    live: SmallVec<[(u32, i64); 4]>,
    /// Batch rows put so far.
    batches: Vec<(u32, i64, i64, Location)>,
    /// Keys of the log's tables changed so far, with the position and size of their value.
    keys: HashMap<Key, Option<(Position, usize)>>,
}

impl Rows {
    pub(super) fn new(index: Index) -> Self {
        Rows { index, batch: WriteBatch::default(), live: SmallVec::new(), batches: Vec::new(), keys: HashMap::new() }
    }

    /// The index as it was before these rows.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Puts the row of a batch that was just appended or replayed. A row read from the index must not be put again:
    /// the cleaner may have moved its bytes meanwhile.
    pub fn put_batch(&mut self, partition: u32, row: &BatchRow) -> Result<(), IndexError> {
        if row.flags & REPLACEMENT != 0 {
            self.forget_batches(partition, row.last_offset, row.last_offset)?;
        }
        let key = batch_key(partition, row.last_offset);
        self.batch.put_cf(self.index.family(BATCHES), key, row.encode());
        self.count(row.location.file, batch_bytes(row.location));
        self.batches.push((partition, row.base_offset, row.last_offset, row.location));
        Ok(())
    }

    /// Deletes all batches that end before `to_offset`.
    pub fn delete_batches(&mut self, partition: u32, to_offset: i64) -> Result<(), IndexError> {
        self.drop_batches(partition, 0, to_offset - 1)
    }

    /// Deletes all batches that lie inside these offsets, both included.
    pub fn drop_batches(&mut self, partition: u32, first_offset: i64, last_offset: i64) -> Result<(), IndexError> {
        let index = self.index.clone();
        let family = index.family(BATCHES);
        let mut keys = Vec::new();
        let mut range = None;
        for row in index.batches(partition, first_offset) {
            let row = row?;
            if row.last_offset > last_offset {
                break;
            }
            if row.base_offset < first_offset {
                continue;
            }
            self.count(row.location.file, -batch_bytes(row.location));
            range.get_or_insert((row.last_offset, 0)).1 = row.last_offset;
            if keys.len() < RANGE_DELETION {
                keys.push(batch_key(partition, row.last_offset));
            }
        }
        match range {
            Some((first, last)) if keys.len() >= RANGE_DELETION => {
                self.batch.delete_range_cf(family, batch_key(partition, first), batch_key(partition, last + 1));
            }
            _ => keys.iter().for_each(|key| self.batch.delete_cf(family, key)),
        }
        let mut gone = Vec::new();
        self.batches.retain(|(of, base, last, location)| {
            let keep = *of != partition || *base < first_offset || *last > last_offset;
            if !keep {
                gone.push((*last, *location));
            }
            keep
        });
        for (last, location) in gone {
            self.batch.delete_cf(family, batch_key(partition, last));
            self.count(location.file, -batch_bytes(location));
        }
        Ok(())
    }

    /// A key of a table of the log gets a value. `position` is that of the frame with the op.
    pub fn put(&mut self, position: Position, table: u8, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        let row_key = table_key(table, key);
        self.forget_key(table, key, &row_key)?;
        self.set(position, row_key, key, value);
        Ok(())
    }

    /// As [`put`](Self::put), where the caller knows that there is no such key: nothing is read.
    pub fn put_new(&mut self, position: Position, table: u8, key: &[u8], value: &[u8]) {
        self.set(position, table_key(table, key), key, value);
    }

    fn set(&mut self, position: Position, row_key: Key, key: &[u8], value: &[u8]) {
        let mut row: SmallVec<[u8; 128]> = SmallVec::from_slice(&position.to_le_bytes());
        row.extend_from_slice(value);
        self.batch.put_cf(self.index.family(TABLES), &row_key, &row);
        self.count_at(position, value_bytes(key, value.len()));
        self.keys.insert(row_key, Some((position, value.len())));
    }

    /// A key of a table of the log is deleted.
    pub fn delete(&mut self, table: u8, key: &[u8]) -> Result<(), IndexError> {
        let row_key = table_key(table, key);
        self.forget_key(table, key, &row_key)?;
        self.batch.delete_cf(self.index.family(TABLES), &row_key);
        self.keys.insert(row_key, None);
        Ok(())
    }

    /// As [`delete`](Self::delete), where the caller has just read the row: at which position, and how long its value
    /// is. Nothing is read.
    pub fn delete_known(&mut self, table: u8, key: &[u8], position: Position, value_len: usize) {
        let row_key = table_key(table, key);
        self.batch.delete_cf(self.index.family(TABLES), &row_key);
        self.count_at(position, -value_bytes(key, value_len));
        self.keys.insert(row_key, None);
    }

    /// A key of a derived table gets a value.
    pub fn put_derived(&mut self, table: u8, key: &[u8], value: &[u8]) {
        self.batch.put_cf(self.index.family(DERIVED), table_key(table, key), value);
    }

    /// A key of a derived table is deleted.
    pub fn delete_derived(&mut self, table: u8, key: &[u8]) {
        self.batch.delete_cf(self.index.family(DERIVED), table_key(table, key));
    }

    /// Bytes collected so far, roughly.
    pub fn size(&self) -> usize {
        self.batch.size_in_bytes()
    }

    /// Makes the rows visible; the log up to `applied`, the end of the last frame, is then in the index.
    ///
    /// After an error the rows are kept and written before any later ones, and the appender refuses to go on until
    /// that works: the index never has holes.
    pub fn commit(mut self, applied: Position) -> Result<(), IndexError> {
        let index = self.index;
        let inner = &index.inner;
        let mut state = inner.state.lock();
        let mut result = index.write_stuck(&mut state);
        state.advance(&mut self.batch, index.family(META), &inner.shared, applied, &self.live);
        let data = self.batch.data().to_vec();
        if result.is_ok() {
            result = index.write(self.batch);
        }
        if result.is_err() {
            state.stuck.push(data);
            inner.stuck.store(true, Ordering::Release);
            return result;
        }
        inner.applied.store(applied, Ordering::Release);
        // Bounds what a restart replays. The log up to here may be unsynced: then the next start checks that part.
        if applied.saturating_sub(state.flushed) >= inner.flush_bytes {
            state.flushed = applied;
            drop(state);
            index.checked(inner.db.flush_cfs_opt(&ALL.map(|name| index.family(name)), &flush_options(false)))?;
        }
        Ok(())
    }

    fn forget_batches(&mut self, partition: u32, first_last: i64, last_last: i64) -> Result<(), IndexError> {
        let pending = self.batches.iter().position(|(of, _, last, _)| *of == partition && *last == last_last);
        if let Some(pending) = pending {
            let (.., location) = self.batches.swap_remove(pending);
            self.count(location.file, -batch_bytes(location));
        } else if let Some(row) = self.index.batch(partition, first_last)?.filter(|row| row.last_offset == last_last) {
            self.count(row.location.file, -batch_bytes(row.location));
        }
        Ok(())
    }

    fn forget_key(&mut self, table: u8, key: &[u8], row_key: &Key) -> Result<(), IndexError> {
        let old = match self.keys.get(row_key) {
            Some(pending) => *pending,
            None => {
                let old = |row: &[u8]| (position_of(row), row.len().saturating_sub(8));
                self.index.get_row(table, key, old)?
            }
        };
        if let Some((position, len)) = old {
            self.count_at(position, -value_bytes(key, len));
        }
        Ok(())
    }

    fn count_at(&mut self, position: Position, change: i64) {
        if let Some(segment) = self.index.inner.shared.segments.at(position) {
            self.count(segment.id, change);
        }
    }

    fn count(&mut self, file: u32, change: i64) {
        match self.live.iter_mut().find(|(id, _)| *id == file) {
            Some((_, sum)) => *sum += change,
            None => self.live.push((file, change)),
        }
    }
}

/// What a batch counts as alive in its segment: with its op, and a frame header as most have their own.
fn batch_bytes(location: Location) -> i64 {
    i64::from(location.len) + (FRAME_HEADER_LEN + BATCH_OP_LEN) as i64
}

/// What a value counts as alive in its segment: its op and a share of the frame header.
fn value_bytes(key: &[u8], value_len: usize) -> i64 {
    (key.len() + value_len + 32) as i64
}

impl Index {
    /// Puts (`Some`) and deletes (`None`) keys of derived tables, all or none, from any thread. The log knows nothing of
    /// them: after a crash they are as they were at the last flush, together with all that was applied by then.
    pub fn write_derived(
        &self,
        rows: impl IntoIterator<Item = (u8, Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<(), IndexError> {
        let family = self.family(DERIVED);
        let mut batch = WriteBatch::default();
        for (table, key, value) in rows {
            let key = table_key(table, &key);
            match value {
                Some(value) => batch.put_cf(family, key, value),
                None => batch.delete_cf(family, key),
            }
        }
        self.write(batch)
    }

    pub(super) fn write(&self, batch: WriteBatch) -> Result<(), IndexError> {
        #[cfg(test)]
        if self.inner.refuse_writes.load(Ordering::Acquire) {
            return Err(IndexError("refused".into()));
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.checked(self.inner.db.write_opt(batch, &options))
    }

    /// Writes what RocksDB would not take before.
    pub(crate) fn retry_stuck(&self) -> Result<(), IndexError> {
        if !self.inner.stuck.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut state = self.inner.state.lock();
        self.write_stuck(&mut state)
    }

    fn write_stuck(&self, state: &mut super::State) -> Result<(), IndexError> {
        while let Some(data) = state.stuck.first() {
            self.write(WriteBatch::from_data(data))?;
            state.stuck.remove(0);
        }
        if self.inner.stuck.swap(false, Ordering::AcqRel) {
            self.inner.applied.store(state.meta.applied, Ordering::Release);
        }
        Ok(())
    }
}
