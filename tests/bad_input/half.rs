//! Half messages and their ends.

use crate::world::{Rec, World, empty, record};

const UNREADABLE: &[u8] = b"\xff\xfe";

/// A half message of the producer group `shop`.
fn half(uniq: &str) -> Rec {
    record(&[("TRAN_MSG", "true"), ("PGROUP", "shop"), ("UNIQ_KEY", uniq)])
}

fn end(how: &str, named: &[(&str, &str)]) -> Rec {
    empty(&[&[("TRAN_END", how)][..], named].concat())
}

#[tokio::test]
async fn a_half_message_that_is_not_understood_is_refused() {
    let mut world = World::start(&["orders"], |_| {}).await;
    let long = "x".repeat(5000);
    let odd = "ü".repeat(60);
    let no_group = "TRAN_MSG without PGROUP";
    let mut rows = vec![
        (record(&[("TRAN_MSG", "true")]), no_group),
        (record(&[("TRAN_MSG", "true"), ("PGROUP", "")]), no_group),
        (record(&[("TRAN_MSG", "true")]).with("PGROUP", None), "PGROUP is not text"),
        (record(&[("TRAN_MSG", "true")]).with("PGROUP", Some(UNREADABLE)), "PGROUP is not text"),
        (record(&[("TRAN_MSG", "true"), ("PGROUP", &long)]), "is too long"),
        (record(&[("TRAN_MSG", "true"), ("PGROUP", &odd)]), "is too long"),
        (record(&[("PGROUP", "")]), "PGROUP is empty"),
        (record(&[]).with("PGROUP", None), "PGROUP is not text"),
        (half("x").with("TRAN_MSG", None), "TRAN_MSG is not text"),
        (half("x").with("TRAN_MSG", Some(UNREADABLE)), "TRAN_MSG is not text"),
        (half("x").with("TRAN_END", Some(b"COMMIT")), "TRAN_MSG and TRAN_END in one record"),
        (half("x").with("TIMER_DEL_UNIQKEY", Some(b"x")), "TRAN_MSG and TIMER_DEL_UNIQKEY in one record"),
        (half("x").with("TIMER_DELAY_MS", Some(b"soon")), "TIMER_DELAY_MS=soon"),
        (half("x").with("TIMER_DELAY_SEC", Some(b"31536001")), "max_delay"),
        (half("x").with("DELAY", Some(b"-1")), "DELAY=-1"),
        (half("x").with("UNIQ_KEY", None), "UNIQ_KEY is not text"),
        (half("x").with("UNIQ_KEY", Some(UNREADABLE)), "UNIQ_KEY is not text"),
        (half(&long), "UNIQ_KEY is 5000 bytes long"),
    ];
    for nonsense in ["yes", "1", "TRUE", "", "true ", "null"] {
        rows.push((half("x").with("TRAN_MSG", Some(nonsense.as_bytes())), "true or false is expected"));
    }
    for nonsense in ["soon", "", "-1", "+1", "1.5", "1e3", "6s", " 6", "18446744073709551616"] {
        let name = "CHECK_IMMUNITY_TIME_IN_SECONDS";
        rows.push((half("x").with(name, Some(nonsense.as_bytes())), "is not a number of seconds"));
    }
    for huge in ["86401", "9223372036854775807", "18446744073709551615"] {
        rows.push((half("x").with("CHECK_IMMUNITY_TIME_IN_SECONDS", Some(huge.as_bytes())), "at most 86400"));
    }
    rows.push((half("x").with("CHECK_IMMUNITY_TIME_IN_SECONDS", None), "is not text"));
    // Of what begins nothing it is as much nonsense.
    rows.push((record(&[("CHECK_IMMUNITY_TIME_IN_SECONDS", "soon")]), "is not a number of seconds"));
    world.refuses("orders", rows).await;
    world.krocket.stop().await;
}

