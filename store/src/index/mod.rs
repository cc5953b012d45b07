//! The index: everything that can be computed from the log, in RocksDB without a WAL.
//!
//! It holds the log position that it has applied. What is lost in a crash is replayed; when it is lost or damaged
//! altogether, all of the log is.

mod moves;
mod options;
mod row;
mod rows;
mod scan;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rocksdb::{ColumnFamily, DB, ErrorKind, FlushOptions};

pub use row::BatchRow;
pub use rows::Rows;
pub use scan::{Batches, Scan};

pub(crate) use moves::MOVES_AT_ONCE;
pub(crate) use options::Memory;
pub(crate) use row::{batch_key, parse_batch_key};
pub(crate) use state::{Meta, State};

use crate::error::{IndexError, StoreError};
use crate::op::Position;
use crate::shared::Shared;
use crate::syncer::Syncer;
use options::{ALL, BATCHES, DERIVED, META, TABLES};

/// The database before the log was looked at.
pub(crate) struct Database {
    db: DB,
    /// Exists when the index must not be trusted at the next start.
    distrust: PathBuf,
}

impl Database {
    /// Opens or creates.
    pub(crate) fn open(dir: &Path, memory: Memory) -> Result<Self, rocksdb::Error> {
        let db = DB::open_cf_descriptors(&options::database(memory), dir, options::column_families(memory))?;
        Ok(Database { db, distrust: Self::distrust_path(dir) })
    }

    /// Opens what is there without changing it.
    pub(crate) fn open_read_only(dir: &Path, memory: Memory) -> Result<Self, rocksdb::Error> {
        let families = options::column_families(memory);
        let db = DB::open_cf_descriptors_read_only(&options::database(memory), dir, families, false)?;
        Ok(Database { db, distrust: Self::distrust_path(dir) })
    }

    pub(crate) fn distrust_path(dir: &Path) -> PathBuf {
        dir.with_extension("distrusted")
    }

    /// What the index says of itself; `None` for a new one.
    pub(crate) fn meta(&self) -> Result<Option<Meta>, IndexError> {
        Meta::read(&self.db)
    }
}

/// Look-ups and the way to change them. Cheap to clone.
#[derive(Clone)]
pub struct Index {
    inner: Arc<Inner>,
}

struct Inner {
    db: DB,
    distrust: PathBuf,
    shared: Arc<Shared>,
    /// Taken by each commit, and by the cleaner while it moves rows.
    state: Mutex<State>,
    applied: AtomicU64,
    /// Rows that RocksDB would not take wait in the state.
    stuck: AtomicBool,
    flush_bytes: u64,
    #[cfg(test)]
    refuse_writes: AtomicBool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        tracing::debug!("the index closes");
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("applied", &self.applied()).finish_non_exhaustive()
    }
}

impl Index {
    pub(crate) fn new(database: Database, shared: Arc<Shared>, meta: Meta, flush_bytes: u64) -> Self {
        let Database { db, distrust } = database;
        let inner = Inner {
            db,
            distrust,
            shared,
            applied: AtomicU64::new(meta.applied),
            state: Mutex::new(State::new(meta)),
            stuck: AtomicBool::new(false),
            flush_bytes,
            #[cfg(test)]
            refuse_writes: AtomicBool::new(false),
        };
        Index { inner: Arc::new(inner) }
    }

    /// Position up to which the log is in the index.
    pub fn applied(&self) -> Position {
        self.inner.applied.load(Ordering::Acquire)
    }

    /// Position up to which the log was durable when the index was last written out.
    pub(crate) fn synced(&self) -> Position {
        self.inner.state.lock().meta.synced
    }

    /// Begins a change.
    pub fn rows(&self) -> Rows {
        Rows::new(self.clone())
    }

    /// The batch that holds `offset`, or else the first one after it.
    pub fn batch(&self, partition: u32, offset: i64) -> Result<Option<BatchRow>, IndexError> {
        self.batches(partition, offset).next().transpose()
    }

