//! Nacks, dead letters and the topics that come with a group.

use krocket_protocol::ErrorCode;

use crate::world::{Rec, World, batch, empty, record};

const UNREADABLE: &[u8] = b"\xff\xfe";
const RETRY: &str = "retry.billing";
/// Headers that hold a number of retries.
const COUNTS: [&str; 2] = ["RECONSUME_TIMES", "MAX_RECONSUME_TIMES"];

/// A world with one of everything that a nack can name.
async fn world() -> World {
    let mut world = World::start(&["orders", "other", RETRY], |_| {}).await;
    let sent = [
        ("orders", record(&[])),                                                                // 0
        ("orders", record(&[("TIMER_DELAY_SEC", "3600"), ("UNIQ_KEY", "waits")])),              // 1
        ("orders", record(&[("TIMER_DELAY_SEC", "3600"), ("UNIQ_KEY", "cancelled")])),          // 2
        ("orders", record(&[("TRAN_MSG", "true"), ("PGROUP", "shop"), ("UNIQ_KEY", "half")])),  // 3
        ("orders", record(&[("TRAN_MSG", "true"), ("PGROUP", "shop"), ("UNIQ_KEY", "ended")])), // 4
        ("orders", empty(&[("TIMER_DEL_UNIQKEY", "cancelled")])),                               // 5
        ("orders", empty(&[("TRAN_END", "ROLLBACK"), ("UNIQ_KEY", "ended")])),                  // 6
        ("other", record(&[])),
        (RETRY, record(&[("MAX_RECONSUME_TIMES", "0")])), // 0, dead
        (RETRY, record(&[])),                             // 1, waits
    ];
    for (topic, record) in sent {
        world.take(topic, record).await;
    }
    world.appears("dlq.billing:0:0").await;
    world
}

fn nack(id: &str) -> Rec {
    empty(&[("ORIGIN_MESSAGE_ID", id)])
}

#[tokio::test]
async fn a_nack_by_an_id_that_names_nothing_to_retry_is_refused() {
    let mut world = world().await;
    let not_visible = "is not visible: it cannot have been consumed";
    let gone = "no such message";
    let mut rows = vec![
        (empty(&[]), "an empty record without ORIGIN_MESSAGE_ID"),
        (Rec { value: Some(Vec::new()), ..empty(&[]) }, "an empty record without ORIGIN_MESSAGE_ID"),
        (Rec { key: Some(Vec::new()), ..empty(&[("ERROR", "x")]) }, "an empty record without ORIGIN_MESSAGE_ID"),
        (empty(&[]).with("ORIGIN_MESSAGE_ID", None), "ORIGIN_MESSAGE_ID is not text"),
        (empty(&[]).with("ORIGIN_MESSAGE_ID", Some(UNREADABLE)), "ORIGIN_MESSAGE_ID is not text"),
        (nack("orders:0:0").with("ORIGIN_MESSAGE_ID", Some(b"x")), "is not a message id"),
        (nack("nowhere:0:0"), "no such topic or partition"),
        (nack("__krocket_x:0:0"), "no such topic or partition"),
        (nack("retry.nobody:0:0"), "no such topic or partition"),
        (nack("orders:2:0"), "no such topic or partition"),
        (nack("orders:2147483647:0"), "no such topic or partition"),
        (nack("orders:1:0"), gone),
        (nack("orders:0:7"), gone),
        (nack("orders:0:999"), gone),
        (nack("orders:0:9223372036854775807"), gone),
        (nack("orders:0:1"), not_visible),
        (nack("orders:0:2"), not_visible),
        (nack("orders:0:3"), not_visible),
        (nack("orders:0:4"), not_visible),
        (nack("orders:0:5"), not_visible),
        (nack("orders:0:6"), not_visible),
        (nack("retry.billing:0:1"), not_visible),
        (nack("dlq.billing:0:0"), "is a dead letter: it is redriven, not retried"),
    ];
    for id in
        ["", "orders", "orders:0", ":0:0", "orders:0:0:0", "orders:-1:0", "orders:0:-1", "orders:0:+1", "orders:0:1e3"]
    {
        rows.push((nack(id), "is not a message id"));
    }
    // Of a message that is there, with headers that say nothing.
    for name in COUNTS {
        for nonsense in ["", "twice", "-1", "+1", "1.5", "0x1", "18446744073709551616"] {
            rows.push((nack("orders:0:0").with(name, Some(nonsense.as_bytes())), "is not a number of retries"));
        }
        rows.push((nack("orders:0:0").with(name, None), "is not text"));
        rows.push((nack("orders:0:0").with(name, Some(b"1")).with(name, Some(b"x")), "is not a number of retries"));
    }
    for name in ["ERROR", "REAL_TOPIC", "BORN_TIMESTAMP"] {
        rows.push((nack("orders:0:0").with(name, None), "is not text"));
        rows.push((nack("orders:0:0").with(name, Some(UNREADABLE)), "is not text"));
    }
    rows.push((nack("orders:0:0").with("BORN_TIMESTAMP", Some(b"yesterday")), "BORN_TIMESTAMP=yesterday"));
    for topic in ["other", "nowhere", "dlq.billing", RETRY, ""] {
        rows.push((nack("orders:0:0").with("REAL_TOPIC", Some(topic.as_bytes())), "orders:0:0 is a message of orders"));
    }
    world.refuses(RETRY, rows).await;
    world.krocket.stop().await;
}

