//! LeaveGroup: one member up to version 2, several from there on.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use krocket_stack::Head;

use super::groups::code_of;
use crate::Broker;

const BATCH_VERSION: i16 = 3;

/// Answers LeaveGroup.
pub(crate) async fn handle(broker: &Broker, head: Head, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let single = head.version < BATCH_VERSION;
    let members =
        if single { vec![MemberIdentity::default().with_member_id(request.member_id)] } else { request.members };
    let response = LeaveGroupResponse::default();
    match broker.groups.leave_group(&request.group_id, &members).await {
        Err(code) => response.with_error_code(code.code()),
        Ok(results) if single => response.with_error_code(results.into_iter().map(code_of).next().unwrap_or(0)),
        Ok(results) => {
            let member = |(member, result): (MemberIdentity, _)| {
                MemberResponse::default()
                    .with_member_id(member.member_id)
                    .with_group_instance_id(member.group_instance_id)
                    .with_error_code(code_of(result))
            };
            response.with_members(members.into_iter().zip(results).map(member).collect())
        }
    }
}
