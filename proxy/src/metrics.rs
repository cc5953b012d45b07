//! What an operator looks for first: rates, latencies, sizes, errors; in the process's default registry.

use std::sync::LazyLock;

use krocket_protocol::{ApiKey, api};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, register_histogram_vec,
    register_int_counter, register_int_counter_vec, register_int_gauge, register_int_gauge_vec,
};

/// The wire's metrics.
pub struct Metrics {
    /// Open connections.
    pub connections: IntGauge,
    /// Connections accepted.
    pub accepted: IntCounter,
    /// Connections closed at once because too many were open.
    pub refused: IntCounter,
    /// Connections that ended in an error, by kind.
    pub errors: IntCounterVec,
    /// Handlers that panicked.
    pub panics: IntCounter,
    /// Bytes reserved for requests that are being read or answered.
    pub request_bytes_in_flight: IntGauge,
    /// How often a request had to wait because others held too many bytes.
    pub request_bytes_waits: IntCounter,
    /// TLS handshakes that failed, by listener.
    pub handshakes_failed: IntCounterVec,
    /// When a listener's certificate ends, epoch seconds.
    pub certificate_expiry: IntGaugeVec,
    /// Clients that proved who they are or failed to, by listener, mechanism and result.
    pub authentications: IntCounterVec,
    apis: Vec<Option<ApiMetrics>>,
}

/// One API's metrics, looked up once per process.
pub struct ApiMetrics {
    /// Requests begun.
    pub requests: IntCounter,
    /// Seconds from a request's last byte to the hand-over of its response to the writer.
    pub seconds: Histogram,
    /// Bytes of requests.
    pub request_bytes: IntCounter,
    /// Bytes of responses.
    pub response_bytes: IntCounter,
}

/// The process's metrics.
pub fn get() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> =
        LazyLock::new(|| Metrics::register().expect("names are valid and registered once"));
    &METRICS
}

impl Metrics {
    /// One API's metrics.
    ///
    /// # Panics
    /// For an API that is not in the API table.
    pub fn api(&self, key: ApiKey) -> &ApiMetrics {
        self.apis[key as usize].as_ref().expect("only served APIs are asked for")
    }

    fn register() -> prometheus::Result<Self> {
        let requests = register_int_counter_vec!("krocket_requests_total", "Requests, by API", &["api"])?;
        let seconds = register_histogram_vec!(
            HistogramOpts::new(
                "krocket_request_duration_seconds",
                "From a request's last byte to its response, by API"
            )
            .buckets(prometheus::exponential_buckets(0.000_1, 2.5, 14)?),
            &["api"]
        )?;
        let bytes_in = register_int_counter_vec!("krocket_request_bytes_total", "Bytes of requests, by API", &["api"])?;
        let bytes_out =
            register_int_counter_vec!("krocket_response_bytes_total", "Bytes of responses, by API", &["api"])?;
        let mut apis = Vec::new();
        for row in api::TABLE {
            let label = format!("{:?}", row.key);
            let label = [label.as_str()];
            apis.resize_with(row.key as usize + 1, || None);
            apis[row.key as usize] = Some(ApiMetrics {
                requests: requests.with_label_values(&label),
                seconds: seconds.with_label_values(&label),
                request_bytes: bytes_in.with_label_values(&label),
                response_bytes: bytes_out.with_label_values(&label),
            });
        }
        Ok(Metrics {
            connections: register_int_gauge!("krocket_connections", "Open client connections")?,
            accepted: register_int_counter!("krocket_connections_accepted_total", "Client connections accepted")?,
            refused: register_int_counter!(
                "krocket_connections_refused_total",
                "Client connections closed at once because too many were open"
            )?,
            errors: register_int_counter_vec!(
                Opts::new("krocket_connection_errors_total", "Client connections closed for an error, by kind"),
                &["kind"]
            )?,
            panics: register_int_counter!("krocket_handler_panics_total", "Requests whose handler panicked")?,
            request_bytes_in_flight: register_int_gauge!(
                "krocket_request_bytes_in_flight",
                "Bytes reserved for requests that are being read or answered"
            )?,
            request_bytes_waits: register_int_counter!(
                "krocket_request_bytes_waits_total",
                "Requests that waited because others held too many bytes"
            )?,
            handshakes_failed: register_int_counter_vec!(
                "krocket_tls_handshakes_failed_total",
                "TLS handshakes that failed, by listener",
                &["listener"]
            )?,
            certificate_expiry: register_int_gauge_vec!(
                "krocket_tls_certificate_expiry_timestamp_seconds",
                "When the certificate of a listener ends",
                &["listener"]
            )?,
            authentications: register_int_counter_vec!(
                "krocket_authentications_total",
                "Clients that proved who they are (ok) or failed to, by listener and mechanism",
                &["listener", "mechanism", "result"]
            )?,
            apis,
        })
    }
}
