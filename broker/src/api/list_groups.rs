//! ListGroups, filtered by state (version 4) and type (version 5).

use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use krocket_stack::Head;

use crate::Broker;

/// Answers ListGroups.
pub(crate) async fn handle(broker: &Broker, _: Head, request: ListGroupsRequest) -> ListGroupsResponse {
    let states: Vec<&str> = request.states_filter.iter().map(|state| &**state).collect();
    let types: Vec<&str> = request.types_filter.iter().map(|kind| &**kind).collect();
    ListGroupsResponse::default().with_groups(broker.groups.list_groups(&states, &types))
}