#[tokio::test]
async fn a_nack_that_is_the_message_itself_is_read_as_closely() {
    let mut world = world().await;
    let mut rows = vec![
        (record(&[("ORIGIN_MESSAGE_ID", "nonsense")]), "is not a message id"),
        (record(&[("ORIGIN_MESSAGE_ID", "dlq.billing:0:0")]), "is a dead letter"),
        (record(&[("REAL_TOPIC", "dlq.billing")]), "holds dead letters"),
        (record(&[("REAL_TOPIC", RETRY)]), "REAL_TOPIC=retry.billing: it belongs to krocket"),
        (record(&[("REAL_TOPIC", "check.shop")]), "REAL_TOPIC=check.shop: it belongs to krocket"),
        (record(&[("REAL_TOPIC", "nowhere")]), "REAL_TOPIC=nowhere: no such topic"),
        (record(&[("REAL_TOPIC", "__krocket_x")]), "no such topic"),
        (record(&[("REAL_TOPIC", "")]), "REAL_TOPIC=: no such topic"),
        (record(&[("REAL_TOPIC", "other"), ("ORIGIN_MESSAGE_ID", "orders:0:0")]), "orders:0:0 is a message of orders"),
        (
            record(&[("REAL_TOPIC", "nowhere"), ("ORIGIN_MESSAGE_ID", "orders:0:0")]),
            "orders:0:0 is a message of orders",
        ),
        (record(&[("ORIGIN_MESSAGE_ID", "nowhere:0:0")]), "no such topic or partition"),
        (record(&[("ORIGIN_MESSAGE_ID", "orders:2:0")]), "no such topic or partition"),
        (record(&[("ORIGIN_MESSAGE_ID", "orders:0:999")]), "no such message"),
        (record(&[("ORIGIN_MESSAGE_ID", "orders:0:1")]), "is not visible"),
        (record(&[("ORIGIN_MESSAGE_ID", "orders:0:5")]), "is not visible"),
        (record(&[("BORN_TIMESTAMP", "-1")]), "BORN_TIMESTAMP=-1"),
        // A tombstone is a message; without its key it would be a nack by id.
        (Rec { value: None, ..record(&[("ORIGIN_MESSAGE_ID", "orders")]) }, "is not a message id"),
    ];
    for name in COUNTS {
        for nonsense in ["", "twice", "-1", "18446744073709551616"] {
            rows.push((record(&[(name, nonsense)]), "is not a number of retries"));
        }
        rows.push((record(&[]).with(name, Some(UNREADABLE)), "is not text"));
    }
    for name in ["ORIGIN_MESSAGE_ID", "ERROR", "REAL_TOPIC", "BORN_TIMESTAMP"] {
        rows.push((record(&[]).with(name, Some(UNREADABLE)), "is not text"));
        rows.push((record(&[]).with(name, None), "is not text"));
    }
    world.refuses(RETRY, rows).await;

    // The policy says when: what else would ask for a delay, or for anything, is the message's own affair.
    let before = world.held().await;
    for (name, value) in [("DELAY", "soon"), ("TIMER_DELAY_MS", "-1"), ("TRAN_MSG", "perhaps"), ("TRAN_END", "COMMIT")]
    {
        world.take(RETRY, record(&[(name, value)])).await;
    }
    // Numbers that no counter holds are as good as the largest.
    world.take(RETRY, record(&[("MAX_RECONSUME_TIMES", "18446744073709551615")])).await;
    assert_ne!(world.held().await, before);
    world.take(RETRY, record(&[("RECONSUME_TIMES", "18446744073709551615")])).await;
    world.appears("dlq.billing:0:1").await;
    world.krocket.stop().await;
}

