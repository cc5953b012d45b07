use futures_util::poll;
use kafka_protocol::messages::create_topics_request::CreatableTopicConfig;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, MetadataRequest, ProduceRequest, ProduceResponse};
use krocket_protocol::records::{BatchBuilder, Header, LastOffset};
use std::pin::pin;

use super::*;

impl World {
    fn id(&self, topic: &str) -> uuid::Uuid {
        self.broker.topics.get(topic).unwrap_or_else(|| panic!("no {topic}")).id
    }

    fn fetch(&self, topic: &str, session: (i32, i32), wait_ms: i32) -> FetchRequest {
        let asked = FetchPartition::default().with_partition_max_bytes(1 << 20);
        let asked = FetchTopic::default().with_topic_id(self.id(topic)).with_partitions(vec![asked]);
        let topics = if session.1 > 0 { vec![] } else { vec![asked] };
        FetchRequest::default()
            .with_max_bytes(1 << 20)
            .with_min_bytes(1)
            .with_max_wait_ms(wait_ms)
            .with_session_id(session.0)
            .with_session_epoch(session.1)
            .with_topics(topics)
    }

    async fn produce(&self, who: &str, topic: &str, value: &[u8], headers: &[(&str, &str)]) -> i16 {
        let headers: Vec<Header<'_>> =
            headers.iter().map(|(key, value)| Header { key: key.as_bytes(), value: Some(value.as_bytes()) }).collect();
        let mut batch = BatchBuilder::new(0, 1_700_000_000_000);
        batch.push(0, 1_700_000_000_000, None, Some(value).filter(|value| !value.is_empty()), &headers);
        let batch = batch.finish(LastOffset::Keep).expect("no codec").expect("one record");
        let data = PartitionProduceData::default().with_records(Some(batch));
        let data = TopicProduceData::default().with_topic_id(self.id(topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(1).with_timeout_ms(5000).with_topic_data(vec![data]);
        let response: ProduceResponse = self.ask(&client(who), &request).await;
        response.responses[0].partition_responses[0].error_code
    }

    /// The first partition's code, and whether it has records.
    async fn read(&self, topic: &str) -> (i16, bool) {
        first(&self.ask(&client(USER), &self.fetch(topic, (0, -1), 0)).await)
    }

    async fn asked_for(&self, who: &str, topic: &'static str) -> i16 {
        let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(true);
        self.ask(&client(who), &request).await.topics[0].error_code
    }
}

fn first(response: &FetchResponse) -> (i16, bool) {
    match response.responses.first().and_then(|topic| topic.partitions.first()) {
        Some(partition) => (partition.error_code, partition.records.as_ref().is_some_and(|it| !it.is_empty())),
        None => (response.error_code, false),
    }
}

const NO_SUCH_SESSION: i16 = 70;
const TOPIC_DENIED: i16 = 29;

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_permission_ends_a_fetch_session_and_others_cannot_use_it() {
    let world = World::start().await;
    world.create("orders").await;
    world.grant(&["Read topic orders"]);
    let alice = client(USER);
    let full = world.ask(&alice, &world.fetch("orders", (0, 0), 0)).await;
    assert!(full.error_code == 0 && full.session_id != 0, "{full:?}");
    let next = world.ask(&alice, &world.fetch("orders", (full.session_id, 1), 0)).await;
    assert_eq!(next.error_code, 0);
    let mallory = world.ask(&client("mallory"), &world.fetch("orders", (full.session_id, 2), 0)).await;
    assert_eq!(mallory.error_code, NO_SUCH_SESSION);

    world.grant(&[]);

    let next = world.ask(&alice, &world.fetch("orders", (full.session_id, 2), 0)).await;
    assert_eq!(next.error_code, NO_SUCH_SESSION);
    let full = world.ask(&alice, &world.fetch("orders", (0, 0), 0)).await;
    assert_eq!((first(&full), full.session_id), ((TOPIC_DENIED, false), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_waits_outlives_no_permission() {
    let world = World::start().await;
    world.create("orders").await;
    world.grant(&["Read topic orders"]);
    let (alice, request) = (client(USER), world.fetch("orders", (0, -1), 30_000));
    let mut waiting = pin!(world.ask(&alice, &request));
    assert!(poll!(&mut waiting).is_pending());

    world.grant(&[]);
    assert_eq!(world.produce(SUPER, "orders", b"secret", &[]).await, 0);

    assert_eq!(first(&waiting.await), (TOPIC_DENIED, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_needs_its_source() {
    let world = World::start().await;
    world.create("orders").await;
    let config = |key, value| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)));
    let configs = vec![config("krocket.view.source", "orders"), config("krocket.view.filter", "*")];
    let view = CreatableTopic::default().with_name(name("paid")).with_num_partitions(1).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![view.with_configs(configs)]).with_timeout_ms(5000);
    let made = world.ask(&client(SUPER), &request).await;
    assert_eq!(made.topics[0].error_code, 0, "{made:?}");

    for (grants, code) in [
        (&["Read topic paid"][..], TOPIC_DENIED),
        (&["Read topic orders"], TOPIC_DENIED),
        (&["Read topic paid", "Describe topic orders"], TOPIC_DENIED),
        (&["Read topic paid", "Read topic orders"], 0),
        (&["Read topic paid", "Read topic orders", "!Read topic ord.."], TOPIC_DENIED),
    ] {
        world.grant(grants);
        assert_eq!(world.read("paid").await.0, code, "{grants:?}");
    }
    for (grants, seen) in
        [(&["Describe topic paid"][..], false), (&["Describe topic paid", "Describe topic orders"], true)]
    {
        world.grant(grants);
        let all: kafka_protocol::messages::MetadataResponse =
            world.ask(&client(USER), &MetadataRequest::default().with_topics(None)).await;
        let paid = all.topics.iter().any(|topic| topic.name == Some(name("paid")));
        assert_eq!(paid, seen, "{grants:?}");
    }
    // One that comes with a subscription is a topic that is created.
    world.grant(&["Read topic orders..", "Read topic orders"]);
    assert_eq!(world.asked_for(USER, "orders--new").await, TOPIC_DENIED);
    assert!(world.broker.topics.get("orders--new").is_none());
    world.grant(&["Read topic orders..", "Create topic orders--new"]);
    assert_eq!(world.asked_for(USER, "orders--new").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_a_group_need_the_group_and_a_nack_what_it_names() {
    let world = World::start().await;
    world.create("orders").await;
    assert_eq!(world.produce(SUPER, "orders", b"secret", &[]).await, 0);
    let topic = ["Read topic retry.billing", "Write topic retry.billing"];
    world.grant(&topic);
    assert_eq!(world.asked_for(USER, "retry.billing").await, TOPIC_DENIED);
    let own = [&topic[..], &["Read group billing"]].concat();
    world.grant(&own);
    assert_eq!(world.asked_for(USER, "retry.billing").await, 0);

    let nack = [("ORIGIN_MESSAGE_ID", "orders:0:0")];
    assert_eq!(world.produce(USER, "retry.billing", b"", &nack).await, TOPIC_DENIED, "names a secret");
    world.grant(&topic);
    assert_eq!(world.produce(USER, "retry.billing", b"", &nack).await, TOPIC_DENIED, "not of the group");
    assert_eq!(world.read("retry.billing").await.0, TOPIC_DENIED);
    world.grant(&[&own[..], &["Read topic orders"]].concat());
    assert_eq!(world.produce(USER, "retry.billing", b"", &nack).await, 0);
    assert_eq!(world.read("retry.billing").await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_in_headers_need_write_on_the_topic() {
    let world = World::start().await;
    world.create("orders").await;
    let later = [("TIMER_DELAY_SEC", "3600"), ("UNIQ_KEY", "u1")];
    assert_eq!(world.produce(SUPER, "orders", b"later", &later).await, 0);
    world.grant(&["Read topic orders"]);
    let cancel = [("TIMER_DEL_UNIQKEY", "u1")];
    assert_eq!(world.produce(USER, "orders", b"", &cancel).await, TOPIC_DENIED);
    world.grant(&["Write topic orders"]);
    assert_eq!(world.produce(USER, "orders", b"", &cancel).await, 0);
}
