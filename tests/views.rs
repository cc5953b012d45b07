//! Views against the whole of krocket: three ways to make one, and what clients read from them.

#[path = "views/bad.rs"]
mod bad;
#[path = "views/world.rs"]
mod world;

use std::time::Duration;

use krocket_config::rules::View;
use krocket_protocol::ErrorCode;
use krocket_protocol::records::Codec;
use krocket_testkit::{Krocket, soon};

use world::*;

const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
const MAX_TIMESTAMP: i64 = -3;

#[tokio::test]
async fn a_subscription_by_name_makes_a_view_of_tags() {
    let krocket = Krocket::start().await;
    let mut world = World::new(&krocket).await;
    world.create("orders", 2, &[]).await;
    world.produce("orders", 0, Codec::None, &[("paid", "a"), ("new", "b"), ("refunded", "c"), ("lost", "d")]).await;

    // librdkafka's consumers forbid the creation of topics, and subscribe to views all the same. Not with an empty tag,
    // nor where there is no source.
    assert_eq!(world.metadata("orders--paid", false).await.error_code, 0);
    assert_eq!(world.metadata("nothing--paid", false).await.error_code, ErrorCode::UnknownTopicOrPartition.code());
    let view = world.metadata("orders--paid--refunded", true).await;
    assert_eq!((view.error_code, view.partitions.len()), (0, 2));
    assert_eq!(world.config("orders--paid--refunded", "krocket.view.filter").await, "paid || refunded");
    assert_eq!(world.read("orders--paid--refunded", 0, 0).await, [(0, "a"), (2, "c")].map(own));

    let listed = world.topics().await;
    assert!(listed.contains(&"orders".to_owned()) && !listed.iter().any(|name| name.contains("--")), "{listed:?}");
    // A real topic of that name comes first, and one without a source is an ordinary topic.
    world.create("orders--real", 1, &[]).await;
    world.metadata("nothing--tag", true).await;
    world.metadata("orders--", true).await;
    for ordinary in ["orders--real", "nothing--tag", "orders--"] {
        assert_eq!(world.metadata(ordinary, true).await.error_code, 0);
        assert_eq!(world.config(ordinary, "krocket.view.source").await, "", "{ordinary}");
    }
    krocket.stop().await;
}

#[tokio::test]
async fn a_topic_with_configs_is_a_view_and_can_change_its_filter() {
    let krocket = Krocket::start().await;
    let mut world = World::new(&krocket).await;
    world.create("orders", 1, &[]).await;
    world.produce("orders", 0, Codec::None, &[("paid", "1"), ("new", "2"), ("paid", "3")]).await;
    world.create_view("view", "orders", "TAGS = 'paid'").await;
    assert_eq!(world.read("view", 0, 0).await, [(0, "1"), (2, "3")].map(own));
    assert!(world.topics().await.contains(&"view".to_owned()));

    world.alter("view", &[("krocket.view.filter", "TAGS <> 'paid'")]).await.expect("altered");
    assert_eq!(world.offset("view", LATEST).await, Ok((2, -1)));
    assert_eq!(world.read("view", 0, 0).await, [(1, "2")].map(own));

    // An empty topic becomes a view, and a view a topic.
    world.create("late", 1, &[]).await;
    world.alter("late", &[("krocket.view.source", "orders"), ("krocket.view.filter", "*")]).await.expect("altered");
    assert_eq!(world.read("late", 0, 0).await.len(), 3);
    let (code, _) = world.try_produce("late", 0, "x").await;
    assert_eq!(code, ErrorCode::InvalidTopicException.code());
    world.alter("late", &[("krocket.view.source", ""), ("krocket.view.filter", "")]).await.expect("altered");
    assert_eq!(world.try_produce("late", 0, "x").await.0, 0);
    krocket.stop().await;
}

