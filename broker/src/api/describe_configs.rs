//! DescribeConfigs: effective configs with their sources.

use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use krocket_stack::Head;

use super::reply::{ApiError, text};
use crate::Broker;
use crate::config::describe::{self, Entry};
use crate::config::resource::{Resource, kind};
use crate::config::{Owner, logger};

/// Answers DescribeConfigs.
pub(crate) async fn handle(broker: &Broker, _head: Head, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let details = Details { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let results = request.resources.into_iter().map(|resource| {
        let mut configs = configs(broker, &resource, details);
        if let (Ok(configs), Some(keys)) = (&mut configs, &resource.configuration_keys) {
            // As in Kafka an empty list asks for everything.
            configs.retain(|config| keys.is_empty() || keys.contains(&config.name));
        }
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match configs {
            Ok(configs) => result.with_configs(configs),
            Err(error) => result.with_error_code(error.code.code()).with_error_message(error.text()),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

#[derive(Clone, Copy)]
struct Details {
    synonyms: bool,
    documentation: bool,
}

fn configs(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    details: Details,
) -> Result<Vec<DescribeConfigsResourceResult>, ApiError> {
    if resource.resource_type == kind::BROKER_LOGGER {
        return logger::describe(broker, &resource.resource_name);
    }
    let found = Resource::find(broker, resource.resource_type, &resource.resource_name)?;
    let set = found.configs(broker);
    let layers = broker.configs.layers();
    let entries = match found {
        Resource::Topic(_) => describe::topic(&set, &layers),
        Resource::Owner(Owner::Group(_)) => describe::group(&set, &layers),
        Resource::Owner(Owner::Cluster) => describe::cluster(&layers),
        Resource::Owner(Owner::Node) => describe::broker(&layers),
    };
    Ok(entries.iter().map(|entry| result(entry, details)).collect())
}

fn result(entry: &Entry, details: Details) -> DescribeConfigsResourceResult {
    let synonyms = entry.synonyms.iter().filter(|_| details.synonyms).map(|synonym| {
        DescribeConfigsSynonym::default()
            .with_name(text(synonym.name))
            .with_value(Some(text(&synonym.value)))
            .with_source(synonym.source as i8)
    });
    DescribeConfigsResourceResult::default()
        .with_name(text(entry.def.name))
        .with_value(Some(text(entry.value())))
        .with_read_only(entry.read_only())
        .with_config_source(entry.source() as i8)
        .with_synonyms(synonyms.collect())
        .with_config_type(entry.def.kind.wire())
        .with_documentation(details.documentation.then(|| text(&entry.def.documentation())))
}
