//! What krocket adds to Kafka's API below the features: rows that are written with batches, and records that consumers
//! don't see.
//!
//! Layers and workers produce and fetch through the next handler. Beside it they have a ledger, which the backend
//! implements: it finds what [`Notes`](crate::notes::Notes) left behind. All calls but the ones that return a future
//! may block on the disk for the time of a read.

use std::sync::Arc;

use bytes::Bytes;
use krocket_protocol::StrBytes;
use krocket_protocol::chunk::FileSlice;
use thiserror::Error;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::handler::BoxFuture;
use crate::notes::{Row, Written};
use crate::share::ShareRules;

/// Names a partition in rows: four bytes big-endian, never used again after a deletion.
pub type PartitionId = u32;

/// Tables of rows. A number is for ever: it is on disk. Below 128 rows are in the log; from 128 on they are derived from
/// it, cheaper, and may have to be derived again.
pub mod tables {
    /// Partition, offset -> whatever parked it. While the row is there, retention and compaction leave the record's
    /// batch in the log. Deleted with the partition.
    pub const PARKED: u8 = 32;
    /// Partition, due time (epoch ms, 8 bytes big-endian), offset -> what is to be done then.
    pub const DUE: u8 = 33;
    /// Partition, UNIQ_KEY, offset -> nothing: messages that were parked under a key of the client's.
    pub const UNIQ: u8 = 34;
    /// Partition, offset -> how a parked record ended, where it was not delivered.
    pub const ENDED: u8 = 35;
    /// Features' own facts, by a key that begins with the feature's name.
    pub const FACTS: u8 = 36;

    /// Where it came in the order of all appends (8 bytes big-endian), partition, last offset of a batch -> nothing: batches
    /// that were appended as `indexed` and are not indexed yet. The backend's to put, the indexer's to delete. A rebuild of
    /// the index puts all of them again.
    pub const WORK: u8 = 128;
    /// The look-up index.
    pub const LOOKUP: u8 = 129;
    /// Matches of views.
    pub const MATCHES: u8 = 130;
    /// How far views are.
    pub const VIEWS: u8 = 131;
}

/// Why the ledger cannot answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct LedgerError(pub String);

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: StrBytes,
    /// Its id.
    pub id: Uuid,
    /// Ids of its partitions, by index.
    pub partitions: Vec<PartitionId>,
}

/// A partition, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its topic.
    pub topic: StrBytes,
    /// The topic's id.
    pub topic_id: Uuid,
    /// Its index in the topic.
    pub index: i32,
    /// First offset that can be fetched.
    pub log_start: i64,
    /// End of the last visible record.
    pub high_watermark: i64,
    /// End of what is as durable as its producer asked for, hidden records included.
    pub end: i64,
    /// End of what no open transaction has yet to decide about.
    pub last_stable: i64,
}

/// What a transaction makes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It counts, or is in no transaction.
    Committed,
    /// The transaction is not over.
    Open,
    /// It never counts.
    Aborted,
}

/// A batch in the log with what is hidden in it.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// The whole batch, base offset in place.
    pub batch: Bytes,
    /// Offsets of hidden records, ascending.
    pub hidden: Vec<i64>,
    /// True when compaction has rewritten it: places in the batch are no longer offset less base offset.
    pub rewritten: bool,
}

/// Change notices of some partitions. Counts from its creation on: what is read after it and found wanting cannot change
/// unnoticed.
pub trait Watching: Send {
    /// Resolves when something became visible, a log start moved or a partition was deleted since the last call.
    fn changed(&mut self) -> BoxFuture<'_, ()>;
}

/// The backend's other face. See the [module](self).
pub trait Ledger: Send + Sync + 'static {
    /// Now, epoch ms, by the backend's clock.
    fn now_ms(&self) -> i64;

    /// Has share groups follow these rules where their own configs say nothing.
    fn set_share_rules(&self, rules: Arc<dyn ShareRules>);

    /// A topic by name.
    fn topic(&self, name: &str) -> Option<TopicInfo>;

    /// A topic by id.
    fn topic_by_id(&self, id: Uuid) -> Option<TopicInfo>;

    /// All topics, by name.
    fn topics(&self) -> Vec<TopicInfo>;

    /// A topic config that was set on the topic itself.
    fn topic_config(&self, topic: &str, config: &str) -> Option<String>;

    /// Resolves when a topic was created, deleted or changed after the call.
    fn topics_changed(&self) -> BoxFuture<'static, ()>;

    /// A partition; `None` when it is deleted.
    fn partition(&self, id: PartitionId) -> Option<PartitionInfo>;

    /// The value of a key, in either kind of table.
    fn get(&self, table: u8, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError>;

    /// Shows keys (from this one on, ascending) and values until the visitor returns false. Either kind of table.
    fn scan(&self, table: u8, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), LedgerError>;

    /// As [`scan`](Self::scan) of a table below 128, with where the log has each value.
    fn scan_written(
        &self,
        table: u8,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8], Written) -> bool,
    ) -> Result<(), LedgerError>;

    /// Changes tables below 128, all rows or none; in the order of the calls. Survives kill -9 when it resolves, or a
    /// power loss where `synced` is asked for. The rows' templates hold no offsets.
    fn commit(&self, rows: Vec<Row>, synced: bool) -> BoxFuture<'static, Result<(), LedgerError>>;

    /// Changes derived tables, all rows or none. After a crash they are as of some moment, all of the same one.
    fn derive(&self, rows: Vec<Row>) -> Result<(), LedgerError>;

    /// Batches from the one that holds `from` on, hidden ones and parked ones below the log start included, up to the
    /// partition's `end`; about `max_bytes`, at least one if there is one.
    fn batches(&self, partition: PartitionId, from: i64, max_bytes: usize) -> Result<Vec<StoredBatch>, LedgerError>;

    /// Where the batches lie that hold these offsets, ascending, without reading them; `None` for one that is gone or that
    /// compaction has rewritten.
    fn locate(&self, partition: PartitionId, offsets: &[i64]) -> Result<Vec<Option<FileSlice>>, LedgerError>;

    /// What the transaction, if any, of the batch that holds this offset makes of it.
    fn fate(&self, partition: PartitionId, offset: i64) -> Result<Fate, LedgerError>;

    /// Watches partitions for changes.
    fn watch(&self, partitions: &[PartitionId]) -> Box<dyn Watching>;

    /// Woken when there is new work in [`tables::WORK`].
    fn work(&self) -> &Notify;
}
