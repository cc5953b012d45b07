//! Offsets: of the log by Describe on the topic; of groups by the group's permission and the topic's.

use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};
use krocket_protocol::list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
use krocket_protocol::offset_commit::{OffsetCommitRequest, OffsetCommitTopic};
use krocket_protocol::offset_fetch::{GROUPS_VERSION, OffsetFetchGroup, OffsetFetchRequest, OffsetFetchTopic};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::security::Operation::{ClusterAction, Delete, Describe, Read};
use krocket_stack::security::ResourceType::Topic;
use krocket_stack::{Error, Handler, Request, Response};

use super::Ask;
use super::rest::ask_rest;

const FAILED: i16 = ErrorCode::TopicAuthorizationFailed.code();
/// Before this version of OffsetFetch every partition carries the group's error.
const GROUP_ERROR_VERSION: i16 = 2;

/// ListOffsets: Describe.
pub(super) async fn list(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<ListOffsetsRequest>()?;
    let mut denied = Vec::new();
    message.0.topics.retain(|topic| {
        let allowed = ask.topic(Describe, &topic.name);
        if !allowed {
            let partition =
                |index| ListOffsetsPartitionResponse::default().with_partition_index(index).with_error_code(FAILED);
            let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
            let name = topic.name.clone();
            denied.push(ListOffsetsTopicResponse::default().with_name(name).with_partitions(partitions));
        }
        allowed
    });
    if denied.is_empty() {
        return next.call(Request::new(head, message)).await;
    }
    let nothing_left = message.0.topics.is_empty();
    let mut response = match nothing_left {
        true => ListOffsetsResponse(Default::default()),
        false => {
            let version = head.version;
            next.call(Request::new(head, message)).await?.into_message::<ListOffsetsResponse>(version)?
        }
    };
    response.0.topics.extend(denied);
    Ok(Response::new(response))
}

/// OffsetForLeaderEpoch: Describe, or ClusterAction as brokers have it.
pub(super) async fn for_leader_epoch(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<OffsetForLeaderEpochRequest>()?;
    let broker = ask.would_cluster(ClusterAction);
    let mut denied = Vec::new();
    message.topics.retain(|topic| {
        let allowed = broker || ask.topic(Describe, &topic.topic);
        if !allowed {
            let partition = |index| EpochEndOffset::default().with_partition(index).with_error_code(FAILED);
            let partitions = topic.partitions.iter().map(|asked| partition(asked.partition)).collect();
            let name = topic.topic.clone();
            denied.push(OffsetForLeaderTopicResult::default().with_topic(name).with_partitions(partitions));
        }
        allowed
    });
    let nothing_left = message.topics.is_empty() && !denied.is_empty();
    let mut response: OffsetForLeaderEpochResponse = ask_rest(head, message, next, nothing_left).await?;
    response.topics.extend(denied);
    Ok(Response::new(response))
}

/// OffsetCommit: Read on the group and on each topic.
pub(super) async fn commit(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<OffsetCommitRequest>()?;
    let refuse = |topic: &OffsetCommitTopic, code: i16| {
        let partition =
            |index| OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code);
        let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
        let response = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
        response.with_topic_id(topic.topic_id).with_partitions(partitions)
    };
    if let Err(code) = ask.group(Read, &message.group_id) {
        let topics = message.topics.iter().map(|topic| refuse(topic, code.code())).collect();
        return Ok(Response::new(OffsetCommitResponse::default().with_topics(topics)));
    }
    let mut denied = Vec::new();
    message.topics.retain(|topic| {
        let allowed = ask.either(Read, &topic.name, topic.topic_id);
        if !allowed {
            denied.push(refuse(topic, FAILED));
        }
        allowed
    });
    let nothing_left = message.topics.is_empty() && !denied.is_empty();
    let mut response: OffsetCommitResponse = ask_rest(head, message, next, nothing_left).await?;
    response.topics.extend(denied);
    Ok(Response::new(response))
}

/// OffsetDelete: Delete on the group, Read on each topic.
pub(super) async fn delete(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<OffsetDeleteRequest>()?;
    if let Err(code) = ask.group(Delete, &message.group_id) {
        return Ok(Response::new(OffsetDeleteResponse::default().with_error_code(code.code())));
    }
    let mut denied = Vec::new();
    message.topics.retain(|topic| {
        let allowed = ask.topic(Read, &topic.name);
        if !allowed {
            let partition =
                |index| OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(FAILED);
            let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
            let name = topic.name.clone();
            denied.push(OffsetDeleteResponseTopic::default().with_name(name).with_partitions(partitions));
        }
        allowed
    });
    let nothing_left = message.topics.is_empty() && !denied.is_empty();
    let mut response: OffsetDeleteResponse = ask_rest(head, message, next, nothing_left).await?;
    response.topics.extend(denied);
    Ok(Response::new(response))
}

