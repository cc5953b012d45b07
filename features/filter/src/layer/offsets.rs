//! ListOffsets, OffsetForLeaderEpoch and DeleteRecords of views. Where the source's answer is the view's, the source is
//! asked.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName,
};
use krocket_protocol::ErrorCode;
use krocket_protocol::list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
use krocket_stack::{Error, Handler, Request, Response};

use crate::read::at_or_after;
use crate::registry::Shared;
use crate::view::{Part, State, View};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// KIP-734.
const MAX_TIMESTAMP: i64 = -3;
/// First version that knows it.
const MAX_TIMESTAMP_VERSION: i16 = 7;
/// How long a question about the end waits for the index to be there. It follows within a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn list(shared: &Arc<Shared>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<ListOffsetsRequest>()?;
    let views = shared.all();
    let mut ours: Vec<(usize, Arc<View>, Vec<i64>)> = Vec::new();
    for (at, topic) in message.0.topics.iter_mut().enumerate() {
        let Some(view) = views.name(&topic.name) else { continue };
        topic.name = TopicName(view.source.clone());
        let own = |timestamp: i64| {
            timestamp == LATEST || timestamp >= 0 || timestamp == MAX_TIMESTAMP && head.version >= MAX_TIMESTAMP_VERSION
        };
        let mut asked = Vec::with_capacity(topic.partitions.len());
        for partition in &mut topic.partitions {
            asked.push(partition.timestamp);
            if own(partition.timestamp) {
                partition.timestamp = EARLIEST;
            }
        }
        ours.push((at, view.clone(), asked));
    }
    let (version, read_committed) = (head.version, message.0.isolation_level == 1);
    if ours.is_empty() {
        return next.call(Request::new(head, message)).await;
    }
    let mut response: ListOffsetsResponse = next.call(Request::new(head, message)).await?.into_message(version)?;
    for (at, view, asked) in ours {
        let Some(topic) = response.0.topics.get_mut(at) else { continue };
        topic.name = TopicName(view.name.clone());
        for (partition, timestamp) in topic.partitions.iter_mut().zip(asked) {
            if partition.error_code == 0 && (timestamp >= 0 || [LATEST, MAX_TIMESTAMP].contains(&timestamp)) {
                look_up(shared, &view, partition, timestamp, read_committed).await;
            }
        }
    }
    Ok(Response::new(response))
}

/// Replaces the source's earliest offset in an answer by what was asked of the view.
async fn look_up(
    shared: &Arc<Shared>,
    view: &View,
    answer: &mut ListOffsetsPartitionResponse,
    timestamp: i64,
    read_committed: bool,
) {
    let log_start = answer.offset;
    let found = match view.partition(answer.partition_index) {
        None => Err(ErrorCode::UnknownTopicOrPartition),
        Some(_) if view.filter.is_err() => Err(ErrorCode::InvalidConfig),
        Some(part) => offset(shared, part.clone(), log_start, timestamp, read_committed).await,
    };
    match found {
        Ok(Some((offset, timestamp))) => {
            answer.offset = offset;
            answer.timestamp = timestamp;
        }
        Ok(None) => {
            (answer.offset, answer.timestamp, answer.leader_epoch) = (-1, -1, -1);
        }
        Err(code) => {
            (answer.offset, answer.timestamp, answer.leader_epoch) = (-1, -1, -1);
            answer.error_code = code.code();
        }
    }
}

