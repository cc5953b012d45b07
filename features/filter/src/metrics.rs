//! What an operator wants to know of views, in Prometheus's default registry.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, IntGaugeVec, register_int_counter_vec, register_int_gauge_vec};

pub(crate) struct Metrics {
    pub(crate) evaluated: IntCounterVec,
    pub(crate) matched: IntCounterVec,
    pub(crate) lag: IntGaugeVec,
}

pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    evaluated: register_int_counter_vec!(
        "krocket_view_evaluated_records_total",
        "Records of the source that the filter was asked about",
        &["view"]
    )
    .expect("metric names are unique"),
    matched: register_int_counter_vec!(
        "krocket_view_matched_records_total",
        "Records that the filter let through",
        &["view"]
    )
    .expect("metric names are unique"),
    lag: register_int_gauge_vec!(
        "krocket_view_lag_offsets",
        "Offsets of the source that are not indexed yet",
        &["view"]
    )
    .expect("metric names are unique"),
});

impl Metrics {
    /// A view is gone.
    pub(crate) fn forget(&self, view: &str) {
        let _ = self.evaluated.remove_label_values(&[view]);
        let _ = self.matched.remove_label_values(&[view]);
        let _ = self.lag.remove_label_values(&[view]);
    }
}
