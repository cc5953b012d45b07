//! HTTP for operators: /metrics, /livez, /readyz, and /v1 for everything that is done to messages, topics and groups.

pub mod auth;
pub mod config;
mod exporter;
pub mod groups;
pub mod health;
pub mod kafka;
pub mod messages;
pub mod openapi;
pub mod overview;
pub mod snapshots;
pub mod socket;
pub mod topics;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::handler::Handler as _;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any_service};
use axum::serve::ListenerExt;
use krocket_features::http::Problem;
use tokio_util::sync::CancellationToken;

pub use auth::Gate;
pub use exporter::Exported;
pub use health::{LateExporter, Readiness};
use socket::Socket;

/// The largest body of a request: about the largest message.
const MAX_BODY: usize = 16 << 20;
/// An error's text is read up to this length to be put into JSON.
const MAX_ERROR: usize = 64 << 10;

/// The endpoints below /v1; they come when the data folder is open.
pub type Late = Arc<OnceLock<MethodRouter>>;

/// Serves until `stop` is cancelled.
pub async fn serve(
    socket: Socket,
    readiness: Readiness,
    v1: Late,
    exporter: LateExporter,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let routes = routes(readiness, v1, exporter).into_make_service_with_connect_info::<SocketAddr>();
    // A tap, even of nothing, brings the peer's address into the requests.
    axum::serve(socket.tap_io(|_| {}), routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn routes(readiness: Readiness, v1: Late, exporter: LateExporter) -> Router {
    let health = health::routes(readiness.clone(), exporter);
    let later = move |request: Request| {
        let (v1, readiness) = (v1.clone(), readiness.clone());
        async move {
            match v1.get() {
                _ if !request.uri().path().starts_with("/v1") => StatusCode::NOT_FOUND.into_response(),
                Some(routes) => routes.clone().call(request, ()).await,
                None => {
                    Problem::unavailable(readiness().err().unwrap_or_else(|| "starting".to_owned())).into_response()
                }
            }
        }
    };
    health.fallback(later)
}

/// The endpoints below /v1 as one service; with a gate, for those only that it lets in.
pub fn v1(routes: Router, gate: Option<Gate>) -> MethodRouter {
    let mut routes = routes.fallback(|request: Request| async move {
        Problem::not_found(format!("there is no {}; /v1/openapi.json lists what there is", request.uri().path()))
    });
    if let Some(gate) = gate {
        routes = routes.layer(middleware::from_fn_with_state(gate, auth::guard));
    }
    let routes = routes.layer(DefaultBodyLimit::max(MAX_BODY)).layer(middleware::from_fn(errors_in_json));
    any_service(routes)
}

/// What axum itself refuses (a path, query or body that does not parse, a wrong method) in the words of all other errors.
async fn errors_in_json(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status();
    let json = HeaderValue::from_static("application/json");
    if !(status.is_client_error() || status.is_server_error()) || response.headers().get(CONTENT_TYPE) == Some(&json) {
        return response;
    }
    let allow = response.headers().get(ALLOW).cloned();
    let text = axum::body::to_bytes(response.into_body(), MAX_ERROR).await.unwrap_or_default();
    let message = match String::from_utf8_lossy(&text).trim_end() {
        "" if status == StatusCode::METHOD_NOT_ALLOWED => format!("{path} does not know {method}"),
        "" => status.canonical_reason().unwrap_or("error").to_owned(),
        text => text.to_owned(),
    };
    let mut response = Problem::new(status, message).into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}
