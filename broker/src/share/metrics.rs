//! Prometheus metrics of share groups.

use std::sync::LazyLock;

use prometheus::{IntCounter, IntCounterVec, register_int_counter, register_int_counter_vec};

pub(super) struct Metrics {
    pub(super) delivered: IntCounter,
    /// By ACCEPT, RELEASE, REJECT or RENEW.
    pub(super) acknowledged: IntCounterVec,
    pub(super) lost_locks: IntCounter,
    pub(super) dead: IntCounter,
}

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let counter = |name, help| register_int_counter!(name, help).expect("metric names are unique");
    let labelled =
        |name, help, label| register_int_counter_vec!(name, help, &[label]).expect("metric names are unique");
    Metrics {
        delivered: counter("krocket_share_delivered_records_total", "Records given to members of share groups"),
        acknowledged: labelled(
            "krocket_share_acknowledged_records_total",
            "Records that members of share groups answered for",
            "answer",
        ),
        lost_locks: counter("krocket_share_lost_locks_total", "Records whose lock ended before an answer"),
        dead: counter("krocket_share_dead_records_total", "Records written to dead-letter topics"),
    }
});