#[tokio::test]
async fn a_limit_of_retries_is_read_where_the_message_is_produced() {
    let mut world = World::start(&["orders"], |_| {}).await;
    let mut rows = vec![
        (record(&[]).with("MAX_RECONSUME_TIMES", None), "is not text"),
        (record(&[]).with("MAX_RECONSUME_TIMES", Some(UNREADABLE)), "is not text"),
    ];
    for nonsense in ["", "never", "-1", "3.0", "18446744073709551616"] {
        rows.push((record(&[("MAX_RECONSUME_TIMES", nonsense)]), "is not a number of retries"));
    }
    world.refuses("orders", rows).await;
    world.take("orders", record(&[("MAX_RECONSUME_TIMES", "0")])).await;
    world.krocket.stop().await;
}

#[tokio::test]
async fn nobody_produces_to_what_is_krockets() {
    let mut world = world().await;
    world.take("orders", record(&[("TRAN_MSG", "true"), ("PGROUP", "shop")])).await;
    world.appears_topic("check.shop").await;
    let before = world.held().await;
    let krockets = ErrorCode::InvalidTopicException.code();
    for topic in ["dlq.billing", "dlq.nobody", "dlq.a_x20b", "dlq.a_xZZ", "check.shop", "check.nobody"] {
        let refused = world.send(topic, &[record(&[])]).await.expect_err(topic);
        assert!(refused.code == krockets && refused.message.contains("belongs to krocket"), "{topic}: {refused:?}");
    }
    for topic in
        ["__krocket", "__krocket_offsets", "no.such.topic", "two words", "", "retry.nobody", "retry.a_xZZ", "retry."]
    {
        let refused = world.send(topic, &[record(&[])]).await.expect_err(topic);
        assert_eq!(refused.code, ErrorCode::UnknownTopicOrPartition.code(), "{topic}: {refused:?}");
    }
    for topic in ["__krocket", "__krocket_offsets", "two words", "a/b"] {
        assert_eq!(world.ask_for(topic).await, krockets, "{topic}");
    }
    // What is no spelling of a group, a dead-letter topic without its group.
    for topic in ["retry.a_xZZ", "retry.a_x61", "retry.", "dlq.a_xZZ", "dlq.nobody"] {
        assert_eq!(world.ask_for(topic).await, ErrorCode::UnknownTopicOrPartition.code(), "{topic}");
    }
    let refused = world.send_bytes(RETRY, 7, batch(&[record(&[])])).await.expect_err("partition 7");
    assert_eq!(refused.code, ErrorCode::UnknownTopicOrPartition.code());
    assert_eq!(world.held().await, before);
    world.krocket.stop().await;
}

#[tokio::test]
async fn a_batch_that_is_damaged_is_not_made_whole() {
    let mut world = world().await;
    let before = world.held().await;
    let whole = batch(&[nack("orders:0:0"), record(&[])]);
    let cut = whole[..whole.len() - 1].to_vec();
    // In the second record's bytes, where the id was read before it; in the CRC; in the number of records.
    let damaged = [whole.len() - 3, 18, 60].map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x15;
        bytes
    });
    for bytes in damaged.into_iter().chain([cut, whole[..20].to_vec(), Vec::new()]) {
        let refused = world.send_bytes(RETRY, 0, bytes).await.expect_err("damaged");
        let codes = [ErrorCode::CorruptMessage.code(), ErrorCode::InvalidRecord.code()];
        assert!(codes.contains(&refused.code) && !refused.message.is_empty(), "{refused:?}");
        assert_eq!(world.held().await, before, "{refused:?}");
    }
    world.krocket.stop().await;
}
