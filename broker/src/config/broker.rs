//! Broker configs: the table and the typed view of this broker's effective values.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use krocket_stack::security::Windows;

use super::{ConfigDef, InvalidConfig, Kind, Layers, Promise, TopicConfig, alter, topic};

const MAX_INT: &str = "2147483647";
const COUNT: Kind = Kind::Int(1, i32::MAX);
/// Kafka ends at 10 for groups, and at 25 for the broker's bound.
pub(super) const DELIVERIES: Kind = Kind::Int(2, 100_000);
pub(super) const LOCK_DURATION: Kind = Kind::Int(1000, 3_600_000);
pub(super) const RECORD_LOCKS: Kind = Kind::Int(100, 10_000);

const fn row(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef { name, kind, default, synonym: "", doc, promise: Promise::ReadOnly }
}

/// The broker's own; each one is read by a field of [`BrokerConfig`] or tells how it was started.
static OWN: &[ConfigDef] = &[
    row("advertised.listeners", Kind::String(&[]), "", "Where clients are told to connect to."),
    row(
        "auto.create.topics.enable",
        Kind::Boolean,
        "true",
        "Whether asking for the metadata of a topic that does not exist may create it.",
    ),
    row("broker.id", Kind::Int(0, i32::MAX), "1", "This broker's id; the same as node.id."),
    row(
        "controller.quota.window.num",
        COUNT,
        "11",
        "A client that did not create or delete partitions for so many windows has this much of its controller_mutation_rate saved up.",
    ),
    row(
        "controller.quota.window.size.seconds",
        COUNT,
        "1",
        "The length of a window of controller_mutation_rate, seconds.",
    ),
    row(
        "default.replication.factor",
        Kind::Int(1, 1),
        "1",
        "The replication factor of new topics: krocket is one broker.",
    ),
    row(
        "group.consumer.assignors",
        Kind::List(&["uniform", "range"]),
        "uniform,range",
        "The server-side assignors of consumer groups; the first is the default.",
    ),
    row(
        "group.consumer.heartbeat.interval.ms",
        COUNT,
        "5000",
        "How often members of a consumer group send heartbeats, ms.",
    ),
    row(
        "group.consumer.max.heartbeat.interval.ms",
        COUNT,
        "15000",
        "The most that a group may set as consumer.heartbeat.interval.ms.",
    ),
    row(
        "group.consumer.max.session.timeout.ms",
        COUNT,
        "60000",
        "The most that a group may set as consumer.session.timeout.ms.",
    ),
    row("group.consumer.max.size", COUNT, MAX_INT, "The most members of a consumer group."),
    row(
        "group.consumer.migration.policy",
        Kind::String(&["bidirectional", "disabled", "downgrade", "upgrade"]),
        "bidirectional",
        "Whether a group may change between the classic and the consumer protocol while it has members.",
    ),
    row(
        "group.consumer.min.heartbeat.interval.ms",
        COUNT,
        "5000",
        "The least that a group may set as consumer.heartbeat.interval.ms.",
    ),
    row(
        "group.consumer.min.session.timeout.ms",
        COUNT,
        "45000",
        "The least that a group may set as consumer.session.timeout.ms.",
    ),
    row(
        "group.consumer.session.timeout.ms",
        COUNT,
        "45000",
        "How long a member of a consumer group may be silent before it is removed, ms.",
    ),
    row(
        "group.coordinator.rebalance.protocols",
        Kind::List(&["classic", "consumer", "streams"]),
        "classic,consumer,streams",
        "The group protocols that are served.",
    ),
    row(
        "group.initial.rebalance.delay.ms",
        Kind::Int(0, i32::MAX),
        "300",
        "How long the first rebalance of an empty classic group waits for more members, ms. Each that comes begins the wait anew, so Kafka's 3000 is not needed to gather those started together.",
    ),
    row(
        "group.max.session.timeout.ms",
        COUNT,
        "1800000",
        "The longest session timeout of a classic group's member, ms.",
    ),
    row("group.max.size", COUNT, MAX_INT, "The most members of a classic group."),
    row("group.min.session.timeout.ms", COUNT, "6000", "The shortest session timeout of a classic group's member, ms."),
    row(
        "group.share.assignment.interval.ms",
        Kind::Int(0, 15_000),
        "0",
        "The shortest time between two assignments of a share group, ms. What changes in between is assigned with the heartbeats after it.",
    ),
    row(
        "group.share.delivery.count.limit",
        DELIVERIES,
        "5",
        "How often a record is delivered to a share group before it counts as undeliverable.",
    ),
    row("group.share.heartbeat.interval.ms", COUNT, "5000", "How often members of a share group send heartbeats, ms."),
    row(
        "group.share.max.delivery.count.limit",
        DELIVERIES,
        "100000",
        "The most that a group may set as share.delivery.count.limit.",
    ),
    row(
        "group.share.max.heartbeat.interval.ms",
        COUNT,
        "15000",
        "The most that a group may set as share.heartbeat.interval.ms.",
    ),
    row(
        "group.share.max.partition.max.record.locks",
        Kind::Int(2000, 10_000),
        "4000",
        "The most that a group may set as share.partition.max.record.locks.",
    ),
    row(
        "group.share.max.record.lock.duration.ms",
        Kind::Int(30_000, 3_600_000),
        "60000",
        "The most that a group may set as share.record.lock.duration.ms.",
    ),
    row(
        "group.share.max.session.timeout.ms",
        COUNT,
        "60000",
        "The most that a group may set as share.session.timeout.ms.",
    ),
    row("group.share.max.share.sessions", COUNT, "2000", "The most share sessions, of all groups together."),
    row("group.share.max.size", Kind::Int(1, 1000), "200", "The most members of a share group."),
    row(
        "group.share.min.delivery.count.limit",
        DELIVERIES,
        "2",
        "The least that a group may set as share.delivery.count.limit.",
    ),
    row(
        "group.share.min.heartbeat.interval.ms",
        COUNT,
        "5000",
        "The least that a group may set as share.heartbeat.interval.ms.",
    ),
    row(
        "group.share.min.partition.max.record.locks",
        Kind::Int(100, 2000),
        "100",
        "The least that a group may set as share.partition.max.record.locks.",
    ),
    row(
        "group.share.min.record.lock.duration.ms",
        Kind::Int(1000, 30_000),
        "15000",
        "The least that a group may set as share.record.lock.duration.ms.",
    ),
    row(
        "group.share.min.session.timeout.ms",
        COUNT,
        "45000",
        "The least that a group may set as share.session.timeout.ms.",
    ),
    row(
        "group.share.partition.max.record.locks",
        RECORD_LOCKS,
        "2000",
        "The most records of a partition that may be delivered to a share group and not yet done with.",
    ),
    row(
        "group.share.record.lock.duration.ms",
        LOCK_DURATION,
        "30000",
        "How long a member of a share group may keep a record before it is delivered again, ms.",
    ),
    row(
        "group.share.session.timeout.ms",
        COUNT,
        "45000",
        "How long a member of a share group may be silent before it is removed, ms.",
    ),
    row(
        "group.streams.heartbeat.interval.ms",
        COUNT,
        "5000",
        "How often members of a streams group send heartbeats, ms.",
    ),
    row(
        "group.streams.initial.rebalance.delay.ms",
        Kind::Int(0, i32::MAX),
        "3000",
        "How long a streams group without members waits for more of them before tasks are assigned, ms.",
    ),
    row(
        "group.streams.max.heartbeat.interval.ms",
        COUNT,
        "15000",
        "The most that a group may set as streams.heartbeat.interval.ms.",
    ),
    row(
        "group.streams.max.session.timeout.ms",
        COUNT,
        "60000",
        "The most that a group may set as streams.session.timeout.ms.",
    ),
    row("group.streams.max.size", COUNT, "2147483647", "The most members of a streams group."),
    row(
        "group.streams.max.standby.replicas",
        Kind::Int(0, i32::MAX),
        "2",
        "The most that a group may set as streams.num.standby.replicas.",
    ),
    row(
        "group.streams.min.heartbeat.interval.ms",
        COUNT,
        "5000",
        "The least that a group may set as streams.heartbeat.interval.ms.",
    ),
    row(
        "group.streams.min.session.timeout.ms",
        COUNT,
        "45000",
        "The least that a group may set as streams.session.timeout.ms.",
    ),
    row(
        "group.streams.num.standby.replicas",
        Kind::Int(0, i32::MAX),
        "0",
        "How many standbys follow each task of a streams group that has a state.",
    ),
    row(
        "group.streams.session.timeout.ms",
        COUNT,
        "45000",
        "How long a member of a streams group may be silent before it is removed, ms.",
    ),
    row("log.dirs", Kind::String(&[]), "", "The folder that holds everything."),
    row(
        "max.request.partition.size.limit",
        COUNT,
        "2000",
        "The most partitions in one answer to DescribeTopicPartitions.",
    ),
    row("node.id", Kind::Int(0, i32::MAX), "1", "This broker's id."),
    row("num.partitions", COUNT, "1", "The number of partitions of topics created without one."),
    row("offset.metadata.max.bytes", Kind::Int(0, i32::MAX), "4096", "The longest metadata of a committed offset."),
    row(
        "offsets.retention.check.interval.ms",
        Kind::Long(1, i64::MAX),
        "600000",
        "How often committed offsets are checked for expiry, ms.",
    ),
    row(
        "offsets.retention.minutes",
        COUNT,
        "10080",
        "How long the committed offsets of a group without members are kept, minutes.",
    ),
    row(
        "quota.window.num",
        COUNT,
        "11",
        "How many windows, the one that runs included, the rates of client quotas are measured over.",
    ),
    row(
        "quota.window.size.seconds",
        COUNT,
        "1",
        "The length of a window that the rates of client quotas are measured over, seconds.",
    ),
    row(
        "transaction.max.timeout.ms",
        COUNT,
        "900000",
        "The longest transaction.timeout.ms that a producer may ask for.",
    ),
];

