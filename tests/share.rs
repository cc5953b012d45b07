//! Share groups (KIP-932) on a whole krocket, and what krocket adds to them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic as PlainTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch,
};
use kafka_protocol::messages::share_fetch_request::{FetchPartition as SharePartition, FetchTopic};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use krocket_protocol::records::{BatchBuilder, BatchHeader, Header, LastOffset, Records};
use krocket_protocol::share_acknowledge::ShareAcknowledgeRequest;
use krocket_protocol::share_fetch::ShareFetchRequest;
use krocket_testkit::{Client, Krocket, soon};
use uuid::Uuid;

const GROUP: &str = "workers";
const GROUP_RESOURCE: i8 = 32;
const INVALID_CONFIG: i16 = 40;
const INVALID_RECORD_STATE: i16 = 121;

const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const RENEW: i8 = 4;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// A record as tests name it: key, value, headers.
type Sent<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

async fn produce(krocket: &Krocket, topic: &str, records: &[Sent<'_>]) {
    let mut builder = BatchBuilder::new(0, now_ms());
    for (offset, (key, value, headers)) in (0..).zip(records) {
        let headers: Vec<Header<'_>> =
            headers.iter().map(|(key, value)| Header { key: key.as_bytes(), value: Some(value.as_bytes()) }).collect();
        builder.push(offset, now_ms(), Some(key.as_bytes()), Some(value.as_bytes()), &headers);
    }
    let batch: Bytes = builder.finish(LastOffset::Keep).expect("no codec").expect("records");
    let data = PartitionProduceData::default().with_records(Some(batch));
    let data = TopicProduceData::default().with_name(TopicName(text(topic))).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(5000).with_topic_data(vec![data]);
    let response: ProduceResponse = krocket.client().await.call(9, &request).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

/// Sets configs of the group; the error code and message.
async fn configure(krocket: &Krocket, configs: &[(&str, &str)]) -> (i16, String) {
    let config = |(name, value): &(&str, &str)| {
        AlterableConfig::default().with_name(text(name)).with_config_operation(0).with_value(Some(text(value)))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(GROUP_RESOURCE)
        .with_resource_name(text(GROUP))
        .with_configs(configs.iter().map(config).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let mut response: IncrementalAlterConfigsResponse = krocket.client().await.call(1, &request).await;
    let answer = response.responses.remove(0);
    (answer.error_code, answer.error_message.map(|message| message.to_string()).unwrap_or_default())
}

/// A krocket with a topic `t` of one partition that the group reads from its start.
async fn world(configs: &[(&str, &str)]) -> (Krocket, Uuid) {
    let krocket = Krocket::start().await;
    let created = CreatableTopic::default().with_name(TopicName(text("t"))).with_num_partitions(1);
    let request =
        CreateTopicsRequest::default().with_topics(vec![created.with_replication_factor(1)]).with_timeout_ms(5000);
    let created: CreateTopicsResponse = krocket.client().await.call(7, &request).await;
    assert_eq!(created.topics[0].error_code, 0);
    let all = [&[("share.auto.offset.reset", "earliest")], configs].concat();
    assert_eq!(configure(&krocket, &all).await, (0, String::new()));
    (krocket, created.topics[0].topic_id)
}

/// A record as a member gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Got {
    offset: i64,
    value: String,
    count: i16,
}

/// A member of the group with a share session.
struct Member {
    client: Client,
    id: &'static str,
    topic: Uuid,
    epoch: i32,
}

impl Member {
    async fn join(krocket: &Krocket, id: &'static str, topic: Uuid) -> Self {
        let mut client = krocket.client().await;
        let request = ShareGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_member_id(text(id))
            .with_subscribed_topic_names(Some(vec![TopicName(text("t"))]));
        let response: ShareGroupHeartbeatResponse = client.call(1, &request).await;
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        Member { client, id, topic, epoch: 0 }
    }

    /// One ShareFetch; `limit` is never exceeded.
    async fn poll(&mut self, limit: i32, wait: Duration) -> Vec<Got> {
        let partition = SharePartition::default().with_partition_index(0);
        let request = ShareFetchRequest {
            group_id: Some(text(GROUP)),
            member_id: Some(text(self.id)),
            share_session_epoch: self.epoch,
            max_wait_ms: wait.as_millis() as i32,
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_records: limit,
            batch_size: limit,
            share_acquire_mode: 1,
            topics: vec![FetchTopic::default().with_topic_id(self.topic).with_partitions(vec![partition])],
            ..ShareFetchRequest::default()
        };
        let response = self.client.call(2, &request).await.0;
        assert_eq!(response.error_code, 0);
        self.epoch += 1;
        let mut got = Vec::new();
        for mut answer in response.responses.into_iter().flat_map(|topic| topic.partitions) {
            assert_eq!(answer.error_code, 0);
            let mut records = answer.records.take().unwrap_or_default();
            while let Ok(header) = BatchHeader::read(&records) {
                let batch = records.split_to(header.len);
                for record in &Records::open(&batch, &header, 1 << 20).expect("a batch") {
                    let record = record.expect("a record");
                    let held = |of: &&share_fetch_response::AcquiredRecords| {
                        (of.first_offset..=of.last_offset).contains(&record.offset)
                    };
                    if let Some(held) = answer.acquired_records.iter().find(held) {
                        let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                        got.push(Got { offset: record.offset, value, count: held.delivery_count });
                    }
                }
            }
        }
        got
    }

    /// Polls until there is something.
    async fn next(&mut self, limit: i32) -> Vec<Got> {
        soon("records", async {
            loop {
                let got = self.poll(limit, Duration::from_secs(5)).await;
                if !got.is_empty() {
                    return got;
                }
            }
        })
        .await
    }

    async fn nothing(&mut self) {
        assert_eq!(self.poll(100, Duration::ZERO).await, []);
    }

    /// What the partition's answer to an acknowledgement is.
    async fn answer(&mut self, (first, last): (i64, i64), kind: i8) -> i16 {
        let batch = AcknowledgementBatch::default()
            .with_first_offset(first)
            .with_last_offset(last)
            .with_acknowledge_types(vec![kind]);
        let partition = AcknowledgePartition::default().with_acknowledgement_batches(vec![batch]);
        let request = ShareAcknowledgeRequest {
            group_id: Some(text(GROUP)),
            member_id: Some(text(self.id)),
            share_session_epoch: self.epoch,
            is_renew_ack: kind == RENEW,
            topics: vec![AcknowledgeTopic::default().with_topic_id(self.topic).with_partitions(vec![partition])],
        };
        let response = self.client.call(2, &request).await;
        assert_eq!(response.error_code, 0);
        self.epoch += 1;
        response.responses[0].partitions[0].error_code
    }

    async fn acknowledge(&mut self, offset: i64, kind: i8) {
        assert_eq!(self.answer((offset, offset), kind).await, 0);
    }

    /// Closes the session.
    async fn leave(mut self) {
        let request = ShareAcknowledgeRequest {
            group_id: Some(text(GROUP)),
            member_id: Some(text(self.id)),
            share_session_epoch: -1,
            ..ShareAcknowledgeRequest::default()
        };
        let response = self.client.call(2, &request).await;
        assert_eq!(response.error_code, 0);
    }
}

fn values(got: &[Got]) -> Vec<&str> {
    got.iter().map(|got| got.value.as_str()).collect()
}

fn plain<'a>(values: &[&'a str]) -> Vec<Sent<'a>> {
    values.iter().map(|value| ("", *value, &[][..])).collect()
}

