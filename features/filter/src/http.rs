//! /v1/views

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use krocket_features::http::{ErrorBody, Page, Paging, Problem};
use krocket_protocol::ErrorCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::define::{Refused, check_filter};
use crate::registry::Shared;
use crate::view::View;

pub(crate) fn routes(shared: Arc<Shared>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(check))
        .routes(routes!(show, delete))
        .with_state(shared)
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let status = match refused.code {
            ErrorCode::TopicAlreadyExists => StatusCode::CONFLICT,
            ErrorCode::UnknownTopicOrPartition => StatusCode::NOT_FOUND,
            ErrorCode::UnknownServerError | ErrorCode::KafkaStorageError => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, refused.message)
    }
}

/// A view and how far its index is.
#[derive(Debug, Serialize, ToSchema)]
struct ViewInfo {
    /// Its topic name.
    name: String,
    /// The topic that it shows a part of.
    source: String,
    /// What it shows.
    filter: String,
    /// `file` ([[views]]), `admin` (a topic with configs) or `subscription`.
    origin: &'static str,
    /// False for one that came with a subscription: the list of all topics leaves it out.
    configured: bool,
    /// `ready`, `indexing`, `no source` or `bad filter`.
    state: &'static str,
    /// Offsets of the source that are not indexed yet.
    lag: i64,
    /// Records that matched since the view was made, those that retention took included.
    matches: u64,
    /// Its partitions.
    partitions: Vec<PartitionInfo>,
}

/// A partition of a view.
#[derive(Debug, Serialize, ToSchema)]
struct PartitionInfo {
    /// Its index.
    partition: usize,
    /// First offset of the source that is still there.
    log_start: i64,
    /// Offset after the last match.
    high_watermark: i64,
    /// First offset of the source that is not evaluated yet.
    indexed: i64,
    /// End of the source.
    source_end: i64,
    /// Records that matched.
    matches: u64,
}

fn info(shared: &Shared, view: &View) -> ViewInfo {
    let partitions: Vec<PartitionInfo> = view
        .partitions
        .iter()
        .enumerate()
        .filter_map(|(partition, part)| {
            let source = shared.ledger.partition(part.source)?;
            let progress = part.state.borrow().progress.clone();
            Some(PartitionInfo {
                partition,
                log_start: source.log_start,
                high_watermark: progress.end.max(source.log_start),
                indexed: progress.next,
                source_end: source.high_watermark,
                matches: progress.matched,
            })
        })
        .collect();
    let from_file = shared.rules.get().views.iter().any(|configured| configured.name == view.name.as_str());
    let ready = view.partitions.iter().all(|part| part.state.borrow().caught_up);
    ViewInfo {
        name: view.name.to_string(),
        source: view.source.to_string(),
        filter: view.text.clone(),
        origin: if from_file {
            "file"
        } else if view.auto {
            "subscription"
        } else {
            "admin"
        },
        configured: !view.auto,
        state: match (&view.filter, view.source_id) {
            (Err(_), _) => "bad filter",
            (_, None) => "no source",
            _ if ready => "ready",
            _ => "indexing",
        },
        lag: partitions.iter().map(|part| (part.source_end - part.indexed).max(0)).sum(),
        matches: partitions.iter().map(|part| part.matches).sum(),
        partitions,
    }
}

/// Views by name.
#[utoipa::path(
    get, path = "/v1/views", tag = "views", params(Paging),
    responses((status = 200, body = Page<ViewInfo>), (status = 400, body = ErrorBody))
)]
async fn list(
    State(shared): State<Arc<Shared>>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<ViewInfo>>, Problem> {
    let all = shared.all();
    let mut names: Vec<&String> = all.by_name.keys().collect();
    names.sort_unstable();
    let Page { items, next } = paging.page(names, |name| name)?;
    let items = items.into_iter().filter_map(|name| all.name(name)).map(|view| info(&shared, view)).collect();
    Ok(Json(Page { items, next }))
}

/// One view.
#[utoipa::path(
    get, path = "/v1/views/{name}", tag = "views",
    responses((status = 200, body = ViewInfo), (status = 404, body = ErrorBody))
)]
async fn show(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Result<Json<ViewInfo>, Problem> {
    let all = shared.all();
    let view = all.name(&name).ok_or_else(|| unknown(&name))?;
    Ok(Json(info(&shared, view)))
}

fn unknown(name: &str) -> Problem {
    Problem::not_found(format!("there is no view \"{name}\""))
}

/// A view that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewView {
    /// Its topic name.
    name: String,
    /// The topic that it shows a part of.
    source: String,
    /// Tags (`paid || refunded`) or SQL (`TAGS = 'paid' AND amount > 1000`).
    filter: String,
}

/// Makes a view. It is a topic with the partitions of its source.
#[utoipa::path(
    post, path = "/v1/views", tag = "views", request_body = NewView,
    responses(
        (status = 201, body = ViewInfo), (status = 400, body = ErrorBody),
        (status = 409, description = "There is a topic of that name", body = ErrorBody)
    )
)]
async fn create(
    State(shared): State<Arc<Shared>>,
    Json(new): Json<NewView>,
) -> Result<(StatusCode, Json<ViewInfo>), Problem> {
    shared.create(&*shared.next, &new.name, &new.source, &new.filter, false).await?;
    let all = shared.all();
    let view = all.name(&new.name).ok_or_else(|| unknown(&new.name))?;
    Ok((StatusCode::CREATED, Json(info(&shared, view))))
}

/// Removes a view. Its source keeps its records.
#[utoipa::path(
    delete, path = "/v1/views/{name}", tag = "views",
    responses(
        (status = 204), (status = 404, body = ErrorBody),
        (status = 409, description = "The configuration file has it", body = ErrorBody)
    )
)]
async fn delete(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    shared.all().name(&name).ok_or_else(|| unknown(&name))?;
    if shared.rules.get().views.iter().any(|view| view.name == name) {
        return Err(Problem::conflict(format!(
            "\"{name}\" is in the configuration's [[views]]: remove it there first"
        )));
    }
    shared.delete(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A filter to be checked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// Tags or SQL.
    filter: String,
}

/// What is known of a filter.
#[derive(Debug, Serialize, ToSchema)]
struct Checked {
    /// True when a view can have it.
    ok: bool,
    /// Where it is not understood, counted in characters from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// What is wrong and what would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Says whether a filter is understood, and where not.
#[utoipa::path(
    post, path = "/v1/views/check", tag = "views", request_body = Filter,
    responses((status = 200, body = Checked), (status = 400, description = "It is not understood", body = ErrorBody))
)]
async fn check(Json(filter): Json<Filter>) -> Result<Json<Checked>, Problem> {
    match check_filter(&filter.filter) {
        Ok(_) => Ok(Json(Checked { ok: true, column: None, message: None })),
        Err(error) => Err(Problem::bad_request(error.to_string())),
    }
}
