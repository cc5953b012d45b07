//! What the configs say about one group.

use std::time::Duration;

use smallvec::SmallVec;

use super::consumer::assign::Assignor;
use crate::config::{BrokerConfig, GroupConfig};

/// How long a member that waits in its first JoinGroup may take before it counts as gone, ms: it has no id yet, so
/// nothing else would tell. Fixed in Kafka too.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i32 = 300_000;

/// Whether a group may change protocol while members of both are in it (`group.consumer.migration.policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Classic to consumer and back.
    #[default]
    Bidirectional,
    /// Classic to consumer only.
    Upgrade,
    /// Consumer to classic only.
    Downgrade,
    /// Neither: the two kinds of members never meet in a group.
    Disabled,
}

impl MigrationPolicy {
    /// By Kafka's name.
    pub fn by_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "bidirectional" => Some(MigrationPolicy::Bidirectional),
            "upgrade" => Some(MigrationPolicy::Upgrade),
            "downgrade" => Some(MigrationPolicy::Downgrade),
            "disabled" => Some(MigrationPolicy::Disabled),
            _ => None,
        }
    }

    /// True when a classic group may become a consumer group.
    pub fn upgrades(self) -> bool {
        matches!(self, MigrationPolicy::Bidirectional | MigrationPolicy::Upgrade)
    }

    /// True when a consumer group may become a classic group.
    pub fn downgrades(self) -> bool {
        matches!(self, MigrationPolicy::Bidirectional | MigrationPolicy::Downgrade)
    }
}

/// The configs that one group follows; names as in [`BrokerConfig`] and [`GroupConfig`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// group.min.session.timeout.ms
    pub min_session_timeout_ms: i32,
    /// group.max.session.timeout.ms
    pub max_session_timeout_ms: i32,
    /// group.initial.rebalance.delay.ms
    pub initial_rebalance_delay_ms: i32,
    /// group.max.size
    pub max_size: usize,
    /// Kafka's `classicGroupNewMemberJoinTimeoutMs`
    pub new_member_join_timeout_ms: i32,
    /// consumer.session.timeout.ms
    pub consumer_session_timeout_ms: i32,
    /// consumer.heartbeat.interval.ms
    pub consumer_heartbeat_interval_ms: i32,
    /// group.consumer.max.size
    pub consumer_max_size: usize,
    /// group.coordinator.rebalance.protocols has `consumer`
    pub consumer_groups: bool,
    /// group.consumer.assignors, the default first
    pub(super) assignors: SmallVec<[Assignor; 2]>,
    /// share.session.timeout.ms
    pub share_session_timeout_ms: i32,
    /// share.heartbeat.interval.ms
    pub share_heartbeat_interval_ms: i32,
    /// share.assignment.interval.ms
    pub share_assignment_interval: Duration,
    /// group.share.max.size
    pub share_max_size: usize,
    /// streams.session.timeout.ms
    pub streams_session_timeout_ms: i32,
    /// streams.heartbeat.interval.ms
    pub streams_heartbeat_interval_ms: i32,
    /// streams.num.standby.replicas
    pub streams_num_standby_replicas: i32,
    /// streams.initial.rebalance.delay.ms
    pub streams_initial_rebalance_delay_ms: i32,
    /// group.streams.max.size
    pub streams_max_size: usize,
    /// group.coordinator.rebalance.protocols has `streams`
    pub streams_groups: bool,
    /// group.consumer.migration.policy
    pub migration: MigrationPolicy,
    /// offset.metadata.max.bytes
    pub offset_metadata_max_bytes: usize,
    /// offsets.retention.minutes, in ms
    pub offsets_retention_ms: i64,
}

impl GroupSettings {
    /// What the broker's configs and a group's own come to.
    pub fn new(broker: &BrokerConfig, group: GroupConfig) -> Self {
        GroupSettings {
            min_session_timeout_ms: broker.group_min_session_timeout_ms,
            max_session_timeout_ms: broker.group_max_session_timeout_ms,
            initial_rebalance_delay_ms: broker.group_initial_rebalance_delay_ms,
            max_size: broker.group_max_size,
            new_member_join_timeout_ms: NEW_MEMBER_JOIN_TIMEOUT_MS,
            consumer_session_timeout_ms: group.consumer_session_timeout_ms,
            consumer_heartbeat_interval_ms: group.consumer_heartbeat_interval_ms,
            consumer_max_size: broker.consumer_group_max_size,
            consumer_groups: broker.consumer_groups,
            assignors: broker.consumer_assignors.iter().filter_map(|name| Assignor::by_name(name)).collect(),
            share_session_timeout_ms: group.share_session_timeout_ms,
            share_heartbeat_interval_ms: group.share_heartbeat_interval_ms,
            share_assignment_interval: Duration::from_millis(group.share_assignment_interval_ms.unsigned_abs().into()),
            share_max_size: broker.share_group_max_size,
            streams_session_timeout_ms: group.streams_session_timeout_ms,
            streams_heartbeat_interval_ms: group.streams_heartbeat_interval_ms,
            streams_num_standby_replicas: group.streams_num_standby_replicas,
            streams_initial_rebalance_delay_ms: group.streams_initial_rebalance_delay_ms,
            streams_max_size: broker.streams_group_max_size,
            streams_groups: broker.streams_groups,
            migration: MigrationPolicy::by_name(&broker.consumer_group_migration_policy).unwrap_or_default(),
            offset_metadata_max_bytes: broker.offset_metadata_max_bytes,
            offsets_retention_ms: broker.offsets_retention_ms,
        }
    }

    pub(super) fn default_assignor(&self) -> Assignor {
        self.assignors.first().copied().unwrap_or_default()
    }
}

impl Default for GroupSettings {
    fn default() -> Self {
        let broker = BrokerConfig::default();
        GroupSettings::new(&broker, GroupConfig::resolve(None, &broker))
    }
}
