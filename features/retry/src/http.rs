//! `/v1/dlq`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use krocket_features::headers::{ORIGIN_MESSAGE_ID, REAL_TOPIC, RECONSUME_TIMES};
use krocket_features::http::{ErrorBody, Page, Paging, Problem, blocking, limit, message_id, place, unplace};
use krocket_stack::ledger::TopicInfo;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::redrive::{DeadLetters, Letter, Which};

/// The routes of the dead letters.
pub fn routes(letters: Arc<DeadLetters>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(groups))
        .routes(routes!(list))
        .routes(routes!(redrive, redrive_status))
        .routes(routes!(purge))
        .with_state(letters)
}

/// The dead letters of a group.
#[derive(Debug, Serialize, ToSchema)]
struct Group {
    /// The consumer group.
    group: String,
    /// Where its dead letters are.
    topic: String,
    /// How many there are.
    messages: u64,
}

/// Groups with a dead-letter topic.
#[utoipa::path(get, path = "/v1/dlq", tag = "dlq", responses((status = 200, body = Page<Group>)))]
async fn groups(State(letters): State<Arc<DeadLetters>>) -> Result<Json<Page<Group>>, Problem> {
    blocking(move || {
        let mut items = Vec::new();
        for (group, topic) in letters.groups() {
            let mut messages = 0;
            letters.visit(&topic, None, &mut |_| {
                messages += 1;
                true
            })?;
            items.push(Group { group, topic: topic.name.to_string(), messages });
        }
        Ok(Page { items, next: None })
    })
    .await
}

/// A dead letter.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetter {
    /// Its own id, for redrive.
    id: String,
    /// Id of the first copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_message_id: Option<String>,
    /// The topic that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    real_topic: Option<String>,
    /// How often it was retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    reconsume_times: Option<String>,
    /// When it died, epoch ms.
    dead_ms: i64,
    /// What the consumer said last.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// True once it was sent back.
    redriven: bool,
    /// As text; what is not UTF-8 is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// As text; what is not UTF-8 is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

fn shown(letter: Letter, redriven: bool) -> DeadLetter {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    DeadLetter {
        id: letter.id.to_string(),
        origin_message_id: letter.header(ORIGIN_MESSAGE_ID),
        real_topic: letter.header(REAL_TOPIC),
        reconsume_times: letter.header(RECONSUME_TIMES),
        dead_ms: letter.timestamp,
        reason: letter.header("__dlq.errors.message"),
        redriven,
        key: text(&letter.key),
        value: text(&letter.value),
    }
}

/// The dead letters of a group, in the order of partitions and offsets.
#[utoipa::path(get, path = "/v1/dlq/{group}", tag = "dlq", params(("group" = String, Path, description = "consumer group"), Paging),
    responses((status = 200, body = Page<DeadLetter>), (status = 404, body = ErrorBody)))]
async fn list(
    State(letters): State<Arc<DeadLetters>>,
    Path(group): Path<String>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<DeadLetter>>, Problem> {
    blocking(move || {
        let limit = limit(paging.limit)?;
        let topic = topic(&letters, &group)?;
        let from = match unplace::<2>(paging.next.as_deref())? {
            None => None,
            Some([index, offset]) => Some((i32::try_from(index).map_err(|_| Problem::no_token())?, offset)),
        };
        let mut found = Vec::new();
        letters.visit(&topic, from, &mut |letter| {
            found.push(letter);
            found.len() <= limit
        })?;
        let next = found.get(limit).map(|letter| place([i64::from(letter.id.partition), letter.id.offset]));
        found.truncate(limit);
        let mut items = Vec::new();
        for letter in found {
            let redriven = letters.was_redriven(&letter)?;
            items.push(shown(letter, redriven));
        }
        Ok(Page { items, next })
    })
    .await
}

/// Which dead letters: ids, all, or a time range.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Selection {
    /// Message ids in the dead-letter topic.
    ids: Option<Vec<String>>,
    /// All there are.
    #[serde(default)]
    all: bool,
    /// Died at this epoch ms or later.
    from: Option<i64>,
    /// Died before this epoch ms.
    to: Option<i64>,
    /// At most so many a second.
    rate: Option<u32>,
}

