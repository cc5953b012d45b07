//! IncrementalAlterConfigs: sets, deletes, appends to and subtracts from single configs.

use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use kafka_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::alter_configs::{check_keys, check_once};
use super::reply::{ApiError, duplicates};
use crate::Broker;
use crate::config::alter::Op;
use crate::config::logger;
use crate::config::resource::{Resource, kind};
use crate::topics::Edit;

const DELETE: i8 = 1;

/// Answers IncrementalAlterConfigs: all valid resources of a request change as one; log levels are not stored.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let resources = request.resources;
    let twice = duplicates(resources.iter().map(|resource| (resource.resource_type, &resource.resource_name)));
    let change = broker.topics.change().await;
    let outcomes: Vec<Result<Option<Edit>, ApiError>> = resources
        .iter()
        .map(|resource| {
            check_once(twice.contains(&(resource.resource_type, &resource.resource_name)))?;
            plan(broker, resource, request.validate_only)
        })
        .collect();
    let edits = outcomes.iter().filter_map(|edit| edit.clone().ok().flatten()).collect();
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
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn plan(broker: &Broker, resource: &AlterConfigsResource, validate_only: bool) -> Result<Option<Edit>, ApiError> {
    let has_value = |config: &AlterableConfig| config.value.is_some() || config.config_operation == DELETE;
    check_keys(resource.configs.iter().map(|config| (config.name.as_str(), has_value(config))))?;
    let ops = resource.configs.iter().map(|config| Ok((config.name.to_string(), op(config)?)));
    let ops = ops.collect::<Result<Vec<_>, ApiError>>()?;
    if resource.resource_type == kind::BROKER_LOGGER {
        logger::alter(broker, &resource.resource_name, ops, validate_only)?;
        return Ok(None);
    }
    let found = Resource::find(broker, resource.resource_type, &resource.resource_name)?;
    let configs = found.scope().apply(&found.configs(broker), ops).map_err(|why| found.refuse(why))?;
    found.edit(broker, configs).map(Some)
}

fn op(config: &AlterableConfig) -> Result<Op, ApiError> {
    let value = config.value.as_ref().map(|value| value.to_string()).unwrap_or_default();
    match config.config_operation {
        0 => Ok(Op::Set(value)),
        DELETE => Ok(Op::Delete),
        2 => Ok(Op::Append(value)),
        3 => Ok(Op::Subtract(value)),
        other => Err(ApiError::new(ErrorCode::InvalidRequest, format!("Unknown operations type {other}"))),
    }
}
