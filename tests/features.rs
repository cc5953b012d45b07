//! Every feature once, from the command line to a consumer, on a whole krocket.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{FetchRequest, FetchResponse, MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use krocket_protocol::records::{BatchHeader, Records};
use krocket_testkit::Krocket;
use krocket_testkit::promises::wire;
use krocket_testkit::session::Session;
use serde_json::Value;

const KROCKET: &str = env!("CARGO_BIN_EXE_krocket");
/// Longest wait for something to become visible.
const PATIENCE: Duration = Duration::from_secs(20);

/// A record as a consumer sees it: offset, value, headers.
type Seen = (i64, String, Vec<(String, String)>);

struct World {
    krocket: Krocket,
    http: SocketAddr,
}

impl World {
    async fn start() -> Self {
        let krocket = Krocket::start().await;
        World { http: krocket.http, krocket }
    }

    async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(KROCKET);
        command.args(arguments).env("KROCKET_HTTP", self.http.to_string());
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// What a command prints; it has to succeed.
    async fn ok(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments).await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        stdout
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&text).expect("JSON")
    }

    /// The sentence that a command fails with.
    async fn refused(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments).await;
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{arguments:?}");
        stderr
    }

    /// What partition 0 shows, from its beginning. An unknown topic shows nothing.
    async fn visible(&self, topic: &str) -> Vec<Seen> {
        let mut client = self.krocket.client().await;
        let mut seen: Vec<Seen> = Vec::new();
        // As every consumer does first; a view comes with it.
        let asked = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(topic.to_owned()))));
        client.call(9, &MetadataRequest::default().with_topics(Some(vec![asked]))).await;
        loop {
            let from = seen.last().map_or(0, |(offset, ..)| offset + 1);
            let partition = FetchPartition::default().with_fetch_offset(from).with_partition_max_bytes(1 << 20);
            let asked = FetchTopic::default()
                .with_topic(TopicName(StrBytes::from_string(topic.to_owned())))
                .with_partitions(vec![partition]);
            let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![asked]);
            let response: FetchResponse = client.call(12, &request).await;
            let mut records = response.responses[0].partitions[0].records.clone().unwrap_or_default();
            let before = seen.len();
            while let Ok(header) = BatchHeader::read(&records) {
                let batch = records.split_to(header.len);
                let decoded = Records::open(&batch, &header, 1 << 20).expect("a batch");
                for record in decoded.iter() {
                    let record = record.expect("a record");
                    if record.offset >= from {
                        let headers = record.headers().map(|header| header.expect("a header"));
                        let headers = headers.map(|header| (text(Some(header.key)), text(header.value))).collect();
                        seen.push((record.offset, text(record.value), headers));
                    }
                }
            }
            if seen.len() == before {
                return seen;
            }
        }
    }

    /// Waits until partition 0 shows so many records.
    async fn wait_for(&self, topic: &str, count: usize) -> Vec<Seen> {
        let begun = Instant::now();
        loop {
            let seen = self.visible(topic).await;
            if seen.len() >= count {
                return seen;
            }
            assert!(begun.elapsed() < PATIENCE, "{topic} shows {seen:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

fn header<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    seen.2.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn values(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|(_, value, _)| value.as_str()).collect()
}

fn items(answer: &Value) -> &[Value] {
    answer["items"].as_array().expect("a list")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_message_waits_and_is_listed_cancelled_rescheduled_and_fired() {
    let world = World::start().await;
    for (value, delay) in [("soon", "300ms"), ("cancelled", "1h"), ("fired", "1h"), ("moved", "1h")] {
        world.ok(&["message", "send", "orders", value, "--delay", delay]).await;
    }
    assert_eq!(items(&world.json(&["schedule", "list", "--topic", "orders", "--from", "10m"]).await).len(), 3);
    assert_eq!(values(&world.wait_for("orders", 1).await), ["soon"]);

    world.ok(&["schedule", "show", "orders:0:1"]).await;
    world.ok(&["schedule", "cancel", "orders:0:1"]).await;
    world.ok(&["schedule", "fire", "orders:0:2"]).await;
    let seen = world.wait_for("orders", 2).await;
    assert_eq!(values(&seen), ["soon", "fired"]);
    assert_eq!(header(&seen[1], "ORIGIN_MESSAGE_ID"), Some("orders:0:2"));
    world.ok(&["schedule", "reschedule", "orders:0:3", "100ms"]).await;
    assert_eq!(values(&world.wait_for("orders", 3).await), ["soon", "fired", "moved"]);

    assert!(items(&world.json(&["schedule", "list"]).await).is_empty());
    for id in ["orders:0:1", "orders:0:2", "orders:0:99", "nonsense"] {
        assert!(world.refused(&["schedule", "cancel", id]).await.starts_with("krocket: "), "{id}");
    }
    let refused = world.refused(&["message", "send", "orders", "x", "-H", "TIMER_DELAY_MS=soon"]).await;
    assert!(refused.contains("TIMER_DELAY_MS") && refused.contains("InvalidRecord"), "{refused}");
    world.krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_shows_what_its_filter_lets_through() {
    let world = World::start().await;
    for (value, tag, amount) in [("a", "paid", "5"), ("b", "open", "5000"), ("c", "paid", "5000")] {
        let amount = format!("amount={amount}");
        world.ok(&["message", "send", "orders", value, "--tag", tag, "-H", &amount]).await;
    }
    world.ok(&["view", "create", "orders-big", "orders", "TAGS = 'paid' AND amount > 1000"]).await;
    assert_eq!(values(&world.wait_for("orders-big", 1).await), ["c"]);
    assert_eq!(values(&world.wait_for("orders--paid", 2).await), ["a", "c"]);
    let listed = world.json(&["view", "list"]).await;
    assert!(items(&listed).iter().any(|view| view["name"] == "orders-big" && view["source"] == "orders"), "{listed}");
    world.ok(&["view", "show", "orders-big"]).await;
    world.ok(&["view", "check", "paid || open"]).await;
    assert!(world.refused(&["view", "check", "a = "]).await.contains("column"));
    world.refused(&["message", "send", "orders-big", "x"]).await;
    world.ok(&["view", "delete", "orders-big"]).await;
    world.refused(&["view", "show", "orders-big"]).await;
    world.krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_message_is_seen_when_it_is_committed() {
    let world = World::start().await;
    for (value, id) in [("one", "tx-1"), ("two", "tx-2"), ("three", "tx-3")] {
        let id = format!("UNIQ_KEY={id}");
        world.ok(&["message", "send", "orders", value, "-H", "TRAN_MSG=true", "-H", "PGROUP=shop", "-H", &id]).await;
    }
    assert_eq!(items(&world.json(&["txn", "list"]).await).len(), 3);
    assert!(world.visible("orders").await.is_empty());
    world.ok(&["message", "send", "orders", "", "-H", "TRAN_END=COMMIT", "-H", "UNIQ_KEY=tx-1"]).await;
    assert_eq!(values(&world.wait_for("orders", 1).await), ["one"]);
    world.ok(&["txn", "rollback", "orders:0:1"]).await;
    world.ok(&["txn", "commit", "orders:0:2"]).await;
    assert_eq!(values(&world.wait_for("orders", 2).await), ["one", "three"]);
    assert!(items(&world.json(&["txn", "list"]).await).is_empty());
    world.refused(&["txn", "commit", "orders:0:1"]).await;
    world.krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_listed_redriven_and_purged() {
    let world = World::start().await;
    world.ok(&["message", "send", "orders", "x"]).await;
    for value in ["broken", "worse"] {
        let dead = ["-H", "MAX_RECONSUME_TIMES=0", "-H", "ERROR=timeout", "-H", "REAL_TOPIC=orders"];
        world.ok(&[&["message", "send", "retry.billing", value][..], &dead].concat()).await;
    }
    assert_eq!(values(&world.wait_for("dlq.billing", 2).await), ["broken", "worse"]);
    let listed = world.json(&["dlq", "list"]).await;
    assert!(items(&listed).iter().any(|row| row["group"] == "billing"), "{listed}");
    let shown = world.json(&["dlq", "show", "billing"]).await;
    let dead = items(&shown);
    assert_eq!(dead.len(), 2, "{shown}");
    let id = dead[0]["id"].as_str().expect("an id");
    world.ok(&["dlq", "redrive", "billing", id]).await;
    world.ok(&["dlq", "purge", "billing", "--all"]).await;
    assert!(items(&world.json(&["dlq", "show", "billing"]).await).is_empty());
    world.krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_found_by_what_it_was_sent_with() {
    let world = World::start().await;
    let send = ["message", "send", "orders", "hello", "-H", "KEYS=order-7 customer-3", "-H", "UNIQ_KEY=o-7"];
    world.ok(&send).await;
    world.ok(&["message", "get", "orders:0:0"]).await;
    for how in [["--key", "customer-3"], ["--key", "order-7"], ["--uniq-key", "o-7"]] {
        let find = [&["message", "find"][..], &how, &["--topic", "orders"]].concat();
        let begun = Instant::now();
        loop {
            let found = world.json(&find).await;
            if let [only] = items(&found) {
                assert_eq!(only["id"], "orders:0:0", "{found}");
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{how:?}: {found}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let billing = async || world.json(&["message", "life", "orders:0:0"]).await["groups"].clone();
    let mut session = Session::connect(world.krocket.kafka).await.expect("connects");
    for (committed, state) in [(0, "waiting"), (1, "consumed")] {
        wire::commit(&mut session, "billing", "orders", 0, committed).await.expect("committed");
        assert_eq!(billing().await, serde_json::json!([{ "group": "billing", "state": state }]));
    }
    world.ok(&["lookup", "status"]).await;
    world.ok(&["lookup", "rebuild"]).await;
    world.refused(&["message", "get", "orders:0:1"]).await;
    world.krocket.stop().await;
}
