//! Spans to a collector.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use krocket_config::Config;
use krocket_stack::trace;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::{IntCounterVec, register_int_counter_vec};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;
use ureq::http::Uri;

use super::BoxLayer;

/// How long a batch may take to be sent, and all that is left at the end.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Where OTLP takes traces.
const PATH: &str = "/v1/traces";

static EXPORTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "krocket_trace_exports_total",
        "Batches of spans that the collector took, or did not: those are lost.",
        &["result"]
    )
    .expect("the name is valid and registered once")
});

/// What is on the way to the collector.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends what is left.
    pub fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(TIMEOUT) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// What is wrong with a collector's address.
pub fn check(endpoint: &str) -> Result<(), String> {
    address(endpoint).map(drop)
}

/// With OTLP's path where it has none.
fn address(endpoint: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "\"{endpoint}\" is no address of a collector: write \"http://HOST:4318\", its port for OTLP over HTTP, \
             without TLS"
        )
    };
    let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
    if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) {
        return Err(wrong());
    }
    match uri.path() {
        "" | "/" => Ok(format!("{}{PATH}", endpoint.trim_end_matches('/'))),
        _ => Ok(endpoint.to_owned()),
    }
}

/// The layer that collects spans, if there is a collector for them.
pub fn start<S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync>(
    config: &Config,
) -> Result<Option<(BoxLayer<S>, Traces)>, String> {
    let Some(endpoint) = &config.traces.endpoint else { return Ok(None) };
    let endpoint = address(endpoint)?;
    for result in ["ok", "failed"] {
        EXPORTS.with_label_values(&[result]);
    }
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector::new(&endpoint))
        .with_endpoint(endpoint)
        .with_timeout(TIMEOUT)
        .build()
        // A variable of OpenTelemetry's own, for example.
        .map_err(|error| format!("traces cannot be started: {error}"))?;
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource(config)).build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("krocket"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_filter(Targets::new().with_target(trace::TARGET, LevelFilter::TRACE));
    trace::switch_on();
    Ok(Some((layer.boxed(), Traces(provider))))
}

fn resource(config: &Config) -> Resource {
    Resource::builder()
        .with_service_name(config.traces.service_name.clone())
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", config.server.node_id.to_string()),
        ])
        .build()
}

/// The collector, which may be away: that is said once, and once when it is back.
#[derive(Debug)]
struct Collector {
    endpoint: String,
    agent: ureq::Agent,
    away: AtomicBool,
}

impl Collector {
    fn new(endpoint: &str) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build();
        Collector {
            endpoint: endpoint.to_owned(),
            agent: ureq::Agent::new_with_config(config),
            away: AtomicBool::new(false),
        }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (head, body) = request.into_parts();
        let (head, mut body) = self.agent.run(Request::from_parts(head, &*body))?.into_parts();
        Ok(Response::from_parts(head, body.read_to_vec()?.into()))
    }

    fn tell(&self, trouble: Option<String>) {
        let was_away = self.away.swap(trouble.is_some(), Ordering::Relaxed);
        EXPORTS.with_label_values(&[if trouble.is_some() { "failed" } else { "ok" }]).inc();
        match trouble {
            Some(why) if !was_away => {
                tracing::warn!(endpoint = self.endpoint, why, "the collector does not take traces; they are lost");
            }
            None if was_away => tracing::info!(endpoint = self.endpoint, "the collector takes traces again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    // It runs on the batch processor's own thread and may block.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.send(request);
        self.tell(match &answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("HTTP status {}", response.status())),
            Err(error) => Some(error.to_string()),
        });
        Ok(answer?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collectors_address_gets_otlps_path_where_it_has_none() {
        for (given, becomes) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("http://collector/otlp/v1/traces", "http://collector/otlp/v1/traces"),
        ] {
            assert_eq!(address(given).as_deref(), Ok(becomes));
        }
        for wrong in ["", "collector:4317", "https://collector:4318", "grpc://collector:4317", "http://", "/v1/traces"]
        {
            let why = check(wrong).expect_err(wrong);
            assert!(why.starts_with(&format!("\"{wrong}\" is no address of a collector: write")), "{why}");
        }
    }
}
