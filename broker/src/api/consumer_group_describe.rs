//! ConsumerGroupDescribe: groups of the KIP-848 protocol.

use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::groups::OPERATIONS;
use crate::Broker;

/// Answers ConsumerGroupDescribe.
pub(crate) async fn handle(
    broker: &Broker,
    head: Head,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let describe = |id: &GroupId| {
        let mut group = broker.groups.describe_consumer_group(id);
        if !broker.configs.broker().consumer_groups {
            group.error_code = ErrorCode::UnsupportedVersion.code();
        }
        if request.include_authorized_operations && group.error_code == 0 {
            group.authorized_operations = OPERATIONS;
        }
        if head.version < 1 {
            // Before version 1 nothing tells classic members apart.
            group.members.iter_mut().for_each(|member| member.member_type = -1);
        }
        group
    };
    ConsumerGroupDescribeResponse::default().with_groups(request.group_ids.iter().map(describe).collect())
}
