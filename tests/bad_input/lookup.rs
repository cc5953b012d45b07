//! What is indexed, and questions to the index.

use krocket_protocol::ErrorCode;
use krocket_testkit::soon;
use std::time::Duration;

use crate::world::{World, record};

const UNREADABLE: &[u8] = b"\xff\xfe";

#[tokio::test]
async fn keys_that_could_never_be_asked_for_are_refused() {
    let mut world = World::start(&["orders"], |_| {}).await;
    let (long, longer) = ("x".repeat(4097), "x ".repeat(17_000));
    world
        .refuses(
            "orders",
            vec![
                (record(&[]).with("UNIQ_KEY", None), "UNIQ_KEY is not text"),
                (record(&[]).with("UNIQ_KEY", Some(UNREADABLE)), "UNIQ_KEY is not text"),
                (record(&[]).with("KEYS", None), "KEYS is not text"),
                (record(&[]).with("KEYS", Some(b"a b\xff")), "KEYS is not text"),
                (record(&[("UNIQ_KEY", &long)]), "UNIQ_KEY is 4097 bytes long: at most 4096"),
                (record(&[("KEYS", &longer)]), "KEYS is 34000 bytes long: at most 32767"),
                (record(&[("KEYS", "a"), ("KEYS", &longer)]), "KEYS is 34000 bytes long"),
                (record(&[("UNIQ_KEY", "a")]).with("UNIQ_KEY", None), "UNIQ_KEY is not text"),
                (record(&[("TIMER_DELAY_SEC", "1"), ("UNIQ_KEY", &long)]), "UNIQ_KEY is 4097 bytes long"),
            ],
        )
        .await;
    // A megabyte is not even a batch.
    let before = world.held().await;
    for name in ["UNIQ_KEY", "KEYS"] {
        let refused = world.send("orders", &[record(&[(name, &"x".repeat(1 << 20))])]).await.expect_err("1 MB");
        let codes = [ErrorCode::InvalidRecord.code(), ErrorCode::MessageTooLarge.code()];
        assert!(codes.contains(&refused.code), "{refused:?}");
    }
    assert_eq!(world.held().await, before);
    // Nothing is named by nothing; that is no mistake.
    world.take("orders", record(&[("UNIQ_KEY", ""), ("KEYS", "")])).await;
    world.take("orders", record(&[("KEYS", "  a  b ")])).await;
    found(&world, "/v1/messages?key=b", 1).await;
    world.krocket.stop().await;
}

