//! Records that know what they have to be, and a reader that believes nothing: it checks no CRC and takes what it is given.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{CreateTopicsRequest, FetchRequest, ProduceRequest, TopicName};
use krocket_protocol::StrBytes;
use krocket_protocol::records::{BatchBuilder, BatchHeader, LastOffset, Records};
use krocket_testkit::Process;
use krocket_testkit::promises::wire::now_ms;
use krocket_testkit::session::Session;

pub(crate) const KROCKET: &str = env!("CARGO_BIN_EXE_krocket");
const LIMIT: usize = 64 << 20;

/// A started krocket, the program itself.
pub(crate) fn serve(folder: &Path, toml: &str) -> Process {
    let (data, config) = (folder.join("data"), folder.join("krocket.toml"));
    std::fs::write(&config, toml).expect("a file can be written");
    let (data, config) = (data.to_str().expect("text"), config.to_str().expect("text"));
    Process::start(
        KROCKET,
        &["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", data, "--config", config],
    )
}

pub(crate) async fn create(address: SocketAddr, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let config = |(name, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(topic)))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let mut session = Session::connect(address).await.expect("the server is ready");
    let response = session.call(5, &request).await.expect("the server answers");
    assert_eq!(response.topics[0].error_code, 0, "{response:?}");
}

/// The value of an offset: no two are alike, and a flipped bit makes it another.
pub(crate) fn value(topic: &str, partition: i32, offset: i64, len: usize) -> Vec<u8> {
    let mut value = format!("{topic}:{partition}:{offset};").into_bytes();
    let mut state = offset as u64 ^ 0x9e37_79b9_7f4a_7c15;
    while value.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        value.extend_from_slice(&state.to_be_bytes());
    }
    value.truncate(len);
    value
}

/// Appends a batch whose first offset has to be this one; the error code.
pub(crate) async fn produce(
    session: &mut Session,
    (topic, partition): (&str, i32),
    first: i64,
    (count, len): (i64, usize),
    acks: i16,
) -> io::Result<i16> {
    // Retention takes what is old.
    let now = now_ms();
    let mut batch = BatchBuilder::new(0, now);
    for at in 0..count {
        let value = value(topic, partition, first + at, len);
        batch.push(at, now, Some(b"key"), Some(&value), &[]);
    }
    let bytes = batch.finish(LastOffset::Trim).expect("it builds").expect("records");
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(bytes));
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    let topic = TopicProduceData::default().with_name(name).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic]);
    let response = session.call(9, &request).await?;
    let answer = &response.responses[0].partition_responses[0];
    if answer.error_code == 0 {
        assert_eq!(answer.base_offset, first, "{answer:?}");
    }
    Ok(answer.error_code)
}

/// What there is of a partition.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Values by offset.
    pub(crate) records: BTreeMap<i64, Vec<u8>>,
    /// Offsets that a fetch refused, with the error code.
    pub(crate) refused: Vec<(i64, i16)>,
    pub(crate) high_watermark: i64,
}

/// Reads a partition up to `end`, stepping over what is refused.
pub(crate) async fn read(address: SocketAddr, topic: &str, partition: i32, end: i64) -> io::Result<Found> {
    let mut session = Session::connect(address).await?;
    let mut found = Found::default();
    let mut position = 0;
    while position < end {
        let asked = FetchPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(position)
            .with_partition_max_bytes(1 << 20);
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let asked = FetchTopic::default().with_topic(name).with_partitions(vec![asked]);
        let request = FetchRequest::default()
            .with_min_bytes(1)
            .with_max_bytes(4 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![asked]);
        let response = session.call(12, &request).await?;
        let data = &response.responses[0].partitions[0];
        found.high_watermark = found.high_watermark.max(data.high_watermark);
        if data.error_code != 0 {
            found.refused.push((position, data.error_code));
            position += 1;
            continue;
        }
        let mut bytes = data.records.clone().unwrap_or_default();
        let before = position;
        while let Ok(header) = BatchHeader::read(&bytes) {
            let batch: Bytes = bytes.split_to(header.len);
            let Ok(records) = Records::open(&batch, &header, LIMIT) else {
                return Err(io::Error::other("bad records"));
            };
            for record in &records {
                let record = record.map_err(|error| io::Error::other(format!("a bad record: {error}")))?;
                if record.offset >= position {
                    found.records.insert(record.offset, record.value.unwrap_or_default().to_vec());
                }
            }
            position = position.max(header.last_offset() + 1);
        }
        if position == before {
            // Nothing more is there.
            return Ok(found);
        }
    }
    Ok(found)
}
