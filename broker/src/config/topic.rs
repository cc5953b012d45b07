//! Topic configs: the table and the typed view of one topic's effective values.

use std::collections::BTreeMap;

use super::{ConfigDef, Kind, Layers, Promise, Value, find};

const MAX_LONG: &str = "9223372036854775807";
const LOG: Promise = Promise::Enforced("log");
const PRODUCE: Promise = Promise::Enforced("produce");
const VIEW: Promise = Promise::Enforced("filter");
const SEGMENTS: Promise = Promise::Kept(
    "krocket keeps one log for all partitions and expires and compacts by the batch, which is finer than any segment.",
);
const INDEX: Promise = Promise::Kept("krocket's index has an entry for every batch, which is finer than any interval.");
const NO_REPLICATION: Promise = Promise::Kept("krocket has no replicas, so there is no replication to throttle.");
const NO_RECOMPRESSION: Promise =
    Promise::Kept("It matters with compression.type set to that codec only, which krocket refuses.");
const NO_TIERS: Promise = Promise::Kept("It matters with remote.storage.enable only, which krocket refuses.");

const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    synonym: &'static str,
    promise: Promise,
    doc: &'static str,
) -> ConfigDef {
    ConfigDef { name, kind, default, synonym, doc, promise }
}

/// Every topic config, by name. Types, ranges, defaults and synonyms are Kafka's (LogConfig, ServerTopicConfigSynonyms);
/// `krocket.*` are ours.
pub static TABLE: &[ConfigDef] = &[
    row(
        "cleanup.policy",
        Kind::List(&["compact", "delete"]),
        "delete",
        "log.cleanup.policy",
        LOG,
        "delete: drop records past retention.ms or retention.bytes. compact: keep the latest record of each key. Both may \
         be given; an empty list keeps everything.",
    ),
    row(
        "compression.gzip.level",
        Kind::Int(-1, 9),
        "-1",
        "compression.gzip.level",
        NO_RECOMPRESSION,
        "The compression level if compression.type is gzip.",
    ),
    row(
        "compression.lz4.level",
        Kind::Int(1, 17),
        "9",
        "compression.lz4.level",
        NO_RECOMPRESSION,
        "The compression level if compression.type is lz4.",
    ),
    row(
        "compression.type",
        Kind::String(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        "compression.type",
        Promise::DefaultOnly(
            "krocket stores batches as their producer compressed them, so only 'producer' can be set: choose the codec in \
             the producer.",
        ),
        "The compression of stored batches.",
    ),
    row(
        "compression.zstd.level",
        Kind::Int(-131072, 22),
        "3",
        "compression.zstd.level",
        NO_RECOMPRESSION,
        "The compression level if compression.type is zstd.",
    ),
    row(
        "delete.retention.ms",
        Kind::Long(0, i64::MAX),
        "86400000",
        "log.cleaner.delete.retention.ms",
        LOG,
        "How long compaction keeps a tombstone, ms.",
    ),
    row(
        "file.delete.delay.ms",
        Kind::Long(0, i64::MAX),
        "60000",
        "log.segment.delete.delay.ms",
        Promise::Kept("krocket never takes a file from a read in progress, whatever the delay."),
        "How long a removed file stays for reads in progress, ms.",
    ),
    row(
        "flush.messages",
        Kind::Long(1, i64::MAX),
        MAX_LONG,
        "log.flush.interval.messages",
        PRODUCE,
        "After how many records they are forced to disk. Any value but the default forces every write to disk before it \
         is acknowledged, with acks=1 too.",
    ),
    row(
        "flush.ms",
        Kind::Long(0, i64::MAX),
        MAX_LONG,
        "log.flush.interval.ms",
        PRODUCE,
        "After what time records are forced to disk, ms. Any value but the default forces every write to disk before it \
         is acknowledged, with acks=1 too.",
    ),
    row(
        "follower.replication.throttled.replicas",
        Kind::ThrottledReplicas,
        "",
        "",
        NO_REPLICATION,
        "Replicas whose replication is throttled on the follower's side.",
    ),
    row(
        "index.interval.bytes",
        Kind::Int(0, i32::MAX),
        "4096",
        "log.index.interval.bytes",
        INDEX,
        "After how many bytes the offset index gets an entry.",
    ),
    row(
        "krocket.view.auto",
        Kind::Boolean,
        "false",
        "",
        VIEW,
        "Set by krocket on views that came with a subscription: all-topics metadata leaves them out.",
    ),
    row(
        "krocket.view.filter",
        Kind::String(&[]),
        "",
        "",
        VIEW,
        "What the view shows of its source: a tag expression or SQL92.",
    ),
    row(
        "krocket.view.source",
        Kind::String(&[]),
        "",
        "",
        VIEW,
        "The topic that this one is a view of; empty for an ordinary topic.",
    ),
    row(
        "leader.replication.throttled.replicas",
        Kind::ThrottledReplicas,
        "",
        "",
        NO_REPLICATION,
        "Replicas whose replication is throttled on the leader's side.",
    ),
    row(
        "local.retention.bytes",
        Kind::Long(-2, i64::MAX),
        "-2",
        "log.local.retention.bytes",
        NO_TIERS,
        "The size of a partition's data kept locally; -2 for retention.bytes.",
    ),
    row(
        "local.retention.ms",
        Kind::Long(-2, i64::MAX),
        "-2",
        "log.local.retention.ms",
        NO_TIERS,
        "The age of a partition's data kept locally, ms; -2 for retention.ms.",
    ),
    row(
        "max.compaction.lag.ms",
        Kind::Long(1, i64::MAX),
        MAX_LONG,
        "log.cleaner.max.compaction.lag.ms",
        LOG,
        "The longest time before a record is compacted, ms.",
    ),
    row(
        "max.message.bytes",
        Kind::Int(0, i32::MAX),
        "1048588",
        "message.max.bytes",
        PRODUCE,
        "The largest record batch accepted, in bytes as sent (after compression).",
    ),
    row(
        "message.timestamp.after.max.ms",
        Kind::Long(0, i64::MAX),
        "3600000",
        "log.message.timestamp.after.max.ms",
        PRODUCE,
        "How far a record's timestamp may lie ahead of the broker's clock, ms; with message.timestamp.type CreateTime.",
    ),
    row(
        "message.timestamp.before.max.ms",
        Kind::Long(0, i64::MAX),
        MAX_LONG,
        "log.message.timestamp.before.max.ms",
        PRODUCE,
        "How far a record's timestamp may lie behind the broker's clock, ms; with message.timestamp.type CreateTime.",
    ),
    row(
        "message.timestamp.type",
        Kind::String(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "log.message.timestamp.type",
        PRODUCE,
        "Whether a record's timestamp is the producer's or the time of its append.",
    ),
    row(
        "min.cleanable.dirty.ratio",
        Kind::Double(0.0, 1.0),
        "0.5",
        "log.cleaner.min.cleanable.ratio",
        LOG,
        "The part of a compacted partition that must be uncompacted before it is compacted again.",
    ),
    row(
        "min.compaction.lag.ms",
        Kind::Long(0, i64::MAX),
        "0",
        "log.cleaner.min.compaction.lag.ms",
        LOG,
        "The shortest time before a record is compacted, ms.",
    ),
    row(
        "min.insync.replicas",
        Kind::Int(1, i32::MAX),
        "1",
        "min.insync.replicas",
        Promise::Kept(
            "As in Kafka no more than the replication factor are asked for, and that is 1 here: the one replica is always \
             in sync.",
        ),
        "How many replicas must have a write that is produced with acks=all.",
    ),
    row(
        "preallocate",
        Kind::Boolean,
        "false",
        "log.preallocate",
        Promise::DefaultOnly("krocket keeps one log for all partitions and does not preallocate files for a topic."),
        "Whether a new file takes its full size at once.",
    ),
    row(
        "remote.log.copy.disable",
        Kind::Boolean,
        "false",
        "",
        NO_TIERS,
        "Whether a topic with remote storage stops copying to it.",
    ),
    row(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        "",
        NO_TIERS,
        "Whether remote data is deleted when remote storage is switched off.",
    ),
    row(
        "remote.storage.enable",
        Kind::Boolean,
        "false",
        "",
        Promise::DefaultOnly("krocket has no tiered storage."),
        "Whether the topic's data moves to remote storage.",
    ),
    row(
        "retention.bytes",
        Kind::Long(i64::MIN, i64::MAX),
        "-1",
        "log.retention.bytes",
        LOG,
        "The size beyond which a partition's oldest batches are dropped, with cleanup.policy delete; negative for no limit.",
    ),
    row(
        "retention.ms",
        Kind::Long(-1, i64::MAX),
        "604800000",
        "log.retention.ms",
        LOG,
        "The age beyond which batches are dropped, ms, with cleanup.policy delete; -1 for no limit.",
    ),
    row(
        "segment.bytes",
        Kind::Int(1024 * 1024, i32::MAX),
        "1073741824",
        "log.segment.bytes",
        SEGMENTS,
        "The size of a file of a partition's log: the granularity of retention and compaction.",
    ),
    row(
        "segment.index.bytes",
        Kind::Int(4, i32::MAX),
        "10485760",
        "log.index.size.max.bytes",
        INDEX,
        "The size of the offset index of a file of a partition's log.",
    ),
    row(
        "segment.jitter.ms",
        Kind::Long(0, i64::MAX),
        "0",
        "log.roll.jitter.ms",
        SEGMENTS,
        "The most that is taken off segment.ms at random, ms.",
    ),
    row(
        "segment.ms",
        Kind::Long(1, i64::MAX),
        "604800000",
        "log.roll.ms",
        SEGMENTS,
        "The age after which a file of a partition's log is closed, so that it can expire or be compacted, ms.",
    ),
    row(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        "unclean.leader.election.enable",
        Promise::Kept("krocket has one replica of a partition, which is never out of sync: there is nothing to elect."),
        "Whether a replica out of sync may become leader when no other is left.",
    ),
];

/// A topic's effective configuration; names, units and defaults are Kafka's.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// What was set on the topic itself.
    pub overrides: BTreeMap<String, String>,
    /// cleanup.policy has `delete`: retention applies.
    pub delete: bool,
    /// cleanup.policy has `compact`; records need keys.
    pub compact: bool,
    /// retention.ms; `None` for no limit.
    pub retention_ms: Option<i64>,
    /// retention.bytes of each partition; `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// max.message.bytes: the largest batch, header included.
    pub max_message_bytes: usize,
    /// message.timestamp.type is LogAppendTime.
    pub log_append_time: bool,
    /// message.timestamp.before.max.ms
    pub timestamp_before_max_ms: i64,
    /// message.timestamp.after.max.ms
    pub timestamp_after_max_ms: i64,
    /// delete.retention.ms
    pub delete_retention_ms: i64,
    /// min.compaction.lag.ms
    pub min_compaction_lag_ms: i64,
    /// max.compaction.lag.ms
    pub max_compaction_lag_ms: i64,
    /// min.cleanable.dirty.ratio
    pub min_cleanable_dirty_ratio: f64,
    /// flush.messages or flush.ms was set: every write is synced before it is acknowledged, whatever its acks.
    pub sync_every_write: bool,
}

impl TopicConfig {
    /// What holds for a topic with these overrides on a broker with these configs.
    pub fn resolve(overrides: BTreeMap<String, String>, broker: &Layers) -> Self {
        let value = |name: &str| effective(name, &overrides, broker);
        let limit = |name: &str| Some(value(name).long()).filter(|limit| *limit >= 0);
        let policy = value("cleanup.policy");
        TopicConfig {
            delete: policy.has("delete"),
            compact: policy.has("compact"),
            retention_ms: limit("retention.ms"),
            retention_bytes: limit("retention.bytes").map(i64::unsigned_abs),
            max_message_bytes: value("max.message.bytes").long().unsigned_abs() as usize,
            log_append_time: value("message.timestamp.type").has("LogAppendTime"),
            timestamp_before_max_ms: value("message.timestamp.before.max.ms").long(),
            timestamp_after_max_ms: value("message.timestamp.after.max.ms").long(),
            delete_retention_ms: value("delete.retention.ms").long(),
            min_compaction_lag_ms: value("min.compaction.lag.ms").long(),
            max_compaction_lag_ms: value("max.compaction.lag.ms").long(),
            min_cleanable_dirty_ratio: value("min.cleanable.dirty.ratio").double(),
            sync_every_write: value("flush.messages").long() != i64::MAX || value("flush.ms").long() != i64::MAX,
            overrides,
        }
    }
}

impl Default for TopicConfig {
    fn default() -> Self {
        TopicConfig::resolve(BTreeMap::new(), &Layers::default())
    }
}

fn effective(name: &str, overrides: &BTreeMap<String, String>, broker: &Layers) -> Value {
    let def = find(TABLE, name).expect("a name of the table");
    if let Some(value) = overrides.get(name).and_then(|text| def.kind.parse(name, text).ok()) {
        return value;
    }
    broker.value(def.synonym).unwrap_or_else(|| def.default_value())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(overrides: &[(&str, &str)], broker: &[(&str, &str)]) -> TopicConfig {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        TopicConfig::resolve(map(overrides), &Layers { node: map(broker), ..Layers::default() })
    }

    #[test]
    fn a_topics_own_value_comes_before_the_brokers_and_that_before_the_default() {
        let default = TopicConfig::default();
        assert_eq!((default.delete, default.compact, default.retention_ms), (true, false, Some(604_800_000)));
        assert_eq!((default.retention_bytes, default.max_message_bytes), (None, 1_048_588));
        assert!(!default.sync_every_write && !default.log_append_time);

        let broker = [("log.retention.ms", "5"), ("message.max.bytes", "100"), ("log.cleanup.policy", "compact")];
        let config = resolve(&[("retention.ms", "-1"), ("cleanup.policy", "compact,delete")], &broker);
        assert_eq!((config.delete, config.compact, config.retention_ms), (true, true, None));
        assert_eq!(config.max_message_bytes, 100);
        assert_eq!(resolve(&[], &broker).retention_ms, Some(5));
    }

    #[test]
    fn asking_for_flushes_syncs_every_write() {
        for key in ["flush.messages", "flush.ms"] {
            assert!(resolve(&[(key, "1000")], &[]).sync_every_write, "{key}");
        }
    }

    #[test]
    fn what_krocket_cannot_do_is_refused_with_a_sentence() {
        let refused = [
            ("compression.type", "zstd", "choose the codec in the producer"),
            ("remote.storage.enable", "true", "no tiered storage"),
            ("preallocate", "true", "does not preallocate"),
        ];
        for (name, value, why) in refused {
            let error = find(TABLE, name).expect(name).check(value).expect_err(name).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_connect_and_streams_set_is_accepted() {
        let accepted = [
            ("cleanup.policy", "compact"),
            ("cleanup.policy", "delete"),
            ("cleanup.policy", "compact,delete"),
            ("segment.bytes", "52428800"),
            ("segment.index.bytes", "52428800"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("message.timestamp.type", "CreateTime"),
            ("segment.ms", "600000"),
            ("min.compaction.lag.ms", "86400000"),
            ("min.insync.replicas", "2"),
            ("unclean.leader.election.enable", "false"),
            ("compression.type", "producer"),
        ];
        for (name, value) in accepted {
            find(TABLE, name).expect(name).check(value).expect(name);
        }
    }
}
