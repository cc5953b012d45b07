//! Nacks by clients that say little, and the topics that come with a group.

#[allow(dead_code, reason = "the tables of bad input need more of it")]
#[path = "bad_input/world.rs"]
mod world;

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{
    DeleteTopicsRequest, GroupId, JoinGroupRequest, MetadataRequest, OffsetCommitRequest, TopicName,
};
use krocket_config::Config;
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_testkit::soon;
use serde_json::{Value, json};

use world::{Rec, World, empty, record};

const UNKNOWN: i16 = ErrorCode::UnknownTopicOrPartition.code();

/// Three retries, at once.
fn at_once(config: &mut Config) {
    let retry = json!({"groups": ["*"], "backoff": {"steps": ["1ms"]}, "max_attempts": 3});
    config.retry = vec![serde_json::from_value(retry).expect("a policy")];
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn header<'a>(message: &'a Value, name: &str) -> Option<&'a str> {
    let headers = message["headers"].as_array().expect("headers");
    headers.iter().find(|header| header["name"] == name).and_then(|header| header["value"].as_str())
}

/// Waits until so many messages can be read in a topic; the last.
async fn nth(world: &World, topic: &str, count: usize) -> Value {
    let path = format!("/v1/messages?topic={topic}");
    soon(&path, async {
        loop {
            let (_, page) = world.get(&path).await;
            match page["items"].as_array().map(Vec::as_slice) {
                Some(items) if items.len() >= count => return items[count - 1].clone(),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await
}

async fn nacked(world: &mut World, topic: &str, count: usize, nack: Rec, times: &str) -> Value {
    world.take(topic, nack).await;
    let retried = nth(world, topic, count).await;
    assert_eq!(header(&retried, "RECONSUME_TIMES"), Some(times), "{retried}");
    assert_eq!(header(&retried, "ORIGIN_MESSAGE_ID"), Some("orders:0:0"), "{retried}");
    assert_eq!(header(&retried, "REAL_TOPIC"), Some("orders"), "{retried}");
    retried
}

/// A group that has committed an offset, and nothing else.
async fn commit(world: &mut World, group: &str) {
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(0);
    let topic =
        OffsetCommitRequestTopic::default().with_name(TopicName(text("orders"))).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    assert_eq!(world.client.call(8, &request).await.topics[0].partitions[0].error_code, 0);
}

async fn join(world: &mut World, group: &str) {
    let protocol =
        JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"\0\0"));
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    assert_eq!(world.client.call(3, &request).await.error_code, 0);
}

async fn topics(world: &mut World) -> Vec<String> {
    let all = world.client.call(12, &MetadataRequest::default().with_topics(None)).await;
    let mut names: Vec<String> = all.topics.into_iter().filter_map(|topic| Some(topic.name?.to_string())).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn nacks_by_the_first_copys_id_alone_are_counted_until_the_message_is_dead() {
    let mut world = World::start(&["orders"], at_once).await;
    for group in ["billing", "shipping"] {
        commit(&mut world, group).await;
    }
    world.take("orders", record(&[("a", "b")])).await;
    let nack = || empty(&[("ORIGIN_MESSAGE_ID", "orders:0:0")]);
    nacked(&mut world, "retry.billing", 1, nack(), "1").await;
    nacked(&mut world, "retry.billing", 2, nack(), "2").await;
    // Another group counts for itself; so does one that sends the message along.
    nacked(&mut world, "retry.shipping", 1, nack(), "1").await;
    nacked(&mut world, "retry.shipping", 2, record(&[("ORIGIN_MESSAGE_ID", "orders:0:0")]), "2").await;
    world.krocket = world.krocket.restart().await;
    world.client = world.krocket.client().await;
    let retried = nacked(&mut world, "retry.billing", 3, nack(), "3").await;
    assert_eq!((header(&retried, "a"), retried["value"].as_str()), (Some("b"), Some("value")));

    world.take("retry.billing", nack().with("ERROR", Some(b"no money"))).await;
    let dead = nth(&world, "dlq.billing", 1).await;
    for (name, value) in [
        ("RECONSUME_TIMES", "3"),
        ("ORIGIN_MESSAGE_ID", "orders:0:0"),
        ("__dlq.errors.topic", "orders"),
        ("__dlq.errors.offset", "0"),
        ("__dlq.errors.delivery.count", "4"),
        ("__dlq.errors.message", "no money"),
    ] {
        assert_eq!(header(&dead, name), Some(value), "{name}");
    }
    // Dead is dead; should it be redriven, it begins anew.
    nacked(&mut world, "retry.billing", 4, nack(), "1").await;
    world.krocket.stop().await;
}

#[tokio::test]
async fn two_nacks_of_one_message_in_one_batch_are_two() {
    let mut world = World::start(&["orders"], at_once).await;
    commit(&mut world, "billing").await;
    world.take("orders", record(&[])).await;
    let nack = || empty(&[("ORIGIN_MESSAGE_ID", "orders:0:0")]);
    world.send("retry.billing", &[nack(), nack()]).await.expect("taken");
    let last = nth(&world, "retry.billing", 2).await;
    let first = nth(&world, "retry.billing", 1).await;
    let mut times = [&first, &last].map(|retried| header(retried, "RECONSUME_TIMES").expect("a number").to_owned());
    times.sort();
    assert_eq!(times, ["1", "2"]);
    nacked(&mut world, "retry.billing", 3, nack(), "3").await;
    world.krocket.stop().await;
}

#[tokio::test]
async fn whatever_copy_a_nack_names_the_first_ones_id_and_topic_stay() {
    let mut world = World::start(&["orders"], at_once).await;
    commit(&mut world, "billing").await;
    world.take("orders", record(&[("TAGS", "paid")])).await;
    // As a view shows it; as the retried copy that it is, in full or by its id, with the headers as they were consumed.
    assert_eq!(world.ask_for("orders--paid").await, 0);
    let said = [("ORIGIN_MESSAGE_ID", "orders--paid:0:0"), ("REAL_TOPIC", "orders--paid")];
    let retried = nacked(&mut world, "retry.billing", 1, empty(&said), "1").await;
    let id = |retried: &Value| retried["id"].as_str().expect("an id").to_owned();
    let consumed = [("RECONSUME_TIMES", "1"), ("REAL_TOPIC", "orders"), ("ORIGIN_MESSAGE_ID", &id(&retried))];
    let retried = nacked(&mut world, "retry.billing", 2, record(&consumed), "2").await;
    nacked(&mut world, "retry.billing", 3, empty(&[("ORIGIN_MESSAGE_ID", &id(&retried))]), "3").await;
    world.krocket.stop().await;
}

#[tokio::test]
async fn a_message_without_key_and_value_is_retried_like_any_other() {
    let mut world = World::start(&["orders"], at_once).await;
    commit(&mut world, "billing").await;
    for value in [None, Some(Vec::new())] {
        world.take("orders", Rec { value, ..empty(&[("a", "b")]) }).await;
    }
    for offset in ["0", "1"] {
        let id = format!("orders:0:{offset}");
        world.take("retry.billing", empty(&[("ORIGIN_MESSAGE_ID", &id)])).await;
    }
    for (count, value) in [(1, None), (2, Some(""))] {
        let retried = nth(&world, "retry.billing", count).await;
        assert_eq!((retried["key"].as_str(), retried["value"].as_str()), (None, value), "{retried}");
        assert_eq!((header(&retried, "a"), header(&retried, "RECONSUME_TIMES")), (Some("b"), Some("1")));
    }
    // Sent back as it is, it looks like a nack by id, and is as good.
    let same =
        empty(&[("a", "b"), ("ORIGIN_MESSAGE_ID", "orders:0:0"), ("REAL_TOPIC", "orders"), ("RECONSUME_TIMES", "1")]);
    let retried = nacked(&mut world, "retry.billing", 3, same, "2").await;
    assert_eq!(header(&retried, "a"), Some("b"));
    world.krocket.stop().await;
}

#[tokio::test]
async fn messages_that_are_named_may_be_larger_together_than_a_batch_of_a_clients() {
    let mut world = World::start(&["orders"], at_once).await;
    commit(&mut world, "billing").await;
    let large = Rec { value: Some(vec![b'x'; 1_048_000]), ..record(&[]) };
    let mut nacks = Vec::new();
    for _ in 0..3 {
        let offset = world.take("orders", large.clone()).await;
        nacks.push(empty(&[("ORIGIN_MESSAGE_ID", &format!("orders:0:{offset}")), ("ERROR", &"e".repeat(2000))]));
    }
    world.send("retry.billing", &nacks).await.expect("taken");
    let last = nth(&world, "retry.billing", 3).await;
    assert_eq!(last["value"].as_str().map(str::len), Some(1_048_000));
    // The client's own bytes are limited as everywhere.
    let refused = world.send("retry.billing", &[large.clone(), nacks.remove(0)]).await.expect_err("too large");
    assert_eq!(refused.code, ErrorCode::MessageTooLarge.code(), "{refused:?}");
    world.krocket.stop().await;
}

#[tokio::test]
async fn retry_topics_come_with_their_group() {
    let mut world = World::start(&["orders"], at_once).await;
    // Nobody knows these groups.
    let refused = world.send("retry.billing", &[record(&[])]).await.expect_err("no group");
    assert!(refused.code == UNKNOWN && refused.message.contains("there is no group \"billing\""), "{refused:?}");
    assert_eq!(world.ask_for("dlq.billing").await, UNKNOWN);
    assert_eq!(topics(&mut world).await, ["orders"]);

    // A group that only commits has them with the first nack, one that joins before.
    commit(&mut world, "billing").await;
    world.take("retry.billing", record(&[])).await;
    commit(&mut world, "mailing").await;
    assert_eq!(world.ask_for("dlq.mailing").await, 0);
    join(&mut world, "a b").await;
    world.take("retry.a_x20b", record(&[])).await;
    join(&mut world, "shipping").await;
    world.appears_topic("dlq.shipping").await;
    // Kafka would take these for one topic in the names of metrics.
    for group in ["a.b", "a_b"] {
        commit(&mut world, group).await;
        world.take(&format!("retry.{group}"), record(&[])).await;
    }
    let mut all = vec!["orders".to_owned()];
    for group in ["a_x20b", "a.b", "a_b", "billing", "mailing", "shipping"] {
        all.extend(["retry", "dlq"].map(|prefix| format!("{prefix}.{group}")));
    }
    all.sort_unstable();
    assert_eq!(topics(&mut world).await, all);

    // Whoever deletes one of them has it back when it is needed.
    let request =
        DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text("dlq.billing"))]).with_timeout_ms(10_000);
    assert_eq!(world.client.call(5, &request).await.responses[0].error_code, 0);
    world.take("retry.billing", record(&[("MAX_RECONSUME_TIMES", "0")])).await;
    nth(&world, "dlq.billing", 1).await;
    world.krocket.stop().await;
}