#[tokio::test]
async fn a_share_groups_filter_is_refused_where_it_is_given() {
    let krocket = Krocket::start().await;
    let mut world = World::new(&krocket).await;
    let invalid = ErrorCode::InvalidConfig.code();
    for (filter, why) in [("TAGS = ", "krocket.filter: "), ("TAGS = 'paid' AND", "krocket.filter: ")] {
        for answer in [
            world.alter_resource(32, "g", &[("krocket.filter", filter)]).await,
            world.replace_resource(32, "g", &[("krocket.filter", filter)]).await,
        ] {
            let (code, message) = answer.expect_err(filter);
            assert!(code == invalid && message.contains(why) && message.contains("column"), "{message}");
        }
    }
    let backoff = world.alter_resource(32, "g", &[("krocket.retry.backoff", "soon")]).await.expect_err("no wait");
    assert!(backoff.0 == invalid && backoff.1.contains("'soon' is no wait"), "{}", backoff.1);
    for filter in ["paid || refunded", "TAGS = 'paid' AND amount > 1000", "*", ""] {
        let configs = [("krocket.filter", filter), ("krocket.retry.backoff", "1s 5s")];
        world.alter_resource(32, "g", &configs).await.expect(filter);
        world.replace_resource(32, "g", &configs).await.expect(filter);
    }
    krocket.stop().await;
}

#[tokio::test]
async fn configured_views_come_with_their_source_and_follow_the_configuration() {
    let view = |filter: &str| View { name: "paid".into(), source: "orders".into(), filter: filter.into() };
    let krocket = Krocket::start_with(|config| config.views = vec![view("paid")]).await;
    let mut world = World::new(&krocket).await;
    world.create("orders", 3, &[]).await;
    world.appears("paid", 3).await;
    world.produce("orders", 0, Codec::None, &[("paid", "1"), ("new", "2")]).await;
    assert_eq!(world.read("paid", 0, 0).await, [(0, "1")].map(own));
    // The source grows, the view grows.
    world.create_partitions("orders", 5).await.expect("grown");
    assert_eq!(world.metadata("paid", false).await.partitions.len(), 5);
    assert!(world.create_partitions("paid", 6).await.is_err());
    krocket.stop().await;
}

#[tokio::test]
async fn sql_and_tags_of_every_codec_show_the_sources_own_records() {
    let krocket = Krocket::start().await;
    let mut world = World::new(&krocket).await;
    for codec in Codec::ALL {
        for stamp in ["CreateTime", "LogAppendTime"] {
            let source = format!("s-{}-{stamp}", codec.name());
            world.create(&source, 1, &[("message.timestamp.type", stamp)]).await;
            for round in 0..3 {
                let records: Vec<(String, String)> = (0..100)
                    .map(|n| (if n % 7 == 0 { "paid" } else { "new" }.to_owned(), format!("{round}-{n}")))
                    .collect();
                let records: Vec<_> = records.iter().map(|(tag, value)| (tag.as_str(), value.as_str())).collect();
                world.produce(&source, 0, codec, &records).await;
            }
            let all = world.records(&source, 0, 0).await;
            for (name, filter) in [("tags", "paid"), ("sql", "TAGS = 'paid' AND n >= 14"), ("all", "*")] {
                let view = format!("{source}-{name}");
                world.create_view(&view, &source, filter).await;
                let expected: Vec<_> = all
                    .iter()
                    .filter(|record| {
                        let paid = record.tag() == "paid";
                        let n: usize = record.value.rsplit('-').next().expect("a number").parse().expect("a number");
                        name == "all" || paid && (name == "tags" || n >= 14)
                    })
                    .cloned()
                    .collect();
                assert!(!expected.is_empty());
                world.offset(&view, LATEST).await.expect("indexed");
                assert_eq!(world.records(&view, 0, 0).await, expected, "{view}");
                // From the middle of a batch, nothing before the offset unless the batch is the source's own.
                let from = expected[expected.len() / 2].offset;
                let rest: Vec<_> = expected.iter().filter(|record| record.offset >= from).cloned().collect();
                let read: Vec<_> =
                    world.records(&view, 0, from).await.into_iter().filter(|record| record.offset >= from).collect();
                assert_eq!(read, rest, "{view} from {from}");
                let codecs = world.codecs(&view, 0, 0).await;
                assert!(codecs.iter().all(|found| *found == codec), "{view}: {codecs:?}");
            }
        }
    }
    krocket.stop().await;
}