async fn offset(
    shared: &Arc<Shared>,
    part: Arc<Part>,
    log_start: i64,
    timestamp: i64,
    read_committed: bool,
) -> Result<Option<(i64, i64)>, ErrorCode> {
    let state = indexed(shared, &part).await?;
    if timestamp == LATEST {
        let source = shared.ledger.partition(part.source).filter(|_| read_committed);
        let stable = source.map_or(i64::MAX, |source| source.last_stable);
        return Ok(Some((state.progress.end.min(stable).max(log_start), -1)));
    }
    let timestamp = match timestamp {
        // Retention may have taken the record since; then what is left is searched for its own maximum.
        MAX_TIMESTAMP => match max_timestamp(shared, part.clone(), log_start).await? {
            Some(max) => max,
            None => return Ok(None),
        },
        timestamp => timestamp,
    };
    let found = shared.blocking(move |ledger| at_or_after(ledger, &part, log_start, timestamp)).await;
    found.map_err(storage)
}

async fn max_timestamp(shared: &Arc<Shared>, part: Arc<Part>, log_start: i64) -> Result<Option<i64>, ErrorCode> {
    let found = shared.blocking(move |ledger| {
        let (mut from, mut max) = (log_start, None);
        loop {
            let rows = crate::read::rows(ledger, &part, from)?;
            let Some(last) = rows.last() else { return Ok(max) };
            from = last.last_offset() + 1;
            max = max.max(rows.iter().map(|row| row.max_timestamp).max());
        }
    });
    found.await.map_err(storage)
}

fn storage(error: krocket_stack::LedgerError) -> ErrorCode {
    tracing::error!(%error, "the index of a view cannot be read");
    ErrorCode::KafkaStorageError
}

/// The state once everything that is visible now is indexed: who has produced and asks for the end sees it. A view that
/// is still at its source's past has no end yet; clients ask again.
async fn indexed(shared: &Shared, part: &Part) -> Result<State, ErrorCode> {
    let source = shared.ledger.partition(part.source).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let mut states = part.state.subscribe();
    let there = states.wait_for(|state| state.ready && state.progress.next >= source.high_watermark);
    match tokio::time::timeout(PATIENCE, there).await {
        Ok(Ok(state)) => Ok(state.clone()),
        Ok(Err(_)) => Err(ErrorCode::LeaderNotAvailable),
        Err(_) => {
            let state = part.state.borrow().clone();
            if state.ready && state.caught_up { Ok(state) } else { Err(ErrorCode::LeaderNotAvailable) }
        }
    }
}

pub(super) async fn for_leader_epoch(shared: &Shared, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<OffsetForLeaderEpochRequest>()?;
    let views = shared.all();
    let mut ours = Vec::new();
    for (at, topic) in message.topics.iter_mut().enumerate() {
        if let Some(view) = views.name(&topic.topic) {
            topic.topic = TopicName(view.source.clone());
            ours.push((at, view.clone()));
        }
    }
    let version = head.version;
    if ours.is_empty() {
        return next.call(Request::new(head, message)).await;
    }
    let mut response: OffsetForLeaderEpochResponse =
        next.call(Request::new(head, message)).await?.into_message(version)?;
    for (at, view) in ours {
        if let Some(topic) = response.topics.get_mut(at) {
            topic.topic = TopicName(view.name.clone());
        }
    }
    Ok(Response::new(response))
}

/// Records are deleted from the source: POLICY_VIOLATION, as for any topic that is not deleted from.
pub(super) async fn delete_records(shared: &Shared, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<DeleteRecordsRequest>()?;
    let views = shared.all();
    let (ours, rest) =
        std::mem::take(&mut message.topics).into_iter().partition(|topic| views.name(&topic.name).is_some());
    message.topics = rest;
    let version = head.version;
    let mut response = match message.topics.is_empty() {
        true => DeleteRecordsResponse::default(),
        false => next.call(Request::new(head, message)).await?.into_message(version)?,
    };
    let ours: Vec<kafka_protocol::messages::delete_records_request::DeleteRecordsTopic> = ours;
    response.topics.extend(ours.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            DeleteRecordsPartitionResult::default()
                .with_partition_index(asked.partition_index)
                .with_low_watermark(-1)
                .with_error_code(ErrorCode::PolicyViolation.code())
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions)
    }));
    Ok(Response::new(response))
}
