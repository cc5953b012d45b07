//! Classic and consumer groups: Read to be a member, Describe to see, Delete to remove.

use kafka_protocol::messages::consumer_group_describe_response;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{
    BrokerId, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse,
    SyncGroupRequest, SyncGroupResponse, TopicName,
};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::security::Operation::{ClusterAction, Delete, Describe, Read};
use krocket_stack::security::ResourceType::{Group, Topic};
use krocket_stack::{Error, Handler, Request, Response};

use super::Ask;
use super::rest::{ask_rest, sift, whole};

/// FindCoordinator's key types.
const GROUP_KEY: i8 = 0;
const TRANSACTION_KEY: i8 = 1;
/// First version of FindCoordinator with several keys.
const KEYS_VERSION: i16 = 4;
/// Before this version of JoinGroup the protocol's name cannot be null.
const NULL_NAME_VERSION: i16 = 7;

/// FindCoordinator: Describe on the group or transactional id; the coordinators of share groups' state are brokers' business.
pub(super) async fn find_coordinator(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<FindCoordinatorRequest>()?;
    let check = |key: &str| match message.key_type {
        GROUP_KEY => ask.group(Describe, key),
        TRANSACTION_KEY => ask.transactional_id(Describe, key),
        _ => ask.cluster(ClusterAction),
    };
    if head.version < KEYS_VERSION {
        return match check(&message.key) {
            Ok(()) => next.call(Request::new(head, message)).await,
            Err(code) => {
                let response = FindCoordinatorResponse::default().with_error_code(code.code());
                let message = if head.version >= 1 { Some(StrBytes::from_string(code.to_string())) } else { None };
                Ok(Response::new(response.with_error_message(message).with_node_id(BrokerId(-1)).with_port(-1)))
            }
        };
    }
    let mut denied = Vec::new();
    let keys = std::mem::take(&mut message.coordinator_keys);
    let (mut left, asked) = (Vec::new(), !keys.is_empty());
    for key in keys {
        match check(&key) {
            Ok(()) => left.push(key),
            Err(code) => denied.push(
                Coordinator::default()
                    .with_key(key)
                    .with_node_id(BrokerId(-1))
                    .with_port(-1)
                    .with_error_code(code.code())
                    .with_error_message(Some(StrBytes::from_string(code.to_string()))),
            ),
        }
    }
    let nothing_left = left.is_empty() && asked;
    message.coordinator_keys = left;
    let mut response: FindCoordinatorResponse = ask_rest(head, message, next, nothing_left).await?;
    response.coordinators.extend(denied);
    Ok(Response::new(response))
}

/// JoinGroup: Read.
pub(super) async fn join(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let version = request.head.version;
    let check = |message: &JoinGroupRequest| ask.group(Read, &message.group_id);
    whole(request, next, check, |message, code| {
        let response = JoinGroupResponse::default().with_error_code(code).with_generation_id(-1);
        let name = (version < NULL_NAME_VERSION).then(StrBytes::new);
        response.with_member_id(message.member_id).with_protocol_name(name)
    })
    .await
}

/// SyncGroup: Read.
pub(super) async fn sync(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |message: &SyncGroupRequest| ask.group(Read, &message.group_id);
    whole(request, next, check, |_, code| SyncGroupResponse::default().with_error_code(code)).await
}

/// Heartbeat: Read.
pub(super) async fn heartbeat(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |message: &HeartbeatRequest| ask.group(Read, &message.group_id);
    whole(request, next, check, |_, code| HeartbeatResponse::default().with_error_code(code)).await
}

/// LeaveGroup: Read.
pub(super) async fn leave(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |message: &LeaveGroupRequest| ask.group(Read, &message.group_id);
    whole(request, next, check, |_, code| LeaveGroupResponse::default().with_error_code(code)).await
}

