//! Metadata, DescribeTopicPartitions, DescribeCluster: what is there for whom.

use kafka_protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    MetadataRequest, MetadataResponse, TopicName,
};
use krocket_protocol::ErrorCode::TopicAuthorizationFailed;
use krocket_stack::security::Operation::Describe;
use krocket_stack::security::ResourceType::Topic;
use krocket_stack::{Error, Handler, Request, Response};

use super::Ask;

/// Metadata: Describe on each topic; the list of all topics leaves out what may not be seen. Creating by asking needs
/// Create.
pub(super) async fn metadata(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<MetadataRequest>()?;
    let version = head.version;
    let all = message.topics.as_ref().is_none_or(|topics| topics.is_empty() && version == 0);
    let creates = message.allow_auto_topic_creation;
    let mut denied = Vec::new();
    if let Some(topics) = message.topics.as_mut().filter(|_| !all) {
        topics.retain(|topic| {
            let refused = MetadataResponseTopic::default().with_error_code(TopicAuthorizationFailed.code());
            let refused = match &topic.name {
                _ if !topic.topic_id.is_nil() => match ask.topic_id(Describe, topic.topic_id) {
                    true => return true,
                    false => refused.with_topic_id(topic.topic_id).with_name(None),
                },
                Some(name) if !ask.topic(Describe, name) || ask.must_not_create(name, creates) => {
                    refused.with_name(Some(name.clone()))
                }
                _ => return true,
            };
            denied.push(refused);
            false
        });
    }
    // In version 0 no topics means all.
    let nothing_left = !all && message.topics.as_ref().is_some_and(Vec::is_empty);
    let mut response: MetadataResponse = next.call(Request::new(head, message)).await?.into_message(version)?;
    if nothing_left {
        response.topics.clear();
    }
    if all {
        response.topics.retain(|topic| topic.name.as_ref().is_some_and(|name| ask.would(Describe, Topic, name)));
    }
    for topic in &mut response.topics {
        let name = topic.name.as_ref().map_or("", |name| name.as_str());
        topic.topic_authorized_operations = ask.operations(topic.topic_authorized_operations, Topic, name);
    }
    response.cluster_authorized_operations = ask.cluster_operations(response.cluster_authorized_operations);
    response.topics.extend(denied);
    Ok(Response::new(response))
}

/// DescribeTopicPartitions: as Metadata, page by page.
pub(super) async fn topic_partitions(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<DescribeTopicPartitionsRequest>()?;
    let version = head.version;
    let all = message.topics.is_empty();
    let after = message.cursor.as_ref().map(|cursor| cursor.topic_name.clone());
    let mut denied = Vec::new();
    message.topics.retain(|topic| {
        let allowed = ask.topic(Describe, &topic.name);
        if !allowed && after.as_ref().is_none_or(|after| *after.0 <= *topic.name.0) {
            denied.push(refused(topic.name.clone()));
        }
        allowed
    });
    let mut response = DescribeTopicPartitionsResponse::default();
    while all || !message.topics.is_empty() {
        let request = Request::new(head.clone(), message.clone());
        let page: DescribeTopicPartitionsResponse = next.call(request).await?.into_message(version)?;
        let seen = |name: &Option<TopicName>| name.as_ref().is_some_and(|name| ask.would(Describe, Topic, name));
        response.topics.extend(page.topics.into_iter().filter(|topic| !all || seen(&topic.name)));
        response.next_cursor = page.next_cursor;
        // A page may end at a topic that is a secret: then it goes on.
        let Some(cursor) = response.next_cursor.clone().filter(|it| !seen(&Some(it.topic_name.clone()))) else { break };
        let told: usize = response.topics.iter().map(|topic| topic.partitions.len()).sum();
        message.response_partition_limit = message.response_partition_limit.saturating_sub(told as i32).max(1);
        message.cursor = Some(
            kafka_protocol::messages::describe_topic_partitions_request::Cursor::default()
                .with_topic_name(cursor.topic_name)
                .with_partition_index(cursor.partition_index),
        );
    }
    for topic in &mut response.topics {
        let name = topic.name.as_ref().map_or("", |name| name.as_str());
        topic.topic_authorized_operations = ask.operations(topic.topic_authorized_operations, Topic, name);
    }
    response.topics.extend(denied);
    Ok(Response::new(response))
}

fn refused(name: TopicName) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(name))
        .with_error_code(TopicAuthorizationFailed.code())
}

/// DescribeCluster: everybody's; what may be done to the cluster is told to those who may see it.
pub(super) async fn cluster(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, message) = request.into_message::<DescribeClusterRequest>()?;
    let version = head.version;
    let mut response: DescribeClusterResponse = next.call(Request::new(head, message)).await?.into_message(version)?;
    response.cluster_authorized_operations = ask.cluster_operations(response.cluster_authorized_operations);
    Ok(Response::new(response))
}
