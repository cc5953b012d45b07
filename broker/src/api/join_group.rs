//! JoinGroup: the answer comes when the group's generation begins.

use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use krocket_protocol::StrBytes;
use krocket_stack::Head;

use super::groups::client;
use crate::Broker;

/// Answers JoinGroup.
pub(crate) async fn handle(broker: &Broker, head: Head, request: JoinGroupRequest) -> JoinGroupResponse {
    let mut response = broker.groups.join_group(client(&head), request).await;
    // Before version 7 the name cannot be null.
    if head.version < 7 {
        response.protocol_name.get_or_insert_with(StrBytes::new);
    }
    response
}
