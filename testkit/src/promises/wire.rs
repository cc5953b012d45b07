//! The few requests that the test needs, over a connection that may break.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::session::Session;
use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, EndTxnRequest, FetchRequest, GroupId, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, ProducerId,
    TopicName, TransactionalId,
};
use krocket_protocol::StrBytes;
use krocket_protocol::records::batch::ATTRIBUTE_TRANSACTIONAL;
use krocket_protocol::records::{BatchBuilder, BatchHeader, Codec, Header, LastOffset, Record, Records};

/// Stand for an end of a partition.
pub const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// Nothing is there any more, or not yet.
pub(super) const OFFSET_OUT_OF_RANGE: i16 = 1;
/// Not now, try again.
const NOT_ENOUGH_REPLICAS: i16 = 19;
/// The log has stopped, or is about to.
const KAFKA_STORAGE_ERROR: i16 = 56;
const REQUEST_TIMED_OUT: i16 = 7;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const UNKNOWN_TOPIC: i16 = 3;
const LOADING: i16 = 14;
const NOT_COORDINATOR: i16 = 16;
const UNKNOWN_MEMBER_ID: i16 = 25;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const PRODUCE: i16 = 9;
const TXN_PRODUCE: i16 = 12;
const INIT_PRODUCER_ID: i16 = 4;
const END_TXN: i16 = 5;
const FETCH: i16 = 12;
const CREATE_TOPICS: i16 = 5;
const METADATA: i16 = 9;
const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 8;
const LIST_OFFSETS: i16 = 5;
const DELETE_RECORDS: i16 = 2;
const LIMIT: usize = 64 << 20;

/// Epoch ms.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// A record to produce.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// `None` for none.
    pub key: Option<String>,
    /// Empty for none.
    pub value: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
}

impl Outgoing {
    /// A nack by id.
    pub fn empty() -> Self {
        Outgoing { key: None, value: String::new(), headers: Vec::new() }
    }

    /// A record without headers.
    pub fn new(value: &str) -> Self {
        Outgoing::keyed("k", value)
    }

    /// The same with a key of its own; without a value it is a tombstone.
    pub fn keyed(key: &str, value: &str) -> Self {
        Outgoing { key: Some(key.to_owned()), value: value.to_owned(), headers: Vec::new() }
    }

    /// With this header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The base offset, or why it was refused.
/// As clients do, again where the answer is to try again.
pub async fn produce(
    session: &mut Session,
    topic: &str,
    partition: i32,
    acks: i16,
    records: &[Outgoing],
) -> io::Result<Result<i64, String>> {
    let bytes = batch(records, |batch| batch);
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(bytes));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic]);
    let answer = loop {
        let mut response = session.call(PRODUCE, &request).await?;
        let answer = response.responses.remove(0).partition_responses.remove(0);
        match answer.error_code {
            NOT_ENOUGH_REPLICAS => {}
            // The log has stopped, and the server with it: as good as no answer.
            KAFKA_STORAGE_ERROR => return Err(io::Error::other("the log has stopped")),
            // It stood still for longer than that: what came of the batch is not known.
            REQUEST_TIMED_OUT => return Err(io::ErrorKind::TimedOut.into()),
            _ => break answer,
        }
    };
    Ok(match answer.error_code {
        0 => Ok(answer.base_offset),
        code => Err(format!("{code}: {}", answer.error_message.as_deref().unwrap_or_default())),
    })
}

fn batch(records: &[Outgoing], with: impl FnOnce(BatchBuilder) -> BatchBuilder) -> Bytes {
    let now = now_ms();
    let codec = if records.len().is_multiple_of(2) { Codec::Lz4 } else { Codec::None };
    let mut batch = with(BatchBuilder::new(0, now).codec(codec));
    for (offset, record) in records.iter().enumerate() {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| Header { key: name.as_bytes(), value: Some(value.as_bytes()) })
            .collect();
        let value = Some(record.value.as_bytes()).filter(|value| !value.is_empty());
        batch.push(offset as i64, now, record.key.as_ref().map(|key| key.as_bytes()), value, &headers);
    }
    batch.finish(LastOffset::Trim).expect("it compresses").expect("records")
}

/// Records in a Kafka transaction of their own, which is committed or aborted; the base offset. An error where it is not
/// known how it ended.
pub async fn transaction(
    session: &mut Session,
    id: &str,
    (topic, partition): (&str, i32),
    records: &[Outgoing],
    commit: bool,
) -> io::Result<i64> {
    let id = TransactionalId(StrBytes::from_string(id.to_owned()));
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(id.clone()))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let started = loop {
        let started = session.call(INIT_PRODUCER_ID, &request).await?;
        match started.error_code {
            0 => break started,
            code => again(code).await?,
        }
    };
    let (producer_id, epoch) = (started.producer_id, started.producer_epoch);
    let transactional =
        |batch: BatchBuilder| batch.producer(producer_id.0, epoch, 0).attribute(ATTRIBUTE_TRANSACTIONAL, true);
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch(records, transactional)));
    let data = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_transactional_id(Some(id.clone()))
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![data]);
    let base = loop {
        let mut response = session.call(TXN_PRODUCE, &request).await?;
        let answer = response.responses.remove(0).partition_responses.remove(0);
        match answer.error_code {
            0 => break answer.base_offset,
            code => again(code).await?,
        }
    };
    let request = EndTxnRequest::default()
        .with_transactional_id(id)
        .with_producer_id(producer_id)
        .with_producer_epoch(epoch)
        .with_committed(commit);
    loop {
        match session.call(END_TXN, &request).await?.error_code {
            0 => return Ok(base),
            code => again(code).await?,
        }
    }
}

