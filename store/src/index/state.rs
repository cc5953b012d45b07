//! What a commit keeps beside the rows: how far it got and what is alive in each segment.

use std::collections::BTreeMap;

use rocksdb::{ColumnFamily, DB, WriteBatch};

use crate::error::IndexError;
use crate::op::Position;
use crate::shared::Shared;

/// Version of rows and keys; another one means a rebuild.
const VERSION: u32 = 1;
const META_KEY: &[u8] = b"meta";
const FILE_PREFIX: u8 = b'f';

/// A segment as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileRow {
    pub(crate) base: Position,
    /// Bytes of batches and values that rows point at. A guide for the cleaner, never a proof.
    pub(crate) live: i64,
}

/// What the index says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) log_id: u64,
    pub(crate) applied: Position,
    /// The log was durable at least up to here when `applied` was written.
    pub(crate) synced: Position,
    /// All segments that begin before `applied`.
    pub(crate) files: BTreeMap<u32, FileRow>,
}

impl Meta {
    pub(crate) fn empty(log_id: u64) -> Self {
        Meta { log_id, applied: 0, synced: 0, files: BTreeMap::new() }
    }

    pub(super) fn read(db: &DB) -> Result<Option<Self>, IndexError> {
        let Some(value) = db.get(META_KEY)? else { return Ok(None) };
        let bad = || IndexError("a meta row that is none".into());
        let value: &[u8; 28] = value.as_slice().try_into().map_err(|_| bad())?;
        let u64_at = |at: usize| value[at..at + 8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        if value[..4] != VERSION.to_le_bytes() {
            return Err(IndexError("rows of another version".into()));
        }
        let mut meta = Meta { log_id: u64_at(4), applied: u64_at(12), synced: u64_at(20), files: BTreeMap::new() };
        let mut raw = db.raw_iterator();
        raw.seek([FILE_PREFIX]);
        while let Some((key, value)) = raw.item().filter(|(key, _)| key.first() == Some(&FILE_PREFIX)) {
            let (id, row) = parse_file(key, value).ok_or_else(bad)?;
            meta.files.insert(id, row);
            raw.next();
        }
        raw.status()?;
        Ok(Some(meta))
    }
}

/// Under the commit lock.
pub(crate) struct State {
    pub(crate) meta: Meta,
    /// Applied position when a flush was last asked for.
    pub(crate) flushed: Position,
    /// Serialized batches that RocksDB would not take, in order.
    pub(crate) stuck: Vec<Vec<u8>>,
}

impl State {
    pub(super) fn new(meta: Meta) -> Self {
        State { flushed: meta.applied, meta, stuck: Vec::new() }
    }

    /// A batch that only brings the synced position up to date, and touches every flush.
    pub(super) fn touch(&mut self, family: &ColumnFamily, shared: &Shared) -> WriteBatch {
        let mut batch = WriteBatch::default();
        self.put_meta(&mut batch, family, shared);
        batch
    }

    fn put_meta(&mut self, batch: &mut WriteBatch, family: &ColumnFamily, shared: &Shared) {
        self.meta.synced = self.meta.synced.max(shared.progress.lock().synced.min(self.meta.applied));
        let mut value = [0; 28];
        value[..4].copy_from_slice(&VERSION.to_le_bytes());
        value[4..12].copy_from_slice(&self.meta.log_id.to_le_bytes());
        value[12..20].copy_from_slice(&self.meta.applied.to_le_bytes());
        value[20..28].copy_from_slice(&self.meta.synced.to_le_bytes());
        batch.put_cf(family, META_KEY, value);
    }

    /// Adds to a commit: the applied position, segments seen for the first time, and changed live counts.
    pub(super) fn advance(
        &mut self,
        batch: &mut WriteBatch,
        family: &ColumnFamily,
        shared: &Shared,
        applied: Position,
        live: &[(u32, i64)],
    ) {
        let before = self.meta.applied;
        self.meta.applied = applied.max(before);
        self.put_meta(batch, family, shared);
        if applied > before {
            let last = shared.segments.at(applied - 1);
            if last.is_some_and(|last| !self.meta.files.contains_key(&last.id)) {
                for segment in shared.segments.list().into_iter().filter(|segment| segment.base < applied) {
                    let row = FileRow { base: segment.base, live: 0 };
                    let row = *self.meta.files.entry(segment.id).or_insert(row);
                    put_file(batch, family, segment.id, row);
                }
            }
        }
        for (id, change) in live.iter().filter(|(_, change)| *change != 0) {
            if let Some(row) = self.meta.files.get_mut(id) {
                row.live += change;
                put_file(batch, family, *id, *row);
            }
        }
    }

    /// Puts a cleaned segment in.
    pub(super) fn add_file(&mut self, batch: &mut WriteBatch, family: &ColumnFamily, id: u32, row: FileRow) {
        self.meta.files.insert(id, row);
        put_file(batch, family, id, row);
    }

    /// Takes a replaced segment out.
    pub(super) fn remove_file(&mut self, batch: &mut WriteBatch, family: &ColumnFamily, id: u32) {
        self.meta.files.remove(&id);
        batch.delete_cf(family, file_key(id));
    }
}

fn file_key(id: u32) -> [u8; 5] {
    let [a, b, c, d] = id.to_be_bytes();
    [FILE_PREFIX, a, b, c, d]
}

fn put_file(batch: &mut WriteBatch, family: &ColumnFamily, id: u32, row: FileRow) {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&row.base.to_le_bytes());
    value[8..].copy_from_slice(&row.live.to_le_bytes());
    batch.put_cf(family, file_key(id), value);
}

fn parse_file(key: &[u8], value: &[u8]) -> Option<(u32, FileRow)> {
    let id = u32::from_be_bytes(key.get(1..)?.try_into().ok()?);
    let (base, live) = value.split_first_chunk::<8>()?;
    Some((id, FileRow { base: u64::from_le_bytes(*base), live: i64::from_le_bytes(live.try_into().ok()?) }))
}
