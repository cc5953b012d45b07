//! Is krocket alive, can it serve, how is it doing: /livez, /readyz, /metrics.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Encoder, TextEncoder};

use super::exporter::{self, Exported};
use super::kafka::Kafka;

/// Says whether clients can be served: nothing, or the reason why not.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Whom to ask for topics and groups, once the data folder is open.
pub type LateExporter = Arc<OnceLock<(Kafka, Exported)>>;

/// The endpoints.
pub(super) fn routes(readiness: Readiness, exporter: LateExporter) -> Router {
    let metrics = Router::new().route("/metrics", get(metrics)).with_state(exporter);
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(readiness)
        .merge(metrics)
}

async fn metrics(State(exporter): State<LateExporter>) -> impl IntoResponse {
    let mut families = prometheus::gather();
    if let Some((kafka, exported)) = exporter.get() {
        match exporter::gather(kafka, *exported).await {
            Ok(more) => families.extend(more),
            Err(problem) => tracing::warn!(reason = problem.message, "metrics without topics and groups"),
        }
    }
    let mut text = Vec::new();
    match TextEncoder::new().encode(&families, &mut text) {
        Ok(()) => Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))),
    }
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    match readiness() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{serve, socket::Socket};
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn readiness_tells_the_reason_and_liveness_does_not_care() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let failed = Arc::new(AtomicBool::new(false));
        let readiness: Readiness = Arc::new({
            let failed = failed.clone();
            move || if failed.load(Ordering::SeqCst) { Err("the log stopped".to_owned()) } else { Ok(()) }
        });
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(
            Socket::new(listener, None),
            readiness,
            Default::default(),
            Default::default(),
            stop.clone(),
        ));
        let get = async |path: &str| {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
            let request = format!("GET {path} HTTP/1.1\r\nHost: krocket\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("sends");
            let mut response = String::new();
            stream.read_to_string(&mut response).await.expect("text");
            response
        };
        assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));

        failed.store(true, Ordering::SeqCst);

        let response = get("/readyz").await;
        assert!(response.starts_with("HTTP/1.1 503") && response.ends_with("the log stopped\n"), "{response}");
        assert!(get("/livez").await.starts_with("HTTP/1.1 200"));
        stop.cancel();
        server.await.expect("no panic").expect("no error");
    }
}
