//! Group configs (KIP-848, KIP-932, KIP-1071): the table and the typed view of one group's effective values.

use std::collections::BTreeMap;

use super::broker::{Bounded, DELIVERIES, LOCK_DURATION, RECORD_LOCKS};
use super::{BrokerConfig, ConfigDef, InvalidConfig, Kind, Promise, find};

const COUNT: Kind = Kind::Int(1, i32::MAX);
const GROUPS: Promise = Promise::Enforced("groups");
const SHARE: Promise = Promise::Enforced("share");

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

/// Every group config, by name. Streams groups have no warm-up tasks, and neither their configs.
pub static TABLE: &[ConfigDef] = &[
    row(
        "consumer.heartbeat.interval.ms",
        COUNT,
        "5000",
        "group.consumer.heartbeat.interval.ms",
        GROUPS,
        "How often members of the group send heartbeats, ms.",
    ),
    row(
        "consumer.session.timeout.ms",
        COUNT,
        "45000",
        "group.consumer.session.timeout.ms",
        GROUPS,
        "How long a member of the group may be silent before it is removed, ms.",
    ),
    row(
        "errors.deadletterqueue.copy.record.enable",
        Kind::Boolean,
        "false",
        "",
        SHARE,
        "Whether a dead letter of the share group is a copy of its record. Otherwise it has only the headers that tell of it. Those in krocket's own dead-letter topics are copies in any case.",
    ),
    row(
        "errors.deadletterqueue.topic.name",
        Kind::TopicName,
        "",
        "",
        SHARE,
        "The topic for dead letters of the share group. When empty, dlq. and the group's name, unless its retries are switched off by a rule.",
    ),
    row(
        "krocket.filter",
        Kind::String(&[]),
        "",
        "",
        SHARE,
        "Which records the share group gets: a tag expression or SQL92; all of them when empty. The others count as done with.",
    ),
    row(
        "krocket.retry.backoff",
        Kind::Backoff,
        "",
        "",
        SHARE,
        "How long a record waits after it was released or its lock was lost: waits such as 1s 5s 30s, of which the last goes on, or exponential, which doubles from 1s to 10m or from the first wait after it to the longest. When empty, what a rule for retries says that names the group; where none does, not at all.",
    ),
    row(
        "krocket.share.key.order",
        Kind::Boolean,
        "false",
        "",
        SHARE,
        "Whether records with the same key are delivered to the share group one at a time.",
    ),
    row(
        "krocket.share.priority.header",
        Kind::String(&[]),
        "",
        "",
        SHARE,
        "The header with a record's priority, a number: records with a higher one are delivered first. None when empty.",
    ),
    row(
        "share.assignment.interval.ms",
        Kind::Int(0, 15_000),
        "0",
        "group.share.assignment.interval.ms",
        GROUPS,
        "The shortest time between two assignments of the group, ms.",
    ),
    row(
        "share.auto.offset.reset",
        Kind::OffsetReset,
        "latest",
        "",
        SHARE,
        "Where the group starts in a partition that it has not read yet: latest, earliest or by_duration:PnDTnHnMn.nS.",
    ),
    row(
        "share.delivery.count.limit",
        DELIVERIES,
        "5",
        "group.share.delivery.count.limit",
        SHARE,
        "How often a record is delivered to the group before it counts as undeliverable.",
    ),
    row(
        "share.heartbeat.interval.ms",
        COUNT,
        "5000",
        "group.share.heartbeat.interval.ms",
        GROUPS,
        "How often members of the group send heartbeats, ms.",
    ),
    row(
        "share.isolation.level",
        Kind::String(&["read_committed", "read_uncommitted"]),
        "read_uncommitted",
        "",
        SHARE,
        "Whether the group gets records of transactions that are not committed.",
    ),
    row(
        "share.partition.max.record.locks",
        RECORD_LOCKS,
        "2000",
        "group.share.partition.max.record.locks",
        SHARE,
        "The most records of a partition that may be delivered to the group and not yet done with.",
    ),
    row(
        "share.record.lock.duration.ms",
        LOCK_DURATION,
        "30000",
        "group.share.record.lock.duration.ms",
        SHARE,
        "How long a member may keep a record before it is delivered again, ms.",
    ),
    row("share.renew.acknowledge.enable", Kind::Boolean, "true", "", SHARE, "Whether members may renew their locks."),
    row(
        "share.session.timeout.ms",
        COUNT,
        "45000",
        "group.share.session.timeout.ms",
        GROUPS,
        "How long a member of the group may be silent before it is removed, ms.",
    ),
    row(
        "streams.heartbeat.interval.ms",
        COUNT,
        "5000",
        "group.streams.heartbeat.interval.ms",
        GROUPS,
        "How often members of the group send heartbeats, ms.",
    ),
    row(
        "streams.initial.rebalance.delay.ms",
        Kind::Int(0, i32::MAX),
        "3000",
        "group.streams.initial.rebalance.delay.ms",
        GROUPS,
        "How long the group, when it has no members, waits for more of them before tasks are assigned, ms.",
    ),
    row(
        "streams.num.standby.replicas",
        Kind::Int(0, i32::MAX),
        "0",
        "group.streams.num.standby.replicas",
        GROUPS,
        "How many standbys follow each task that has a state.",
    ),
    row(
        "streams.session.timeout.ms",
        COUNT,
        "45000",
        "group.streams.session.timeout.ms",
        GROUPS,
        "How long a member of the group may be silent before it is removed, ms.",
    ),
];