/// OffsetFetch: Describe on the group and on each topic; where all topics are asked for, the others are left out.
pub(super) async fn fetch(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<OffsetFetchRequest>()?;
    let version = head.version;
    if version < GROUPS_VERSION {
        let Some(group) = message.groups.first_mut() else { return next.call(Request::new(head, message)).await };
        if let Err(code) = ask.group(Describe, &group.group_id) {
            return Ok(Response::new(no_group(group, version, code)));
        }
        let all = group.topics.is_none();
        let (denied, nothing_left) = take_denied(ask, group);
        let mut response: OffsetFetchResponse = ask_rest(head, message, next, nothing_left).await?;
        response.topics.retain(|topic| !all || ask.would(Describe, Topic, &topic.name));
        response.topics.extend(denied.into_iter().map(|topic| one_topic(topic, FAILED)));
        return Ok(Response::new(response));
    }
    // In the order of the request: what to add to the answer of each group, or the whole answer.
    let mut plans = Vec::with_capacity(message.groups.len());
    message.groups.retain_mut(|group| match ask.group(Describe, &group.group_id) {
        Err(code) => {
            let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
            plans.push(Plan::Whole(response.with_error_code(code.code())));
            false
        }
        Ok(()) => {
            let all = group.topics.is_none();
            let (denied, nothing_left) = take_denied(ask, group);
            let denied = denied.into_iter().map(several_topics).collect();
            if nothing_left {
                let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
                plans.push(Plan::Whole(response.with_topics(denied)));
                return false;
            }
            plans.push(Plan::Part { all, denied });
            true
        }
    });
    let nothing_left = message.groups.is_empty() && !plans.is_empty();
    let mut response: OffsetFetchResponse = ask_rest(head, message, next, nothing_left).await?;
    let mut answered = std::mem::take(&mut response.groups).into_iter();
    for plan in plans {
        match plan {
            Plan::Whole(group) => response.groups.push(group),
            Plan::Part { all, denied } => response.groups.extend(answered.next().map(|mut group| {
                group.topics.retain(|topic| !all || ask.would(Describe, Topic, &topic.name));
                group.topics.extend(denied);
                group
            })),
        }
    }
    Ok(Response::new(response))
}

enum Plan {
    Whole(OffsetFetchResponseGroup),
    Part { all: bool, denied: Vec<OffsetFetchResponseTopics> },
}

/// Takes out what may not be seen, and says whether anything asked for is left.
fn take_denied(ask: &Ask<'_>, group: &mut OffsetFetchGroup) -> (Vec<OffsetFetchTopic>, bool) {
    let Some(topics) = &mut group.topics else { return (Vec::new(), false) };
    let mut denied = Vec::new();
    topics.retain(|topic| {
        let allowed = ask.either(Describe, &topic.name, topic.topic_id);
        if !allowed {
            denied.push(topic.clone());
        }
        allowed
    });
    let nothing_left = topics.is_empty() && !denied.is_empty();
    (denied, nothing_left)
}

fn no_group(group: &mut OffsetFetchGroup, version: i16, code: ErrorCode) -> OffsetFetchResponse {
    if version >= GROUP_ERROR_VERSION {
        return OffsetFetchResponse::default().with_error_code(code.code());
    }
    let topics = group.topics.take().unwrap_or_default().into_iter();
    OffsetFetchResponse::default().with_topics(topics.map(|topic| one_topic(topic, code.code())).collect())
}

fn one_topic(topic: OffsetFetchTopic, code: i16) -> OffsetFetchResponseTopic {
    let partition = |index| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_committed_offset(-1)
            .with_metadata(Some(StrBytes::new()))
            .with_error_code(code)
    };
    let partitions = topic.partition_indexes.into_iter().map(partition).collect();
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions)
}

fn several_topics(topic: OffsetFetchTopic) -> OffsetFetchResponseTopics {
    let partition = |index| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(-1)
            .with_metadata(Some(StrBytes::new()))
            .with_error_code(FAILED)
    };
    let partitions = topic.partition_indexes.into_iter().map(partition).collect();
    let response = OffsetFetchResponseTopics::default().with_name(topic.name).with_topic_id(topic.topic_id);
    response.with_partitions(partitions)
}
