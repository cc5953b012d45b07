//! `GET /v1/retry/{group}`: what waits in a group's retry topic.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use bytes::Bytes;
use krocket_config::rules::Live;
use krocket_features::escape;
use krocket_features::headers::{ERROR, MAX_DECOMPRESSED, ORIGIN_MESSAGE_ID, REAL_TOPIC, RECONSUME_TIMES};
use krocket_features::http::{ErrorBody, Page, Paging, Problem, blocking, limit};
use krocket_parking::{Entry, Listed, Locator, Parking};
use krocket_protocol::records::{BatchHeader, Records};
use krocket_stack::LedgerError;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(Clone)]
struct Waiting {
    parking: Arc<Parking>,
    rules: Live,
}

/// The routes.
pub fn routes(parking: Arc<Parking>, rules: Live) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).with_state(Waiting { parking, rules })
}

/// A nacked message that waits for its next attempt.
#[derive(Debug, Serialize, ToSchema)]
struct WaitingRetry {
    /// The nack's id, which `/v1/scheduled/{id}` takes as well.
    id: String,
    /// Id of the first copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_message_id: Option<String>,
    /// The topic that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    real_topic: Option<String>,
    /// Which retry the next one is, from 1 on; how many there were where it is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    reconsume_times: Option<String>,
    /// When it comes back, epoch ms.
    due_ms: i64,
    /// True for a dead letter that `max_dead_per_minute` holds back.
    dead: bool,
    /// What the consumer said.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Messages of a group that wait for a retry, partition by partition, the soonest first.
#[utoipa::path(get, path = "/v1/retry/{group}", tag = "retry",
    params(("group" = String, Path, description = "consumer group"), Paging),
    responses((status = 200, body = Page<WaitingRetry>), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn list(
    State(waiting): State<Waiting>,
    Path(group): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<WaitingRetry>>, Problem> {
    blocking(move || {
        let Waiting { parking, rules } = &waiting;
        let limit = limit(paging.limit)?;
        let none = || Problem::not_found(format!("group {group:?} has no retries"));
        let topic = escape::topic(&rules.get().prefixes.retry, &group).ok_or_else(none)?;
        let partitions = parking.ledger().topic(&topic).ok_or_else(none)?.partitions;
        let next = paging.next.as_deref();
        let Page { items, next } = parking
            .page(&partitions, (0, None), limit, next, |listed| Some((parking.id(listed.at)?.to_string(), listed)))?;
        let items: Result<_, Problem> =
            items.into_iter().map(|(id, listed)| Ok(shown(id, &listed, reason(parking, listed.at)?))).collect();
        Ok(Page { items: items?, next })
    })
    .await
}

fn shown(id: String, Listed { due, entry, .. }: &Listed, reason: Option<String>) -> WaitingRetry {
    WaitingRetry {
        id,
        origin_message_id: header(entry, ORIGIN_MESSAGE_ID),
        real_topic: header(entry, REAL_TOPIC),
        reconsume_times: header(entry, RECONSUME_TIMES),
        due_ms: *due,
        dead: entry.more.as_ref().is_some_and(|more| more.target.is_some()),
        reason,
    }
}

/// What the delivered record will say.
fn header(entry: &Entry, name: &str) -> Option<String> {
    let headers = &entry.more.as_ref()?.headers;
    headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
}

/// What the nack says; nothing where its bytes say nothing that can be read.
fn reason(parking: &Parking, (partition, offset): Locator) -> Result<Option<String>, LedgerError> {
    let stored = parking.ledger().batches(partition, offset, 1)?;
    let read = |bytes: &Bytes| {
        let header = BatchHeader::read(bytes).ok()?;
        let records = Records::open(bytes, &header, MAX_DECOMPRESSED).ok()?;
        let nack = records.iter().map_while(Result::ok).find(|record| record.offset == offset)?;
        nack.header(ERROR.as_bytes())?.map(|reason| String::from_utf8_lossy(reason).into_owned())
    };
    Ok(stored.first().and_then(|stored| read(&stored.batch)))
}
