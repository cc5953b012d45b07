//! SyncGroup: the answer comes when the leader has assigned.

use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use krocket_stack::Head;

use crate::Broker;

/// Answers SyncGroup.
pub(crate) async fn handle(broker: &Broker, _: Head, request: SyncGroupRequest) -> SyncGroupResponse {
    broker.groups.sync_group(request).await
}
