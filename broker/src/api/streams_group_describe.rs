//! StreamsGroupDescribe: streams groups, their topology and their members.

use krocket_protocol::streams_group_describe::{
    DescribedGroup, StreamsGroupDescribeRequest, StreamsGroupDescribeResponse,
};
use krocket_stack::Head;

use super::groups::OPERATIONS;
use crate::Broker;

/// Answers StreamsGroupDescribe.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: StreamsGroupDescribeRequest,
) -> StreamsGroupDescribeResponse {
    let describe = |id| {
        let group = broker.groups.describe_streams_group(id);
        match request.include_authorized_operations && group.error_code == 0 {
            true => DescribedGroup { authorized_operations: OPERATIONS, ..group },
            false => group,
        }
    };
    let groups = request.group_ids.iter().map(|id| describe(id)).collect();
    StreamsGroupDescribeResponse { throttle_time_ms: 0, groups }
}
