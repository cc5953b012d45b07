//! The few requests that the test needs, over a connection that may break.

use std::io;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, GroupId, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
    ProduceRequest, TopicName,
};
use krocket_protocol::StrBytes;
use krocket_protocol::records::{BatchBuilder, BatchHeader, Codec, Header, LastOffset, Record, Records};
use krocket_testkit::session::Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Not now, try again.
const NOT_ENOUGH_REPLICAS: i16 = 19;
const UNKNOWN_TOPIC: i16 = 3;
const LOADING: i16 = 14;
const PRODUCE: i16 = 9;
const FETCH: i16 = 12;
const CREATE_TOPICS: i16 = 5;
const METADATA: i16 = 9;
const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 8;
const LIMIT: usize = 64 << 20;

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// A record to produce.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    /// Empty for a record with neither key nor value.
    pub(crate) value: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Outgoing {
    /// A nack by id.
    pub(crate) fn empty() -> Self {
        Outgoing::new("")
    }

    pub(crate) fn new(value: &str) -> Self {
        Outgoing { value: value.to_owned(), headers: Vec::new() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The base offset, or why it was refused.
/// As clients do, again where the answer is to try again.
pub(crate) async fn produce(
    session: &mut Session,
    topic: &str,
    partition: i32,
    acks: i16,
    records: &[Outgoing],
) -> io::Result<Result<i64, String>> {
    let now = now_ms();
    let codec = if records.len().is_multiple_of(2) { Codec::Lz4 } else { Codec::None };
    let mut batch = BatchBuilder::new(0, now).codec(codec);
    for (offset, record) in records.iter().enumerate() {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| Header { key: name.as_bytes(), value: Some(value.as_bytes()) })
            .collect();
        let value = Some(record.value.as_bytes()).filter(|value| !value.is_empty());
        batch.push(offset as i64, now, value.map(|_| &b"k"[..]), value, &headers);
    }
    let bytes = batch.finish(LastOffset::Trim).expect("it compresses").expect("records");
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(bytes));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic]);
    let answer = loop {
        let mut response = session.call(PRODUCE, &request).await?;
        let answer = response.responses.remove(0).partition_responses.remove(0);
        if answer.error_code != NOT_ENOUGH_REPLICAS {
            break answer;
        }
    };
    Ok(match answer.error_code {
        0 => Ok(answer.base_offset),
        code => Err(format!("{code}: {}", answer.error_message.as_deref().unwrap_or_default())),
    })
}

/// A record that can be read.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<String>,
    pub(crate) value: String,
    /// In order.
    pub(crate) headers: Vec<(String, Option<String>)>,
    pub(crate) origin: Option<String>,
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
            value: text(record.value.expect("a value")),
            headers: headers.map(|header| (text(header.key), header.value.map(text))).collect(),
            origin: record.header(b"ORIGIN_MESSAGE_ID").flatten().map(text),
        }
    }

    /// Its message id.
    pub(crate) fn id(&self) -> String {
        format!("{}:{}:{}", self.topic, self.partition, self.offset)
    }
}

/// Everything in a partition, from its start to its high watermark.
pub(crate) async fn read_all(address: SocketAddr, topic: &str, partition: i32) -> Vec<Read> {
    let mut session = Session::connect(address).await.expect("the server is ready");
    let (mut records, mut position) = (Vec::new(), 0);
    loop {
        let (found, end) = match fetch(&mut session, topic, partition, position).await.expect("the server answers") {
            Ok(fetched) => fetched,
            // The retry topics come with their first record.
            Err(UNKNOWN_TOPIC) => return records,
            Err(code) => panic!("error {code} fetching {topic}:{partition} at {position}"),
        };
        if end == position {
            return records;
        }
        records.extend(found);
        position = end;
    }
}

/// Records from an offset on and the offset after them, or an error code. Nothing more is there when that is the same.
pub(crate) async fn fetch(
    session: &mut Session,
    topic: &str,
    partition: i32,
    position: i64,
) -> io::Result<Result<(Vec<Read>, i64), i16>> {
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
    // A view has no end while older records are still being looked at, as after a restart.
    if end == position && !topic.contains("--") {
        assert!(position >= data.high_watermark, "reading ends before the high watermark {}", data.high_watermark);
    }
    Ok(Ok((records, end)))
}

/// The offset that a group goes on from.
pub(crate) async fn committed(session: &mut Session, group: &str, topic: &str, partition: i32) -> io::Result<i64> {
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

pub(crate) async fn commit(
    session: &mut Session,
    group: &str,
    topic: &str,
    partition: i32,
    offset: i64,
) -> io::Result<()> {
    let partition =
        OffsetCommitRequestPartition::default().with_partition_index(partition).with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let response = session.call(OFFSET_COMMIT, &request).await?;
    assert_eq!(response.topics[0].partitions[0].error_code, 0, "{response:?}");
    Ok(())
}

pub(crate) async fn create_topic(address: SocketAddr, topic: &str, partitions: i32) {
    let mut session = Session::connect(address).await.expect("the server is ready");
    let topic =
        CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let response = session.call(CREATE_TOPICS, &request).await.expect("the server answers");
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
}

/// Has a retry topic or a view created by naming it.
pub(crate) async fn ask_for(address: SocketAddr, topic: &str) {
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

/// The body of an HTTP answer.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nHost: krocket\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sends");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("text");
    response.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or(response)
}
