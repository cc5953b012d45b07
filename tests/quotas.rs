//! Client quotas as clients meet them: over the wire, with other clients beside them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use krocket_protocol::ApiKey;
use krocket_protocol::records::builder::{BatchBuilder, LastOffset};
use krocket_testkit::{Client, Krocket};
use tokio::io::AsyncReadExt;

const TOPIC: &str = "limited";
const MEBIBYTE: f64 = 1_048_576.0;
/// Two windows of a second: who uses all it can gets two seconds' worth every two seconds.
const WINDOWS: &str = "2";

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

async fn start() -> Krocket {
    let krocket = Krocket::start_with(|config| {
        config.kafka.insert("quota.window.num".to_owned(), WINDOWS.to_owned());
    })
    .await;
    let topic = CreatableTopic::default().with_name(TopicName(text(TOPIC))).with_num_partitions(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic.with_replication_factor(1)]);
    assert_eq!(krocket.client().await.call(7, &request).await.topics[0].error_code, 0);
    krocket
}

/// A client with a client id, one request after the other.
struct Named {
    client: Client,
    id: &'static str,
    next: i32,
}

impl Named {
    async fn connect(krocket: &Krocket, id: &'static str) -> Self {
        Named { client: krocket.client().await, id, next: 1 }
    }

    async fn send<R: Request>(&mut self, version: i16, request: &R) {
        let api = ApiKey::try_from(R::KEY).expect("its own key");
        let mut frame = bytes::BytesMut::new();
        RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.next)
            .with_client_id(Some(text(self.id)))
            .encode(&mut frame, api.request_header_version(version))
            .expect("a header");
        self.next += 1;
        request.encode(&mut frame, version).expect("a body");
        self.client.send_frame(&frame).await;
    }

    async fn receive<R: Request>(&mut self, version: i16) -> Bytes {
        let mut frame = self.client.receive().await.expect("an answer");
        let api = ApiKey::try_from(R::KEY).expect("its own key");
        ResponseHeader::decode(&mut frame, api.response_header_version(version)).expect("a header");
        frame
    }

    async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        R::Response::decode(&mut self.receive::<R>(version).await, version).expect("a body")
    }

    /// Produces and says how long it is to wait.
    async fn produce(&mut self, request: &ProduceRequest) -> Duration {
        let response = self.call(9, request).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        Duration::from_millis(response.throttle_time_ms as u64)
    }

    /// Fetches from an offset: the next one, bytes of records, and how long it is to wait.
    async fn fetch(&mut self, offset: i64) -> (i64, usize, Duration) {
        let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(TopicName(text(TOPIC))).with_partitions(vec![partition]);
        let request = FetchRequest::default().with_max_bytes(50 << 20).with_topics(vec![topic]);
        self.send(11, &request).await;
        let mut frame = self.receive::<FetchRequest>(11).await;
        let response = FetchResponse::decode(&mut frame, 11).expect("a body");
        assert_eq!(response.error_code, 0);
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        assert!(partition.high_watermark > 0, "what isn't records is told");
        let records = partition.records.clone().unwrap_or_default();
        let (mut next, mut at) = (offset, 0);
        // Whole batches: base offset, length, ..., last offset delta.
        while records.len() >= at + 61 {
            let number = |from: usize| i32::from_be_bytes(records[from..from + 4].try_into().expect("four bytes"));
            let base = i64::from_be_bytes(records[at..at + 8].try_into().expect("eight bytes"));
            next = base + i64::from(number(at + 23)) + 1;
            at += 12 + number(at + 8) as usize;
        }
        (next, records.len(), Duration::from_millis(response.throttle_time_ms as u64))
    }
}

/// One record of about this size.
fn produce(size: usize) -> ProduceRequest {
    let mut builder = BatchBuilder::new(0, 1_700_000_000_000);
    builder.push(0, 1_700_000_000_000, None, Some(&vec![7; size]), &[]);
    let records = builder.finish(LastOffset::Keep).expect("no codec").expect("one record");
    let partition = PartitionProduceData::default().with_records(Some(records));
    let topic = TopicProduceData::default().with_name(TopicName(text(TOPIC))).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(1).with_timeout_ms(5000).with_topic_data(vec![topic])
}

/// Sets quotas of a client id or of the default; NaN removes.
async fn set(krocket: &Krocket, client_id: Option<&'static str>, quotas: &[(&'static str, f64)]) {
    let entity = EntityData::default().with_entity_type(text("client-id")).with_entity_name(client_id.map(text));
    alter(krocket, entity, quotas).await;
}