#[tokio::test]
async fn members_share_a_partition_and_what_one_releases_another_gets() {
    let (krocket, topic) = world(&[]).await;
    produce(&krocket, "t", &plain(&["a", "b", "c", "d"])).await;
    let mut one = Member::join(&krocket, "one", topic).await;
    let mut two = Member::join(&krocket, "two", topic).await;
    let first = one.next(2).await;
    assert_eq!(values(&first), ["a", "b"]);
    assert_eq!(values(&two.next(10).await), ["c", "d"]);
    one.nothing().await;
    assert_eq!(two.answer((0, 0), ACCEPT).await, INVALID_RECORD_STATE, "it is not two's");
    one.acknowledge(0, ACCEPT).await;
    one.acknowledge(1, RELEASE).await;
    let again = two.next(10).await;
    assert_eq!(again, [Got { offset: 1, value: "b".to_owned(), count: 2 }]);
    assert_eq!(two.answer((1, 3), RENEW).await, 0);
    assert_eq!(two.answer((1, 3), ACCEPT).await, 0);
    assert_eq!(two.answer((1, 1), ACCEPT).await, 0, "what is long done with is passed over");
    one.nothing().await;
    // A waiting member is woken by a record, and by one that comes back.
    let (_, woken) = tokio::join!(produce(&krocket, "t", &[("", "e", &[])]), one.next(10));
    assert_eq!(values(&woken), ["e"]);
    let (code, woken) = tokio::join!(one.answer((4, 4), RELEASE), two.next(10));
    assert_eq!((code, values(&woken)), (0, vec!["e"]));
    krocket.stop().await;
}

