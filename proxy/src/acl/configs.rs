//! Configs: of topics and groups by their own permission, of anything else by the cluster's.

use kafka_protocol::messages::alter_configs_response;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::incremental_alter_configs_response;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::security::Operation::{self, AlterConfigs, DescribeConfigs};
use krocket_stack::{Error, Handler, Request, Response};

use super::Ask;
use super::rest::{ask_rest, sift};

/// ConfigResource.Type
const TOPIC: i8 = 2;
const GROUP: i8 = 32;

fn check(ask: &Ask<'_>, operation: Operation, kind: i8, name: &str) -> Result<(), ErrorCode> {
    match kind {
        TOPIC if ask.topic(operation, name) => Ok(()),
        TOPIC => Err(ErrorCode::TopicAuthorizationFailed),
        GROUP => ask.group(operation, name),
        // Brokers, their loggers, client metrics, and whatever the backend does not know.
        _ => ask.cluster(operation),
    }
}

fn sentence() -> Option<StrBytes> {
    Some(StrBytes::from_static_str("Authorization failed."))
}

/// DescribeConfigs: DescribeConfigs.
pub(super) async fn describe(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<DescribeConfigsRequest>()?;
    let (denied, nothing_left) = sift(
        &mut message.resources,
        |resource| check(ask, DescribeConfigs, resource.resource_type, &resource.resource_name),
        |resource, code| {
            DescribeConfigsResult::default()
                .with_error_code(code)
                .with_error_message(sentence())
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone())
        },
    );
    let mut response: DescribeConfigsResponse = ask_rest(head, message, next, nothing_left).await?;
    response.results.extend(denied);
    Ok(Response::new(response))
}

/// AlterConfigs: AlterConfigs.
pub(super) async fn alter(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<AlterConfigsRequest>()?;
    let (denied, nothing_left) = sift(
        &mut message.resources,
        |resource| check(ask, AlterConfigs, resource.resource_type, &resource.resource_name),
        |resource, code| {
            alter_configs_response::AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(sentence())
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone())
        },
    );
    let mut response: AlterConfigsResponse = ask_rest(head, message, next, nothing_left).await?;
    response.responses.extend(denied);
    Ok(Response::new(response))
}

/// IncrementalAlterConfigs: AlterConfigs.
pub(super) async fn incremental_alter(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<IncrementalAlterConfigsRequest>()?;
    let (denied, nothing_left) = sift(
        &mut message.resources,
        |resource| check(ask, AlterConfigs, resource.resource_type, &resource.resource_name),
        |resource, code| {
            incremental_alter_configs_response::AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(sentence())
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone())
        },
    );
    let mut response: IncrementalAlterConfigsResponse = ask_rest(head, message, next, nothing_left).await?;
    response.responses.extend(denied);
    Ok(Response::new(response))
}
