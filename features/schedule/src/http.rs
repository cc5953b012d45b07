//! `/v1/scheduled`: what an operator does with delayed messages.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use krocket_features::http::{ErrorBody, Page, Problem, blocking, limit};
use krocket_parking::rows::{end, repark, unpark};
use krocket_parking::{Claim, Ended, Entry, Listed, Locator, Outcome, Parking, Status};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub fn routes(parking: Arc<Parking>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, cancel))
        .routes(routes!(reschedule))
        .routes(routes!(fire))
        .with_state(parking)
}

/// A message that waits.
#[derive(Debug, Serialize, ToSchema)]
struct Scheduled {
    /// `topic:partition:offset` where it was produced.
    id: String,
    /// Epoch ms.
    deliver_ms: i64,
    /// The client's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    uniq_key: Option<String>,
    /// The topic that it is delivered to, where that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

fn scheduled(parking: &Parking, at: Locator, due: i64, entry: &Entry) -> Option<Scheduled> {
    let more = entry.more.as_ref();
    let target = more.and_then(|more| more.target.as_ref()).map(|(topic, _)| topic.clone());
    let uniq_key = entry.uniq().map(str::to_owned);
    Some(Scheduled { id: parking.id(at)?.to_string(), deliver_ms: due, uniq_key, target })
}

#[derive(Debug, Deserialize, IntoParams)]
struct Filter {
    /// Only of this topic.
    topic: Option<String>,
    /// Only with this UNIQ_KEY; needs `topic`.
    uniq_key: Option<String>,
    /// Due from this epoch ms on.
    from: Option<i64>,
    /// Due before this epoch ms.
    to: Option<i64>,
    /// At most so many.
    limit: Option<usize>,
    /// Where the last page ended.
    next: Option<String>,
}

/// Lists delayed messages, partition by partition, the soonest first.
#[utoipa::path(get, path = "/v1/scheduled", tag = "scheduled", params(Filter),
    responses((status = 200, body = Page<Scheduled>), (status = 400, body = ErrorBody)))]
async fn list(
    State(parking): State<Arc<Parking>>,
    Query(filter): Query<Filter>,
) -> Result<Json<Page<Scheduled>>, Problem> {
    blocking(move || list_now(&parking, &filter)).await
}

fn list_now(parking: &Parking, filter: &Filter) -> Result<Page<Scheduled>, Problem> {
    let limit = limit(filter.limit)?;
    let partitions = parking.partitions_of(filter.topic.as_deref())?;
    if let Some(uniq) = &filter.uniq_key {
        if filter.topic.is_none() {
            return Err(Problem::bad_request("`uniq_key` needs `topic`: keys are a topic's own"));
        }
        let mut items = Vec::new();
        for at in parking.by_uniq(&partitions, uniq)? {
            if let Status::Pending { due, entry } = parking.stored_status(at)?
                && entry.half().is_none()
            {
                items.extend(scheduled(parking, at, due, &entry));
            }
        }
        return Ok(Page { items, next: None });
    }
    let due = (filter.from.unwrap_or(0), filter.to);
    parking.page(&partitions, due, limit, filter.next.as_deref(), |Listed { at, due, entry, .. }| {
        scheduled(parking, at, due, &entry).filter(|_| entry.half().is_none())
    })
}

