//! Share groups: Read on group and topics to consume, Describe to see, Delete to remove offsets.

use kafka_protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponseTopic;
use kafka_protocol::messages::share_acknowledge_response::{PartitionData, ShareAcknowledgeTopicResponse};
use kafka_protocol::messages::share_group_describe_response::DescribedGroup;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse, ShareGroupDescribeRequest, ShareGroupDescribeResponse, ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
};
use krocket_protocol::describe_share_group_offsets::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse, DescribedShareGroup, DescribedSharePartition,
    DescribedShareTopic, UNKNOWN,
};
use krocket_protocol::share_acknowledge::{ShareAcknowledgeRequest, ShareAcknowledgeResponse};
use krocket_protocol::share_fetch::{ShareFetchPartition, ShareFetchRequest, ShareFetchResponse, ShareFetchTopic};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::security::Operation::{Delete, Describe, Read};
use krocket_stack::security::ResourceType::{Group, Topic};
use krocket_stack::{Body, Error, Handler, Request, Response};

use super::groups::{secret_topics, subscribes};
use super::rest::{ask_rest, sift, whole};
use super::sessions::Session;
use super::{Ask, Authorizer};

const FAILED: i16 = ErrorCode::TopicAuthorizationFailed.code();
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// ShareGroupHeartbeat: Read on the group, Describe on the topics that it subscribes to.
pub(super) async fn heartbeat(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |message: &ShareGroupHeartbeatRequest| {
        ask.group(Read, &message.group_id)?;
        subscribes(ask, message.subscribed_topic_names.as_deref())
    };
    whole(request, next, check, |_, code| ShareGroupHeartbeatResponse::default().with_error_code(code)).await
}

/// ShareGroupDescribe: Describe on the group, and on every topic that would be told.
pub(super) async fn describe(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<ShareGroupDescribeRequest>()?;
    let (denied, nothing_left) = sift(
        &mut message.group_ids,
        |group| ask.group(Describe, group),
        |group, code| DescribedGroup::default().with_group_id(group.clone()).with_error_code(code),
    );
    let mut response: ShareGroupDescribeResponse = ask_rest(head, message, next, nothing_left).await?;
    for group in &mut response.groups {
        let seen = group.members.iter().all(|member| {
            member.subscribed_topic_names.iter().all(|name| ask.would(Describe, Topic, name))
                && member.assignment.topic_partitions.iter().all(|it| ask.would(Describe, Topic, &it.topic_name))
        });
        if !seen {
            group.error_code = FAILED;
            group.error_message = Some(secret_topics());
            group.members.clear();
        }
        group.authorized_operations = ask.operations(group.authorized_operations, Group, &group.group_id);
    }
    response.groups.extend(denied);
    Ok(Response::new(response))
}

/// ShareFetch: Read on the group and on each topic, of which the session remembers those that may be read.
pub(super) async fn fetch(
    layer: &Authorizer,
    ask: &Ask<'_>,
    request: Request,
    next: &dyn Handler,
) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<ShareFetchRequest>()?;
    let group = message.group_id.clone().unwrap_or_default();
    if let Err(code) = ask.group(Read, &group) {
        return Ok(failed(code));
    }
    let session = Session::Share(group, message.member_id.clone().unwrap_or_default());
    match message.share_session_epoch {
        INITIAL_EPOCH => layer.0.sessions.begun(session, ask),
        FINAL_EPOCH => layer.0.sessions.ended(&session),
        _ if !layer.0.sessions.goes_on(&session, ask) => return Ok(failed(ErrorCode::ShareSessionNotFound)),
        _ => {}
    }
    let mut denied = Vec::new();
    message.topics.retain(|topic| {
        let allowed = ask.topic_id(Read, topic.topic_id);
        if !allowed {
            let partition = |asked: &kafka_protocol::messages::share_fetch_request::FetchPartition| {
                let acknowledge_error_code = if asked.acknowledgement_batches.is_empty() { 0 } else { FAILED };
                let index = asked.partition_index;
                ShareFetchPartition { index, error_code: FAILED, acknowledge_error_code, ..Default::default() }
            };
            let partitions = topic.partitions.iter().map(partition).collect();
            denied.push(ShareFetchTopic { id: topic.topic_id, partitions });
        }
        allowed
    });
    if !denied.is_empty() {
        message.max_wait_ms = 0;
    }
    let response = next.call(Request::new(head, message)).await?;
    let Response::Body(Body::ShareFetch(mut response)) = response else { return Ok(response) };
    if layer.acls().version() != ask.version() {
        let now = layer.ask(ask.connection());
        let hidden = |topic: &mut ShareFetchTopic| !now.topic_id(Read, topic.id);
        for partition in
            response.topics.iter_mut().filter_map(|it| hidden(it).then_some(it)).flat_map(|it| &mut it.partitions)
        {
            partition.error_code = FAILED;
            partition.records.clear();
            partition.acquired.clear();
        }
    }
    response.topics.extend(denied);
    Ok(Response::Body(Body::ShareFetch(response)))
}