#[tokio::test]
async fn locks_and_counts_survive_a_restart() {
    let (krocket, topic) = world(&[]).await;
    produce(&krocket, "t", &plain(&["a", "b", "c"])).await;
    let mut one = Member::join(&krocket, "one", topic).await;
    one.next(2).await;
    one.acknowledge(0, RELEASE).await;
    let krocket = krocket.restart().await;
    // Only connections that break while krocket runs give records back.
    let mut two = Member::join(&krocket, "two", topic).await;
    let got = two.next(10).await;
    let counts: Vec<(&str, i16)> = got.iter().map(|got| (got.value.as_str(), got.count)).collect();
    assert_eq!(counts, [("a", 2), ("c", 1)], "b is still one's");
    krocket.stop().await;
}

#[tokio::test]
async fn a_member_that_leaves_has_not_tried_and_one_that_is_cut_off_has() {
    let (krocket, topic) = world(&[]).await;
    produce(&krocket, "t", &plain(&["a"])).await;
    let mut one = Member::join(&krocket, "one", topic).await;
    assert_eq!(one.next(1).await[0].count, 1);
    one.leave().await;
    let mut two = Member::join(&krocket, "two", topic).await;
    assert_eq!(two.next(1).await[0].count, 1);
    drop(two);
    let mut three = Member::join(&krocket, "three", topic).await;
    assert_eq!(three.next(1).await[0].count, 2);
    krocket.stop().await;
}

#[tokio::test]
async fn a_released_record_waits_for_the_groups_back_off() {
    let (krocket, topic) = world(&[("krocket.retry.backoff", "400ms 800ms")]).await;
    produce(&krocket, "t", &plain(&["a"])).await;
    let mut one = Member::join(&krocket, "one", topic).await;
    assert_eq!(one.next(1).await[0].count, 1);
    for (wait, count) in [(400, 2), (800, 3), (800, 4)] {
        let released = Instant::now();
        one.acknowledge(0, RELEASE).await;
        assert_eq!(one.next(1).await[0].count, count);
        let waited = released.elapsed();
        let wait = Duration::from_millis(wait);
        assert!(waited >= wait && waited < wait + Duration::from_millis(700), "{waited:?} for {wait:?}");
    }
    krocket.stop().await;
}

/// Headers of the dead letters and their values.
async fn letters(krocket: &Krocket, name: &str) -> Vec<(Option<String>, Vec<(String, String)>)> {
    let mut client = krocket.client().await;
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let asked = PlainTopic::default().with_topic(TopicName(text(name))).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![asked]);
    let mut response: FetchResponse = client.call(12, &request).await;
    let mut answer = response.responses.remove(0).partitions.remove(0);
    assert_eq!(answer.error_code, 0, "{name}");
    let mut records = answer.records.take().unwrap_or_default();
    let mut letters = Vec::new();
    while let Ok(header) = BatchHeader::read(&records) {
        let batch = records.split_to(header.len);
        for record in &Records::open(&batch, &header, 1 << 20).expect("a batch") {
            let record = record.expect("a record");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers = record.headers().map(|header| header.expect("a header"));
            let headers = headers.map(|header| (text(header.key), text(header.value.unwrap_or_default())));
            letters.push((record.value.map(text), headers.collect()));
        }
    }
    letters
}

