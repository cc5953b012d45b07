//! Ordered look-ups.

use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions};

use super::options::{BATCHES, TABLES};
use super::{BatchRow, Index, batch_key, parse_batch_key, position_of, table_key};
use crate::error::IndexError;
use crate::op::Position;

/// Batches of one partition, ascending.
pub struct Batches<'a> {
    index: &'a Index,
    raw: DBRawIteratorWithThreadMode<'a, DB>,
    started: bool,
}

impl<'a> Batches<'a> {
    pub(super) fn new(index: &'a Index, partition: u32, from_offset: i64) -> Self {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(batch_key(partition, i64::MAX).to_vec());
        let mut raw = index.inner.db.raw_iterator_cf_opt(index.family(BATCHES), options);
        raw.seek(batch_key(partition, from_offset));
        Batches { index, raw, started: false }
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<BatchRow, IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::replace(&mut self.started, true) && self.raw.valid() {
            self.raw.next();
        }
        match current(&self.raw) {
            Some((_, row)) => Some(row),
            None => self.index.checked(self.raw.status()).err().map(Err),
        }
    }
}

/// The last batch of a partition whose last offset is at most this.
pub(super) fn last_up_to(index: &Index, partition: u32, offset: i64) -> Result<Option<BatchRow>, IndexError> {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(batch_key(partition, 0).to_vec());
    let mut raw = index.inner.db.raw_iterator_cf_opt(index.family(BATCHES), options);
    raw.seek_for_prev(batch_key(partition, offset));
    match current(&raw) {
        Some((found, row)) if found == partition => row.map(Some),
        Some(_) => Ok(None),
        None => index.checked(raw.status()).map(|()| None),
    }
}

/// Every row of the log's families.
pub(super) fn count_rows(index: &Index, visit: &mut dyn FnMut(u32, &BatchRow)) -> Result<u64, IndexError> {
    let mut count = 0;
    let mut raw = index.inner.db.raw_iterator_cf(index.family(BATCHES));
    raw.seek_to_first();
    while let Some((partition, row)) = current(&raw) {
        visit(partition, &row?);
        count += 1;
        raw.next();
    }
    index.checked(raw.status())?;
    let mut raw = index.inner.db.raw_iterator_cf(index.family(TABLES));
    raw.seek_to_first();
    while raw.valid() {
        count += 1;
        raw.next();
    }
    index.checked(raw.status())?;
    Ok(count)
}

fn current(raw: &DBRawIteratorWithThreadMode<'_, DB>) -> Option<(u32, Result<BatchRow, IndexError>)> {
    let (key, value) = raw.item()?;
    Some(match parse_batch_key(key) {
        Some((partition, last_offset)) => (partition, BatchRow::decode(last_offset, value)),
        None => (0, Err(IndexError("a batch key that is none".into()))),
    })
}

/// Keys and values of one table, ascending.
pub struct Scan<'a> {
    index: &'a Index,
    raw: DBRawIteratorWithThreadMode<'a, DB>,
    /// Bytes before the caller's value.
    skip: usize,
    started: bool,
    position: Position,
}

impl<'a> Scan<'a> {
    pub(super) fn new(index: &'a Index, family: &str, table: u8, prefix: &[u8], start: &[u8]) -> Self {
        let mut options = ReadOptions::default();
        if let Some(end) = after_prefix(&table_key(table, prefix)) {
            options.set_iterate_upper_bound(end);
        }
        let mut raw = index.inner.db.raw_iterator_cf_opt(index.family(family), options);
        raw.seek(table_key(table, start));
        let skip = if family == super::TABLES { 8 } else { 0 };
        Scan { index, raw, skip, started: false, position: 0 }
    }

    /// Where the log has the value that was given last; 0 in derived tables.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        if std::mem::replace(&mut self.started, true) && self.raw.valid() {
            self.raw.next();
        }
        match self.raw.item() {
            Some((key, value)) => {
                if self.skip > 0 {
                    self.position = position_of(value);
                }
                Some(Ok((key[1..].to_vec(), value.get(self.skip..).unwrap_or_default().to_vec())))
            }
            None => self.index.checked(self.raw.status()).err().map(Err),
        }
    }
}

/// The smallest key after all that begin with this; `None` when there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