#[tokio::test]
async fn a_consumer_that_has_not_joined_finds_its_retry_topic_but_not_everybodys() {
    let mut world = World::start(&["orders"], at_once).await;
    // As librdkafka asks, which allows no creation.
    let named = |name: &str| MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
    let asked = ["orders", "retry.billing", "dlq.nobody"].map(named).to_vec();
    let request = MetadataRequest::default().with_topics(Some(asked)).with_allow_auto_topic_creation(false);
    let answer = world.client.call(9, &request).await;
    let mut codes: Vec<(String, i16, usize)> = Vec::new();
    for topic in answer.topics {
        codes.push((topic.name.expect("a name").to_string(), topic.error_code, topic.partitions.len()));
    }
    codes.sort_unstable();
    let expected = [("dlq.nobody", UNKNOWN, 0), ("orders", 0, 2), ("retry.billing", 0, 1)];
    assert_eq!(codes, expected.map(|(name, code, partitions)| (name.to_owned(), code, partitions)));
    // In version 0 an empty list asks for all topics: what was taken out of it must not leave that.
    let request = MetadataRequest::default().with_topics(Some(vec![named("dlq.nobody")]));
    let answer = world.client.call(0, &request).await;
    assert_eq!((answer.topics.len(), answer.topics[0].error_code), (1, UNKNOWN));

    // 1000 groups may be waited for.
    let names: Vec<_> = (0..1200).map(|number| named(&format!("retry.g{number}"))).collect();
    let answer = world.client.call(9, &MetadataRequest::default().with_topics(Some(names))).await;
    assert_eq!(answer.topics.iter().filter(|topic| topic.error_code == 0).count(), 999);
    assert_eq!(world.ask_for("retry.one-more").await, UNKNOWN);
    // Of those that have come, nobody waits any longer; and who is there is not waited for.
    join(&mut world, "billing").await;
    assert_eq!(world.ask_for("retry.one-more").await, 0);
    assert_eq!(world.ask_for("retry.two-more").await, UNKNOWN);
    commit(&mut world, "two-more").await;
    assert_eq!(world.ask_for("retry.two-more").await, 0);
    world.krocket.stop().await;
}