/// An answer, or why there is no use in waiting for one: the log has stopped or the server has only begun, or it stood still
/// for so long that it has forgotten who asks.
pub(super) fn or_gone<T>(answer: Result<T, i16>) -> io::Result<T> {
    const GONE: [i16; 7] = [
        KAFKA_STORAGE_ERROR,
        COORDINATOR_NOT_AVAILABLE,
        LOADING,
        NOT_COORDINATOR,
        REQUEST_TIMED_OUT,
        NOT_ENOUGH_REPLICAS,
        UNKNOWN_MEMBER_ID,
    ];
    answer.map_err(|code| {
        assert!(GONE.contains(&code), "refused: {code}");
        io::Error::other(format!("code {code}"))
    })
}

/// Waits where the answer is to try again, and gives up where the log has stopped.
async fn again(code: i16) -> io::Result<()> {
    match code {
        KAFKA_STORAGE_ERROR | COORDINATOR_NOT_AVAILABLE => Err(io::Error::other("the log has stopped")),
        REQUEST_TIMED_OUT => Err(io::ErrorKind::TimedOut.into()),
        LOADING | NOT_COORDINATOR | CONCURRENT_TRANSACTIONS | NOT_ENOUGH_REPLICAS => {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(())
        }
        code => panic!("a transaction of nobody else is refused: {code}"),
    }
}

/// A record that can be read.
#[derive(Clone, Debug)]
pub struct Read {
    /// Where it is.
    pub topic: String,
    /// Where it is.
    pub partition: i32,
    /// Where it is.
    pub offset: i64,
    /// Epoch ms.
    pub timestamp: i64,
    /// `None` for none.
    pub key: Option<String>,
    /// Empty for none.
    pub value: String,
    /// In order.
    pub headers: Vec<(String, Option<String>)>,
    /// ORIGIN_MESSAGE_ID.
    pub origin: Option<String>,
}

impl Read {
    fn new(topic: &str, partition: i32, record: &Record<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let headers = record.headers().map(|header| header.expect("a sound header"));
        Read {
            topic: topic.to_owned(),
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(text),
            value: text(record.value.unwrap_or_default()),
            headers: headers.map(|header| (text(header.key), header.value.map(text))).collect(),
            origin: record.header(b"ORIGIN_MESSAGE_ID").flatten().map(text),
        }
    }

    /// What a header says; `None` where there is no such header, or one without a value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).and_then(|(_, value)| value.as_deref())
    }

    /// Its message id.
    pub fn id(&self) -> String {
        format!("{}:{}:{}", self.topic, self.partition, self.offset)
    }
}

/// Everything in a partition that nothing was deleted from, up to its high watermark.
pub async fn read_all(address: SocketAddr, topic: &str, partition: i32) -> Vec<Read> {
    let read = read_from(address, topic, partition, 0).await;
    read.unwrap_or_else(|start| panic!("{topic}:{partition} begins at {start}"))
}

/// Everything in a partition from an offset to its high watermark, or its log start where that is beyond the offset.
pub async fn read_from(address: SocketAddr, topic: &str, partition: i32, from: i64) -> Result<Vec<Read>, i64> {
    let mut session = Session::connect(address).await.expect("the server is ready");
    let (mut records, mut position) = (Vec::new(), from);
    loop {
        let (found, end, high_watermark) =
            match fetch(&mut session, topic, partition, position).await.expect("the server answers") {
                Ok(fetched) => fetched,
                // The retry topics come with their first record.
                Err(UNKNOWN_TOPIC) => return Ok(records),
                Err(OFFSET_OUT_OF_RANGE) => {
                    let start = log_start(&mut session, topic, partition).await.expect("the server answers");
                    assert!(start > position, "{topic}:{partition} has no {position}, and begins at {start}");
                    return Err(start);
                }
                Err(code) => panic!("error {code} fetching {topic}:{partition} at {position}"),
            };
        if end == position {
            // A view has no end while older records are still being looked at, as after a restart.
            let ends = topic.contains("--") || position >= high_watermark;
            assert!(ends, "{topic}:{partition} ends at {position}, before its high watermark {high_watermark}");
            return Ok(records);
        }
        records.extend(found);
        position = end;
    }
}

