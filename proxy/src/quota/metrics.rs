//! How much clients are held up.

use std::sync::LazyLock;
use std::time::Duration;

use krocket_stack::security::QuotaKey;
use prometheus::{
    Counter, IntCounter, IntGauge, register_counter_vec, register_int_counter_vec, register_int_gauge_vec,
};

/// One quota's metrics.
pub(super) struct QuotaMetrics {
    seconds: Counter,
    requests: IntCounter,
    connections: IntGauge,
}

/// Counts a connection that is held up while it lives.
#[derive(Debug)]
pub(crate) struct Muted(&'static IntGauge);

/// The metrics of a quota.
pub(super) fn of(key: QuotaKey) -> &'static QuotaMetrics {
    static METRICS: LazyLock<Vec<QuotaMetrics>> =
        LazyLock::new(|| register().expect("names are valid and registered once"));
    &METRICS[key as usize]
}

fn register() -> prometheus::Result<Vec<QuotaMetrics>> {
    let seconds = register_counter_vec!(
        "krocket_quota_throttle_seconds_total",
        "How long clients were told to wait, by quota",
        &["quota"]
    )?;
    let requests = register_int_counter_vec!(
        "krocket_quota_throttled_requests_total",
        "Requests (of connection_creation_rate: connections) that were over a quota, by quota",
        &["quota"]
    )?;
    let connections = register_int_gauge_vec!(
        "krocket_quota_throttled_connections",
        "Client connections from which nothing is read for now, by quota",
        &["quota"]
    )?;
    let of = |key: QuotaKey| {
        let label = [key.name()];
        QuotaMetrics {
            seconds: seconds.with_label_values(&label),
            requests: requests.with_label_values(&label),
            connections: connections.with_label_values(&label),
        }
    };
    Ok(QuotaKey::ALL.into_iter().map(of).collect())
}

impl QuotaMetrics {
    pub(super) fn throttled(&self, delay: Duration) {
        self.requests.inc();
        self.seconds.inc_by(delay.as_secs_f64());
    }

    pub(super) fn mute(&'static self) -> Muted {
        self.connections.inc();
        Muted(&self.connections)
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