#[tokio::test]
async fn what_is_rejected_or_tried_too_often_is_a_dead_letter() {
    let (krocket, topic) = world(&[("share.delivery.count.limit", "2")]).await;
    produce(&krocket, "t", &[("k", "bad", &[("own", "header")]), ("", "hard", &[])]).await;
    let mut one = Member::join(&krocket, "one", topic).await;
    one.next(2).await;
    one.acknowledge(0, REJECT).await;
    one.acknowledge(1, RELEASE).await;
    assert_eq!(one.next(2).await[0].count, 2);
    one.acknowledge(1, RELEASE).await;
    one.nothing().await;
    let letters = letters(&krocket, "dlq.workers").await;
    let header = |at: usize, name: &str| {
        letters[at].1.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    assert_eq!(letters.iter().map(|letter| letter.0.as_deref()).collect::<Vec<_>>(), [Some("bad"), Some("hard")]);
    assert_eq!(header(0, "own"), "header");
    for (at, offset, count) in [(0, "0", "1"), (1, "1", "2")] {
        assert_eq!(header(at, "__dlq.errors.topic"), "t");
        assert_eq!(header(at, "__dlq.errors.partition"), "0");
        assert_eq!(header(at, "__dlq.errors.offset"), offset);
        assert_eq!(header(at, "__dlq.errors.group"), GROUP);
        assert_eq!(header(at, "__dlq.errors.delivery.count"), count);
    }
    krocket.stop().await;
}

#[tokio::test]
async fn a_group_gets_what_its_filter_lets_through() {
    let (krocket, topic) = world(&[("krocket.filter", "TAGS = 'paid' AND amount > 10")]).await;
    let tagged = |tag: &'static str, amount: &'static str| [("TAGS", tag), ("amount", amount)];
    let (a, b, c) = (tagged("paid", "5"), tagged("new", "50"), tagged("paid", "50"));
    produce(&krocket, "t", &[("", "a", &a), ("", "b", &b), ("", "c", &c), ("", "d", &b), ("", "e", &c)]).await;
    let mut one = Member::join(&krocket, "one", topic).await;
    assert_eq!(values(&one.next(10).await), ["c", "e"]);
    assert_eq!(one.answer((2, 2), ACCEPT).await, 0);
    assert_eq!(one.answer((4, 4), ACCEPT).await, 0);
    let offsets = describe(&krocket).await;
    assert_eq!(offsets, 5, "the others count as done with");
    krocket.stop().await;
}

/// Where the group begins in the partition.
async fn describe(krocket: &Krocket) -> i64 {
    use kafka_protocol::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup;
    let group = DescribeShareGroupOffsetsRequestGroup::default().with_group_id(GroupId(text(GROUP))).with_topics(None);
    let request = DescribeShareGroupOffsetsRequest::default().with_groups(vec![group]);
    let response: DescribeShareGroupOffsetsResponse = krocket.client().await.call(0, &request).await;
    response.groups[0].topics[0].partitions[0].start_offset
}

#[tokio::test]
async fn records_of_a_key_come_one_at_a_time() {
    let (krocket, topic) = world(&[("krocket.share.key.order", "true")]).await;
    produce(&krocket, "t", &[("x", "x1", &[]), ("x", "x2", &[]), ("y", "y1", &[]), ("x", "x3", &[])]).await;
    let mut one = Member::join(&krocket, "one", topic).await;
    let mut two = Member::join(&krocket, "two", topic).await;
    assert_eq!(values(&one.next(10).await), ["x1", "y1"]);
    two.nothing().await;
    one.acknowledge(0, RELEASE).await;
    assert_eq!(values(&two.next(10).await), ["x1"]);
    two.acknowledge(0, ACCEPT).await;
    assert_eq!(values(&one.next(10).await), ["x2"]);
    // And after a restart.
    let krocket = krocket.restart().await;
    let mut three = Member::join(&krocket, "three", topic).await;
    three.nothing().await;
    krocket.stop().await;
}

#[tokio::test]
async fn urgent_records_come_first() {
    let (krocket, topic) = world(&[("krocket.share.priority.header", "prio")]).await;
    let (low, high) = ([("prio", "1")], [("prio", "9")]);
    produce(&krocket, "t", &[("", "a", &low), ("", "b", &[]), ("", "c", &high), ("", "d", &low)]).await;
    let mut one = Member::join(&krocket, "one", topic).await;
    let mut order = Vec::new();
    for _ in 0..4 {
        order.extend(one.next(1).await.into_iter().map(|got| got.value));
    }
    assert_eq!(order, ["c", "a", "d", "b"]);
    krocket.stop().await;
}

#[tokio::test]
async fn a_filter_that_cannot_be_read_is_refused_where_it_is_given() {
    let (krocket, _) = world(&[]).await;
    let (code, message) = configure(&krocket, &[("krocket.filter", "amount >")]).await;
    assert_eq!(code, INVALID_CONFIG);
    assert!(message.contains("krocket.filter") && message.contains("column"), "{message}");
    let (code, message) = configure(&krocket, &[("krocket.retry.backoff", "soon")]).await;
    assert_eq!(code, INVALID_CONFIG);
    assert!(message.contains("krocket.retry.backoff"), "{message}");
    krocket.stop().await;
}
