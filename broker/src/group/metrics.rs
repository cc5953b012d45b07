//! What an operator looks for first, in Prometheus's default registry.

use std::sync::LazyLock;

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use prometheus::{register_int_counter, register_int_counter_vec, register_int_gauge};

/// The groups' metrics; one set per process.
pub(super) struct Metrics {
    pub(super) groups: IntGauge,
    /// By protocol.
    pub(super) rebalances: IntCounterVec,
    pub(super) offset_commits: IntCounter,
    pub(super) expired_offsets: IntCounter,
    /// By why.
    pub(super) removed_members: IntCounterVec,
}

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let counter = |name, help| register_int_counter!(name, help).expect("metric names are unique");
    let labelled =
        |name, help, label| register_int_counter_vec!(name, help, &[label]).expect("metric names are unique");
    Metrics {
        groups: register_int_gauge!("krocket_groups", "Groups in memory").expect("metric names are unique"),
        rebalances: labelled(
            "krocket_group_rebalances_total",
            "Generations begun and target assignments computed",
            "protocol",
        ),
        offset_commits: counter("krocket_group_offset_commits_total", "Offsets committed, one per partition"),
        expired_offsets: counter("krocket_group_expired_offsets_total", "Committed offsets that expired"),
        removed_members: labelled("krocket_group_removed_members_total", "Members that left or were removed", "why"),
    }
});
