//! Broker configs: the table and the typed view of this broker's effective values.

mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use krocket_stack::security::Windows;

use super::{InvalidConfig, Layers, TopicConfig, alter};

pub use table::table;
pub(super) use table::{DELIVERIES, LOCK_DURATION, RECORD_LOCKS};

/// This broker's effective configs; names, units and defaults are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// auto.create.topics.enable
    pub auto_create_topics: bool,
    /// log.retention.check.interval.ms
    pub retention_check_interval_ms: u64,
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
            retention_check_interval_ms: value("log.retention.check.interval.ms").long().unsigned_abs(),
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
