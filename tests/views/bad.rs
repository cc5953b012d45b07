//! Views that are refused, in every way that one can be made.

use krocket_protocol::ErrorCode;
use krocket_testkit::Krocket;

use crate::world::World;

const SOURCE: &str = "krocket.view.source";
const FILTER: &str = "krocket.view.filter";

fn filters() -> Vec<(String, &'static str)> {
    let cases = [
        ("", "empty"),
        ("   ", "empty"),
        ("a = ", "column 5"),
        ("a = = 5", "column 5"),
        ("(a = 5", "column 7"),
        ("a = 5)", "column 6"),
        ("a = 'x", "not closed"),
        ("\"a = 1", "not closed"),
        ("a > 'x'", "strings have no order"),
        ("a > TRUE", "column 5"),
        ("a = NULL", "IS NULL"),
        ("a BETWEEN 7 AND 5", "column 11"),
        ("a IN ()", "column 7"),
        ("a IN (b)", "strings and numbers"),
        ("a IN 'x'", "expected ("),
        ("a LIKE b", "expected a string"),
        ("a CONTAINS 5", "expected a string"),
        ("a IS 5", "expected NULL"),
        ("5 = ", "column 5"),
        ("a = 5 AND 'x'", "not a condition"),
        ("a ; b", "means nothing here"),
        ("a.b = 5", "means nothing here"),
        ("a = 99999999999999999999", "64 bits"),
        ("5a = 1", "column 1"),
        ("a /* b", "not closed"),
        ("\"\" = 1", "empty"),
        ("-'x' = 1", "may follow -"),
        ("paid & refunded", "means nothing here"),
    ];
    let mut all: Vec<(String, &'static str)> = cases.iter().map(|(text, why)| ((*text).to_owned(), *why)).collect();
    all.push((format!("{}a = 1{}", "(".repeat(65), ")".repeat(65)), "nested deeper than 64"));
    all.push((format!("{}a = 1", "NOT ".repeat(10_000)), "nested deeper than 64"));
    all
}

#[tokio::test]
async fn a_bad_view_is_refused_where_it_is_given_and_leaves_nothing() {
    let krocket = Krocket::start().await;
    let mut world = World::new(&krocket).await;
    world.create("orders", 2, &[]).await;
    world.create("other", 2, &[]).await;
    world.create_view("view", "orders", "paid").await;
    let (invalid, mut refused) = (ErrorCode::InvalidConfig.code(), 0);
    for (filter, why) in filters() {
        let made = world.try_create("bad", -1, &[(SOURCE, "orders"), (FILTER, &filter)]).await;
        let altered = world.alter("view", &[(FILTER, &filter)]).await;
        let replaced = world.replace("view", &[(SOURCE, "orders"), (FILTER, &filter)]).await;
        for (code, message) in [made, altered, replaced].map(|answer| answer.expect_err(&filter)) {
            assert_eq!(code, invalid, "{filter}: {message}");
            // An empty config is none at all where configs are altered.
            assert!(message.contains(why) || filter.is_empty(), "{filter}: {message}");
        }
        refused += 1;
    }
    // 1 MB, in each of the three ways (a string of that length fits no config of Kafka's protocol before it is flexible).
    let huge = "a".repeat(1 << 20);
    let made = world.try_create("bad", -1, &[(SOURCE, "orders"), (FILTER, &huge)]).await;
    assert!(made.expect_err("1 MB").1.contains("at most"));
    assert!(world.alter("view", &[(FILTER, &huge)]).await.expect_err("1 MB").1.contains("at most"));
    refused += 2;

    let cases: &[(&str, &[(&str, &str)], &str)] = &[
        ("bad", &[(SOURCE, "orders")], "needs krocket.view.filter"),
        ("bad", &[(FILTER, "paid")], "needs krocket.view.source"),
        ("bad", &[(SOURCE, ""), (FILTER, "paid")], "needs krocket.view.source"),
        ("bad", &[(SOURCE, "nowhere"), (FILTER, "paid")], "there is no topic"),
        ("bad", &[(SOURCE, "view"), (FILTER, "paid")], "is a view itself"),
        ("bad", &[(SOURCE, "bad"), (FILTER, "paid")], "its own source"),
    ];
    for (name, configs, why) in cases {
        let (code, message) = world.try_create(name, -1, configs).await.expect_err(why);
        assert!(code == invalid && message.contains(why), "{configs:?}: {message}");
        refused += 1;
    }
    let (code, _) = world.try_create("bad", 3, &[(SOURCE, "orders"), (FILTER, "paid")]).await.expect_err("partitions");
    assert_eq!(code, ErrorCode::InvalidPartitions.code());

    // A topic that has views cannot become one, nor a view of itself, nor one with other partitions or with records.
    world.create("three", 3, &[]).await;
    world.create("full", 2, &[]).await;
    assert_eq!(world.try_produce("full", 0, "x").await.0, 0);
    for (name, source, why) in [
        ("orders", "other", "is the source of the view"),
        ("orders", "view", "is a view itself"),
        ("view", "view", "its own source"),
        ("three", "orders", "partitions"),
        ("full", "orders", "records of its own"),
        ("other", "nowhere", "there is no topic"),
    ] {
        for (code, message) in [
            world.alter(name, &[(SOURCE, source), (FILTER, "*")]).await.expect_err(why),
            world.replace(name, &[(SOURCE, source), (FILTER, "*")]).await.expect_err(why),
        ] {
            assert!(code == invalid && message.contains(why), "{name} of {source}: {message}");
        }
        refused += 1;
    }
    assert!(world.alter("view", &[(SOURCE, "")]).await.is_err(), "a filter without a source");
    assert!(refused >= 30, "{refused} cases");
    assert!(!world.topics().await.contains(&"bad".to_owned()));
    assert_eq!(world.config("view", FILTER).await, "paid");
    let (code, message) = world.try_produce("view", 0, "x").await;
    assert!(code == ErrorCode::InvalidTopicException.code() && message.contains("a view of 'orders'"), "{message}");
    krocket.stop().await;
}
