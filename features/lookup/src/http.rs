//! `/v1/messages` and `/v1/lookup`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{Path, Query, State};
use krocket_features::http::{
    ErrorBody, Page, Problem, blocking, limit, message_id, no_topic, place, token, unplace, untoken,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::index::{By, Lookup, is_row};
use crate::life::Life;
use crate::query::{Message, Wanted};

/// The routes.
pub fn routes(lookup: Arc<Lookup>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(find))
        .routes(routes!(show))
        .routes(routes!(life))
        .routes(routes!(status))
        .routes(routes!(rebuild))
        .with_state(lookup)
}

/// A message.
#[derive(Debug, Serialize, ToSchema)]
struct Found {
    /// `topic:partition:offset`.
    id: String,
    /// Epoch ms.
    timestamp_ms: i64,
    /// Not to be seen where it is: delayed, half, or a command.
    hidden: bool,
    /// Text, or base64 where `key_encoding` says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// `base64` where the key is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<&'static str>,
    /// Text, or base64 where `value_encoding` says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// `base64` where the value is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_encoding: Option<&'static str>,
    /// In order; values that are not UTF-8 are base64.
    headers: Vec<HeaderText>,
}

/// A header.
#[derive(Debug, Serialize, ToSchema)]
struct HeaderText {
    /// Its name.
    name: String,
    /// Its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// `base64` where the value is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
}

fn text(bytes: Option<&[u8]>) -> (Option<String>, Option<&'static str>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => (None, None),
        Some(Ok(text)) => (Some(text.to_owned()), None),
        Some(Err(bytes)) => {
            (Some(base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)), Some("base64"))
        }
    }
}