/// ConsumerGroupHeartbeat: Read on the group, Describe on the topics that it subscribes to by name.
pub(super) async fn consumer_heartbeat(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |message: &ConsumerGroupHeartbeatRequest| {
        ask.group(Read, &message.group_id)?;
        subscribes(ask, message.subscribed_topic_names.as_deref())
    };
    whole(request, next, check, |_, code| ConsumerGroupHeartbeatResponse::default().with_error_code(code)).await
}

/// Describe on the topics of a subscription. All of them are looked at: the log tells each.
pub(super) fn subscribes(ask: &Ask<'_>, topics: Option<&[TopicName]>) -> Result<(), ErrorCode> {
    match topics.unwrap_or_default().iter().filter(|name| !ask.topic(Describe, name)).count() {
        0 => Ok(()),
        _ => Err(ErrorCode::TopicAuthorizationFailed),
    }
}

/// DescribeGroups: Describe.
pub(super) async fn describe(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<DescribeGroupsRequest>()?;
    let (denied, nothing_left) = sift(
        &mut message.groups,
        |group| ask.group(Describe, group),
        |group, code| DescribedGroup::default().with_group_id(group.clone()).with_error_code(code),
    );
    let mut response: DescribeGroupsResponse = ask_rest(head, message, next, nothing_left).await?;
    for group in &mut response.groups {
        group.authorized_operations = ask.operations(group.authorized_operations, Group, &group.group_id);
    }
    response.groups.extend(denied);
    Ok(Response::new(response))
}

/// ConsumerGroupDescribe: Describe on the group, and on every topic that would be told.
pub(super) async fn consumer_describe(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    use consumer_group_describe_response::{Assignment, DescribedGroup};
    let (head, mut message) = request.into_message::<ConsumerGroupDescribeRequest>()?;
    let (denied, nothing_left) = sift(
        &mut message.group_ids,
        |group| ask.group(Describe, group),
        |group, code| DescribedGroup::default().with_group_id(group.clone()).with_error_code(code),
    );
    let mut response: ConsumerGroupDescribeResponse = ask_rest(head, message, next, nothing_left).await?;
    let assigned = |assignment: &Assignment| -> bool {
        assignment.topic_partitions.iter().all(|topic| ask.would(Describe, Topic, &topic.topic_name))
    };
    for group in &mut response.groups {
        let seen = group.members.iter().all(|member| {
            let names = member.subscribed_topic_names.iter();
            names.clone().all(|name| ask.would(Describe, Topic, name))
                && assigned(&member.assignment)
                && assigned(&member.target_assignment)
        });
        if !seen {
            group.error_code = ErrorCode::TopicAuthorizationFailed.code();
            group.error_message = Some(secret_topics());
            group.members.clear();
        }
        group.authorized_operations = ask.operations(group.authorized_operations, Group, &group.group_id);
    }
    response.groups.extend(denied);
    Ok(Response::new(response))
}

/// What Kafka says where a group reads what may not be seen.
pub(super) fn secret_topics() -> StrBytes {
    StrBytes::from_static_str("The group has described topic(s) that the client is not authorized to describe.")
}

/// ListGroups: Describe on the cluster, else those groups that may be seen.
pub(super) async fn list(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, message) = request.into_message::<ListGroupsRequest>()?;
    let version = head.version;
    let mut response: ListGroupsResponse = next.call(Request::new(head, message)).await?.into_message(version)?;
    if !ask.would_cluster(Describe) {
        response.groups.retain(|group| ask.would(Describe, Group, &group.group_id));
    }
    Ok(Response::new(response))
}

/// DeleteGroups: Delete.
pub(super) async fn delete(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<DeleteGroupsRequest>()?;
    let (denied, nothing_left) = sift(
        &mut message.groups_names,
        |group| ask.group(Delete, group),
        |group, code| DeletableGroupResult::default().with_group_id(group.clone()).with_error_code(code),
    );
    let mut response: DeleteGroupsResponse = ask_rest(head, message, next, nothing_left).await?;
    response.results.extend(denied);
    Ok(Response::new(response))
}
