//! The table of broker configs.

use std::sync::LazyLock;

use super::super::{ConfigDef, Kind, Promise, topic};

const MAX_INT: &str = "2147483647";
const COUNT: Kind = Kind::Int(1, i32::MAX);
/// Kafka ends at 10 for groups, and at 25 for the broker's bound.
pub(in crate::config) const DELIVERIES: Kind = Kind::Int(2, 100_000);
pub(in crate::config) const LOCK_DURATION: Kind = Kind::Int(1000, 3_600_000);
pub(in crate::config) const RECORD_LOCKS: Kind = Kind::Int(100, 10_000);

const fn row(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef { name, kind, default, synonym: "", doc, promise: Promise::ReadOnly }
}

/// The broker's own; each one is read by a field of [`super::BrokerConfig`] or tells how it was started.
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
    ConfigDef {
        promise: Promise::DefaultOnly("Who may delete which topics is a matter of ACLs."),
        ..row("delete.topic.enable", Kind::Boolean, "true", "Whether topics can be deleted.")
    },
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
        "log.retention.check.interval.ms",
        Kind::Long(1, i64::MAX),
        "300000",
        "The longest time between two rounds of retention and compaction, ms. krocket's are 10 seconds apart, or this where \
         it is less, and further apart where a round takes long.",
    ),
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
