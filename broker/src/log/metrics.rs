//! What an operator looks for first, in Prometheus's default registry.

use std::sync::LazyLock;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntGauge, exponential_buckets, register_histogram, register_int_counter,
    register_int_gauge,
};

/// The log's metrics; one set per process.
pub(super) struct Metrics {
    pub(super) appended_bytes: IntCounter,
    pub(super) appended_records: IntCounter,
    pub(super) fetched_bytes: IntCounter,
    pub(super) append_seconds: Histogram,
    pub(super) sync_seconds: Histogram,
    pub(super) group_batches: Histogram,
    pub(super) append_errors: IntCounter,
    pub(super) damaged_reads: IntCounter,
    pub(super) expired_bytes: IntCounter,
    pub(super) compacted_bytes: IntCounter,
    pub(super) disk_free_bytes: IntGauge,
    pub(super) disk_low: IntGauge,
}

pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let counter = |name, help| register_int_counter!(name, help).expect("metric names are unique");
    let gauge = |name, help| register_int_gauge!(name, help).expect("metric names are unique");
    let histogram = |name, help, buckets| {
        register_histogram!(HistogramOpts::new(name, help).buckets(buckets)).expect("metric names are unique")
    };
    let seconds = || exponential_buckets(20e-6, 2.0, 18).expect("positive");
    Metrics {
        appended_bytes: counter("krocket_log_appended_bytes_total", "Bytes of record batches appended"),
        appended_records: counter("krocket_log_appended_records_total", "Records appended"),
        fetched_bytes: counter("krocket_log_fetched_bytes_total", "Bytes of record batches read for fetches"),
        append_seconds: histogram("krocket_log_append_seconds", "Time to write one group to log and index", seconds()),
        sync_seconds: histogram("krocket_log_sync_seconds", "Time of one fdatasync round", seconds()),
        group_batches: histogram(
            "krocket_log_group_batches",
            "Frames written together",
            exponential_buckets(1.0, 2.0, 12).expect("positive"),
        ),
        damaged_reads: counter(
            "krocket_log_damaged_reads_total",
            "Batches on disk that were found damaged when they were read, each time",
        ),
        append_errors: counter("krocket_log_append_errors_total", "Groups that could not be written"),
        expired_bytes: counter("krocket_log_expired_bytes_total", "Bytes of batches that retention removed"),
        compacted_bytes: counter("krocket_log_compacted_bytes_total", "Bytes that compaction saved"),
        disk_free_bytes: gauge(
            "krocket_disk_free_bytes",
            "Bytes free on the data folder's file system when last looked at",
        ),
        disk_low: gauge("krocket_disk_low", "1 while producers are refused because the disk is nearly full"),
    }
});