#[tokio::test]
async fn an_end_of_what_cannot_be_ended_is_refused() {
    let mut world = World::start(&["orders", "other"], |_| {}).await;
    let sent = [
        ("orders", record(&[])),                                               // 0
        ("orders", half("open")),                                              // 1
        ("orders", half("committed")),                                         // 2
        ("orders", half("rolled-back")),                                       // 3
        ("orders", record(&[("TIMER_DELAY_SEC", "3600"), ("UNIQ_KEY", "d")])), // 4
        ("orders", half("twice")),                                             // 5
        ("orders", half("twice")),                                             // 6
        ("orders", end("ROLLBACK", &[("UNIQ_KEY", "rolled-back")])),           // 7
        ("orders", end("COMMIT", &[("UNIQ_KEY", "committed")])),               // 8, delivered as 9
        ("other", half("elsewhere")),
    ];
    for (topic, record) in sent {
        world.take(topic, record).await;
    }
    world.appears("orders:0:9").await;

    let open = &[("UNIQ_KEY", "open")];
    let by_id = |id: &'static str| end("COMMIT", &[("ORIGIN_MESSAGE_ID", id)]);
    let nameless = || end("COMMIT", &[]);
    let not_an_id = "is not topic:partition:offset";
    let mut rows = vec![
        (nameless(), "it names no message"),
        (end("ROLLBACK", &[("UNIQ_KEY", "")]), "it names no message"),
        (end("COMMIT", &[("UNIQ_KEY", "nobody's")]), "no half message of this topic has UNIQ_KEY=nobody's"),
        (end("COMMIT", &[("UNIQ_KEY", "elsewhere")]), "no half message of this topic has UNIQ_KEY=elsewhere"),
        (end("COMMIT", &[("UNIQ_KEY", "twice")]), "2 half messages have UNIQ_KEY=twice"),
        (end("COMMIT", &[("UNIQ_KEY", "d")]), "delayed, not a half message"),
        (end("ROLLBACK", &[("UNIQ_KEY", "committed")]), "committed already"),
        (end("COMMIT", &[("UNIQ_KEY", "rolled-back")]), "rolled back already"),
        (nameless().with("UNIQ_KEY", None), "UNIQ_KEY is not text"),
        (nameless().with("UNIQ_KEY", Some(UNREADABLE)), "UNIQ_KEY is not text"),
        (nameless().with("ORIGIN_MESSAGE_ID", None), "ORIGIN_MESSAGE_ID is not text"),
        (nameless().with("ORIGIN_MESSAGE_ID", Some(UNREADABLE)), "ORIGIN_MESSAGE_ID is not text"),
        (by_id("other:0:0"), "is a message of another topic"),
        (by_id("nowhere:0:0"), "is a message of another topic"),
        (by_id("__krocket_x:0:0"), "is a message of another topic"),
        (by_id("orders:2:0"), "is no message"),
        (by_id("orders:2147483647:0"), "is no message"),
        (by_id("orders:1:1"), "no such half message"),
        (by_id("orders:0:999"), "no such half message"),
        (by_id("orders:0:9223372036854775807"), "no such half message"),
        (by_id("orders:0:0"), "no such half message"),
        (by_id("orders:0:2"), "committed already"),
        (by_id("orders:0:3"), "rolled back already"),
        (by_id("orders:0:4"), "delayed, not a half message"),
        (by_id("orders:0:8"), "no such half message"),
        (by_id("orders:0:9"), "no such half message"),
        (end("COMMIT", open).with("PGROUP", Some(b"thieves")), "of the producer group shop"),
        (end("ROLLBACK", open).with("PGROUP", Some(b"")), "PGROUP is empty"),
        (end("COMMIT", open).with("TRAN_MSG", Some(b"true")), "TRAN_MSG and TRAN_END in one record"),
        (end("COMMIT", open).with("TRAN_MSG", Some(b"perhaps")), "TRAN_MSG=perhaps"),
        (end("COMMIT", open).with("TRAN_END", None), "TRAN_END is not text"),
        (end("COMMIT", open).with("TRAN_END", Some(UNREADABLE)), "TRAN_END is not text"),
        (end("COMMIT", open).with("TIMER_DEL_UNIQKEY", Some(b"d")), "TRAN_END and TIMER_DEL_UNIQKEY in one record"),
    ];
    for nonsense in ["", "commit", "COMMITTED", "COMMIT ", "COMMIT|ROLLBACK", "UNKNOWN", "true"] {
        rows.push((end(nonsense, open), "COMMIT or ROLLBACK is expected"));
    }
    for id in ["", "open", "orders", "orders:0", "orders:0:1:2", ":0:1", "orders:-1:1", "orders:0:-1", "orders:0:+1"] {
        rows.push((by_id(id), not_an_id));
    }
    for id in ["orders:0: 1", "orders:0:9223372036854775808", "orders:2147483648:1", "orders:zero:1"] {
        rows.push((by_id(id), not_an_id));
    }
    world.refuses("orders", rows).await;

    // Ended twice in one batch, each end by itself right.
    let before = world.held().await;
    let refused = world.send("orders", &[end("COMMIT", open), end("COMMIT", open)]).await.expect_err("twice");
    assert!(refused.message.contains("ended twice") && refused.records[0].0 == 1, "{refused:?}");
    assert_eq!(world.held().await, before);
    // None of them has ended it: it can be.
    world.take("orders", end("COMMIT", &[("ORIGIN_MESSAGE_ID", "orders:0:1"), ("PGROUP", "shop")])).await;
    world.appears("orders:0:11").await;
    world.krocket.stop().await;
}

