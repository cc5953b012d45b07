//! The few requests that the test needs, over a connection that may break.

use std::io;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, ProduceRequest, TopicName};
use krocket_protocol::StrBytes;
use krocket_protocol::records::{BatchBuilder, BatchHeader, LastOffset, Records};
use krocket_testkit::promises::wire::create_topic;
use krocket_testkit::session::Session;
use krocket_testkit::share::{self, Place};

use crate::{Group, PARTITIONS, TOPIC};

const UNKNOWN_TOPIC: i16 = 3;
const LIMIT: usize = 64 << 20;

/// Fine enough to tell an answer from the request that follows it.
pub(crate) fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as i64
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A record as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) key: String,
    pub(crate) value: String,
    headers: Vec<(String, String)>,
}

impl Letter {
    /// What the header says; nothing where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// Where its record is.
    pub(crate) fn place(&self) -> Option<Place> {
        let partition = self.header("__dlq.errors.partition").parse().ok()?;
        Some((partition, self.header("__dlq.errors.offset").parse().ok()?))
    }
}

/// The topic, and the groups' configs.
pub(crate) async fn set_up(address: SocketAddr, groups: &[Group]) {
    create_topic(address, TOPIC, PARTITIONS).await;
    let mut session = Session::connect(address).await.expect("the server is ready");
    for group in groups {
        share::configure(&mut session, group.name, group.configs).await.expect("the server answers");
    }
}

/// The base offset.
pub(crate) async fn produce(session: &mut Session, partition: i32, records: &[Record]) -> io::Result<i64> {
    let now = now_us() / 1000;
    let mut batch = BatchBuilder::new(0, now);
    for (offset, record) in (0..).zip(records) {
        batch.push(offset, now, Some(record.key.as_bytes()), Some(record.value.as_bytes()), &[]);
    }
    let bytes = batch.finish(LastOffset::Trim).expect("no codec").expect("records");
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(bytes));
    let data = TopicProduceData::default().with_name(TopicName(text(TOPIC))).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![data]);
    let response = session.call(9, &request).await?;
    let answer = &response.responses[0].partition_responses[0];
    match answer.error_code {
        0 => Ok(answer.base_offset),
        code => Err(io::Error::other(format!("produce: {code}"))),
    }
}

/// Everything in a partition with its offsets. A topic that is not there has nothing.
pub(crate) async fn read_all(address: SocketAddr, topic: &str, partition: i32) -> Vec<(i64, Letter)> {
    let mut session = Session::connect(address).await.expect("the server is ready");
    let (mut all, mut position) = (Vec::new(), 0);
    loop {
        let asked = FetchPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(position)
            .with_partition_max_bytes(1 << 20);
        let asked = FetchTopic::default().with_topic(TopicName(text(topic))).with_partitions(vec![asked]);
        let request = FetchRequest::default().with_max_bytes(4 << 20).with_session_epoch(-1).with_topics(vec![asked]);
        let response = session.call(12, &request).await.expect("the server answers");
        let data = &response.responses[0].partitions[0];
        if data.error_code == UNKNOWN_TOPIC {
            return all;
        }
        assert_eq!(data.error_code, 0, "fetching {topic}:{partition} at {position}");
        let before = position;
        let mut bytes = data.records.clone().unwrap_or_default();
        while let Ok(header) = BatchHeader::read(&bytes) {
            let batch = bytes.split_to(header.len);
            for record in &Records::open(&batch, &header, LIMIT).expect("it opens") {
                let record = record.expect("a sound record");
                if record.offset < position {
                    continue;
                }
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let headers = record.headers().map(|header| header.expect("a sound header"));
                let headers =
                    headers.map(|header| (text(header.key), text(header.value.unwrap_or_default()))).collect();
                let (key, value) = (text(record.key.unwrap_or_default()), text(record.value.unwrap_or_default()));
                all.push((record.offset, Letter { key, value, headers }));
            }
            position = position.max(header.last_offset() + 1);
        }
        if position == before {
            return all;
        }
    }
}
