//! A client of the raw protocol that says what the tests mean.

use bytes::Bytes;
use kafka_protocol::messages::alter_configs_request as replace;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AlterConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, FetchRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest, MetadataRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, TopicName,
};
use krocket_protocol::StrBytes;
use krocket_protocol::records::{BatchBuilder, BatchHeader, Codec, Header, LastOffset, Records};
use krocket_testkit::{Client, Krocket, soon};
use std::time::Duration;

/// By name, without topic ids.
const FETCH: i16 = 12;

pub(crate) struct World(Client);

/// A record as a consumer gets it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Got {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) value: String,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Got {
    pub(crate) fn tag(&self) -> &str {
        let tag = self.headers.iter().find(|(name, _)| name == b"TAGS").and_then(|(_, value)| value.as_deref());
        std::str::from_utf8(tag.unwrap_or_default()).expect("text")
    }
}

pub(crate) struct Fetched {
    pub(crate) error_code: i16,
    pub(crate) high_watermark: i64,
    bytes: Bytes,
}

pub(crate) struct Many {
    pub(crate) error_code: i16,
    pub(crate) session_id: i32,
    pub(crate) topics: Vec<String>,
    pub(crate) bytes: usize,
}

pub(crate) fn own((offset, value): (i64, &str)) -> (i64, String) {
    (offset, value.to_owned())
}

pub(crate) fn values(records: &[Got]) -> Vec<(i64, String)> {
    records.iter().map(|record| (record.offset, record.value.clone())).collect()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

impl Fetched {
    fn batches(&self) -> Vec<(BatchHeader, Bytes)> {
        let (mut batches, mut at) = (Vec::new(), 0);
        while at < self.bytes.len() {
            let header = BatchHeader::read(&self.bytes[at..]).expect("whole batches");
            let batch = self.bytes.slice(at..at + header.len);
            header.check_crc(&batch).expect("an intact batch");
            assert!(header.count > 0, "never an empty batch");
            at += header.len;
            batches.push((header, batch));
        }
        batches
    }

    pub(crate) fn records(&self) -> Vec<Got> {
        let mut got: Vec<Got> = Vec::new();
        for (header, batch) in self.batches() {
            let records = Records::open(&batch, &header, 1 << 26).expect("opens");
            for record in records.iter().map(|record| record.expect("a record")) {
                assert!(got.last().is_none_or(|last| last.offset < record.offset), "offsets ascend");
                let headers = record.headers().map(|header| header.expect("a header"));
                got.push(Got {
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key.expect("a key").to_vec(),
                    value: String::from_utf8(record.value.expect("a value").to_vec()).expect("text"),
                    headers: headers.map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec))).collect(),
                });
            }
            assert_eq!(got.last().map(|last| last.offset), Some(header.last_offset()), "the last offset is a record's");
        }
        got
    }
}

impl World {
    pub(crate) async fn new(krocket: &Krocket) -> Self {
        World(krocket.client().await)
    }

