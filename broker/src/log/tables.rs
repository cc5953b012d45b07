//! The key-value tables of the log. A number is for ever: it is on disk.

/// Topic name -> topic (id, partitions, configs).
pub const TOPICS: u8 = 1;
/// Broker and group configs: (resource type, name) -> configs.
pub const CONFIGS: u8 = 2;
/// Group id and what it holds -> classic and KIP-848 group state.
pub const GROUPS: u8 = 3;
/// (group, topic, partition) -> committed offset.
pub const OFFSETS: u8 = 4;
/// Producer ids handed out.
pub const PRODUCER_IDS: u8 = 5;
/// Partition -> log start offset, `i64::MAX` for a deleted partition. The log's own: see [`crate::log`].
pub const LOG_STARTS: u8 = 6;
/// Facts about the cluster: its id.
pub const CLUSTER: u8 = 7;
/// Partition -> snapshot of its idempotent producers. The log's own.
pub const PRODUCERS: u8 = 8;
/// Partition -> how far it is compacted. The log's own.
pub const COMPACTIONS: u8 = 9;
/// (partition, producer id) -> the transaction that is open there. The log's own.
pub const TXN_OPEN: u8 = 10;
/// (partition, offset of the marker) -> an aborted transaction. The log's own.
pub const TXN_ABORTED: u8 = 11;
/// Transactional id -> its producer id, epoch and how its last transaction ended.
pub const TXNS: u8 = 12;
/// (producer id, group, topic, partition) -> offset to be committed with the producer's open transaction.
pub const TXN_OFFSETS: u8 = 13;
/// (share group, partition) -> where it starts; with an offset, -> a run of records and where they stand.
pub const SHARES: u8 = 14;
/// (SCRAM mechanism, user) -> what is kept of the password.
pub const CREDENTIALS: u8 = 15;
/// An ACL, all of it -> nothing.
pub const ACLS: u8 = 16;
/// (user, client id, address), each named, default or absent -> the entity's quotas.
pub const QUOTAS: u8 = 17;
