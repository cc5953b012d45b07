//! IncrementalAlterConfigs and AlterConfigs: what makes a topic a view, changes its filter, or makes it a topic again; and
//! the filter of a share group, which is used elsewhere and only checked here.

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as Replaced;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as Altered;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use krocket_protocol::ErrorCode;
use krocket_stack::{Error, Handler, Request, Response};

use crate::define::{Refused, check_filter, text};
use crate::registry::Shared;
use crate::view::{FILTER, SOURCE};

/// The resource type of a topic.
const TOPIC: i8 = 2;
/// The resource type of a group.
const GROUP: i8 = 32;
/// The config of a group that says which records it gets.
const GROUP_FILTER: &str = "krocket.filter";
const SET: i8 = 0;
const DELETE: i8 = 1;

pub(super) async fn incremental(shared: &Shared, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<IncrementalAlterConfigsRequest>()?;
    let (mut refused, mut concerned) = (Vec::new(), false);
    message.resources.retain(|resource| {
        let about_views = |name: &str| [SOURCE, FILTER].contains(&name);
        if resource.resource_type == GROUP {
            let set = resource.configs.iter().filter(|change| change.config_operation == SET);
            let Err(why) = check_group(set.map(|change| (&*change.name, change.value.as_deref()))) else { return true };
            concerned = true;
            refused.push(
                Altered::default()
                    .with_resource_type(GROUP)
                    .with_resource_name(resource.resource_name.clone())
                    .with_error_code(why.code.code())
                    .with_error_message(Some(text(&why.message))),
            );
            return false;
        }
        if resource.resource_type != TOPIC || !resource.configs.iter().any(|config| about_views(&config.name)) {
            return true;
        }
        concerned = true;
        let name = resource.resource_name.as_str();
        let after = |config: &str| {
            let mut value = shared.ledger.topic_config(name, config);
            for change in resource.configs.iter().filter(|change| &*change.name == config) {
                match change.config_operation {
                    SET => value = change.value.as_ref().map(|value| value.to_string()),
                    DELETE => value = None,
                    _ => {} // The next handler refuses it: these are no lists.
                }
            }
            value
        };
        let Err(why) = check(shared, name, after(SOURCE), after(FILTER)) else { return true };
        refused.push(
            Altered::default()
                .with_resource_type(TOPIC)
                .with_resource_name(resource.resource_name.clone())
                .with_error_code(why.code.code())
                .with_error_message(Some(text(&why.message))),
        );
        false
    });
    if !concerned {
        return next.call(Request::new(head, message)).await;
    }
    let version = head.version;
    let mut response = match message.resources.is_empty() {
        true => IncrementalAlterConfigsResponse::default(),
        false => next.call(Request::new(head, message)).await?.into_message(version)?,
    };
    shared.refresh();
    response.responses.extend(refused);
    Ok(Response::new(response))
}

pub(super) async fn replace(shared: &Shared, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<AlterConfigsRequest>()?;
    let mut refused = Vec::new();
    message.resources.retain(|resource| {
        if resource.resource_type == GROUP {
            let set = resource.configs.iter().map(|config| (&*config.name, config.value.as_deref()));
            let Err(why) = check_group(set) else { return true };
            refused.push(
                Replaced::default()
                    .with_resource_type(GROUP)
                    .with_resource_name(resource.resource_name.clone())
                    .with_error_code(why.code.code())
                    .with_error_message(Some(text(&why.message))),
            );
            return false;
        }
        if resource.resource_type != TOPIC {
            return true;
        }
        let after = |config: &str| {
            let found = resource.configs.iter().rev().find(|change| &*change.name == config);
            found.and_then(|change| change.value.as_ref()).map(|value| value.to_string())
        };
        let Err(why) = check(shared, &resource.resource_name, after(SOURCE), after(FILTER)) else { return true };
        refused.push(
            Replaced::default()
                .with_resource_type(TOPIC)
                .with_resource_name(resource.resource_name.clone())
                .with_error_code(why.code.code())
                .with_error_message(Some(text(&why.message))),
        );
        false
    });
    let version = head.version;
    let mut response = match message.resources.is_empty() {
        true => AlterConfigsResponse::default(),
        false => next.call(Request::new(head, message)).await?.into_message(version)?,
    };
    shared.refresh();
    response.responses.extend(refused);
    Ok(Response::new(response))
}

/// Checks what a topic's configs would be.
fn check(shared: &Shared, name: &str, source: Option<String>, filter: Option<String>) -> Result<(), Refused> {
    let given = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
    if !given(&source) && !given(&filter) {
        return Ok(());
    }
    let source = shared.check(name, source.as_deref(), filter.as_deref().filter(|filter| !filter.is_empty()))?;
    shared.check_topic(name, &source)
}

/// Checks the filter among a share group's new configs; an empty one is none.
fn check_group<'a>(mut set: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Result<(), Refused> {
    match set.find(|(name, _)| *name == GROUP_FILTER) {
        Some((_, Some(filter))) if !filter.trim().is_empty() => match check_filter(filter) {
            Ok(_) => Ok(()),
            Err(why) => Err(Refused { code: ErrorCode::InvalidConfig, message: format!("{GROUP_FILTER}: {why}") }),
        },
        _ => Ok(()),
    }
}
