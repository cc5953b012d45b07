//! Kafka's transactions and krocket's features together, on a whole krocket.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use krocket_protocol::records::batch::ATTRIBUTE_TRANSACTIONAL;
use krocket_protocol::records::{BatchBuilder, BatchHeader, Header, LastOffset, Records};
use krocket_testkit::{Client, Krocket, soon};

const INVALID_RECORD: i16 = 87;

fn topic(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// A transactional producer that speaks as clients of Kafka 4 do.
struct Producer {
    client: Client,
    id: i64,
    epoch: i16,
    sequence: i32,
}

impl Producer {
    async fn start(krocket: &Krocket) -> Self {
        let mut client = krocket.client().await;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(Producer::transactional_id()))
            .with_transaction_timeout_ms(60_000);
        let response: InitProducerIdResponse = client.call(5, &request).await;
        assert_eq!(response.error_code, 0);
        Producer { client, id: response.producer_id.0, epoch: response.producer_epoch, sequence: 0 }
    }

    fn transactional_id() -> TransactionalId {
        TransactionalId(StrBytes::from_static_str("txn"))
    }

    fn batch(&self, value: &str, headers: &[(&str, &str)]) -> Bytes {
        let mut builder = BatchBuilder::new(0, now_ms())
            .producer(self.id, self.epoch, self.sequence)
            .attribute(ATTRIBUTE_TRANSACTIONAL, true);
        let headers: Vec<Header<'_>> =
            headers.iter().map(|(key, value)| Header { key: key.as_bytes(), value: Some(value.as_bytes()) }).collect();
        builder.push(0, now_ms(), Some(b"key"), Some(value.as_bytes()), &headers);
        builder.finish(LastOffset::Keep).expect("no codec").expect("one record")
    }

    /// The error and its message; 0 where there is none.
    async fn try_send(&mut self, to: &str, value: &str, headers: &[(&str, &str)]) -> (i16, String) {
        let data = PartitionProduceData::default().with_records(Some(self.batch(value, headers)));
        let data = TopicProduceData::default().with_name(topic(to)).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(Producer::transactional_id()))
            .with_acks(-1)
            .with_timeout_ms(5000)
            .with_topic_data(vec![data]);
        let mut response: ProduceResponse = self.client.call(12, &request).await;
        let answer = response.responses.remove(0).partition_responses.remove(0);
        self.sequence += i32::from(answer.error_code == 0);
        (answer.error_code, answer.error_message.map(|message| message.to_string()).unwrap_or_default())
    }

    async fn send(&mut self, to: &str, value: &str, headers: &[(&str, &str)]) {
        assert_eq!(self.try_send(to, value, headers).await, (0, String::new()));
    }

    async fn end(&mut self, commit: bool) {
        let request = EndTxnRequest::default()
            .with_transactional_id(Producer::transactional_id())
            .with_producer_id(ProducerId(self.id))
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        let response: EndTxnResponse = self.client.call(5, &request).await;
        assert_eq!(response.error_code, 0);
        (self.epoch, self.sequence) = (response.producer_epoch, 0);
    }
}

/// A consumer under read_committed, of one partition.
struct Consumer {
    client: Client,
    topic: &'static str,
    position: i64,
}

impl Consumer {
    async fn of(krocket: &Krocket, name: &'static str) -> Self {
        let mut client = krocket.client().await;
        let asked = MetadataRequestTopic::default().with_name(Some(topic(name)));
        client.call(9, &MetadataRequest::default().with_topics(Some(vec![asked]))).await;
        Consumer { client, topic: name, position: 0 }
    }

    /// Values that one fetch brings, as clients work that out of the list of aborted transactions.
    async fn poll(&mut self, wait: Duration) -> Vec<String> {
        let partition = FetchPartition::default().with_fetch_offset(self.position).with_partition_max_bytes(1 << 20);
        let asked = FetchTopic::default().with_topic(topic(self.topic)).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_isolation_level(1)
            .with_max_wait_ms(wait.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_topics(vec![asked]);
        let mut response: FetchResponse = self.client.call(12, &request).await;
        let mut answer = response.responses.remove(0).partitions.remove(0);
        assert_eq!(answer.error_code, 0);
        let mut aborted: Vec<(i64, i64)> =
            answer.aborted_transactions.iter().flatten().map(|one| (one.first_offset, one.producer_id.0)).collect();
        aborted.sort_unstable_by(|a, b| b.cmp(a));
        let mut ignored = std::collections::HashSet::new();
        let mut records = answer.records.take().unwrap_or_default();
        let mut values = Vec::new();
        while let Ok(header) = BatchHeader::read(&records) {
            let batch = records.split_to(header.len);
            self.position = header.last_offset() + 1;
            while aborted.last().is_some_and(|(first, _)| *first <= header.last_offset()) {
                ignored.extend(aborted.pop().map(|(_, producer)| producer));
            }
            if header.is_control() {
                ignored.remove(&header.producer_id);
            } else if !ignored.contains(&header.producer_id) {
                let decoded = Records::open(&batch, &header, 1 << 20).expect("a batch");
                let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
                values.extend(decoded.iter().map(|record| text(record.expect("a record").value)));
            }
        }
        values
    }

    async fn next(&mut self) -> Vec<String> {
        soon("records", async {
            loop {
                let values = self.poll(Duration::from_secs(5)).await;
                if !values.is_empty() {
                    return values;
                }
            }
        })
        .await
    }
}

async fn world() -> Krocket {
    let krocket = Krocket::start().await;
    let created = CreatableTopic::default().with_name(topic("t")).with_num_partitions(1).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![created]).with_timeout_ms(5000);
    let created: CreateTopicsResponse = krocket.client().await.call(7, &request).await;
    assert_eq!(created.topics[0].error_code, 0);
    krocket
}

