//! ShareGroupHeartbeat: the membership of share groups (KIP-932).

use kafka_protocol::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};
use krocket_stack::Head;

use super::groups::client;
use crate::Broker;

/// Answers ShareGroupHeartbeat.
pub(crate) async fn handle(
    broker: &Broker,
    head: Head,
    request: ShareGroupHeartbeatRequest,
) -> ShareGroupHeartbeatResponse {
    broker.groups.share_group_heartbeat(client(&head), request).await
}
