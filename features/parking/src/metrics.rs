//! What Prometheus hears of parked records.

use std::sync::LazyLock;

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntGaugeVec, register_gauge, register_histogram, register_int_counter,
    register_int_gauge_vec,
};

/// The metrics.
pub(crate) struct Metrics {
    pub(crate) parked: IntCounter,
    pub(crate) delivered: IntCounter,
    pub(crate) failed: IntCounter,
    pub(crate) lost: IntCounter,
    pub(crate) lateness: Histogram,
    /// By kind; counted every ten seconds at most.
    pub(crate) waiting: IntGaugeVec,
    pub(crate) overdue: Gauge,
}

pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let counter = |name: &str, help: &str| register_int_counter!(name, help).expect("registered once");
    let buckets = vec![0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];
    let lateness =
        HistogramOpts::new("krocket_delivery_lateness_seconds", "Delivery of a parked record after it was due.");
    Metrics {
        parked: counter("krocket_parked_total", "Records that were parked."),
        delivered: counter("krocket_delivered_total", "Parked records that were delivered."),
        failed: counter("krocket_delivery_failures_total", "Attempts to deliver that will be made again."),
        lost: counter("krocket_parked_lost_total", "Parked records whose bytes could not be read."),
        waiting: register_int_gauge_vec!("krocket_parked_records", "Records that wait, by what for", &["kind"])
            .expect("registered once"),
        overdue: register_gauge!(
            "krocket_parked_overdue_seconds",
            "How long the oldest undelivered record has been due when last counted"
        )
        .expect("registered once"),
        lateness: register_histogram!(lateness.buckets(buckets)).expect("registered once"),
    }
});

/// Counts records that were parked.
pub fn parked(count: u64) {
    METRICS.parked.inc_by(count);
}
