//! What waits for a time, and what it says of itself.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use krocket_protocol::records::batch::ATTRIBUTE_TRANSACTIONAL;
use krocket_protocol::records::{BatchBuilder, LastOffset};
use krocket_testkit::promises::wire::{self, now_ms};
use krocket_testkit::session::Session;
use krocket_testkit::share::{self, ShareMember, Want};

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) async fn connect(address: SocketAddr) -> Session {
    Session::connect(address).await.expect("the server is ready")
}

/// True when a value can be read in a topic of one partition; its timestamp.
pub(crate) async fn seen(address: SocketAddr, topic: &str, value: &str) -> Option<i64> {
    let records = wire::read_all(address, topic, 0).await;
    let mut found = records.iter().filter(|record| record.value == value);
    let first = found.next().map(|record| record.timestamp);
    assert!(found.next().is_none(), "{value} is in {topic} twice");
    first
}

/// A member of a classic group that only keeps its place.
pub(crate) struct Member {
    session: Session,
    group: &'static str,
    id: StrBytes,
    generation: i32,
}

impl Member {
    pub(crate) async fn join(address: SocketAddr, group: &'static str, session_ms: i32) -> Self {
        let mut session = connect(address).await;
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_session_timeout_ms(session_ms)
            .with_rebalance_timeout_ms(session_ms)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol.with_metadata(Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\0"))]);
        let joined = session.call(3, &request).await.expect("an answer");
        assert_eq!(joined.error_code, 0, "{joined:?}");
        let assignment = SyncGroupRequestAssignment::default().with_member_id(joined.member_id.clone());
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_assignments(vec![assignment]);
        let synced = session.call(2, &request).await.expect("an answer");
        assert_eq!(synced.error_code, 0, "{synced:?}");
        Member { session, group, id: joined.member_id, generation: joined.generation_id }
    }

    /// The error code of a heartbeat.
    pub(crate) async fn beat(&mut self) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(self.group)))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        self.session.call(2, &request).await.expect("an answer").error_code
    }
}

/// A member of a share group that takes records and never says what came of them.
pub(crate) struct Sharer(ShareMember);

impl Sharer {
    pub(crate) async fn join(address: SocketAddr, group: &str, topic: &str, configs: &[(&str, &str)]) -> Self {
        let mut session = connect(address).await;
        share::configure(&mut session, group, configs).await.expect("an answer");
        let member = ShareMember::join(session, group, "sharer", topic, 1).await.expect("an answer");
        Sharer(member.unwrap_or_else(|code| panic!("joining: {code}")))
    }

    /// How many records it is given within a while, and how often the first of them was delivered.
    pub(crate) async fn take(&mut self, wait_ms: i32) -> (usize, i16) {
        let want = Want { wait_ms, records: 10, exact: false };
        let taken = self.0.fetch(&want, &[]).await.expect("an answer").expect("fetching").records;
        (taken.len(), taken.first().map_or(0, |record| record.count))
    }
}

/// A transaction with one record in a topic.
pub(crate) struct Txn {
    session: Session,
    id: StrBytes,
    producer: (i64, i16),
}

impl Txn {
    pub(crate) async fn begin(address: SocketAddr, id: &str, topic: &str, value: &str, timeout_ms: i32) -> Self {
        let mut session = connect(address).await;
        let id = text(id);
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(id.clone())))
            .with_transaction_timeout_ms(timeout_ms);
        let started = session.call(5, &request).await.expect("an answer");
        assert_eq!(started.error_code, 0, "{started:?}");
        let producer = (started.producer_id.0, started.producer_epoch);
        let mut batch =
            BatchBuilder::new(0, now_ms()).producer(producer.0, producer.1, 0).attribute(ATTRIBUTE_TRANSACTIONAL, true);
        batch.push(0, now_ms(), None, Some(value.as_bytes()), &[]);
        let bytes = batch.finish(LastOffset::Keep).expect("no codec").expect("a record");
        let data = PartitionProduceData::default().with_records(Some(bytes));
        let data = TopicProduceData::default().with_name(TopicName(text(topic))).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(TransactionalId(id.clone())))
            .with_acks(-1)
            .with_timeout_ms(5000)
            .with_topic_data(vec![data]);
        let response = session.call(12, &request).await.expect("an answer");
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0, "{response:?}");
        Txn { session, id, producer }
    }

    /// The error code of its commit.
    pub(crate) async fn commit(mut self) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(self.id.clone()))
            .with_producer_id(ProducerId(self.producer.0))
            .with_producer_epoch(self.producer.1)
            .with_committed(true);
        self.session.call(5, &request).await.expect("an answer").error_code
    }
}

/// Last stable offset and high watermark of a topic of one partition.
pub(crate) async fn stable(address: SocketAddr, topic: &str) -> io::Result<(i64, i64)> {
    let asked = FetchPartition::default().with_current_leader_epoch(-1).with_partition_max_bytes(1);
    let asked = FetchTopic::default().with_topic(TopicName(text(topic))).with_partitions(vec![asked]);
    let request = FetchRequest::default().with_max_bytes(1).with_session_epoch(-1).with_topics(vec![asked]);
    let response = connect(address).await.call(12, &request).await?;
    let data = &response.responses[0].partitions[0];
    Ok((data.last_stable_offset, data.high_watermark))
}
