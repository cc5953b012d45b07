//! ShareFetch (KIP-932): acknowledgements on the way, then records that nobody else has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use krocket_protocol::ErrorCode;
use krocket_protocol::share_fetch::{ShareFetchPartition, ShareFetchRequest, ShareFetchResponse, ShareFetchTopic};
use krocket_stack::{Body, Error, Head, Request, Response};
use tokio::time::Instant;
use uuid::Uuid;

use crate::Broker;
use crate::share::{Acknowledgement, Asked, FINAL_EPOCH, INITIAL_EPOCH, Policy, Poll, Turn};

/// Most bytes of records in a response (Kafka's broker config fetch.max.bytes).
const MAX_BYTES: i32 = 55 << 20;
/// ShareAcquireMode: no record more than was asked for (KIP-1206).
const RECORD_LIMIT: i8 = 1;

/// Answers once there are records for the member, something has to be said, or `max_wait_ms` are over.
pub(crate) async fn handle(broker: &Broker, request: Request) -> Result<Response, Error> {
    let (head, request) = request.into_message::<ShareFetchRequest>()?;
    let response = match serve(broker, &head, request).await {
        Ok(response) => response,
        Err(code) => ShareFetchResponse { error_code: code.code(), ..ShareFetchResponse::default() },
    };
    let bytes = response.topics.iter().flat_map(|topic| &topic.partitions).map(ShareFetchPartition::records_len).sum();
    broker.log.count_fetched(bytes);
    Ok(Response::Body(Body::ShareFetch(response)))
}

async fn serve(broker: &Broker, head: &Head, request: ShareFetchRequest) -> Result<ShareFetchResponse, ErrorCode> {
    let (group, member) = owner(broker, request.group_id.as_deref(), request.member_id.as_deref())?;
    let policy = broker.shares.policy(&group);
    if let Some(fault) = &policy.fault {
        tracing::warn!(group, fault, "the group's krocket.filter cannot be read: it gets nothing");
        return Err(ErrorCode::InvalidConfig);
    }
    let mut asked = Vec::new();
    let mut batches: Vec<Batches> = Vec::new();
    for topic in request.topics {
        for partition in topic.partitions {
            let key = (topic.topic_id, partition.partition_index);
            if !partition.acknowledgement_batches.is_empty() {
                let ranges = partition.acknowledgement_batches.into_iter();
                batches.push((key, ranges.map(|b| (b.first_offset, b.last_offset, b.acknowledge_types)).collect()));
            }
            asked.push(key);
        }
    }
    let epoch = request.share_session_epoch;
    if epoch == INITIAL_EPOCH && !batches.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    // What a closing request names it only acknowledges.
    let added = if epoch == FINAL_EPOCH { Vec::new() } else { asked };
    let forgotten: Vec<Asked> = request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_id, *index)))
        .collect();
    let most = Some(broker.configs.broker().share_max_sessions);
    let turn = broker.shares.sessions.turn((&group, &member), epoch, most, (added, &forgotten), &head.connection)?;
    let acknowledged = acknowledge(broker, &group, &member, batches, &policy).await;
    let found = match turn {
        Turn::Close => {
            broker.shares.release(&group, &member, false).await;
            Vec::new()
        }
        // Renewals go alone.
        Turn::Fetch(_) if request.is_renew_ack => Vec::new(),
        Turn::Fetch(asked) => {
            let wait = if acknowledged.is_empty() { request.max_wait_ms.max(0) } else { 0 };
            let poll = Poll {
                member: Arc::from(&*member),
                asked,
                min_bytes: i64::from(request.min_bytes.max(1)),
                max_bytes: request.max_bytes.clamp(0, MAX_BYTES) as usize,
                max_records: i64::from(request.max_records.max(0)),
                exact: request.share_acquire_mode == RECORD_LIMIT,
                deadline: Instant::now() + Duration::from_millis(wait as u64),
            };
            broker.shares.fetch(&group, &poll, &policy).await
        }
    };
    let lock_ms = i32::try_from(policy.lock_ms).unwrap_or(i32::MAX);
    Ok(ShareFetchResponse {
        acquisition_lock_timeout_ms: lock_ms,
        topics: topics(found, acknowledged),
        ..ShareFetchResponse::default()
    })
}

/// A partition's ranges: first and last offset, and what is said of them.
pub(super) type Batches = (Asked, Vec<(i64, i64, Vec<i8>)>);

/// The group and the member, if there are such.
pub(super) fn owner(broker: &Broker, group: Option<&str>, member: Option<&str>) -> Result<(String, String), ErrorCode> {
    let group = group.filter(|group| !group.is_empty()).ok_or(ErrorCode::InvalidRequest)?;
    let member = member.filter(|member| !member.is_empty()).ok_or(ErrorCode::InvalidRequest)?;
    broker.groups.share_member(group, member)?;
    Ok((group.to_owned(), member.to_owned()))
}

/// Takes acknowledgements: one outcome for each partition.
pub(super) async fn acknowledge(
    broker: &Broker,
    group: &str,
    member: &str,
    batches: Vec<Batches>,
    policy: &Policy,
) -> Vec<(Asked, Result<(), ErrorCode>)> {
    let mut outcomes = Vec::with_capacity(batches.len());
    for (asked, ranges) in batches {
        let read = ranges.iter().map(|(first, last, types)| Acknowledgement::read(*first, *last, types, policy));
        let outcome = match read.collect::<Result<Vec<_>, _>>() {
            Ok(read) => broker.shares.acknowledge(group, member, asked, &read.concat(), policy).await,
            Err(code) => Err(code),
        };
        outcomes.push((asked, outcome));
    }
    outcomes
}

/// Puts records and outcomes together by topic.
fn topics(
    found: Vec<(Asked, ShareFetchPartition)>,
    acknowledged: Vec<(Asked, Result<(), ErrorCode>)>,
) -> Vec<ShareFetchTopic> {
    let mut topics: BTreeMap<Uuid, BTreeMap<i32, ShareFetchPartition>> = BTreeMap::new();
    for ((topic, index), data) in found {
        topics.entry(topic).or_default().insert(index, data);
    }
    for ((topic, index), outcome) in acknowledged {
        let data = topics.entry(topic).or_default().entry(index);
        let data = data.or_insert_with(|| ShareFetchPartition { index, ..ShareFetchPartition::default() });
        data.acknowledge_error_code = outcome.err().map_or(0, |code| code.code());
    }
    topics
        .into_iter()
        .map(|(id, partitions)| ShareFetchTopic { id, partitions: partitions.into_values().collect() })
        .collect()
}
