//! ListConfigResources: the resources that configs can be described of.

use kafka_protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use kafka_protocol::messages::list_config_resources_response::{ConfigResource, ListConfigResourcesResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::reply::text;
use crate::Broker;
use crate::config::resource::kind;

const ALL: [i8; 5] = [kind::GROUP, kind::CLIENT_METRICS, kind::BROKER_LOGGER, kind::BROKER, kind::TOPIC];

/// Answers ListConfigResources. Version 0 is ListClientMetricsResources: there are none.
pub(crate) async fn handle(
    broker: &Broker,
    head: Head,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let response = ListConfigResourcesResponse::default();
    let supported: &[i8] = if head.version == 0 { &[kind::CLIENT_METRICS] } else { &ALL };
    let asked = if request.resource_types.is_empty() { supported } else { request.resource_types.as_slice() };
    if asked.iter().any(|kind| !supported.contains(kind)) {
        return response.with_error_code(ErrorCode::UnsupportedVersion.code());
    }
    let node = broker.settings.node_id.to_string();
    let resources = supported.iter().filter(|kind| asked.contains(kind)).flat_map(|&kind| {
        let names = match kind {
            kind::GROUP => broker.configs.groups(),
            kind::BROKER | kind::BROKER_LOGGER => vec![node.clone()],
            kind::TOPIC => broker.topics.all().iter().map(|topic| topic.name.clone()).collect(),
            _ => Vec::new(),
        };
        let resource =
            move |name: String| ConfigResource::default().with_resource_name(text(&name)).with_resource_type(kind);
        names.into_iter().map(resource)
    });
    response.with_config_resources(resources.collect())
}