impl From<Message> for Found {
    fn from(message: Message) -> Self {
        let (key, key_encoding) = text(message.key.as_deref());
        let (value, value_encoding) = text(message.value.as_deref());
        let headers = message.headers.iter().map(|(name, value)| {
            let (value, encoding) = text(value.as_deref());
            HeaderText { name: String::from_utf8_lossy(name).into_owned(), value, encoding }
        });
        Found {
            id: message.id.to_string(),
            timestamp_ms: message.timestamp,
            hidden: message.hidden,
            key,
            key_encoding,
            value,
            value_encoding,
            headers: headers.collect(),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Question {
    /// With this word in KEYS, or with this record key where the topic's rule indexes it.
    key: Option<String>,
    /// With this UNIQ_KEY.
    uniq_key: Option<String>,
    /// Only of this topic. Alone: its messages by time.
    topic: Option<String>,
    /// From this epoch ms on.
    from: Option<i64>,
    /// Before this epoch ms.
    to: Option<i64>,
    /// At most so many.
    limit: Option<usize>,
    /// Where the last page ended.
    next: Option<String>,
}

/// Finds messages by key, UNIQ_KEY, or topic and time.
#[utoipa::path(get, path = "/v1/messages", tag = "messages", params(Question),
    responses((status = 200, body = Page<Found>), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn find(
    State(lookup): State<Arc<Lookup>>,
    Query(question): Query<Question>,
) -> Result<Json<Page<Found>>, Problem> {
    blocking(move || find_now(&lookup, &question)).await
}

fn find_now(lookup: &Lookup, question: &Question) -> Result<Page<Found>, Problem> {
    let limit = limit(question.limit)?;
    let (from, to) = (question.from.unwrap_or(0), question.to.unwrap_or(i64::MAX));
    let after = question.next.as_deref().map(untoken).transpose()?;
    if from >= to {
        return Err(Problem::bad_request(format!("`from` is {from} and `to` is {to}: there is nothing between them")));
    }
    for (name, text) in [("key", &question.key), ("uniq_key", &question.uniq_key)] {
        if text.as_deref() == Some("") {
            return Err(Problem::bad_request(format!("`{name}` is empty")));
        }
    }
    let topic = question.topic.as_deref();
    if let Some(topic) = topic.filter(|topic| lookup.ledger.topic(topic).is_none()) {
        return Err(no_topic(topic));
    }
    let goes_on = |by, text: &str| after.as_deref().is_some_and(|after| is_row(after, by, text.as_bytes()));
    let wanted = |by, text| Wanted { by, text, topic, from, to };
    let (found, last) = match (&question.uniq_key, &question.key, topic) {
        (Some(_), Some(_), _) => return Err(Problem::bad_request("`key` and `uniq_key`: one of the two is expected")),
        (Some(uniq), None, _) => {
            if after.is_some() && !goes_on(By::Uniq, uniq) {
                return Err(Problem::no_token());
            }
            lookup.find(&wanted(By::Uniq, uniq.as_bytes()), after.as_deref(), limit)?
        }
        (None, Some(key), _) => {
            // Words of KEYS first, then record keys.
            let by_record = goes_on(By::RecordKey, key);
            if after.is_some() && !by_record && !goes_on(By::Key, key) {
                return Err(Problem::no_token());
            }
            let words = if by_record {
                (Vec::new(), None)
            } else {
                lookup.find(&wanted(By::Key, key.as_bytes()), after.as_deref(), limit)?
            };
            match words {
                (found, None) if found.len() < limit => {
                    let after = after.as_deref().filter(|_| by_record);
                    let rest = limit - found.len();
                    let (more, last) = lookup.find(&wanted(By::RecordKey, key.as_bytes()), after, rest)?;
                    (found.into_iter().chain(more).collect(), last)
                }
                words => words,
            }
        }
        (None, None, Some(topic)) => {
            let after = match unplace::<2>(question.next.as_deref())? {
                None => None,
                Some([partition, offset]) => {
                    let partitions = lookup.ledger.topic(topic).map(|topic| topic.partitions).unwrap_or_default();
                    let known = |id: &u32| partitions.contains(id) && (0..i64::MAX).contains(&offset);
                    let partition = u32::try_from(partition).ok().filter(known);
                    Some((partition.ok_or_else(Problem::no_token)?, offset))
                }
            };
            let found = lookup.browse(topic, (from, to), after, limit)?;
            let found = found.ok_or_else(|| no_topic(topic))?;
            let last = found.last().filter(|_| found.len() >= limit);
            let next = last.map(|message| place([i64::from(message.at.0), message.at.1]));
            return Ok(page(found, next));
        }
        (None, None, None) => return Err(Problem::bad_request("say what to look for: `key`, `uniq_key` or `topic`")),
    };
    Ok(page(found, last.map(|key| token(&key))))
}

fn page(found: Vec<Message>, next: Option<String>) -> Page<Found> {
    Page { items: found.into_iter().map(Found::from).collect(), next }
}

/// The message of an id, hidden or not.
#[utoipa::path(get, path = "/v1/messages/{id}", tag = "messages",
    params(("id" = String, Path, description = "topic:partition:offset")),
    responses((status = 200, body = Found), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn show(State(lookup): State<Arc<Lookup>>, Path(id): Path<String>) -> Result<Json<Found>, Problem> {
    blocking(move || lookup.message(&message_id(&id)?)?.map(Found::from).ok_or_else(|| no_message(&id))).await
}

/// The life of a message: parked, delivered, each retry and why, dead, redriven, and which groups have consumed it.
#[utoipa::path(get, path = "/v1/messages/{id}/life", tag = "messages",
    params(("id" = String, Path, description = "topic:partition:offset of any of its copies")),
    responses((status = 200, body = Life), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
async fn life(State(lookup): State<Arc<Lookup>>, Path(id): Path<String>) -> Result<Json<Life>, Problem> {
    let reading = lookup.clone();
    let Json((copies, events)) = blocking(move || {
        let copies = reading.copies(&message_id(&id)?)?.ok_or_else(|| no_message(&id))?;
        let events = reading.events(&copies)?;
        Ok((copies, events))
    })
    .await?;
    let groups = lookup.groups(&copies).await?;
    let first = copies.first().map(|copy| copy.id.to_string()).unwrap_or_default();
    Ok(Json(Life { id: first, events, groups }))
}

/// The state of the index.
#[derive(Debug, Serialize, ToSchema)]
struct Status {
    /// Batches that wait to be indexed.
    waiting: u64,
    /// `idle` or `rebuilding`.
    state: &'static str,
    /// Offsets that a rebuild has looked at.
    done: u64,
    /// And how many there are.
    total: u64,
}

/// How far the index is.
#[utoipa::path(get, path = "/v1/lookup", tag = "lookup", responses((status = 200, body = Status)))]
async fn status(State(lookup): State<Arc<Lookup>>) -> Result<Json<Status>, Problem> {
    blocking(move || {
        let rebuild = &lookup.rebuild;
        let state = if rebuild.running.load(Ordering::Acquire) { "rebuilding" } else { "idle" };
        let (done, total) = (rebuild.done.load(Ordering::Acquire), rebuild.total.load(Ordering::Acquire));
        Ok(Status { waiting: lookup.waiting()?, state, done, total })
    })
    .await
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
struct Started {
    /// `rebuilding`.
    state: &'static str,
}

/// Makes the index again from the log; `/v1/lookup` tells how far it is.
#[utoipa::path(post, path = "/v1/lookup/rebuild", tag = "lookup",
    responses((status = 200, body = Started), (status = 409, body = ErrorBody)))]
async fn rebuild(State(lookup): State<Arc<Lookup>>) -> Result<Json<Started>, Problem> {
    if lookup.start_rebuild().await? {
        Ok(Json(Started { state: "rebuilding" }))
    } else {
        Err(Problem::conflict("the index is being made again already"))
    }
}

fn no_message(id: &str) -> Problem {
    Problem::not_found(format!("{id}: no such message, or it is past its retention"))
}
