//! StreamsGroupHeartbeat: the membership of streams groups (KIP-1071), and the topics that their applications need.

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use krocket_protocol::streams_group_heartbeat::{
    StatusCode, StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse, TopicInfo,
};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::Head;

use super::create_topics;
use super::groups::client;
use crate::Broker;
use crate::group::MissingTopics;

/// Answers StreamsGroupHeartbeat. Missing topics are there when the answer is; tasks come with the next heartbeat.
pub(crate) async fn handle(
    broker: &Broker,
    head: Head,
    request: StreamsGroupHeartbeatRequest,
) -> StreamsGroupHeartbeatResponse {
    let (mut response, missing) = broker.groups.streams_group_heartbeat(client(&head), request).await;
    if missing.is_empty() {
        return response;
    }
    let failures = create(broker, head, missing).await;
    let status = response.status.iter_mut().flatten();
    let mut missing = status.filter(|status| status.status_code == StatusCode::MissingInternalTopics as i8);
    if let Some(status) = missing.next()
        && !failures.is_empty()
    {
        let detail = format!("{}; Creation failed: {}.", &*status.status_detail, failures.join(", "));
        status.status_detail = StrBytes::from_string(detail);
    }
    response
}

/// Makes topics; gives those that could not be made, each with the reason.
async fn create(broker: &Broker, head: Head, missing: MissingTopics) -> Vec<String> {
    let topics = missing.into_iter().map(creatable).collect();
    let request = CreateTopicsRequest::default().with_topics(topics);
    let response = create_topics::handle(broker, head, request).await;
    let failed = |topic: &CreatableTopicResult| {
        // Another member was faster.
        let made = [0, ErrorCode::TopicAlreadyExists.code()].contains(&topic.error_code);
        let why = topic.error_message.as_deref().unwrap_or_default();
        (!made).then(|| format!("{} ({why})", topic.name.as_str()))
    };
    let failures: Vec<String> = response.topics.iter().filter_map(failed).collect();
    if !failures.is_empty() {
        tracing::warn!(?failures, "internal topics of a streams group cannot be made");
    }
    failures
}

fn creatable(topic: TopicInfo) -> CreatableTopic {
    let config = |config: krocket_protocol::streams_group_heartbeat::KeyValue| {
        CreatableTopicConfig::default().with_name(config.key).with_value(Some(config.value))
    };
    let factor = if topic.replication_factor == 0 { -1 } else { topic.replication_factor };
    CreatableTopic::default()
        .with_name(topic.name.into())
        .with_num_partitions(topic.partitions)
        .with_replication_factor(factor)
        .with_configs(topic.topic_configs.into_iter().map(config).collect())
}