/// Shows one.
#[utoipa::path(get, path = "/v1/scheduled/{id}", tag = "scheduled",
    params(("id" = String, Path, description = "topic:partition:offset")),
    responses((status = 200, body = Scheduled), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn show(State(parking): State<Arc<Parking>>, Path(id): Path<String>) -> Result<Json<Scheduled>, Problem> {
    blocking(move || {
        let at = parking.locate_text(&id)?;
        let (due, entry) = pending(&id, parking.status(at)?)?;
        scheduled(&parking, at, due, &entry).ok_or_else(|| Problem::not_found(format!("{id}: the topic is gone")))
    })
    .await
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
struct Done {
    /// The message.
    id: String,
    /// `cancelled`, or `scheduled` for another time.
    state: &'static str,
    /// When it is delivered now, epoch ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_ms: Option<i64>,
}

/// Cancels one: once this is answered it is never delivered.
#[utoipa::path(delete, path = "/v1/scheduled/{id}", tag = "scheduled",
    params(("id" = String, Path, description = "topic:partition:offset")),
    responses((status = 200, body = Done), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn cancel(State(parking): State<Arc<Parking>>, Path(id): Path<String>) -> Result<Json<Done>, Problem> {
    let (_claim, at, due, _) = take(&parking, &id)?;
    let ended = Ended { outcome: Outcome::Cancelled, at: parking.ledger().now_ms(), by: None };
    parking.commit(unpark(at, due).into_iter().chain([end(at, &ended)]).collect()).await?;
    Ok(Json(Done { id, state: "cancelled", deliver_ms: None }))
}

#[derive(Debug, Deserialize, ToSchema)]
struct When {
    /// Epoch ms; past is at once.
    deliver_ms: i64,
}

/// Gives one another time.
#[utoipa::path(post, path = "/v1/scheduled/{id}/reschedule", tag = "scheduled", request_body = When,
    params(("id" = String, Path, description = "topic:partition:offset")),
    responses((status = 200, body = Done), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn reschedule(
    State(parking): State<Arc<Parking>>,
    Path(id): Path<String>,
    Json(when): Json<When>,
) -> Result<Json<Done>, Problem> {
    if !(0..i64::MAX).contains(&when.deliver_ms) {
        return Err(Problem::bad_request(format!(
            "`deliver_ms` is {}: a time in ms since 1970 is expected",
            when.deliver_ms
        )));
    }
    move_to(&parking, id, when.deliver_ms).await
}

/// Delivers one now.
#[utoipa::path(post, path = "/v1/scheduled/{id}/fire", tag = "scheduled",
    params(("id" = String, Path, description = "topic:partition:offset")),
    responses((status = 200, body = Done), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn fire(State(parking): State<Arc<Parking>>, Path(id): Path<String>) -> Result<Json<Done>, Problem> {
    let now = parking.ledger().now_ms();
    move_to(&parking, id, now).await
}

async fn move_to(parking: &Arc<Parking>, id: String, to: i64) -> Result<Json<Done>, Problem> {
    let (claim, at, due, entry) = take(parking, &id)?;
    parking.commit(repark(at, due, to, &entry).to_vec()).await?;
    drop(claim);
    parking.expect(at.0, to).stored();
    Ok(Json(Done { id, state: "scheduled", deliver_ms: Some(to) }))
}

/// Claims a pending message.
fn take(parking: &Arc<Parking>, id: &str) -> Result<(Claim, Locator, i64, Entry), Problem> {
    let at = parking.locate_text(id)?;
    let claim =
        parking.claim(at).ok_or_else(|| Problem::conflict(format!("{id} is being delivered or changed right now")))?;
    let (due, entry) = pending(id, parking.stored_status(at)?)?;
    Ok((claim, at, due, entry))
}

fn pending(id: &str, status: Status) -> Result<(i64, Entry), Problem> {
    match status {
        Status::Pending { entry, .. } if entry.half().is_some() => {
            Err(Problem::conflict(format!("{id} is a half message: see /v1/transactions")))
        }
        Status::Pending { due, entry } => Ok((due, entry)),
        Status::Busy => Err(Problem::conflict(format!("{id} is being delivered or changed right now"))),
        Status::Ended(ended) => Err(Problem::conflict(format!("{id} was {}", ended.outcome.words()))),
        Status::Delivered => Err(Problem::conflict(format!("{id} was delivered already"))),
        Status::Unknown => Err(Problem::not_found(format!("{id} is no delayed message"))),
    }
}
