//! ListPartitionReassignments: none is ever in progress.

use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use kafka_protocol::messages::list_partition_reassignments_response::ListPartitionReassignmentsResponse;
use krocket_stack::Head;

use crate::Broker;

/// Answers ListPartitionReassignments. As in Kafka a topic that does not exist is no error here.
pub(crate) async fn handle(
    _broker: &Broker,
    _head: Head,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
}
