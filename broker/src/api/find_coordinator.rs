//! FindCoordinator: this broker, for every group and transactional id.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::Head;

use super::reply::text;
use crate::Broker;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Answers FindCoordinator.
pub(crate) async fn handle(broker: &Broker, head: Head, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    // Share groups' state has no coordinator here: those groups are not served.
    let code = match request.key_type {
        GROUP | TRANSACTION => 0,
        _ => ErrorCode::InvalidRequest.code(),
    };
    let (host, port) = broker.settings.advertised_to(&head.connection);
    let found = code == 0;
    let host = if found { text(host) } else { StrBytes::new() };
    let port = if found { i32::from(port) } else { -1 };
    let node = BrokerId(if found { broker.settings.node_id } else { -1 });
    if head.version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(code)
            .with_node_id(node)
            .with_host(host)
            .with_port(port);
    }
    let coordinator = |key: StrBytes| {
        Coordinator::default()
            .with_key(key)
            .with_error_code(code)
            .with_node_id(node)
            .with_host(host.clone())
            .with_port(port)
    };
    FindCoordinatorResponse::default()
        .with_coordinators(request.coordinator_keys.into_iter().map(coordinator).collect())
}
