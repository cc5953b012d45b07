//! Requests as bytes: a topic, a batch for it, and a fetch of many.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::protocol::{Request, StrBytes};
use krocket_testkit::client::request_frame;

/// Bytes that a fetch asks for, the Java consumer's default.
const FETCH: usize = 1 << 20;

/// Whole frames, length included.
pub(crate) struct Load {
    pub(crate) create: Bytes,
    pub(crate) produce: Bytes,
    pub(crate) fetch: Bytes,
    /// Of the batch.
    pub(crate) len: usize,
}

impl Load {
    pub(crate) fn new(topic: &str) -> Self {
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let created =
            CreatableTopic::default().with_name(name.clone()).with_num_partitions(1).with_replication_factor(1);
        let create = CreateTopicsRequest::default().with_topics(vec![created]).with_timeout_ms(10_000);
        let batch = batch();
        let len = batch.len();
        let data = PartitionProduceData::default().with_index(0).with_records(Some(batch));
        let to = TopicProduceData::default().with_name(name.clone()).with_partition_data(vec![data]);
        let produce = ProduceRequest::default().with_acks(1).with_timeout_ms(10_000).with_topic_data(vec![to]);
        let from = FetchPartition::default()
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_partition_max_bytes(FETCH as i32);
        let from = FetchTopic::default().with_topic(name).with_partitions(vec![from]);
        let fetch = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(FETCH as i32)
            .with_session_epoch(-1)
            .with_topics(vec![from]);
        Load { create: frame(7, &create), produce: frame(12, &produce), fetch: frame(12, &fetch), len }
    }

    /// Whole batches in a fetch's answer.
    pub(crate) fn batches_of_a_fetch(&self) -> usize {
        FETCH / self.len
    }
}

fn frame<R: Request>(version: i16, request: &R) -> Bytes {
    let body = request_frame(version, 1, request);
    let mut frame = BytesMut::new();
    frame.put_u32(body.len() as u32);
    frame.put_slice(&body);
    frame.freeze()
}

/// One batch of 16 records without keys, uncompressed.
fn batch() -> Bytes {
    let mut records = BytesMut::new();
    let count: i32 = 16;
    for delta in 0..count {
        let mut body = vec![0];
        for number in [0, i64::from(delta), -1, 1000] {
            varint(&mut body, number);
        }
        body.extend(std::iter::repeat_n(delta as u8, 1000));
        varint(&mut body, 0);
        let mut length = Vec::new();
        varint(&mut length, body.len() as i64);
        records.put_slice(&length);
        records.put_slice(&body);
    }
    let mut tail = BytesMut::new();
    tail.put_i16(0);
    tail.put_i32(count - 1);
    tail.put_i64(1_700_000_000_000);
    tail.put_i64(1_700_000_000_000);
    tail.put_i64(-1);
    tail.put_i16(-1);
    tail.put_i32(-1);
    tail.put_i32(count);
    tail.put_slice(&records);
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32(tail.len() as i32 + 9);
    batch.put_i32(-1);
    batch.put_u8(2);
    batch.put_u32(crc32c::crc32c(&tail));
    batch.put_slice(&tail);
    batch.freeze()
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
