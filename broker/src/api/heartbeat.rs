//! Heartbeat of the classic protocol.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use krocket_stack::Head;

use super::groups::code_of;
use crate::Broker;

/// Answers Heartbeat.
pub(crate) async fn handle(broker: &Broker, _: Head, request: HeartbeatRequest) -> HeartbeatResponse {
    HeartbeatResponse::default().with_error_code(code_of(broker.groups.heartbeat(request).await))
}
