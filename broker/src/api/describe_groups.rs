//! DescribeGroups: groups of the classic protocol.

use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use krocket_stack::Head;

use super::groups::OPERATIONS;
use crate::Broker;

/// Answers DescribeGroups.
pub(crate) async fn handle(broker: &Broker, head: Head, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let describe = |id: &kafka_protocol::messages::GroupId| {
        let group = broker.groups.describe_group(id, head.version);
        match request.include_authorized_operations && group.error_code == 0 {
            true => group.with_authorized_operations(OPERATIONS),
            false => group,
        }
    };
    DescribeGroupsResponse::default().with_groups(request.groups.iter().map(describe).collect())
}
