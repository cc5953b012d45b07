//! Metadata and DescribeTopicPartitions: a view that is asked for by name comes into being, and only views that somebody
//! configured are in the list of all topics.

use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, MetadataRequest, MetadataResponse,
};
use krocket_stack::{Error, Handler, Request, Response};

use crate::define::auto;
use crate::registry::{All, Shared};

pub(super) async fn call(shared: &Shared, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<MetadataRequest>()?;
    let version = head.version;
    let all = message.topics.as_ref().is_none_or(|topics| topics.is_empty() && version == 0);
    let mut failed = Vec::new();
    // Whatever the request says of topics to be created: a view holds nothing, and librdkafka's consumers forbid it.
    if let Some(topics) = &mut message.topics {
        failed = subscribe(shared, topics, next).await;
    }
    let views = shared.all();
    if failed.is_empty() && !(all && views.by_name.values().any(|view| view.auto)) {
        return next.call(Request::new(head, message)).await;
    }
    let mut response: MetadataResponse = next.call(Request::new(head, message)).await?.into_message(version)?;
    if all {
        response.topics.retain(|topic| !topic.name.as_ref().is_some_and(|name| hidden(&views, name)));
    }
    response.topics.extend(failed);
    Ok(Response::new(response))
}

/// Makes the views that are asked for and not there. Those that cannot be made are taken off the request and answered.
async fn subscribe(
    shared: &Shared,
    topics: &mut Vec<kafka_protocol::messages::metadata_request::MetadataRequestTopic>,
    next: &dyn Handler,
) -> Vec<MetadataResponseTopic> {
    let mut failed = Vec::new();
    let mut at = 0;
    while let Some(topic) = topics.get(at) {
        at += 1;
        let Some(name) = topic.name.clone().filter(|name| name.contains("--") && topic.topic_id.is_nil()) else {
            continue;
        };
        if shared.ledger.topic(&name).is_some() {
            continue;
        }
        let Some((source, filter)) = auto(&*shared.ledger, &name) else { continue };
        if !shared.rules.get().topic(source).filter {
            continue;
        }
        match shared.create(next, &name, source, &filter, true).await {
            Ok(()) => tracing::info!(view = %name.as_str(), source, filter, "a view came with a subscription"),
            // Somebody else was faster.
            Err(_) if shared.ledger.topic(&name).is_some() => {}
            Err(why) => {
                tracing::warn!(view = %name.as_str(), %why, "a view cannot be made");
                failed.push(MetadataResponseTopic::default().with_name(Some(name)).with_error_code(why.code.code()));
                at -= 1;
                topics.remove(at);
            }
        }
    }
    failed
}

fn hidden(views: &All, name: &str) -> bool {
    views.name(name).is_some_and(|view| view.auto)
}

pub(super) async fn describe(shared: &Shared, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, message) = request.into_message::<DescribeTopicPartitionsRequest>()?;
    let version = head.version;
    if !message.topics.is_empty() {
        return next.call(Request::new(head, message)).await;
    }
    let mut response: DescribeTopicPartitionsResponse =
        next.call(Request::new(head, message)).await?.into_message(version)?;
    let views = shared.all();
    response.topics.retain(|topic| !topic.name.as_ref().is_some_and(|name| hidden(&views, name)));
    Ok(Response::new(response))
}