/// What decides about a group's members. What becomes of a share group's records is [`super::ShareConfig`]'s matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// consumer.heartbeat.interval.ms
    pub consumer_heartbeat_interval_ms: i32,
    /// consumer.session.timeout.ms
    pub consumer_session_timeout_ms: i32,
    /// share.assignment.interval.ms
    pub share_assignment_interval_ms: i32,
    /// share.heartbeat.interval.ms
    pub share_heartbeat_interval_ms: i32,
    /// share.session.timeout.ms
    pub share_session_timeout_ms: i32,
    /// streams.heartbeat.interval.ms
    pub streams_heartbeat_interval_ms: i32,
    /// streams.initial.rebalance.delay.ms
    pub streams_initial_rebalance_delay_ms: i32,
    /// streams.num.standby.replicas
    pub streams_num_standby_replicas: i32,
    /// streams.session.timeout.ms
    pub streams_session_timeout_ms: i32,
}

impl GroupConfig {
    /// What holds for a group with these overrides. A stored value outside the broker's bounds is moved to the bound, as
    /// Kafka does when the bounds have changed since.
    pub fn resolve(overrides: Option<&BTreeMap<String, String>>, broker: &BrokerConfig) -> Self {
        let set = |name: &str| {
            let def = find(TABLE, name).expect("a name of the table");
            let text = overrides?.get(name)?;
            def.kind.parse(name, text).ok().map(|value| value.int())
        };
        let bounded = |name: &str, bounds: Bounded| set(name).map_or(bounds.value, |value| bounds.clamp(value));
        let clamp = |value: i32, (min, max): (i32, i32)| value.max(min).min(max);
        GroupConfig {
            consumer_heartbeat_interval_ms: set("consumer.heartbeat.interval.ms")
                .map_or(broker.consumer_heartbeat_interval_ms, |ms| {
                    clamp(ms, broker.consumer_heartbeat_interval_bounds)
                }),
            consumer_session_timeout_ms: set("consumer.session.timeout.ms")
                .map_or(broker.consumer_session_timeout_ms, |ms| clamp(ms, broker.consumer_session_timeout_bounds)),
            share_assignment_interval_ms: set("share.assignment.interval.ms")
                .unwrap_or(broker.share_assignment_interval_ms),
            share_heartbeat_interval_ms: set("share.heartbeat.interval.ms")
                .map_or(broker.share_heartbeat_interval_ms.value, |ms| broker.share_heartbeat_interval_ms.clamp(ms)),
            share_session_timeout_ms: set("share.session.timeout.ms")
                .map_or(broker.share_session_timeout_ms.value, |ms| broker.share_session_timeout_ms.clamp(ms)),
            streams_heartbeat_interval_ms: bounded(
                "streams.heartbeat.interval.ms",
                broker.streams_heartbeat_interval_ms,
            ),
            streams_initial_rebalance_delay_ms: set("streams.initial.rebalance.delay.ms")
                .unwrap_or(broker.streams_initial_rebalance_delay_ms),
            streams_num_standby_replicas: bounded("streams.num.standby.replicas", broker.streams_num_standby_replicas),
            streams_session_timeout_ms: bounded("streams.session.timeout.ms", broker.streams_session_timeout_ms),
        }
    }
}

