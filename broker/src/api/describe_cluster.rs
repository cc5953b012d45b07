//! DescribeCluster: a cluster of one.

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use kafka_protocol::messages::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::reply::{CLUSTER_OPERATIONS, NOT_ASKED, text};
use crate::Broker;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers DescribeCluster.
pub(crate) async fn handle(broker: &Broker, head: Head, request: DescribeClusterRequest) -> DescribeClusterResponse {
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let message =
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER";
            return failed(head.version, ErrorCode::MismatchedEndpointType, message);
        }
        other => {
            let message = format!("Unsupported endpoint type {other}");
            return failed(head.version, ErrorCode::UnsupportedEndpointType, &message);
        }
    }
    let node = BrokerId(broker.settings.node_id);
    let (host, port) = broker.settings.advertised_to(&head.connection);
    let this = DescribeClusterBroker::default().with_broker_id(node).with_host(text(host)).with_port(port.into());
    let asked = request.include_cluster_authorized_operations;
    DescribeClusterResponse::default()
        .with_endpoint_type(BROKERS)
        .with_cluster_id(text(&broker.cluster_id))
        .with_controller_id(node)
        .with_brokers(vec![this])
        .with_cluster_authorized_operations(if asked { CLUSTER_OPERATIONS } else { NOT_ASKED })
}

/// Version 0 had no codes of its own for endpoint types.
fn failed(version: i16, code: ErrorCode, message: &str) -> DescribeClusterResponse {
    let code = if version == 0 { ErrorCode::InvalidRequest } else { code };
    DescribeClusterResponse::default()
        .with_error_code(code.code())
        .with_error_message(Some(text(message)))
        .with_controller_id(BrokerId(-1))
}

#[cfg(test)]
mod tests {
    use krocket_protocol::ApiKey;

    use super::*;
    use crate::api::testing::{NODE, TestBroker, error};

    #[tokio::test]
    async fn the_cluster_is_this_broker() {
        let broker = TestBroker::start().await;
        for version in 0..=2 {
            let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(version == 1);
            let response: DescribeClusterResponse = broker.ask(ApiKey::DescribeCluster, version, request).await;
            assert_eq!(error(response.error_code), None);
            assert_eq!(response.cluster_id.as_str(), broker.broker.cluster_id);
            assert_eq!((response.controller_id, response.endpoint_type), (NODE, BROKERS));
            let this = &response.brokers[0];
            assert_eq!(
                (response.brokers.len(), this.broker_id, this.host.as_str(), this.port),
                (1, NODE, "127.0.0.1", 9092)
            );
            assert!(!this.is_fenced);
            let operations = if version == 1 { CLUSTER_OPERATIONS } else { NOT_ASKED };
            assert_eq!(response.cluster_authorized_operations, operations);
        }
    }

    #[tokio::test]
    async fn controllers_are_asked_for_elsewhere() {
        let broker = TestBroker::start().await;
        for (kind, code) in [(2, ErrorCode::MismatchedEndpointType), (3, ErrorCode::UnsupportedEndpointType)] {
            let request = DescribeClusterRequest::default().with_endpoint_type(kind);
            let response: DescribeClusterResponse = broker.ask(ApiKey::DescribeCluster, 2, request).await;
            assert_eq!(error(response.error_code), Some(code));
        }
    }
}