/// Waits until a question finds so many.
async fn found(world: &World, path: &str, count: usize) -> serde_json::Value {
    soon(path, async {
        loop {
            let (status, page) = world.get(path).await;
            if status == 200 && page["items"].as_array().map(Vec::len) == Some(count) {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_answered_with_what_would() {
    let mut world = World::start(&["orders", "other"], |_| {}).await;
    for uniq in ["a", "b", "c"] {
        world.take("orders", record(&[("KEYS", "all"), ("UNIQ_KEY", uniq)])).await;
        world.take("other", record(&[("KEYS", "others")])).await;
    }
    let token = |page: serde_json::Value| page["next"].as_str().expect("a token").to_owned();
    let of_key = token(found(&world, "/v1/messages?key=all&limit=1", 1).await);
    let of_other_key = token(found(&world, "/v1/messages?key=others&limit=1", 1).await);
    let of_topic = token(found(&world, "/v1/messages?topic=orders&limit=1", 1).await);
    let of_other_topic = token(found(&world, "/v1/messages?topic=other&limit=1", 1).await);

    let what = "say what to look for";
    let not_an_id = "is not a message id";
    let no_token = "is not a token";
    let mut rows = vec![
        ("/v1/messages".to_owned(), 400, what),
        ("/v1/messages?from=5".to_owned(), 400, what),
        ("/v1/messages?key=".to_owned(), 400, "`key` is empty"),
        ("/v1/messages?uniq_key=".to_owned(), 400, "`uniq_key` is empty"),
        ("/v1/messages?topic=".to_owned(), 404, "no topic"),
        ("/v1/messages?topic=nowhere".to_owned(), 404, "no topic \"nowhere\""),
        ("/v1/messages?key=all&topic=nowhere".to_owned(), 404, "no topic \"nowhere\""),
        ("/v1/messages?uniq_key=a&topic=nowhere".to_owned(), 404, "no topic \"nowhere\""),
        ("/v1/messages?topic=__krocket_x".to_owned(), 404, "no topic"),
        ("/v1/messages?key=all&uniq_key=a".to_owned(), 400, "one of the two"),
        ("/v1/messages?kye=all".to_owned(), 400, "unknown field `kye`"),
        ("/v1/messages?key=all&key=a".to_owned(), 400, "duplicate field `key`"),
        ("/v1/messages?topic=orders&from=6&to=5".to_owned(), 400, "nothing between"),
        ("/v1/messages?key=all&from=6&to=6".to_owned(), 400, "nothing between"),
    ];
    for limit in ["0", "1001", "18446744073709551615"] {
        rows.push((format!("/v1/messages?key=all&limit={limit}"), 400, "it must be from 1 to 1000"));
    }
    for limit in ["-1", "many", "", "1.5", "18446744073709551616"] {
        rows.push((format!("/v1/messages?key=all&limit={limit}"), 400, "limit"));
    }
    for time in ["soon", "", "1.5", "9223372036854775808", "2026-01-01"] {
        rows.push((format!("/v1/messages?topic=orders&from={time}"), 400, "from"));
        rows.push((format!("/v1/messages?topic=orders&to={time}"), 400, "to"));
    }
    let tokens = ["", "0", "zz", "%00", "00", "ff", "%C3%A9", &"0".repeat(40), &"ff".repeat(29)].map(str::to_owned);
    for token in tokens.iter().chain([&of_key, &of_other_key, &of_other_topic]) {
        rows.push((format!("/v1/messages?topic=orders&next={token}"), 400, no_token));
    }
    for token in tokens.iter().chain([&of_other_key, &of_topic]) {
        rows.push((format!("/v1/messages?key=all&next={token}"), 400, no_token));
        rows.push((format!("/v1/messages?uniq_key=a&next={token}"), 400, no_token));
    }
    for id in [
        "x",
        "orders",
        "orders:0",
        ":0:0",
        "orders:0:0:0",
        "orders:-1:0",
        "orders:0:-1",
        "orders:0:+1",
        "orders:0:x",
        "%20",
    ] {
        rows.push((format!("/v1/messages/{id}"), 400, not_an_id));
        rows.push((format!("/v1/messages/{id}/life"), 400, not_an_id));
    }
    for id in ["orders:0:9223372036854775808", "orders:2147483648:0"] {
        rows.push((format!("/v1/messages/{id}"), 400, not_an_id));
    }
    for id in ["nowhere:0:0", "orders:2:0", "orders:0:3", "orders:1:0", "orders:0:9223372036854775807", "__krocket:0:0"]
    {
        rows.push((format!("/v1/messages/{id}"), 404, "no such message"));
        rows.push((format!("/v1/messages/{id}/life"), 404, "no such message"));
    }
    rows.push(("/v1/messages/%ff".to_owned(), 400, "UTF-8"));
    let mut wrong = Vec::new();
    for (path, status, words) in rows {
        let (answered, body) = world.get(&path).await;
        if answered != status || !body["error"].as_str().is_some_and(|error| error.contains(words)) {
            wrong.push(format!("{path}: {status} and {words:?} were expected, not {answered} {body}"));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    // The tokens are good for what they were given out for.
    found(&world, &format!("/v1/messages?key=all&next={of_key}"), 2).await;
    found(&world, &format!("/v1/messages?topic=orders&next={of_topic}"), 2).await;
    world.krocket.stop().await;
}