/// Checks a group's new overrides against each other and the broker's bounds (GroupConfig.validateValues).
pub fn check_bounds(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Result<(), InvalidConfig> {
    let limits = |bounds: Bounded| (bounds.min, bounds.max);
    let bounds = [
        ("consumer", "heartbeat.interval.ms", broker.consumer_heartbeat_interval_bounds),
        ("consumer", "session.timeout.ms", broker.consumer_session_timeout_bounds),
        ("share", "delivery.count.limit", limits(broker.share_delivery_count_limit)),
        ("share", "heartbeat.interval.ms", limits(broker.share_heartbeat_interval_ms)),
        ("share", "partition.max.record.locks", limits(broker.share_partition_max_record_locks)),
        ("share", "record.lock.duration.ms", limits(broker.share_record_lock_duration_ms)),
        ("share", "session.timeout.ms", limits(broker.share_session_timeout_ms)),
        ("streams", "heartbeat.interval.ms", limits(broker.streams_heartbeat_interval_ms)),
        ("streams", "num.standby.replicas", limits(broker.streams_num_standby_replicas)),
        ("streams", "session.timeout.ms", limits(broker.streams_session_timeout_ms)),
    ];
    for (protocol, suffix, (min, max)) in bounds {
        let name = format!("{protocol}.{suffix}");
        let Some(text) = overrides.get(&name) else { continue };
        let def = find(TABLE, &name).expect("a name of the table");
        let value = def.kind.parse(&name, text)?.int();
        if value < min {
            return Err(InvalidConfig(format!(
                "{name} must be greater than or equal to group.{protocol}.min.{suffix}"
            )));
        }
        if value > max {
            let suffix = suffix.trim_start_matches("num.");
            return Err(InvalidConfig(format!("{name} must be less than or equal to group.{protocol}.max.{suffix}")));
        }
    }
    let config = GroupConfig::resolve(Some(overrides), broker);
    for (protocol, session_ms, heartbeat_ms) in [
        ("consumer", config.consumer_session_timeout_ms, config.consumer_heartbeat_interval_ms),
        ("share", config.share_session_timeout_ms, config.share_heartbeat_interval_ms),
        ("streams", config.streams_session_timeout_ms, config.streams_heartbeat_interval_ms),
    ] {
        if session_ms <= heartbeat_ms {
            return Err(InvalidConfig(format!(
                "{protocol}.session.timeout.ms must be greater than {protocol}.heartbeat.interval.ms"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_group_overrides_the_broker_within_its_bounds() {
        let broker = BrokerConfig::default();
        let session = |value| overrides("consumer.session.timeout.ms", value);
        assert_eq!(GroupConfig::resolve(None, &broker).consumer_session_timeout_ms, 45_000);
        assert_eq!(GroupConfig::resolve(Some(&session("50000")), &broker).consumer_session_timeout_ms, 50_000);
        assert_eq!(GroupConfig::resolve(Some(&session("90000")), &broker).consumer_session_timeout_ms, 60_000);
        assert_eq!(check_bounds(&session("50000"), &broker), Ok(()));
        for (value, why) in
            [("44999", "group.consumer.min.session.timeout.ms"), ("60001", "group.consumer.max.session.timeout.ms")]
        {
            let error = check_bounds(&session(value), &broker).expect_err(value).to_string();
            assert!(error.contains(why), "{error}");
        }
        check_bounds(&overrides("consumer.heartbeat.interval.ms", "1"), &broker).expect_err("below the least");
    }

    #[test]
    fn share_groups_have_bounds_of_their_own() {
        let broker = BrokerConfig::default();
        for (name, value, why) in [
            ("share.session.timeout.ms", "44999", "group.share.min.session.timeout.ms"),
            ("share.session.timeout.ms", "60001", "group.share.max.session.timeout.ms"),
            ("share.heartbeat.interval.ms", "4999", "group.share.min.heartbeat.interval.ms"),
            ("share.record.lock.duration.ms", "14999", "group.share.min.record.lock.duration.ms"),
            ("share.record.lock.duration.ms", "60001", "group.share.max.record.lock.duration.ms"),
            ("share.partition.max.record.locks", "4001", "group.share.max.partition.max.record.locks"),
        ] {
            let error = check_bounds(&overrides(name, value), &broker).expect_err(value).to_string();
            assert!(error.contains(why), "{error}");
        }
        for (name, value) in [("share.delivery.count.limit", "100000"), ("share.session.timeout.ms", "45000")] {
            assert_eq!(check_bounds(&overrides(name, value), &broker), Ok(()), "{name}");
        }
        assert_eq!(GroupConfig::resolve(None, &broker).share_session_timeout_ms, 45_000);
    }
}