fn failed(code: ErrorCode) -> Response {
    Response::Body(Body::ShareFetch(ShareFetchResponse { error_code: code.code(), ..Default::default() }))
}

/// ShareAcknowledge: Read on the group and on each topic. What is left goes on even if that is nothing: the session counts.
pub(super) async fn acknowledge(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<ShareAcknowledgeRequest>()?;
    if let Err(code) = ask.group(Read, message.group_id.as_deref().unwrap_or_default()) {
        let error_code = code.code();
        return Ok(Response::new(ShareAcknowledgeResponse { error_code, ..Default::default() }));
    }
    let mut denied = Vec::new();
    message.topics.retain(|topic| {
        let allowed = ask.topic_id(Read, topic.topic_id);
        if !allowed {
            let partition = |index| PartitionData::default().with_partition_index(index).with_error_code(FAILED);
            let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
            let response = ShareAcknowledgeTopicResponse::default().with_topic_id(topic.topic_id);
            denied.push(response.with_partitions(partitions));
        }
        allowed
    });
    if denied.is_empty() {
        return next.call(Request::new(head, message)).await;
    }
    let mut response: ShareAcknowledgeResponse = ask_rest(head, message, next, false).await?;
    response.responses.extend(denied);
    Ok(Response::new(response))
}

/// DescribeShareGroupOffsets: Describe on the group and on each topic.
pub(super) async fn describe_offsets(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<DescribeShareGroupOffsetsRequest>()?;
    let mut denied = Vec::new();
    // Topics of groups that may be seen, by group.
    let mut secret: Vec<(StrBytes, bool, Vec<DescribedShareTopic>)> = Vec::new();
    message.0.groups.retain_mut(|group| {
        if let Err(code) = ask.group(Describe, &group.group_id) {
            let (id, error_code) = (group.group_id.0.clone(), code.code());
            denied.push(DescribedShareGroup { id, error_code, ..Default::default() });
            return false;
        }
        let mut hidden = Vec::new();
        let all = group.topics.is_none();
        if let Some(topics) = &mut group.topics {
            topics.retain(|topic| {
                let allowed = ask.topic(Describe, &topic.topic_name);
                if !allowed {
                    let partition = |index: &i32| DescribedSharePartition {
                        index: *index,
                        start_offset: UNKNOWN,
                        lag: UNKNOWN,
                        error_code: FAILED,
                        ..Default::default()
                    };
                    let partitions = topic.partitions.iter().map(partition).collect();
                    let name = topic.topic_name.0.clone();
                    hidden.push(DescribedShareTopic { name, partitions, ..Default::default() });
                }
                allowed
            });
        }
        secret.push((group.group_id.0.clone(), all, hidden));
        true
    });
    let nothing_left = message.0.groups.is_empty() && !denied.is_empty();
    let mut response: DescribeShareGroupOffsetsResponse = ask_rest(head, message, next, nothing_left).await?;
    for (group, (id, all, hidden)) in response.groups.iter_mut().zip(secret) {
        debug_assert_eq!(group.id, id);
        group.topics.retain(|topic| !all || ask.would(Describe, Topic, &topic.name));
        group.topics.extend(hidden);
    }
    response.groups.extend(denied);
    Ok(Response::new(response))
}

/// AlterShareGroupOffsets: Read on the group and on each topic.
pub(super) async fn alter_offsets(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<AlterShareGroupOffsetsRequest>()?;
    if let Err(code) = ask.group(Read, &message.group_id) {
        return Ok(Response::new(AlterShareGroupOffsetsResponse::default().with_error_code(code.code())));
    }
    let (denied, nothing_left) = sift(
        &mut message.topics,
        |topic| ask.read(&topic.topic_name),
        |topic, code| {
            let partition = |index| {
                let partition = AlterShareGroupOffsetsResponsePartition::default().with_partition_index(index);
                partition.with_error_code(code)
            };
            let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
            let response = AlterShareGroupOffsetsResponseTopic::default().with_topic_name(topic.topic_name.clone());
            response.with_partitions(partitions)
        },
    );
    let mut response: AlterShareGroupOffsetsResponse = ask_rest(head, message, next, nothing_left).await?;
    response.responses.extend(denied);
    Ok(Response::new(response))
}

/// DeleteShareGroupOffsets: Delete on the group, Read on each topic.
pub(super) async fn delete_offsets(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<DeleteShareGroupOffsetsRequest>()?;
    if let Err(code) = ask.group(Delete, &message.group_id) {
        return Ok(Response::new(DeleteShareGroupOffsetsResponse::default().with_error_code(code.code())));
    }
    let (denied, nothing_left) = sift(
        &mut message.topics,
        |topic| ask.read(&topic.topic_name),
        |topic, code| {
            let response = DeleteShareGroupOffsetsResponseTopic::default().with_topic_name(topic.topic_name.clone());
            response.with_error_code(code)
        },
    );
    let mut response: DeleteShareGroupOffsetsResponse = ask_rest(head, message, next, nothing_left).await?;
    response.responses.extend(denied);
    Ok(Response::new(response))
}