#[tokio::test]
async fn a_long_poll_wakes_for_a_match_only_and_lag_reads_zero() {
    let krocket = Krocket::start().await;
    let mut world = World::new(&krocket).await;
    world.create("orders", 1, &[]).await;
    world.create_view("view", "orders", "paid").await;
    let mut waiting = World::new(&krocket).await;
    let poll = tokio::spawn(async move {
        let fetched = waiting.fetch("view", 0, 0, 60_000).await;
        (fetched, waiting)
    });
    for n in 0..20 {
        world.produce("orders", 0, Codec::None, &[("new", &n.to_string())]).await;
    }
    // Everything is evaluated, and the poll still waits.
    assert_eq!(world.offset("view", LATEST).await, Ok((0, -1)));
    assert!(!poll.is_finished());
    world.produce("orders", 0, Codec::None, &[("new", "x"), ("paid", "y"), ("new", "z")]).await;
    let (fetched, mut waiting) = soon("the match", poll).await.expect("no panic");
    assert_eq!(fetched.high_watermark, 22);
    assert_eq!(values(&fetched.records()), [(21, "y")].map(own));
    assert_eq!(world.offset("view", LATEST).await, Ok((22, -1)), "lag is 0 at the position after the last match");
    assert_eq!(world.offset("view", EARLIEST).await, Ok((0, -1)));
    // Without a match the poll ends in time, with nothing.
    assert!(waiting.fetch("view", 0, 22, 50).await.records().is_empty());
    // Any position in the source is one in the view; past its end is not.
    assert_eq!(waiting.fetch("view", 0, 23, 0).await.error_code, 0);
    assert_eq!(waiting.fetch("view", 0, 24, 0).await.error_code, ErrorCode::OffsetOutOfRange.code());
    krocket.stop().await;
}

#[tokio::test]
async fn a_request_for_views_and_topics_is_answered_in_its_order_and_wakes_for_either() {
    let krocket = Krocket::start().await;
    let mut world = World::new(&krocket).await;
    for topic in ["orders", "other"] {
        world.create(topic, 1, &[]).await;
    }
    world.create_view("view", "orders", "paid").await;
    let asked = ["other", "view", "orders"];
    for (topic, tag) in [("other", "new"), ("orders", "paid")] {
        let mut waiting = World::new(&krocket).await;
        let from = world.ends(&asked).await;
        let poll = tokio::spawn(async move { waiting.fetch_many(&asked, &from, 60_000).await });
        world.produce(topic, 0, Codec::None, &[(tag, "x")]).await;
        let answer = soon("the record", poll).await.expect("no panic");
        assert_eq!((answer.error_code, answer.session_id), (0, 0));
        assert_eq!(answer.topics, asked);
        assert!(answer.bytes > 0);
    }
    // A session of other topics cannot take a view in: the client is told to begin anew.
    let session = world.session(&["other"]).await;
    assert!(session > 0);
    assert_eq!(world.add_to_session(session, "view").await, ErrorCode::FetchSessionIdNotFound.code());
    krocket.stop().await;
}

#[tokio::test]
async fn offsets_by_time_are_those_of_matches() {
    let krocket = Krocket::start().await;
    let mut world = World::new(&krocket).await;
    world.create("orders", 1, &[]).await;
    for codec in [Codec::None, Codec::Zstd] {
        world
            .produce_at("orders", codec, &[("new", 1000), ("paid", 2000), ("new", 3000), ("paid", 1500), ("new", 9000)])
            .await;
    }
    world.create_view("view", "orders", "paid").await;
    assert_eq!(world.offset("view", 0).await, Ok((1, 2000)));
    assert_eq!(world.offset("view", 2000).await, Ok((1, 2000)));
    assert_eq!(world.offset("view", 2001).await, Ok((-1, -1)));
    assert_eq!(world.offset("view", MAX_TIMESTAMP).await, Ok((1, 2000)));
    assert_eq!(world.offset("view", LATEST).await, Ok((9, -1)));
    world.create_view("none", "orders", "nothing").await;
    assert_eq!(world.offset("none", MAX_TIMESTAMP).await, Ok((-1, -1)));
    assert_eq!(world.offset("none", LATEST).await, Ok((0, -1)));
    assert_eq!(world.epoch_end("view").await, (0, 10));
    krocket.stop().await;
}