async fn get(krocket: &Krocket, path: &str) -> serde_json::Value {
    let url = format!("http://{}{path}", krocket.http);
    let body =
        tokio::task::spawn_blocking(move || ureq::get(&url).call().expect("answers").into_body().read_to_string());
    serde_json::from_str(&body.await.expect("no panic").expect("text")).expect("JSON")
}

#[tokio::test]
async fn a_delayed_record_waits_for_its_time_and_for_its_commit() {
    let krocket = world().await;
    let mut producer = Producer::start(&krocket).await;
    let mut consumer = Consumer::of(&krocket, "t").await;
    // Due while the transaction is still open: it comes with the commit.
    producer.send("t", "now", &[]).await;
    producer.send("t", "later", &[("TIMER_DELAY_MS", "1")]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(consumer.poll(Duration::ZERO).await, [""; 0]);
    producer.end(true).await;
    let mut seen = consumer.next().await;
    while seen.len() < 2 {
        seen.extend(consumer.next().await);
    }
    assert_eq!(seen, ["now", "later"]);
    // Due after the commit.
    producer.send("t", "much later", &[("TIMER_DELAY_MS", "300")]).await;
    producer.end(true).await;
    assert_eq!(consumer.next().await, ["much later"]);
    krocket.stop().await;
}

#[tokio::test]
async fn a_delayed_record_vanishes_with_its_transaction() {
    let krocket = world().await;
    let mut producer = Producer::start(&krocket).await;
    let mut consumer = Consumer::of(&krocket, "t").await;
    producer.send("t", "never", &[("TIMER_DELAY_MS", "200")]).await;
    producer.send("t", "never", &[("TIMER_DELAY_SEC", "3600"), ("UNIQ_KEY", "u")]).await;
    let pending = get(&krocket, "/v1/scheduled?topic=t").await;
    assert_eq!(pending["items"].as_array().map(Vec::len), Some(2), "{pending}");
    producer.end(false).await;
    let pending = get(&krocket, "/v1/scheduled?topic=t").await;
    assert_eq!(pending["items"].as_array().map(Vec::len), Some(0), "{pending}");
    tokio::time::sleep(Duration::from_millis(400)).await;
    producer.send("t", "marker", &[]).await;
    producer.end(true).await;
    assert_eq!(consumer.next().await, ["marker"]);
    krocket.stop().await;
}

#[tokio::test]
async fn commands_count_at_once_and_are_not_taken_in_a_transaction() {
    let krocket = world().await;
    let mut producer = Producer::start(&krocket).await;
    for headers in [
        &[("TIMER_DEL_UNIQKEY", "u")][..],
        &[("TRAN_END", "COMMIT"), ("UNIQ_KEY", "u")],
        &[("TRAN_MSG", "true"), ("PGROUP", "g")],
    ] {
        let (code, message) = producer.try_send("t", "x", headers).await;
        assert!(code == INVALID_RECORD && message.contains("in a Kafka transaction"), "{headers:?}: {code} {message}");
    }
    krocket.stop().await;
}

#[tokio::test]
async fn a_view_shows_what_is_committed_and_wakes_when_it_is() {
    let krocket = world().await;
    let mut producer = Producer::start(&krocket).await;
    let mut view = Consumer::of(&krocket, "t--paid").await;
    producer.send("t", "aborted", &[("TAGS", "paid")]).await;
    producer.send("t", "other", &[("TAGS", "open")]).await;
    producer.end(false).await;
    producer.send("t", "committed", &[("TAGS", "paid")]).await;
    assert_eq!(view.poll(Duration::from_millis(50)).await, [""; 0]);
    let waiting = tokio::spawn(async move {
        let started = std::time::Instant::now();
        (view.poll(Duration::from_secs(15)).await, started.elapsed(), view)
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    producer.end(true).await;
    let (seen, waited, _) = soon("the poll", waiting).await.expect("no panic");
    assert_eq!(seen, ["committed"]);
    assert!(waited < Duration::from_secs(5), "woken by the commit, not by its deadline: {waited:?}");
    krocket.stop().await;
}
