//! ConsumerGroupHeartbeat: the whole of the KIP-848 protocol.

use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use krocket_stack::Head;

use super::groups::client;
use crate::Broker;

/// Answers ConsumerGroupHeartbeat.
pub(crate) async fn handle(
    broker: &Broker,
    head: Head,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    broker.groups.consumer_group_heartbeat(client(&head), request).await
}
