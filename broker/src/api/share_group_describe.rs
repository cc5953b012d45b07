//! ShareGroupDescribe: share groups and their members.

use kafka_protocol::messages::{GroupId, ShareGroupDescribeRequest, ShareGroupDescribeResponse};
use krocket_stack::Head;

use super::groups::OPERATIONS;
use crate::Broker;

/// Answers ShareGroupDescribe.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: ShareGroupDescribeRequest,
) -> ShareGroupDescribeResponse {
    let describe = |id: &GroupId| {
        let group = broker.groups.describe_share_group(id);
        match request.include_authorized_operations && group.error_code == 0 {
            true => group.with_authorized_operations(OPERATIONS),
            false => group,
        }
    };
    ShareGroupDescribeResponse::default().with_groups(request.group_ids.iter().map(describe).collect())
}