/// Every broker config, by name: the defaults that topics inherit, and the broker's own.
pub fn table() -> &'static [ConfigDef] {
    static TABLE: LazyLock<Vec<ConfigDef>> = LazyLock::new(|| {
        let inherited = topic::TABLE.iter().filter(|def| !def.synonym.is_empty()).map(|def| ConfigDef {
            name: def.synonym,
            kind: def.kind,
            default: def.default,
            synonym: "",
            doc: def.doc,
            promise: def.promise,
        });
        let own = OWN.iter().map(|def| ConfigDef { ..*def });
        let mut table: Vec<ConfigDef> = inherited.chain(own).collect();
        table.sort_by_key(|def| def.name);
        table
    });
    &TABLE
}

/// This broker's effective configs; names, units and defaults are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// auto.create.topics.enable
    pub auto_create_topics: bool,
    /// num.partitions
    pub num_partitions: i32,
    /// max.request.partition.size.limit
    pub max_request_partitions: i32,
    /// quota.window.num and quota.window.size.seconds
    pub quota_windows: Windows,
    /// controller.quota.window.num and its size
    pub controller_quota_windows: Windows,
    /// group.consumer.assignors, the default one first
    pub consumer_assignors: Vec<String>,
    /// group.consumer.heartbeat.interval.ms
    pub consumer_heartbeat_interval_ms: i32,
    /// group.consumer.min.heartbeat.interval.ms and its max
    pub consumer_heartbeat_interval_bounds: (i32, i32),
    /// group.consumer.session.timeout.ms
    pub consumer_session_timeout_ms: i32,
    /// group.consumer.min.session.timeout.ms and its max
    pub consumer_session_timeout_bounds: (i32, i32),
    /// group.consumer.max.size
    pub consumer_group_max_size: usize,
    /// group.consumer.migration.policy
    pub consumer_group_migration_policy: String,
    /// group.coordinator.rebalance.protocols has `consumer`
    pub consumer_groups: bool,
    /// group.initial.rebalance.delay.ms
    pub group_initial_rebalance_delay_ms: i32,
    /// group.min.session.timeout.ms
    pub group_min_session_timeout_ms: i32,
    /// group.max.session.timeout.ms
    pub group_max_session_timeout_ms: i32,
    /// group.max.size
    pub group_max_size: usize,
    /// group.share.assignment.interval.ms
    pub share_assignment_interval_ms: i32,
    /// group.share.delivery.count.limit
    pub share_delivery_count_limit: Bounded,
    /// group.share.heartbeat.interval.ms
    pub share_heartbeat_interval_ms: Bounded,
    /// group.share.partition.max.record.locks
    pub share_partition_max_record_locks: Bounded,
    /// group.share.record.lock.duration.ms
    pub share_record_lock_duration_ms: Bounded,
    /// group.share.session.timeout.ms
    pub share_session_timeout_ms: Bounded,
    /// group.streams.heartbeat.interval.ms
    pub streams_heartbeat_interval_ms: Bounded,
    /// group.streams.session.timeout.ms
    pub streams_session_timeout_ms: Bounded,
    /// group.streams.num.standby.replicas, with group.streams.max.standby.replicas
    pub streams_num_standby_replicas: Bounded,
    /// group.streams.initial.rebalance.delay.ms
    pub streams_initial_rebalance_delay_ms: i32,
    /// group.streams.max.size
    pub streams_group_max_size: usize,
    /// group.coordinator.rebalance.protocols has `streams`
    pub streams_groups: bool,
    /// group.share.max.size
    pub share_group_max_size: usize,
    /// group.share.max.share.sessions
    pub share_max_sessions: usize,
    /// offset.metadata.max.bytes
    pub offset_metadata_max_bytes: usize,
    /// offsets.retention.minutes, in ms
    pub offsets_retention_ms: i64,
    /// offsets.retention.check.interval.ms
    pub offsets_retention_check_interval_ms: i64,
    /// transaction.max.timeout.ms.
    pub transaction_max_timeout_ms: i32,
}

