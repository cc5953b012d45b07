//! Streams groups (KIP-1071): as consumer groups, with the topics of a topology.

use krocket_protocol::streams_group_describe::{
    DescribedGroup, StreamsGroupDescribeRequest, StreamsGroupDescribeResponse,
};
use krocket_protocol::streams_group_heartbeat::{StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::security::Operation::{Describe, Read};
use krocket_stack::security::ResourceType::{Group, Topic};
use krocket_stack::{Error, Handler, Request, Response};

use super::Ask;
use super::groups::secret_topics;
use super::rest::{ask_rest, whole};

/// StreamsGroupHeartbeat: Read on the group, Describe on every topic of the topology, Create on those that the group would
/// make.
pub(super) async fn heartbeat(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |message: &StreamsGroupHeartbeatRequest| {
        ask.group(Read, &message.group_id)?;
        let parts = message.topology.iter().flat_map(|topology| &topology.subtopologies);
        let mut allowed = true;
        for part in parts {
            let internal = part.state_changelog_topics.iter().chain(&part.repartition_source_topics);
            let internal = internal.map(|topic| &topic.name);
            for name in part.source_topics.iter().chain(&part.repartition_sink_topics).chain(internal.clone()) {
                allowed &= ask.topic(Describe, name);
            }
            for name in internal {
                allowed &= ask.exists(name) || ask.creates(name);
            }
        }
        if allowed { Ok(()) } else { Err(ErrorCode::TopicAuthorizationFailed) }
    };
    whole(request, next, check, |message, code| StreamsGroupHeartbeatResponse {
        error_code: code,
        member_id: message.member_id,
        member_epoch: message.member_epoch,
        ..Default::default()
    })
    .await
}

/// StreamsGroupDescribe: Describe on the group and on every topic of its topology.
pub(super) async fn describe(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<StreamsGroupDescribeRequest>()?;
    let mut denied = Vec::new();
    message.group_ids.retain(|group| {
        let checked = ask.group(Describe, group);
        denied.extend(checked.err().map(|code| DescribedGroup {
            group_id: group.clone(),
            error_code: code.code(),
            ..Default::default()
        }));
        checked.is_ok()
    });
    let nothing_left = message.group_ids.is_empty() && !denied.is_empty();
    let mut response: StreamsGroupDescribeResponse = ask_rest(head, message, next, nothing_left).await?;
    let seen = |name: &StrBytes| ask.would(Describe, Topic, name);
    for group in &mut response.groups {
        let parts = group.topology.iter().flat_map(|topology| topology.subtopologies.iter().flatten());
        let all_seen = parts.into_iter().all(|part| {
            part.source_topics.iter().chain(&part.repartition_sink_topics).all(seen)
                && part.state_changelog_topics.iter().chain(&part.repartition_source_topics).all(|it| seen(&it.name))
        });
        if !all_seen {
            group.error_code = ErrorCode::TopicAuthorizationFailed.code();
            group.error_message = Some(secret_topics());
            group.members.clear();
            group.topology = None;
        }
        group.authorized_operations = ask.operations(group.authorized_operations, Group, &group.group_id);
    }
    response.groups.extend(denied);
    Ok(Response::new(response))
}