async fn alter(krocket: &Krocket, entity: EntityData, quotas: &[(&'static str, f64)]) {
    let op = |(key, value): &(&'static str, f64)| match value.is_nan() {
        true => OpData::default().with_key(text(key)).with_remove(true),
        false => OpData::default().with_key(text(key)).with_value(*value),
    };
    let entry = EntryData::default().with_entity(vec![entity]).with_ops(quotas.iter().map(op).collect());
    let request = AlterClientQuotasRequest::default().with_entries(vec![entry]);
    assert_eq!(krocket.client().await.call(1, &request).await.entries[0].error_code, 0);
}

/// Produces as fast as it can, for a time: bytes per second, and how often it was throttled.
async fn flood(client: &mut Named, time: Duration) -> (f64, usize) {
    let request = produce(50_000);
    let (begun, mut bytes, mut throttled) = (Instant::now(), 0, 0);
    while begun.elapsed() < time {
        throttled += usize::from(!client.produce(&request).await.is_zero());
        bytes += 50_000;
    }
    (bytes as f64 / begun.elapsed().as_secs_f64(), throttled)
}

/// Two seconds' worth every two seconds, so at any time in the last quarter of the fourth round it is four rounds' worth.
const FOUR_ROUNDS: Duration = Duration::from_millis(7600);

fn within_15_percent(rate: f64, quota: f64) {
    assert!((0.85..1.15).contains(&(rate / quota)), "{rate:.0} bytes per second instead of {quota:.0}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_gets_what_its_quota_says_and_others_are_not_slowed() {
    let krocket = start().await;
    set(&krocket, Some("greedy"), &[("producer_byte_rate", MEBIBYTE)]).await;
    let (mut greedy, mut other) = (Named::connect(&krocket, "greedy").await, Named::connect(&krocket, "other").await);
    let ((rate, throttled), (free, never)) =
        tokio::join!(flood(&mut greedy, FOUR_ROUNDS), flood(&mut other, Duration::from_secs(2)));
    println!("greedy {rate:.0} bytes/s, throttled {throttled} times; other {free:.0} bytes/s");
    within_15_percent(rate, MEBIBYTE);
    assert!(throttled > 0);
    assert_eq!(never, 0);
    assert!(free > 3.0 * MEBIBYTE, "the other got {free:.0} bytes per second");
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_gets_what_its_quota_says_and_others_are_not_slowed() {
    let krocket = start().await;
    let mut producer = Named::connect(&krocket, "producer").await;
    for _ in 0..200 {
        assert!(producer.produce(&produce(50_000)).await.is_zero());
    }
    set(&krocket, Some("greedy"), &[("consumer_byte_rate", MEBIBYTE)]).await;

    let mut greedy = Named::connect(&krocket, "greedy").await;
    let (begun, mut bytes, mut offset, mut withheld) = (Instant::now(), 0, 0, 0);
    while begun.elapsed() < FOUR_ROUNDS {
        let (next, len, throttled) = greedy.fetch(offset).await;
        withheld += usize::from(len == 0 && !throttled.is_zero());
        assert!(len > 0 || !throttled.is_zero(), "no records, and no reason why");
        assert!(offset < 200, "everything was read already");
        (offset, bytes) = (next, bytes + len);
    }
    let rate = bytes as f64 / begun.elapsed().as_secs_f64();
    println!("greedy {rate:.0} bytes/s, {withheld} answers without records");
    within_15_percent(rate, MEBIBYTE);
    assert!(withheld > 0);

    let (mut other, begun, mut offset) = (Named::connect(&krocket, "other").await, Instant::now(), 0);
    while offset < 200 {
        let (next, len, throttled) = other.fetch(offset).await;
        assert!(len > 0 && throttled.is_zero());
        offset = next;
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "ten megabytes took {:?}", begun.elapsed());
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_comes_at_once_and_nothing_is_read_until_the_time_is_over() {
    let krocket = start().await;
    set(&krocket, None, &[("producer_byte_rate", 100_000.0)]).await;
    let mut client = Named::connect(&krocket, "hasty").await;
    let begun = Instant::now();
    // One second's worth is free, the rest costs a second and a half.
    let wait = client.produce(&produce(250_000)).await;
    assert!(begun.elapsed() < Duration::from_millis(1000), "the answer came after {:?}", begun.elapsed());
    assert!((Duration::from_millis(1400)..Duration::from_millis(1600)).contains(&wait), "{wait:?}");

    client.send(12, &MetadataRequest::default()).await;
    let mut byte = [0];
    let early = tokio::time::timeout(wait / 2, client.client.stream.peek(&mut byte)).await;
    assert!(early.is_err(), "an answer while the connection is muted");
    client.receive::<MetadataRequest>(12).await;
    assert!(begun.elapsed() >= wait, "answered after {:?}", begun.elapsed());

    let metrics = metrics(&krocket).await;
    let value = |name: &str| {
        let line = format!("krocket_quota_{name}{{quota=\"producer_byte_rate\"}} ");
        let value = metrics.lines().find_map(|told| told.strip_prefix(&line));
        value.unwrap_or_else(|| panic!("no {line} in\n{metrics}")).parse::<f64>().expect("a number")
    };
    // Other tests of this process count into the same numbers.
    assert!(value("throttle_seconds_total") >= wait.as_secs_f64() - 0.01);
    assert!(value("throttled_requests_total") >= 1.0);
    assert!(value("throttled_connections") >= 0.0);
    krocket.stop().await;
}

async fn metrics(krocket: &Krocket) -> String {
    use tokio::io::AsyncWriteExt;
    let mut stream = tokio::net::TcpStream::connect(krocket.http).await.expect("connects");
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: krocket\r\n\r\n").await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("received");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_quota_holds_at_once_and_quotas_survive_a_restart() {
    let krocket = start().await;
    let mut client = Named::connect(&krocket, "changing").await;
    assert!(client.produce(&produce(100_000)).await.is_zero());
    set(&krocket, Some("changing"), &[("producer_byte_rate", 200_000.0)]).await;
    assert!(!client.produce(&produce(300_000)).await.is_zero());
    set(&krocket, Some("changing"), &[("producer_byte_rate", 1e9)]).await;
    assert!(client.produce(&produce(300_000)).await.is_zero());
    set(&krocket, Some("changing"), &[("producer_byte_rate", 100_000.0)]).await;

    let krocket = krocket.restart().await;

    let mut client = Named::connect(&krocket, "changing").await;
    assert!(!client.produce(&produce(300_000)).await.is_zero());
    set(&krocket, Some("changing"), &[("producer_byte_rate", f64::NAN)]).await;
    let mut again = Named::connect(&krocket, "changing").await;
    assert!(again.produce(&produce(900_000)).await.is_zero());
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_and_partitions_are_quotas_too() {
    let krocket = start().await;
    set(&krocket, Some("busy"), &[("request_percentage", 0.0001)]).await;
    let mut busy = Named::connect(&krocket, "busy").await;
    let response = busy.call(12, &MetadataRequest::default().with_topics(None)).await;
    // A window at most.
    assert!((1..=1000).contains(&response.throttle_time_ms), "{}", response.throttle_time_ms);
    set(&krocket, Some("busy"), &[("request_percentage", f64::NAN)]).await;
    assert_eq!(busy.call(12, &MetadataRequest::default().with_topics(None)).await.throttle_time_ms, 0);

    set(&krocket, Some("busy"), &[("controller_mutation_rate", 5.0)]).await;
    let topic = |name| {
        let topic = CreatableTopic::default().with_name(TopicName(text(name)));
        let request = CreateTopicsRequest::default().with_timeout_ms(5000);
        request.with_topics(vec![topic.with_num_partitions(70).with_replication_factor(1)])
    };
    let first = busy.call(7, &topic("first")).await;
    assert_eq!((first.topics[0].error_code, first.throttle_time_ms), (0, 0));
    let begun = Instant::now();
    let second = busy.call(7, &topic("second")).await;
    const THROTTLING_QUOTA_EXCEEDED: i16 = 89;
    assert_eq!(second.topics[0].error_code, THROTTLING_QUOTA_EXCEEDED);
    let wait = Duration::from_millis(second.throttle_time_ms as u64);
    assert!((Duration::from_millis(500)..=Duration::from_millis(3000)).contains(&wait), "{wait:?}");
    // The connection is held up for the backend's quota as well; then there is room again.
    let third = busy.call(7, &topic("second")).await;
    assert!(begun.elapsed() >= wait);
    assert_eq!(third.topics[0].error_code, 0);
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_connections_from_an_address_are_closed_after_a_while() {
    let krocket = start().await;
    let entity = EntityData::default().with_entity_type(text("ip")).with_entity_name(Some(text("127.0.0.1")));
    alter(&krocket, entity, &[("connection_creation_rate", 3.0)]).await;
    let begun = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(krocket.client().await);
    }
    let mut closed = 0;
    for client in &mut clients {
        client.send_request(12, &MetadataRequest::default()).await;
        closed += usize::from(client.receive().await.is_none());
    }
    assert!((2..=4).contains(&closed), "{closed} of 6 were closed");
    assert!(begun.elapsed() >= Duration::from_millis(100), "closed after a while: {:?}", begun.elapsed());
    krocket.stop().await;
}