/// A number that groups may set within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// Where a group sets none.
    pub value: i32,
    /// The least a group may set.
    pub min: i32,
    /// The most a group may set.
    pub max: i32,
}

impl Bounded {
    /// Moves a value to the bound it is beyond.
    pub fn clamp(&self, value: i32) -> i32 {
        value.max(self.min).min(self.max)
    }
}

impl BrokerConfig {
    /// What holds with these layers.
    pub fn resolve(layers: &Layers) -> Self {
        let value = |name: &str| layers.value(name).expect("a name of the table");
        let int = |name: &str| value(name).int();
        let size = |name: &str| int(name).unsigned_abs() as usize;
        let of = |protocol: &str, suffix: &str| Bounded {
            value: int(&format!("group.{protocol}.{suffix}")),
            min: int(&format!("group.{protocol}.min.{suffix}")),
            max: int(&format!("group.{protocol}.max.{suffix}")),
        };
        let bounded = |suffix: &str| of("share", suffix);
        let windows = |prefix: &str| Windows {
            count: int(&format!("{prefix}.num")).unsigned_abs(),
            size: Duration::from_secs(u64::from(int(&format!("{prefix}.size.seconds")).unsigned_abs())),
        };
        let protocols = value("group.coordinator.rebalance.protocols");
        BrokerConfig {
            auto_create_topics: value("auto.create.topics.enable").boolean(),
            num_partitions: int("num.partitions"),
            max_request_partitions: int("max.request.partition.size.limit"),
            quota_windows: windows("quota.window"),
            controller_quota_windows: windows("controller.quota.window"),
            consumer_assignors: value("group.consumer.assignors").items(),
            consumer_heartbeat_interval_ms: int("group.consumer.heartbeat.interval.ms"),
            consumer_heartbeat_interval_bounds: (
                int("group.consumer.min.heartbeat.interval.ms"),
                int("group.consumer.max.heartbeat.interval.ms"),
            ),
            consumer_session_timeout_ms: int("group.consumer.session.timeout.ms"),
            consumer_session_timeout_bounds: (
                int("group.consumer.min.session.timeout.ms"),
                int("group.consumer.max.session.timeout.ms"),
            ),
            consumer_group_max_size: size("group.consumer.max.size"),
            consumer_group_migration_policy: value("group.consumer.migration.policy").to_string(),
            consumer_groups: protocols.has("consumer"),
            group_initial_rebalance_delay_ms: int("group.initial.rebalance.delay.ms"),
            group_min_session_timeout_ms: int("group.min.session.timeout.ms"),
            group_max_session_timeout_ms: int("group.max.session.timeout.ms"),
            group_max_size: size("group.max.size"),
            share_assignment_interval_ms: int("group.share.assignment.interval.ms"),
            share_delivery_count_limit: bounded("delivery.count.limit"),
            share_heartbeat_interval_ms: bounded("heartbeat.interval.ms"),
            share_partition_max_record_locks: bounded("partition.max.record.locks"),
            share_record_lock_duration_ms: bounded("record.lock.duration.ms"),
            share_session_timeout_ms: bounded("session.timeout.ms"),
            streams_heartbeat_interval_ms: of("streams", "heartbeat.interval.ms"),
            streams_session_timeout_ms: of("streams", "session.timeout.ms"),
            streams_num_standby_replicas: Bounded {
                value: int("group.streams.num.standby.replicas"),
                min: 0,
                max: int("group.streams.max.standby.replicas"),
            },
            streams_initial_rebalance_delay_ms: int("group.streams.initial.rebalance.delay.ms"),
            streams_group_max_size: size("group.streams.max.size"),
            streams_groups: protocols.has("streams"),
            share_group_max_size: size("group.share.max.size"),
            share_max_sessions: size("group.share.max.share.sessions"),
            offset_metadata_max_bytes: size("offset.metadata.max.bytes"),
            offsets_retention_ms: value("offsets.retention.minutes").long() * 60_000,
            offsets_retention_check_interval_ms: value("offsets.retention.check.interval.ms").long(),
            transaction_max_timeout_ms: value("transaction.max.timeout.ms").int(),
        }
    }
}