#[tokio::test]
async fn what_leaves_the_source_leaves_the_view_and_a_restart_keeps_the_index() {
    let krocket = Krocket::start().await;
    let mut world = World::new(&krocket).await;
    world.create("orders", 1, &[]).await;
    world.create_view("view", "orders", "paid").await;
    for n in 0..10 {
        world.produce("orders", 0, Codec::None, &[("paid", &format!("{n}")), ("new", "-")]).await;
    }
    world.offset("view", LATEST).await.expect("indexed");
    assert_eq!(world.delete_records("view", 5).await, ErrorCode::PolicyViolation.code());
    assert_eq!(world.delete_records("orders", 11).await, 0);
    assert_eq!(world.offset("view", EARLIEST).await, Ok((11, -1)));
    assert_eq!(world.fetch("view", 0, 10, 0).await.error_code, ErrorCode::OffsetOutOfRange.code());
    let left = [(12, "6"), (14, "7"), (16, "8"), (18, "9")].map(own);
    assert_eq!(world.read("view", 0, 11).await, left);

    let krocket = krocket.restart().await;
    let mut world = World::new(&krocket).await;
    assert_eq!(world.read("view", 0, 11).await, left);
    assert_eq!(world.offset("view", LATEST).await, Ok((19, -1)));
    world.produce("orders", 0, Codec::None, &[("paid", "after")]).await;
    world.offset("view", LATEST).await.expect("indexed");
    assert_eq!(world.read("view", 0, 19).await, [(20, "after")].map(own));

    // Without its source a view has nothing; a new one of that name is another source.
    world.delete_topic("orders").await;
    assert_eq!(world.fetch("view", 0, 20, 0).await.error_code, ErrorCode::UnknownTopicOrPartition.code());
    world.create("orders", 1, &[]).await;
    world.produce("orders", 0, Codec::None, &[("paid", "new life")]).await;
    world.offset("view", LATEST).await.expect("indexed");
    assert_eq!(world.read("view", 0, 0).await, [(0, "new life")].map(own));
    krocket.stop().await;
}

#[tokio::test]
async fn two_readers_of_two_views_each_see_their_part() {
    let krocket = Krocket::start().await;
    let mut world = World::new(&krocket).await;
    world.create("orders", 1, &[]).await;
    world.create_view("odd", "orders", "n IN (1, 3, 5, 7, 9)").await;
    world.create_view("even", "orders", "NOT (n IN (1, 3, 5, 7, 9))").await;
    let reader = |view: &'static str, count: usize| {
        let krocket = &krocket;
        async move {
            let mut world = World::new(krocket).await;
            let (mut at, mut read) = (0, Vec::new());
            while read.len() < count {
                let records = world.fetch(view, 0, at, 1_000).await.records();
                at = records.last().map_or(at, |record| record.offset + 1);
                read.extend(records);
            }
            read.into_iter().map(|record| record.value).collect::<Vec<_>>()
        }
    };
    let writer = async {
        for round in 0..10 {
            let values: Vec<String> = (0..10).map(|n| format!("{round}-{n}")).collect();
            let records: Vec<_> = values.iter().map(|value| ("t", value.as_str())).collect();
            world.produce("orders", 0, Codec::Lz4, &records).await;
        }
    };
    let all = async { tokio::join!(reader("odd", 50), reader("even", 50), writer) };
    let (odd, even, ()) = tokio::time::timeout(Duration::from_secs(20), all).await.expect("both read all");
    assert!(odd.iter().all(|value| value.ends_with(['1', '3', '5', '7', '9'])), "{odd:?}");
    assert!(even.iter().all(|value| value.ends_with(['0', '2', '4', '6', '8'])), "{even:?}");
    krocket.stop().await;
}
