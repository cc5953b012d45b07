//! Topics made, changed and deleted.

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, TopicResponse};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeProducersRequest,
    DescribeProducersResponse, TopicName,
};
use krocket_protocol::{ErrorCode::TopicAuthorizationFailed, StrBytes};
use krocket_stack::security::Operation::{Alter, Create, Delete, Describe, DescribeConfigs, Read};
use krocket_stack::security::ResourceType::Topic;
use krocket_stack::{Error, Handler, Request, Response};
use uuid::Uuid;

use super::Ask;
use super::rest::ask_rest;

const FAILED: i16 = TopicAuthorizationFailed.code();

/// First version in which CreateTopics tells the new topic's configs.
const CONFIGS_VERSION: i16 = 5;

fn sentence() -> Option<StrBytes> {
    Some(StrBytes::from_static_str("Authorization failed."))
}

/// CreateTopics: Create on the cluster or on the topic; the answer's configs need DescribeConfigs.
pub(super) async fn create(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<CreateTopicsRequest>()?;
    let tells_configs = head.version >= CONFIGS_VERSION;
    let mut denied = Vec::new();
    let everywhere = ask.would_cluster(Create);
    message.topics.retain(|topic| {
        let allowed = everywhere || ask.topic(Create, &topic.name);
        if !allowed {
            let result = CreatableTopicResult::default().with_name(topic.name.clone()).with_configs(None);
            denied.push(result.with_error_code(FAILED).with_error_message(sentence()));
        }
        allowed
    });
    let nothing_left = message.topics.is_empty() && !denied.is_empty();
    let mut response: CreateTopicsResponse = ask_rest(head, message, next, nothing_left).await?;
    for topic in response.topics.iter_mut().filter(|topic| tells_configs && topic.error_code == 0) {
        if !ask.would(DescribeConfigs, Topic, &topic.name) {
            topic.topic_config_error_code = FAILED;
            topic.num_partitions = -1;
            topic.replication_factor = -1;
            topic.configs = Some(Vec::new());
        }
    }
    response.topics.extend(denied);
    Ok(Response::new(response))
}

/// DeleteTopics: Delete on each topic, or on the cluster. A topic that may not be seen either is named as the request did.
pub(super) async fn delete(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<DeleteTopicsRequest>()?;
    let everywhere = ask.would_cluster(Delete);
    let mut denied = Vec::new();
    let mut refuse = |name: Option<TopicName>, id: Uuid| {
        let result = DeletableTopicResult::default().with_name(name).with_topic_id(id);
        denied.push(result.with_error_code(FAILED).with_error_message(sentence()));
    };
    message.topic_names.retain(|name| {
        let allowed = everywhere || ask.topic(Delete, name);
        if !allowed {
            refuse(Some(name.clone()), Uuid::nil());
        }
        allowed
    });
    message.topics.retain(|topic| {
        let name = match &topic.name {
            Some(name) => name.clone(),
            None => match ask.name(topic.topic_id) {
                Some(name) => TopicName(name),
                None => return true,
            },
        };
        let allowed = everywhere || ask.topic(Delete, &name);
        if !allowed {
            let told = topic.name.is_some() || ask.would(Describe, Topic, &name);
            refuse(told.then_some(name), topic.topic_id);
        }
        allowed
    });
    let nothing_left = message.topics.is_empty() && message.topic_names.is_empty() && !denied.is_empty();
    let mut response: DeleteTopicsResponse = ask_rest(head, message, next, nothing_left).await?;
    response.responses.extend(denied);
    Ok(Response::new(response))
}

/// CreatePartitions: Alter on each topic.
pub(super) async fn create_partitions(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<CreatePartitionsRequest>()?;
    let mut denied = Vec::new();
    message.topics.retain(|topic| {
        let allowed = ask.topic(Alter, &topic.name);
        if !allowed {
            let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
            denied.push(result.with_error_code(FAILED).with_error_message(sentence()));
        }
        allowed
    });
    let nothing_left = message.topics.is_empty() && !denied.is_empty();
    let mut response: CreatePartitionsResponse = ask_rest(head, message, next, nothing_left).await?;
    response.results.extend(denied);
    Ok(Response::new(response))
}

/// DeleteRecords: Delete on each topic.
pub(super) async fn delete_records(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<DeleteRecordsRequest>()?;
    let mut denied = Vec::new();
    message.topics.retain(|topic| {
        let allowed = ask.topic(Delete, &topic.name);
        if !allowed {
            let partition = |index| {
                let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
                result.with_low_watermark(-1).with_error_code(FAILED)
            };
            let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
            let name = topic.name.clone();
            denied.push(DeleteRecordsTopicResult::default().with_name(name).with_partitions(partitions));
        }
        allowed
    });
    let nothing_left = message.topics.is_empty() && !denied.is_empty();
    let mut response: DeleteRecordsResponse = ask_rest(head, message, next, nothing_left).await?;
    response.topics.extend(denied);
    Ok(Response::new(response))
}

/// DescribeProducers: Read on each topic.
pub(super) async fn describe_producers(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<DescribeProducersRequest>()?;
    let mut denied = Vec::new();
    message.topics.retain(|topic| {
        let allowed = ask.topic(Read, &topic.name);
        if !allowed {
            let partition =
                |index: &i32| PartitionResponse::default().with_partition_index(*index).with_error_code(FAILED);
            let partitions = topic.partition_indexes.iter().map(partition).collect();
            denied.push(TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
        }
        allowed
    });
    let nothing_left = message.topics.is_empty() && !denied.is_empty();
    let mut response: DescribeProducersResponse = ask_rest(head, message, next, nothing_left).await?;
    response.topics.extend(denied);
    Ok(Response::new(response))
}