    pub(crate) async fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        self.try_create(name, partitions, configs).await.expect("created");
    }

    pub(crate) async fn create_view(&mut self, name: &str, source: &str, filter: &str) {
        let configs = [("krocket.view.source", source), ("krocket.view.filter", filter)];
        self.create(name, -1, &configs).await;
    }

    pub(crate) async fn try_create(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<(), (i16, String)> {
        let config = |(name, value): &(&str, &str)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let new = CreatableTopic::default()
            .with_name(topic(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![new]).with_timeout_ms(10_000);
        let answer = self.0.call(7, &request).await.topics.remove(0);
        outcome(answer.error_code, answer.error_message)
    }

    pub(crate) async fn alter(&mut self, name: &str, configs: &[(&str, &str)]) -> Result<(), (i16, String)> {
        self.alter_resource(2, name, configs).await
    }

    /// Topics are 2, groups 32.
    pub(crate) async fn alter_resource(
        &mut self,
        kind: i8,
        name: &str,
        configs: &[(&str, &str)],
    ) -> Result<(), (i16, String)> {
        let config = |(name, value): &(&str, &str)| {
            AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(configs.iter().map(config).collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.0.call(1, &request).await.responses.remove(0);
        outcome(answer.error_code, answer.error_message)
    }

    pub(crate) async fn replace(&mut self, name: &str, configs: &[(&str, &str)]) -> Result<(), (i16, String)> {
        self.replace_resource(2, name, configs).await
    }

    /// Topics are 2, groups 32.
    pub(crate) async fn replace_resource(
        &mut self,
        kind: i8,
        name: &str,
        configs: &[(&str, &str)],
    ) -> Result<(), (i16, String)> {
        let config = |(name, value): &(&str, &str)| {
            replace::AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let resource = replace::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(configs.iter().map(config).collect());
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.0.call(2, &request).await.responses.remove(0);
        outcome(answer.error_code, answer.error_message)
    }

    pub(crate) async fn create_partitions(&mut self, name: &str, count: i32) -> Result<(), (i16, String)> {
        let asked = CreatePartitionsTopic::default().with_name(topic(name)).with_count(count).with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![asked]).with_timeout_ms(10_000);
        let answer = self.0.call(3, &request).await.results.remove(0);
        outcome(answer.error_code, answer.error_message)
    }

    pub(crate) async fn delete_topic(&mut self, name: &str) {
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic(name)]).with_timeout_ms(10_000);
        assert_eq!(self.0.call(5, &request).await.responses[0].error_code, 0);
    }

    pub(crate) async fn delete_records(&mut self, name: &str, offset: i64) -> i16 {
        let partitions = vec![DeleteRecordsPartition::default().with_offset(offset)];
        let topics = vec![DeleteRecordsTopic::default().with_name(topic(name)).with_partitions(partitions)];
        let request = DeleteRecordsRequest::default().with_topics(topics).with_timeout_ms(10_000);
        self.0.call(2, &request).await.topics[0].partitions[0].error_code
    }

    pub(crate) async fn metadata(&mut self, name: &str, create: bool) -> MetadataResponseTopic {
        let asked = MetadataRequestTopic::default().with_name(Some(topic(name)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(create);
        self.0.call(12, &request).await.topics.remove(0)
    }

    /// Waits for a topic with so many partitions.
    pub(crate) async fn appears(&mut self, name: &str, partitions: usize) {
        soon("the topic", async {
            while self.metadata(name, false).await.partitions.len() != partitions {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    pub(crate) async fn topics(&mut self) -> Vec<String> {
        let all = self.0.call(12, &MetadataRequest::default().with_topics(None)).await;
        all.topics.into_iter().filter_map(|topic| Some(topic.name?.to_string())).collect()
    }

    pub(crate) async fn config(&mut self, name: &str, config: &str) -> String {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(name))
            .with_configuration_keys(Some(vec![text(config)]));
        let answer = self.0.call(4, &DescribeConfigsRequest::default().with_resources(vec![resource])).await;
        answer.results[0].configs[0].value.as_ref().map(StrBytes::to_string).unwrap_or_default()
    }

    pub(crate) async fn produce(&mut self, name: &str, partition: i32, codec: Codec, records: &[(&str, &str)]) {
        let mut builder = BatchBuilder::new(0, 1_000_000).codec(codec);
        for (at, (tag, value)) in records.iter().enumerate() {
            let n = value.rsplit('-').next().unwrap_or_default();
            let headers = [
                Header { key: b"TAGS", value: Some(tag.as_bytes()) },
                Header { key: b"n", value: Some(n.as_bytes()) },
                Header { key: b"none", value: None },
            ];
            builder.push(at as i64, 1_000_000 + at as i64 * 3, Some(b"key"), Some(value.as_bytes()), &headers);
        }
        let (code, _) = self.send(name, partition, builder).await;
        assert_eq!(code, 0);
    }

    pub(crate) async fn produce_at(&mut self, name: &str, codec: Codec, records: &[(&str, i64)]) {
        let mut builder = BatchBuilder::new(0, 1_000).codec(codec);
        for (at, (tag, timestamp)) in records.iter().enumerate() {
            let headers = [Header { key: b"TAGS", value: Some(tag.as_bytes()) }];
            builder.push(at as i64, *timestamp, Some(b"key"), Some(b"value"), &headers);
        }
        assert_eq!(self.send(name, 0, builder).await.0, 0);
    }

    pub(crate) async fn try_produce(&mut self, name: &str, partition: i32, value: &str) -> (i16, String) {
        let mut builder = BatchBuilder::new(0, 0);
        builder.push(0, 0, Some(b"key"), Some(value.as_bytes()), &[]);
        self.send(name, partition, builder).await
    }

    async fn send(&mut self, name: &str, partition: i32, builder: BatchBuilder) -> (i16, String) {
        let batch = builder.finish(LastOffset::Trim).expect("builds").expect("records");
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
        let data = TopicProduceData::default().with_name(topic(name)).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![data]);
        let answer = self.0.call(9, &request).await.responses.remove(0).partition_responses.remove(0);
        (answer.error_code, answer.error_message.map(|message| message.to_string()).unwrap_or_default())
    }

    pub(crate) async fn fetch(&mut self, name: &str, partition: i32, offset: i64, wait_ms: i32) -> Fetched {
        let topics = vec![wanted(name, partition, offset)];
        let mut answer = self.0.call(FETCH, &fetch_request(topics, wait_ms)).await;
        assert_eq!(answer.error_code, 0);
        let data: PartitionData = answer.responses.remove(0).partitions.remove(0);
        Fetched {
            error_code: data.error_code,
            high_watermark: data.high_watermark,
            bytes: data.records.unwrap_or_default(),
        }
    }

    pub(crate) async fn fetch_many(&mut self, names: &[&str], from: &[i64], wait_ms: i32) -> Many {
        let topics = names.iter().zip(from).map(|(name, offset)| wanted(name, 0, *offset)).collect();
        let answer = self.0.call(FETCH, &fetch_request(topics, wait_ms)).await;
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        Many {
            error_code: answer.error_code,
            session_id: answer.session_id,
            bytes: partitions.map(|data| data.records.as_ref().map_or(0, Bytes::len)).sum(),
            topics: answer.responses.iter().map(|topic| topic.topic.to_string()).collect(),
        }
    }

    /// Begins a fetch session.
    pub(crate) async fn session(&mut self, names: &[&str]) -> i32 {
        let topics = names.iter().map(|name| wanted(name, 0, 0)).collect();
        self.0.call(FETCH, &fetch_request(topics, 0).with_session_epoch(0)).await.session_id
    }

    pub(crate) async fn add_to_session(&mut self, session: i32, name: &str) -> i16 {
        let request = fetch_request(vec![wanted(name, 0, 0)], 0).with_session_id(session).with_session_epoch(1);
        self.0.call(FETCH, &request).await.error_code
    }

    /// Everything from an offset on, in as many fetches as it takes.
    pub(crate) async fn records(&mut self, name: &str, partition: i32, from: i64) -> Vec<Got> {
        let (mut at, mut got) = (from, Vec::new());
        loop {
            let fetched = self.fetch(name, partition, at, 0).await;
            assert_eq!(fetched.error_code, 0);
            let records = fetched.records();
            let Some(last) = records.last() else { return got };
            assert!(last.offset >= at, "no progress");
            at = last.offset + 1;
            got.extend(records);
        }
    }

    /// Offsets and values once the index is at the source's end.
    pub(crate) async fn read(&mut self, name: &str, partition: i32, from: i64) -> Vec<(i64, String)> {
        self.offset(name, -1).await.expect("indexed");
        let records = self.records(name, partition, from).await;
        values(&records).into_iter().filter(|(offset, _)| *offset >= from).collect()
    }

    pub(crate) async fn codecs(&mut self, name: &str, partition: i32, from: i64) -> Vec<Codec> {
        let fetched = self.fetch(name, partition, from, 0).await;
        fetched.batches().iter().filter_map(|(header, _)| header.codec()).collect()
    }

    /// (offset, timestamp) of partition 0.
    pub(crate) async fn offset(&mut self, name: &str, timestamp: i64) -> Result<(i64, i64), i16> {
        let partitions = vec![ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1)];
        let topics = vec![ListOffsetsTopic::default().with_name(topic(name)).with_partitions(partitions)];
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(topics);
        let answer = self.0.call(8, &request).await.topics.remove(0);
        assert_eq!(answer.name.as_str(), name);
        let found = &answer.partitions[0];
        if found.error_code == 0 { Ok((found.offset, found.timestamp)) } else { Err(found.error_code) }
    }

    pub(crate) async fn ends(&mut self, names: &[&str]) -> Vec<i64> {
        let mut ends = Vec::new();
        for name in names {
            ends.push(self.offset(name, -1).await.expect("an end").0);
        }
        ends
    }

    /// (epoch, end offset)
    pub(crate) async fn epoch_end(&mut self, name: &str) -> (i32, i64) {
        let partitions = vec![OffsetForLeaderPartition::default().with_current_leader_epoch(-1).with_leader_epoch(0)];
        let topics = vec![OffsetForLeaderTopic::default().with_topic(topic(name)).with_partitions(partitions)];
        let request = OffsetForLeaderEpochRequest::default().with_replica_id((-2).into()).with_topics(topics);
        let answer = self.0.call(4, &request).await.topics.remove(0);
        assert_eq!(answer.topic.as_str(), name);
        (answer.partitions[0].leader_epoch, answer.partitions[0].end_offset)
    }
}

fn wanted(name: &str, partition: i32, offset: i64) -> FetchTopic {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(1 << 20);
    FetchTopic::default().with_topic(topic(name)).with_partitions(vec![partition])
}

fn fetch_request(topics: Vec<FetchTopic>, wait_ms: i32) -> FetchRequest {
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(8 << 20)
        .with_session_epoch(-1)
        .with_topics(topics)
}

fn outcome(code: i16, message: Option<StrBytes>) -> Result<(), (i16, String)> {
    if code == 0 { Ok(()) } else { Err((code, message.map(|message| message.to_string()).unwrap_or_default())) }
}
