//! AlterConfigs: replaces everything that was set on a resource. Deprecated by IncrementalAlterConfigs, still used.

use kafka_protocol::messages::alter_configs_request::{AlterConfigsRequest, AlterConfigsResource};
use kafka_protocol::messages::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::reply::{ApiError, duplicates};
use crate::Broker;
use crate::config::resource::Resource;
use crate::topics::Edit;

/// Answers AlterConfigs: all valid resources of a request change as one.
pub(crate) async fn handle(broker: &Broker, _head: Head, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let resources = request.resources;
    let twice = duplicates(resources.iter().map(|resource| (resource.resource_type, &resource.resource_name)));
    let change = broker.topics.change().await;
    let outcomes: Vec<Result<Edit, ApiError>> = resources
        .iter()
        .map(|resource| {
            check_once(twice.contains(&(resource.resource_type, &resource.resource_name)))?;
            plan(broker, resource)
        })
        .collect();
    let edits = outcomes.iter().filter_map(|edit| edit.clone().ok()).collect();
    let stored = match request.validate_only {
        true => Ok(()),
        false => change.commit(edits).await.map_err(ApiError::from),
    };
    let responses = resources.into_iter().zip(outcomes).map(|(resource, edit)| {
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match edit.map(drop).and(stored.clone()) {
            Ok(()) => response,
            Err(error) => response.with_error_code(error.code.code()).with_error_message(error.text()),
        }
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

fn plan(broker: &Broker, resource: &AlterConfigsResource) -> Result<Edit, ApiError> {
    check_keys(resource.configs.iter().map(|config| (config.name.as_str(), config.value.is_some())))?;
    let found = Resource::find(broker, resource.resource_type, &resource.resource_name)?;
    let new = resource.configs.iter().filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string())));
    let configs = found.scope().replace(new).map_err(|why| found.refuse(why))?;
    found.edit(broker, configs)
}

/// A resource that a request names twice is not changed at all.
pub(super) fn check_once(twice: bool) -> Result<(), ApiError> {
    match twice {
        true => Err(ApiError::new(ErrorCode::InvalidRequest, "Each resource must appear at most once.")),
        false => Ok(()),
    }
}

/// Every key once, and with a value where one is needed.
pub(super) fn check_keys<'a>(keys: impl Iterator<Item = (&'a str, bool)> + Clone) -> Result<(), ApiError> {
    if !duplicates(keys.clone().map(|(name, _)| name)).is_empty() {
        return Err(ApiError::new(ErrorCode::InvalidRequest, "Error due to duplicate config keys"));
    }
    let null: Vec<&str> = keys.filter(|(_, has_value)| !has_value).map(|(name, _)| name).collect();
    if !null.is_empty() {
        let message = format!("Null value not supported for : {}", null.join(", "));
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    Ok(())
}