/// Checks the configuration file's values against each other; single ones were checked before.
pub fn check_file(layers: &Layers) -> Result<(), InvalidConfig> {
    let value = |name: &str| layers.value(name).expect("a name of the table");
    let ascending = [
        [
            "group.consumer.min.heartbeat.interval.ms",
            "group.consumer.heartbeat.interval.ms",
            "group.consumer.max.heartbeat.interval.ms",
        ],
        [
            "group.consumer.min.session.timeout.ms",
            "group.consumer.session.timeout.ms",
            "group.consumer.max.session.timeout.ms",
        ],
        [
            "group.share.min.delivery.count.limit",
            "group.share.delivery.count.limit",
            "group.share.max.delivery.count.limit",
        ],
        [
            "group.share.min.heartbeat.interval.ms",
            "group.share.heartbeat.interval.ms",
            "group.share.max.heartbeat.interval.ms",
        ],
        [
            "group.share.min.partition.max.record.locks",
            "group.share.partition.max.record.locks",
            "group.share.max.partition.max.record.locks",
        ],
        [
            "group.share.min.record.lock.duration.ms",
            "group.share.record.lock.duration.ms",
            "group.share.max.record.lock.duration.ms",
        ],
        ["group.share.min.session.timeout.ms", "group.share.session.timeout.ms", "group.share.max.session.timeout.ms"],
        ["group.min.session.timeout.ms", "group.min.session.timeout.ms", "group.max.session.timeout.ms"],
    ];
    for names in ascending {
        for [low, high] in [[names[0], names[1]], [names[1], names[2]]] {
            if value(low).int() > value(high).int() {
                return Err(InvalidConfig(format!(
                    "{low} ({}) must not be above {high} ({})",
                    value(low),
                    value(high)
                )));
            }
        }
    }
    if !value("group.coordinator.rebalance.protocols").has("classic") {
        let why = "group.coordinator.rebalance.protocols must have 'classic', which cannot be switched off";
        return Err(InvalidConfig(why.to_owned()));
    }
    if value("group.consumer.assignors").items().is_empty() {
        return Err(InvalidConfig("group.consumer.assignors must not be empty".to_owned()));
    }
    alter::check_lag(&TopicConfig::resolve(BTreeMap::new(), layers))
}

impl Default for BrokerConfig {
    fn default() -> Self {
        BrokerConfig::resolve(&Layers::default())
    }
}
