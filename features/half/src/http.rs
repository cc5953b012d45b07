//! `/v1/transactions`: half messages that have no end yet, and an operator's word on them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use krocket_features::http::{ErrorBody, Page, Problem, blocking, limit};
use krocket_parking::rows::repark;
use krocket_parking::{Listed, Parking, Status};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::check::{SET_ASIDE, with_checks};
use crate::layer::end_rows;

/// The routes.
pub fn routes(parking: Arc<Parking>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(commit))
        .routes(routes!(rollback))
        .routes(routes!(resume))
        .with_state(parking)
}

/// A half message.
#[derive(Debug, Serialize, ToSchema)]
struct Transaction {
    /// `topic:partition:offset` where it was produced.
    id: String,
    /// Who is asked how it ends.
    producer_group: String,
    /// `pending`, or `set_aside` after the last check.
    state: &'static str,
    /// Checks that somebody could have read.
    checks: u32,
    /// When it is asked about next, epoch ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    check_ms: Option<i64>,
    /// The client's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    uniq_key: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
struct Filter {
    /// Only of this topic.
    topic: Option<String>,
    /// `pending` or `set_aside`.
    state: Option<String>,
    /// At most so many.
    limit: Option<usize>,
    /// Where the last page ended.
    next: Option<String>,
}

/// Lists half messages that have no end, partition by partition.
#[utoipa::path(get, path = "/v1/transactions", tag = "transactions", params(Filter),
    responses((status = 200, body = Page<Transaction>), (status = 400, body = ErrorBody)))]
async fn list(
    State(parking): State<Arc<Parking>>,
    Query(filter): Query<Filter>,
) -> Result<Json<Page<Transaction>>, Problem> {
    blocking(move || list_now(&parking, &filter)).await
}

fn list_now(parking: &Parking, filter: &Filter) -> Result<Page<Transaction>, Problem> {
    let limit = limit(filter.limit)?;
    if let Some(other) = filter.state.as_deref().filter(|state| !["pending", "set_aside"].contains(state)) {
        return Err(Problem::bad_request(format!("`state` is {other:?}: pending or set_aside is expected")));
    }
    let partitions = parking.partitions_of(filter.topic.as_deref())?;
    parking.page(&partitions, (0, None), limit, filter.next.as_deref(), |Listed { at, due, entry, .. }| {
        let state = if due == SET_ASIDE { "set_aside" } else { "pending" };
        let (half, id) = (entry.half()?, parking.id(at)?);
        filter.state.as_deref().is_none_or(|wanted| wanted == state).then(|| Transaction {
            id: id.to_string(),
            producer_group: half.group.clone(),
            state,
            checks: half.checks,
            check_ms: Some(due).filter(|due| *due != SET_ASIDE),
            uniq_key: entry.uniq().map(str::to_owned),
        })
    })
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
struct Done {
    /// The message.
    id: String,
    /// `committed`, `rolled_back` or `pending`.
    state: &'static str,
}

/// Makes one visible.
#[utoipa::path(post, path = "/v1/transactions/{id}/commit", tag = "transactions",
    params(("id" = String, Path, description = "topic:partition:offset")),
    responses((status = 200, body = Done), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn commit(State(parking): State<Arc<Parking>>, Path(id): Path<String>) -> Result<Json<Done>, Problem> {
    change(&parking, id, Word::Commit).await
}

/// Makes sure that one never is visible.
#[utoipa::path(post, path = "/v1/transactions/{id}/rollback", tag = "transactions",
    params(("id" = String, Path, description = "topic:partition:offset")),
    responses((status = 200, body = Done), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn rollback(State(parking): State<Arc<Parking>>, Path(id): Path<String>) -> Result<Json<Done>, Problem> {
    change(&parking, id, Word::Rollback).await
}

/// Has one asked about anew, from its first check on.
#[utoipa::path(post, path = "/v1/transactions/{id}/resume", tag = "transactions",
    params(("id" = String, Path, description = "topic:partition:offset")),
    responses((status = 200, body = Done), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn resume(State(parking): State<Arc<Parking>>, Path(id): Path<String>) -> Result<Json<Done>, Problem> {
    change(&parking, id, Word::Resume).await
}

#[derive(Clone, Copy)]
enum Word {
    Commit,
    Rollback,
    Resume,
}

async fn change(parking: &Arc<Parking>, id: String, word: Word) -> Result<Json<Done>, Problem> {
    let at = parking.locate_text(&id)?;
    let claim = parking.claim(at).ok_or_else(|| Problem::conflict(format!("{id} is being changed right now")))?;
    if let Some(ended) = parking.ended(at)? {
        return Err(Problem::conflict(format!("{id} was {} already", ended.outcome.words())));
    }
    let Status::Pending { due, entry } = parking.stored_status(at)? else {
        return Err(Problem::not_found(format!("{id} is no half message without an end")));
    };
    let now = parking.ledger().now_ms();
    let (rows, expected, state) = match word {
        Word::Resume if entry.half().is_some() => {
            (repark(at, due, now, &with_checks(&entry, 0)).to_vec(), Some(now), "pending")
        }
        Word::Resume => return Err(Problem::conflict(format!("{id} is delayed, not a half message"))),
        Word::Commit | Word::Rollback => {
            let commit = matches!(word, Word::Commit);
            let ended = end_rows(at, due, &entry, commit, None, now);
            let (rows, expected) =
                ended.ok_or_else(|| Problem::conflict(format!("{id} is delayed, not a half message")))?;
            (rows, expected, if commit { "committed" } else { "rolled_back" })
        }
    };
    parking.commit(rows).await?;
    drop(claim);
    if let Some(due) = expected {
        parking.expect(at.0, due).stored();
    }
    Ok(Json(Done { id, state }))
}