/// Records from an offset on, the offset after them and the high watermark, or an error code. Nothing more can be read when
/// the offset is the same.
pub async fn fetch(
    session: &mut Session,
    topic: &str,
    partition: i32,
    position: i64,
) -> io::Result<Result<(Vec<Read>, i64, i64), i16>> {
    let asked = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(position)
        .with_partition_max_bytes(1 << 20);
    let asked = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![asked]);
    let request = FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(4 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![asked]);
    let response = session.call(FETCH, &request).await?;
    let data = &response.responses[0].partitions[0];
    if data.error_code != 0 {
        return Ok(Err(data.error_code));
    }
    let mut bytes = data.records.clone().unwrap_or_default();
    let (mut records, mut end) = (Vec::new(), position);
    while let Ok(header) = BatchHeader::read(&bytes) {
        let batch: Bytes = bytes.split_to(header.len);
        // Markers of transactions are nobody's records.
        if header.is_control() {
            end = end.max(header.last_offset() + 1);
            continue;
        }
        header.check_crc(&batch).expect("a right crc");
        assert!(header.count > 0, "an empty batch at {}", header.base_offset);
        for record in &Records::open(&batch, &header, LIMIT).expect("it opens") {
            let record = record.expect("a sound record");
            if record.offset >= position {
                records.push(Read::new(topic, partition, &record));
            }
        }
        end = end.max(header.last_offset() + 1);
    }
    Ok(Ok((records, end, data.high_watermark)))
}

/// The first offset of a partition.
pub async fn log_start(session: &mut Session, topic: &str, partition: i32) -> io::Result<i64> {
    offset_at(session, topic, partition, EARLIEST).await
}

/// The offset that ListOffsets has for a time, or for what stands for the start or the end.
pub async fn offset_at(session: &mut Session, topic: &str, partition: i32, timestamp: i64) -> io::Result<i64> {
    let asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
    let asked = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![asked]);
    let request = ListOffsetsRequest::default().with_topics(vec![asked]);
    let response = session.call(LIST_OFFSETS, &request).await?;
    let found = &response.topics[0].partitions[0];
    assert_eq!(found.error_code, 0, "{response:?}");
    Ok(found.offset)
}

/// Deletes what lies before an offset; the log start then, or an error code.
pub async fn delete_records(
    session: &mut Session,
    topic: &str,
    partition: i32,
    offset: i64,
) -> io::Result<Result<i64, i16>> {
    let asked = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
    let asked = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![asked]);
    let request = DeleteRecordsRequest::default().with_topics(vec![asked]).with_timeout_ms(10_000);
    let response = session.call(DELETE_RECORDS, &request).await?;
    let result = &response.topics[0].partitions[0];
    Ok(match result.error_code {
        0 => Ok(result.low_watermark),
        code => Err(code),
    })
}

/// The offset that a group goes on from.
pub async fn committed(session: &mut Session, group: &str, topic: &str, partition: i32) -> io::Result<i64> {
    let topic = OffsetFetchRequestTopics::default().with_name(name(topic)).with_partition_indexes(vec![partition]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_topics(Some(vec![topic]));
    loop {
        let request = OffsetFetchRequest::default().with_groups(vec![group.clone()]);
        let response = session.call(OFFSET_FETCH, &request).await?;
        let group = &response.groups[0];
        if group.error_code != LOADING {
            assert_eq!(group.error_code, 0, "{group:?}");
            return Ok(group.topics[0].partitions[0].committed_offset.max(0));
        }
    }
}

/// Commits an offset of a group without members.
pub async fn commit(session: &mut Session, group: &str, topic: &str, partition: i32, offset: i64) -> io::Result<()> {
    let partition =
        OffsetCommitRequestPartition::default().with_partition_index(partition).with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let response = session.call(OFFSET_COMMIT, &request).await?;
    match response.topics[0].partitions[0].error_code {
        0 => Ok(()),
        KAFKA_STORAGE_ERROR | COORDINATOR_NOT_AVAILABLE => Err(io::Error::other("the log has stopped")),
        code => panic!("error {code}: {response:?}"),
    }
}

/// Creates a topic.
pub async fn create_topic(address: SocketAddr, topic: &str, partitions: i32) {
    create_topic_with(address, topic, partitions, &[]).await;
}

/// The same, with configs.
pub async fn create_topic_with(address: SocketAddr, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
    let mut session = Session::connect(address).await.expect("the server is ready");
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let config = |(name, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let response = session.call(CREATE_TOPICS, &request).await.expect("the server answers");
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
}

/// Has a retry topic or a view created by naming it.
pub async fn ask_for(address: SocketAddr, topic: &str) {
    let mut session = Session::connect(address).await.expect("the server is ready");
    loop {
        let wanted = vec![MetadataRequestTopic::default().with_name(Some(name(topic)))];
        let request = MetadataRequest::default().with_topics(Some(wanted)).with_allow_auto_topic_creation(true);
        let response = session.call(METADATA, &request).await.expect("the server answers");
        if response.topics[0].error_code == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