#[tokio::test]
async fn of_two_headers_of_a_name_the_last_counts() {
    let mut world = World::start(&["orders"], |_| {}).await;
    let twice = |first: &str, last: &str| record(&[("TRAN_MSG", first), ("PGROUP", "shop"), ("TRAN_MSG", last)]);
    let immune = |first: &str, last: &str| {
        let name = "CHECK_IMMUNITY_TIME_IN_SECONDS";
        half("x").with(name, Some(first.as_bytes())).with(name, Some(last.as_bytes()))
    };
    world
        .refuses(
            "orders",
            vec![
                (twice("true", "perhaps"), "TRAN_MSG=perhaps"),
                (immune("60", "soon"), "is not a number of seconds"),
                (half("x").with("PGROUP", Some(b"")), "TRAN_MSG without PGROUP"),
            ],
        )
        .await;
    world.take("orders", twice("perhaps", "true")).await;
    world.take("orders", immune("soon", "60")).await;
    let (_, listed) = world.get("/v1/transactions").await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
    world.krocket.stop().await;
}

#[tokio::test]
async fn where_a_rule_switches_it_off_its_headers_mean_nothing() {
    let mut world = World::start(&["plain", "plainer"], |config| {
        // The first rule that matches holds as a whole: `plainer` is not helped by the second.
        for rule in [
            serde_json::json!({"topics": ["plain*"], "half": false, "schedule": false, "lookup": false}),
            serde_json::json!({"topics": ["*er"], "half": true}),
        ] {
            config.rules.push(serde_json::from_value(rule).expect("a rule"));
        }
    })
    .await;
    for topic in ["plain", "plainer"] {
        for row in [
            record(&[("TRAN_MSG", "perhaps"), ("CHECK_IMMUNITY_TIME_IN_SECONDS", "soon")]),
            end("UNKNOWN", &[]),
            record(&[]).with("UNIQ_KEY", Some(UNREADABLE)).with("KEYS", None),
        ] {
            let offset = world.take(topic, row).await;
            assert_eq!(world.appears(&format!("{topic}:0:{offset}")).await["hidden"], false);
        }
    }
    world.krocket.stop().await;
}