    /// Batches in ascending order, from the one that holds `from_offset` or the first one after it.
    pub fn batches(&self, partition: u32, from_offset: i64) -> Batches<'_> {
        Batches::new(self, partition, from_offset)
    }

    /// The last batch that ends before `offset`.
    pub fn batch_before(&self, partition: u32, offset: i64) -> Result<Option<BatchRow>, IndexError> {
        if offset <= 0 { Ok(None) } else { scan::last_up_to(self, partition, offset - 1) }
    }

    /// The last batch of a partition.
    pub fn last_batch(&self, partition: u32) -> Result<Option<BatchRow>, IndexError> {
        scan::last_up_to(self, partition, i64::MAX)
    }

    /// The value of a key in a table of the log.
    pub fn get(&self, table: u8, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.get_row(table, key, |row| row.get(8..).unwrap_or_default().to_vec())
    }

    /// The value of a key in a derived table.
    pub fn get_derived(&self, table: u8, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.checked(self.inner.db.get_cf(self.family(DERIVED), table_key(table, key)))
    }

    /// Keys and values of a table of the log that begin with `prefix`, ascending.
    pub fn scan(&self, table: u8, prefix: &[u8]) -> Scan<'_> {
        Scan::new(self, TABLES, table, prefix, prefix)
    }

    /// Keys and values of a table of the log from `start` on, ascending.
    pub fn scan_from(&self, table: u8, start: &[u8]) -> Scan<'_> {
        Scan::new(self, TABLES, table, &[], start)
    }

    /// Keys and values of a derived table that begin with `prefix`, ascending.
    pub fn scan_derived(&self, table: u8, prefix: &[u8]) -> Scan<'_> {
        Scan::new(self, DERIVED, table, prefix, prefix)
    }

    /// Keys and values of a derived table from `start` on, ascending.
    pub fn scan_derived_from(&self, table: u8, start: &[u8]) -> Scan<'_> {
        Scan::new(self, DERIVED, table, &[], start)
    }

    /// How many rows there are whose truth is in the log. `visit` sees those of batches, with their partitions.
    pub(crate) fn count_rows(&self, visit: &mut dyn FnMut(u32, &BatchRow)) -> Result<u64, IndexError> {
        scan::count_rows(self, visit)
    }

    /// Makes everything committed durable, the log first: an index ahead of its log has to be rebuilt.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.retry_stuck()?;
        let applied = self.applied();
        Syncer::new(self.inner.shared.clone()).sync()?;
        {
            let mut state = self.inner.state.lock();
            let batch = state.touch(self.family(META), &self.inner.shared);
            self.write(batch)?;
            state.flushed = state.flushed.max(applied);
        }
        self.checked(self.inner.db.flush_cfs_opt(&ALL.map(|name| self.family(name)), &flush_options(true)))?;
        Ok(())
    }

    /// As after a flush that found the disk full.
    #[cfg(test)]
    pub(crate) fn refuse_writes(&self, refuse: bool) {
        self.inner.refuse_writes.store(refuse, Ordering::Release);
    }

    /// What RocksDB may do at any time.
    #[cfg(test)]
    pub(crate) fn flush_without_sync(&self) -> Result<(), IndexError> {
        self.checked(self.inner.db.flush_cfs_opt(&ALL.map(|name| self.family(name)), &flush_options(true)))
    }

    /// Rough numbers for metrics.
    pub fn stats(&self) -> IndexStats {
        let number = |name: &str, family| {
            self.inner.db.property_int_value_cf(self.family(family), name).ok().flatten().unwrap_or(0)
        };
        let sum = |name: &str| ALL.iter().map(|family| number(name, family)).sum();
        IndexStats {
            batches: number("rocksdb.estimate-num-keys", BATCHES),
            keys: number("rocksdb.estimate-num-keys", TABLES),
            disk_bytes: sum("rocksdb.total-sst-files-size"),
            memtable_bytes: sum("rocksdb.cur-size-all-mem-tables"),
            pending_compaction_bytes: sum("rocksdb.estimate-pending-compaction-bytes"),
            writes_stopped: number("rocksdb.is-write-stopped", META) != 0,
        }
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.inner.db.cf_handle(name).expect("opened with all families")
    }

    fn get_row<T>(&self, table: u8, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, IndexError> {
        let row = self.inner.db.get_pinned_cf(self.family(TABLES), table_key(table, key));
        Ok(self.checked(row)?.map(|row| read(&row)))
    }

    /// Position of the frame that holds a key's value.
    pub(crate) fn put_position(&self, table: u8, key: &[u8]) -> Result<Option<Position>, IndexError> {
        self.get_row(table, key, position_of)
    }

    /// Passes a result on; after an error that means damage, the next start rebuilds the index.
    fn checked<T>(&self, result: Result<T, rocksdb::Error>) -> Result<T, IndexError> {
        result.map_err(|error| {
            if matches!(error.kind(), ErrorKind::Corruption) {
                self.distrust(error.as_ref());
            }
            error.into()
        })
    }

    fn distrust(&self, reason: &str) {
        if let Err(error) = std::fs::write(&self.inner.distrust, reason) {
            tracing::error!(%error, "cannot mark the index as damaged");
        }
    }
}

/// Rough numbers about the index.
#[derive(Clone, Copy, Debug, Default)]
pub struct IndexStats {
    /// Batch rows.
    pub batches: u64,
    /// Keys of the log's tables.
    pub keys: u64,
    /// On disk.
    pub disk_bytes: u64,
    /// In memory, not yet on disk.
    pub memtable_bytes: u64,
    /// Work that compaction has before it.
    pub pending_compaction_bytes: u64,
    /// RocksDB takes no writes until compaction catches up.
    pub writes_stopped: bool,
}

pub(crate) fn flush_options(wait: bool) -> FlushOptions {
    let mut options = FlushOptions::default();
    options.set_wait(wait);
    options
}

/// The position at the front of a row of the log's tables.
fn position_of(row: &[u8]) -> Position {
    row.first_chunk().map_or(0, |position| u64::from_le_bytes(*position))
}

pub(crate) type Key = smallvec::SmallVec<[u8; 64]>;

pub(crate) fn table_key(table: u8, key: &[u8]) -> Key {
    let mut out = Key::new();
    out.push(table);
    out.extend_from_slice(key);
    out
}