impl Selection {
    fn which(&self) -> Result<Which, Problem> {
        let ids = self.ids.as_ref().map(|ids| ids.iter().map(|id| message_id(id)).collect::<Result<Vec<_>, _>>());
        let ids = ids.transpose()?;
        let range = self.from.is_some() || self.to.is_some();
        match (&ids, self.all, range) {
            (Some(_), false, false) | (None, true, false) | (None, false, true) => {}
            _ => return Err(Problem::bad_request("say which: `ids`, or `all`: true, or `from` and `to`")),
        }
        if self.rate == Some(0) {
            return Err(Problem::bad_request("`rate` is 0: at least 1 a second is expected"));
        }
        Ok(Which { ids, from: self.from.unwrap_or(i64::MIN), to: self.to.unwrap_or(i64::MAX) })
    }
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
struct Redriven {
    /// Sent back to their topics.
    redriven: u64,
    /// Had been before.
    skipped: u64,
}

/// Sends dead letters back to the topics that they came from; each goes once, ever.
#[utoipa::path(post, path = "/v1/dlq/{group}/redrive", tag = "dlq", request_body = Selection,
    params(("group" = String, Path, description = "consumer group")),
    responses((status = 200, body = Redriven), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
async fn redrive(
    State(letters): State<Arc<DeadLetters>>,
    Path(group): Path<String>,
    Json(selection): Json<Selection>,
) -> Result<Json<Redriven>, Problem> {
    let which = selection.which()?;
    let topic = topic(&letters, &group)?;
    // It goes on when the client does not wait for it.
    let work = tokio::spawn(async move { letters.redrive(&group, topic, which, selection.rate).await });
    let done = work.await.map_err(|error| Problem::unavailable(error.to_string()))?;
    let (redriven, skipped) = done.map_err(Problem::conflict)?;
    Ok(Json(Redriven { redriven, skipped }))
}

/// How far a redrive is.
#[derive(Debug, Serialize, ToSchema)]
struct RedriveStatus {
    /// `idle` or `redriving`.
    state: &'static str,
    /// Dead letters that are through.
    done: u64,
    /// Of so many.
    total: u64,
}

/// How far the redrive of a group's dead letters is.
#[utoipa::path(get, path = "/v1/dlq/{group}/redrive", tag = "dlq",
    params(("group" = String, Path, description = "consumer group")),
    responses((status = 200, body = RedriveStatus), (status = 404, body = ErrorBody)))]
async fn redrive_status(
    State(letters): State<Arc<DeadLetters>>,
    Path(group): Path<String>,
) -> Result<Json<RedriveStatus>, Problem> {
    topic(&letters, &group)?;
    let progress = letters.progress(&group);
    let (done, total) = progress.unwrap_or_default();
    Ok(Json(RedriveStatus { state: if progress.is_some() { "redriving" } else { "idle" }, done, total }))
}

/// What was removed.
#[derive(Debug, Serialize, ToSchema)]
struct Purged {
    /// Dead letters that are gone.
    purged: u64,
}

/// Removes dead letters for good: all, or those that died before `to`.
#[utoipa::path(post, path = "/v1/dlq/{group}/purge", tag = "dlq", request_body = Selection,
    params(("group" = String, Path, description = "consumer group")),
    responses((status = 200, body = Purged), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn purge(
    State(letters): State<Arc<DeadLetters>>,
    Path(group): Path<String>,
    Json(selection): Json<Selection>,
) -> Result<Json<Purged>, Problem> {
    let which = selection.which()?;
    if which.ids.is_some() || selection.from.is_some() {
        return Err(Problem::bad_request("dead letters go from the front of their topic: `all`, or `to` alone"));
    }
    let topic = topic(&letters, &group)?;
    let purged = letters.purge(topic, which.to).await.map_err(Problem::unavailable)?;
    Ok(Json(Purged { purged }))
}

fn topic(letters: &DeadLetters, group: &str) -> Result<TopicInfo, Problem> {
    letters.topic(group).ok_or_else(|| Problem::not_found(format!("group {group:?} has no dead letters")))
}
