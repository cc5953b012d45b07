//! CreateTopics, CreatePartitions and DeleteTopics.

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
};
use krocket_protocol::ErrorCode;
use krocket_stack::{Error, Handler, Request, Response};

use crate::define::{Refused, text};
use crate::registry::Shared;
use crate::view::{FILTER, SOURCE};

pub(super) async fn create(shared: &Shared, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<CreateTopicsRequest>()?;
    let is_view = |topic: &CreatableTopic| topic.configs.iter().any(|config| [SOURCE, FILTER].contains(&&*config.name));
    if !message.topics.iter().any(is_view) {
        return next.call(Request::new(head, message)).await;
    }
    let mut refused = Vec::new();
    message.topics.retain_mut(|topic| {
        let Err(why) = (if is_view(topic) { check(shared, topic) } else { Ok(()) }) else { return true };
        refused.push(
            CreatableTopicResult::default()
                .with_name(topic.name.clone())
                .with_error_code(why.code.code())
                .with_error_message(Some(text(&why.message))),
        );
        false
    });
    let version = head.version;
    let mut response = match message.topics.is_empty() {
        true => CreateTopicsResponse::default(),
        false => next.call(Request::new(head, message)).await?.into_message(version)?,
    };
    shared.refresh();
    response.topics.extend(refused);
    Ok(Response::new(response))
}

/// Checks a view that is to be created and gives it its source's partitions.
fn check(shared: &Shared, topic: &mut CreatableTopic) -> Result<(), Refused> {
    let config = |name: &str| {
        let found = topic.configs.iter().rev().find(|config| &*config.name == name);
        found.and_then(|config| config.value.as_ref()).map(|value| value.to_string())
    };
    let (source, filter) = (config(SOURCE), config(FILTER));
    let source = shared.check(&topic.name, source.as_deref(), filter.as_deref())?;
    let partitions = i32::try_from(source.partitions.len()).unwrap_or(i32::MAX);
    let asked = match topic.assignments.len() {
        0 => topic.num_partitions,
        assigned => i32::try_from(assigned).unwrap_or(i32::MAX),
    };
    if asked != -1 && asked != partitions {
        let message =
            format!("a view has its source's partitions: '{}' has {partitions}, asked for were {asked}", source.name);
        return Err(Refused { code: ErrorCode::InvalidPartitions, message });
    }
    if topic.assignments.is_empty() {
        topic.num_partitions = partitions;
    }
    Ok(())
}

pub(super) async fn create_partitions(
    shared: &Shared,
    request: Request,
    next: &dyn Handler,
) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<CreatePartitionsRequest>()?;
    let views = shared.all();
    let mut refused = Vec::new();
    message.topics.retain(|topic| match views.name(&topic.name) {
        Some(view) => {
            let why = format!("'{}' has the partitions of '{}', and gets more when that does", view.name, view.source);
            refused.push(
                CreatePartitionsTopicResult::default()
                    .with_name(topic.name.clone())
                    .with_error_code(ErrorCode::InvalidRequest.code())
                    .with_error_message(Some(text(&why))),
            );
            false
        }
        None => true,
    });
    let version = head.version;
    let mut response = match message.topics.is_empty() {
        true => CreatePartitionsResponse::default(),
        false => next.call(Request::new(head, message)).await?.into_message(version)?,
    };
    response.results.extend(refused);
    shared.grow().await;
    Ok(Response::new(response))
}

/// A deleted view is gone for this layer before the client hears of it.
pub(super) async fn delete(shared: &Shared, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, message) = request.into_message::<DeleteTopicsRequest>()?;
    let response = next.call(Request::new(head, message)).await?;
    shared.refresh();
    Ok(response)
}
