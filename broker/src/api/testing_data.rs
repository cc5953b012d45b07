//! Helpers of the tests of Produce, Fetch and ListOffsets.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, FetchRequest, FetchResponse, ProduceRequest, ProduceResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable};
use krocket_protocol::ApiKey;
use krocket_protocol::chunk::Chunks;
use krocket_protocol::records::{BatchBuilder, BatchHeader, LastOffset, Records};
use krocket_stack::{Body, Connection, Handler, Head, Request, Response};
use uuid::Uuid;

use super::testing::{TestBroker, text, topic};
use crate::log::Clock;

/// A topic as requests name it.
#[derive(Clone, Debug)]
pub(crate) struct TopicRef {
    pub(crate) name: &'static str,
    pub(crate) id: Uuid,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) value: String,
}

pub(crate) fn now_ms() -> i64 {
    Clock::System.now_ms()
}

pub(crate) async fn create(
    broker: &TestBroker,
    name: &'static str,
    partitions: i32,
    configs: &[(&'static str, &'static str)],
) -> TopicRef {
    let configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
    let new = CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default().with_topics(vec![new]).with_timeout_ms(1000);
    let response: CreateTopicsResponse = broker.ask(ApiKey::CreateTopics, 7, request).await;
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
    TopicRef { name, id: response.topics[0].topic_id }
}

pub(crate) fn finish(builder: BatchBuilder) -> Bytes {
    builder.finish(LastOffset::Trim).expect("compresses").expect("has records")
}

/// One record of now, without a key.
pub(crate) fn single() -> BatchBuilder {
    let mut builder = BatchBuilder::new(0, now_ms());
    builder.push(0, now_ms(), None, Some(b"v"), &[]);
    builder
}

/// A batch of these values.
pub(crate) fn records(values: &[&str]) -> Bytes {
    let now_ms = now_ms();
    let mut builder = BatchBuilder::new(0, now_ms);
    for (offset, value) in values.iter().enumerate() {
        builder.push(offset as i64, now_ms, Some(b"key"), Some(value.as_bytes()), &[]);
    }
    finish(builder)
}

/// A request as it comes from the wire.
pub(crate) fn raw(api: ApiKey, version: i16, request: impl Encodable) -> Request {
    let mut bytes = BytesMut::new();
    request.encode(&mut bytes, version).expect("a request of this version");
    let connection = std::sync::Arc::new(Connection { id: 1, ..Connection::internal("test") });
    Request { head: Head { api, version, client_id: None, connection }, body: Body::Raw(bytes.freeze()) }
}

pub(crate) fn produce_request(version: i16, to: &TopicRef, partition: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let data = TopicProduceData::default().with_partition_data(vec![data]);
    let data = if version >= 13 { data.with_topic_id(to.id) } else { data.with_name(topic(to.name)) };
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1000).with_topic_data(vec![data])
}

pub(crate) async fn produce(
    broker: &TestBroker,
    version: i16,
    to: &TopicRef,
    partition: i32,
    acks: i16,
    batch: Bytes,
) -> PartitionProduceResponse {
    let request = produce_request(version, to, partition, acks, batch);
    let mut response: ProduceResponse = broker.ask(ApiKey::Produce, version, request).await;
    response.responses.remove(0).partition_responses.remove(0)
}

/// What a fetch asks of one partition.
pub(crate) fn wanted(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition::default().with_partition(partition).with_fetch_offset(offset).with_partition_max_bytes(1 << 20)
}

pub(crate) fn fetch_request(version: i16, of: &TopicRef, partitions: Vec<FetchPartition>) -> FetchRequest {
    let topics = FetchTopic::default().with_partitions(partitions);
    let topics = if version >= 13 { topics.with_topic_id(of.id) } else { topics.with_topic(topic(of.name)) };
    FetchRequest::default().with_max_bytes(50 << 20).with_min_bytes(1).with_topics(vec![topics])
}

pub(crate) async fn fetch(broker: &TestBroker, version: i16, request: FetchRequest) -> FetchResponse {
    let response = broker.broker.call(raw(ApiKey::Fetch, version, request)).await.expect("an answer");
    let Response::Body(body) = response else { panic!("no answer") };
    let mut bytes = join(body.encode(version).expect("an answer of this version"));
    let response = FetchResponse::decode(&mut bytes, version).expect("its own bytes");
    assert!(bytes.is_empty(), "{} bytes after the answer", bytes.len());
    response
}

fn join(chunks: Chunks) -> Bytes {
    let mut bytes = BytesMut::new();
    for chunk in chunks.finish() {
        bytes.extend_from_slice(&chunk.read().expect("readable"));
    }
    bytes.freeze()
}

/// The batches of a response, their CRCs checked.
pub(crate) fn batches(data: &PartitionData) -> Vec<(BatchHeader, Vec<Read>)> {
    let mut bytes = data.records.clone().unwrap_or_default();
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let header = BatchHeader::read(&bytes).expect("a whole batch");
        let batch = bytes.split_to(header.len);
        header.check_crc(&batch).expect("crc");
        let records = Records::open(&batch, &header, 1 << 20).expect("records");
        let read = records.iter().map(|record| {
            let record = record.expect("a record");
            let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
            Read { offset: record.offset, timestamp: record.timestamp, value }
        });
        out.push((header, read.collect()));
    }
    out
}

pub(crate) async fn fetch_all(broker: &TestBroker, of: &TopicRef, partition: i32) -> Vec<Read> {
    let request = fetch_request(12, of, vec![wanted(partition, 0)]).with_min_bytes(0);
    let response = fetch(broker, 12, request).await;
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, 0);
    batches(data).into_iter().flat_map(|(_, records)| records).collect()
}
