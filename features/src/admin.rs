//! What workers ask of the next handler: Kafka requests of krocket's own.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, ProduceResponse, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable};
use krocket_protocol::{ApiKey, ErrorCode, StrBytes};
use krocket_stack::{Connection, Error, Handler, Head, Notes, Produce, ProducePartition, ProduceTopic, Request};

use crate::produce::error_of;

/// The last version that names topics.
const PRODUCE: i16 = 12;
const CREATE_TOPICS: i16 = 5;
const TIMEOUT_MS: i32 = 30_000;

/// The head of a request of krocket's own.
pub fn head(api: ApiKey, version: i16) -> Head {
    let connection = Arc::new(Connection::internal("krocket"));
    Head { api, version, client_id: Some(StrBytes::from_static_str("krocket")), connection }
}

/// Asks and gives the answer.
pub async fn call<Q, A>(next: &dyn Handler, api: ApiKey, version: i16, request: Q) -> Result<A, Error>
where
    Q: Encodable + std::any::Any + Send,
    A: Decodable + std::any::Any + Send,
{
    next.call(Request::new(head(api, version), request)).await?.into_message(version)
}

/// Appends a batch with its notes; why not, where it is not.
pub async fn produce(
    next: &dyn Handler,
    (topic, index): (&str, i32),
    batch: Bytes,
    notes: Notes,
    synced: bool,
) -> Result<(), String> {
    let partition = ProducePartition { index, records: batch, notes, ..ProducePartition::default() };
    let name = StrBytes::from_string(topic.to_owned());
    let topic = ProduceTopic { name, partitions: vec![partition], ..ProduceTopic::default() };
    let acks = if synced { -1 } else { 1 };
    let produce = Produce { acks, timeout_ms: TIMEOUT_MS, topics: vec![topic], ..Produce::default() };
    let answer = next.call(Request::from_produce(head(ApiKey::Produce, PRODUCE), produce)).await;
    match answer.and_then(|response| response.into_message::<ProduceResponse>(PRODUCE)) {
        Ok(response) => error_of(&response, 0, 0).map_or(Ok(()), Err),
        Err(error) => Err(error.to_string()),
    }
}

/// Creates a topic unless it is there.
pub async fn create_topic(next: &dyn Handler, name: &str, partitions: i32) -> Result<(), String> {
    let topic = CreatableTopic::default()
        .with_name(TopicName(StrBytes::from_string(name.to_owned())))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    let response: CreateTopicsResponse =
        call(next, ApiKey::CreateTopics, CREATE_TOPICS, request).await.map_err(|error| error.to_string())?;
    let answer = response.topics.first().ok_or_else(|| "the topic was not answered".to_owned())?;
    let there = [0, ErrorCode::TopicAlreadyExists.code()].contains(&answer.error_code);
    let why = || answer.error_message.as_deref().unwrap_or("no reason").to_owned();
    if there { Ok(()) } else { Err(format!("topic {name} cannot be created: error {}: {}", answer.error_code, why())) }
}
