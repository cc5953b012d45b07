//! `/v1/transactions`: half messages that have no end yet, and an operator's word on them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use krocket_features::MessageId;
use krocket_features::http::{ErrorBody, Page, Problem, limit, token, untoken};
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
    let listed = tokio::task::spawn_blocking(move || list_now(&parking, &filter)).await;
    listed.map_err(|error| Problem::unavailable(error.to_string()))?.map(Json)
}

fn list_now(parking: &Parking, filter: &Filter) -> Result<Page<Transaction>, Problem> {
    let limit = limit(filter.limit)?;
    if let Some(other) = filter.state.as_deref().filter(|state| !["pending", "set_aside"].contains(state)) {
        return Err(Problem::bad_request(format!("`state` is {other:?}: pending or set_aside is expected")));
    }
    let mut partitions = match &filter.topic {
        Some(name) => {
            parking.ledger().topic(name).ok_or_else(|| Problem::not_found(format!("no topic {name:?}")))?.partitions
        }
        None => parking.ledger().topics().into_iter().flat_map(|topic| topic.partitions).collect(),
    };
    partitions.sort_unstable();
    let begin = match filter.next.as_deref().map(untoken).transpose()? {
        None => None,
        Some(key) => {
            let parsed = || {
                let (partition, rest) = key.split_first_chunk()?;
                let (due, offset) = rest.split_first_chunk()?;
                Some((u32::from_be_bytes(*partition), i64::from_be_bytes(*due), i64::from_be_bytes(offset.try_into().ok()?)))
            };
            Some(parsed().ok_or_else(|| Problem::bad_request("`next` is not a token of this list"))?)
        }
    };
    let (mut items, mut last) = (Vec::new(), None);
    for partition in partitions {
        let after = match begin {
            Some((of, ..)) if partition < of => continue,
            Some((of, due, offset)) if partition == of => Some((due, offset)),
            _ => None,
        };
        parking.pending(partition, 0, after, &mut |Listed { at, due, entry, .. }| {
            if items.len() >= limit {
                return false;
            }
            let state = if due == SET_ASIDE { "set_aside" } else { "pending" };
            if let (Some(half), Some(id)) = (entry.half(), parking.id(at))
                && filter.state.as_deref().is_none_or(|wanted| wanted == state)
            {
                items.push(Transaction {
                    id: id.to_string(),
                    producer_group: half.group.clone(),
                    state,
                    checks: half.checks,
                    check_ms: Some(due).filter(|due| *due != SET_ASIDE),
                    uniq_key: entry.uniq().map(str::to_owned),
                });
                last = Some((partition, due, at.1));
            }
            true
        })?;
    }
    let full = items.len() >= limit;
    let next = last.filter(|_| full).map(|(partition, due, offset)| {
        token(&[&partition.to_be_bytes()[..], &due.to_be_bytes(), &offset.to_be_bytes()].concat())
    });
    Ok(Page { items, next })
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
    let parsed: MessageId = id.parse().map_err(|error| Problem::bad_request(format!("{error}")))?;
    let at = parking.locate(&parsed).ok_or_else(|| Problem::not_found(format!("{id}: no such topic or partition")))?;
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
