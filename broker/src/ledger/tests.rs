use bytes::Bytes;
use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use krocket_protocol::{ApiKey, ErrorCode};
use krocket_stack::ledger::tables::{DUE, LOOKUP, PARKED, WORK};
use krocket_stack::{Body, Connection, Handler, Head, Notes, Produce, Refusal, Request, Response, Row, Template};

use super::*;
use crate::api::testing::TestBroker;
use crate::api::testing_data::*;

fn face(broker: &TestBroker) -> Arc<dyn Ledger> {
    broker.broker.clone()
}

/// Produces as a layer does.
async fn produce_noted(
    broker: &TestBroker,
    to: &TopicRef,
    batch: Bytes,
    notes: Notes,
    refused: Option<Refusal>,
) -> PartitionProduceResponse {
    let mut produce = Produce::from(produce_request(12, to, 0, 1, batch));
    produce.topics[0].partitions[0].notes = notes;
    produce.topics[0].partitions[0].refused = refused;
    let connection = Arc::new(Connection::internal("test"));
    let head = Head { api: ApiKey::Produce, version: 12, client_id: None, connection };
    let response = broker.broker.call(Request::from_produce(head, produce)).await.expect("an answer");
    let Response::Body(Body::Typed(_)) = &response else { panic!("no answer") };
    let mut response: ProduceResponse = response.into_message(12).expect("a Produce response");
    response.responses.remove(0).partition_responses.remove(0)
}

fn parked(record: i32) -> Row {
    Row::put(PARKED, Template::default().bytes(&[0; 4]).offset_of(record), &b"why"[..])
}

fn key(offset: i64) -> Vec<u8> {
    [&[0; 4][..], &offset.to_be_bytes()].concat()
}

#[tokio::test]
async fn notes_are_there_with_the_batch_after_a_restart_too() {
    let broker = TestBroker::start().await;
    let to = create(&broker, "t", 1, &[]).await;
    produce(&broker, 9, &to, 0, 1, records(&["a", "b"])).await;
    let notes = Notes {
        hidden: vec![1],
        rows: vec![parked(1), Row::delete(DUE, &b"none"[..])],
        indexed: true,
        ..Notes::default()
    };
    assert_eq!(produce_noted(&broker, &to, records(&["c", "d"]), notes, None).await.base_offset, 2);
    broker.broker.work().notified().await;
    let check = |broker: &TestBroker| {
        let ledger = face(broker);
        assert_eq!(ledger.get(PARKED, &key(3)), Ok(Some(b"why".to_vec())));
        assert_eq!(ledger.get(PARKED, &key(2)), Ok(None));
        let mut work = Vec::new();
        let noted = ledger.scan(WORK, &[], &mut |found, _| {
            work.push(found[8..].to_vec());
            true
        });
        assert_eq!((noted, work), (Ok(()), vec![key(3).to_vec()]));
        let info = ledger.partition(0).expect("it lives");
        assert_eq!((info.topic.as_str(), info.index, info.high_watermark, info.end), ("t", 0, 3, 4));
        let stored = ledger.batches(0, 0, 1 << 20).expect("readable");
        assert_eq!(stored.iter().map(|stored| stored.hidden.clone()).collect::<Vec<_>>(), [vec![], vec![3]]);
        let batch = &stored[1].batch;
        let found = ledger.locate(0, &[2, 3, 4]).expect("readable");
        let bytes =
            found.iter().map(|slice| slice.as_ref().map(|slice| slice.read().expect("readable"))).collect::<Vec<_>>();
        assert_eq!(bytes, [Some(batch.clone()), Some(batch.clone()), None]);
    };
    check(&broker);
    check(&broker.restart().await);
}

#[tokio::test]
async fn a_refused_batch_is_answered_and_not_appended() {
    let broker = TestBroker::start().await;
    let to = create(&broker, "t", 1, &[]).await;
    let notes = Notes { rows: vec![parked(0)], ..Notes::default() };
    let refused = Some(Refusal::record(1, "TIMER_DELAY_MS=soon is no number"));
    let response = produce_noted(&broker, &to, records(&["a", "b"]), notes, refused).await;
    assert_eq!(response.error_code, ErrorCode::InvalidRecord.code());
    assert_eq!(
        response.error_message.as_ref().map(|it| it.to_string()).as_deref(),
        Some("TIMER_DELAY_MS=soon is no number")
    );
    assert_eq!(response.record_errors[0].batch_index, 1);
    assert_eq!(face(&broker).partition(0).expect("it lives").end, 0);
    assert_eq!(face(&broker).get(PARKED, &key(0)), Ok(None));
}

#[tokio::test]
async fn rows_are_changed_together_and_shown_in_order() {
    let broker = TestBroker::start().await;
    let ledger = face(&broker);
    let put = |table, key: &[u8]| Row::put(table, key, key);
    ledger.commit(vec![put(DUE, b"b"), put(DUE, b"a"), put(PARKED, b"c")], true).await.expect("written");
    ledger.commit(vec![put(DUE, b"c"), Row::delete(DUE, &b"a"[..])], false).await.expect("written");
    ledger.derive(vec![put(LOOKUP, b"y"), put(LOOKUP, b"x"), put(LOOKUP, b"w")]).expect("written");
    ledger.derive(vec![Row::delete(LOOKUP, &b"w"[..])]).expect("written");
    ledger.commit(vec![put(LOOKUP, b"z")], false).await.expect_err("a derived table");
    ledger.derive(vec![put(DUE, b"z")]).expect_err("a table of the log");
    let all = |ledger: &Arc<dyn Ledger>, table, from: &[u8], most: usize| {
        let mut seen = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            assert_eq!(key, value);
            seen.push(String::from_utf8_lossy(key).into_owned());
            seen.len() < most
        };
        ledger.scan(table, from, &mut visit).expect("readable");
        seen
    };
    drop(ledger);
    let broker = broker.restart().await;
    {
        let ledger = face(&broker);
        assert_eq!(all(&ledger, DUE, b"", 9), ["b", "c"]);
        assert_eq!(all(&ledger, DUE, b"bb", 9), ["c"]);
        assert_eq!(all(&ledger, LOOKUP, b"", 9), ["x", "y"]);
        assert_eq!(all(&ledger, LOOKUP, b"", 1), ["x"]);
    }
}

#[tokio::test]
async fn topics_and_their_partitions_are_known_by_id() {
    let broker = TestBroker::start().await;
    let ledger = face(&broker);
    let changed = ledger.topics_changed();
    let configs = [("krocket.view.source", "orders"), ("krocket.view.filter", "paid || refunded")];
    create(&broker, "a", 2, &[]).await;
    changed.await;
    let b = create(&broker, "b", 2, &configs).await;
    let topic = ledger.topic("b").expect("created");
    assert_eq!(ledger.topic_by_id(b.id), Some(topic.clone()));
    assert_eq!(topic.partitions, [2, 3]);
    assert_eq!(ledger.topics().len(), 2);
    assert_eq!(ledger.topic_config("b", "krocket.view.filter").as_deref(), Some("paid || refunded"));
    assert_eq!(ledger.topic_config("a", "krocket.view.filter"), None);
    let info = ledger.partition(3).expect("it lives");
    assert_eq!((info.topic.as_str(), info.index), ("b", 1));
    let mut watching = ledger.watch(&[3]);
    let change = broker.broker.topics.change().await;
    let topic = broker.broker.topics.get("b").expect("created");
    change.commit(vec![crate::topics::Edit::Delete(topic)]).await.expect("deleted");
    watching.changed().await;
    assert_eq!(ledger.partition(3), None);
}
