//! GET /v1/openapi.json: what is served below /v1, made of the endpoints themselves.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::kafka::Kafka;
use super::{config, groups, messages, overview, topics};
use crate::reload::Current;

#[derive(OpenApi)]
#[openapi(info(
    title = "krocket",
    description = "What an operator does: messages, scheduled, transactions, retry and dead letters, views, lookup, topics, \
                   groups, configuration. Errors are {\"error\": \"...\"} with a fitting status; lists are paged by an \
                   opaque `next`."
))]
struct Document;

/// The document, once it is complete.
type Text = Arc<OnceLock<String>>;

/// All endpoints below /v1: krocket's own and the features'.
pub fn routes(kafka: Kafka, current: Arc<Current>, features: OpenApiRouter) -> (Router, utoipa::openapi::OpenApi) {
    let text = Text::default();
    let (routes, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .merge(config::routes(current))
        .merge(topics::routes(kafka.clone()))
        .merge(groups::routes(kafka.clone()))
        .merge(overview::routes(kafka.clone()))
        .merge(messages::routes(kafka))
        .merge(OpenApiRouter::new().routes(routes!(openapi)).with_state(text.clone()))
        .merge(features)
        .split_for_parts();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let _ = text.set(document.to_json().expect("a document is JSON"));
    (routes, document)
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "openapi", responses((status = 200, body = Object)))]
async fn openapi(State(text): State<Text>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], text.get().cloned().unwrap_or_default())
}
