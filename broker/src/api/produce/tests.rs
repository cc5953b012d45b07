use krocket_protocol::ApiKey;
use krocket_protocol::records::BatchBuilder;
use krocket_stack::Handler;

use super::super::testing::TestBroker;
use super::super::testing_data::*;
use super::*;

fn code(response: &PartitionProduceResponse) -> ErrorCode {
    ErrorCode::try_from_code(response.error_code).expect("an error")
}

#[tokio::test]
async fn every_version_takes_a_batch_and_answers_its_offset() {
    let broker = TestBroker::start().await;
    let topic = create(&broker, "t", 2, &[]).await;
    for (n, version) in (3..=13).enumerate() {
        let response = produce(&broker, version, &topic, 1, -1, records(&["a", "b"])).await;
        assert_eq!((response.error_code, response.base_offset, response.log_append_time_ms), (0, n as i64 * 2, -1));
        if version >= 5 {
            assert_eq!(response.log_start_offset, 0);
        }
    }
}

#[tokio::test]
async fn what_kafka_refuses_is_refused() {
    let broker = TestBroker::start().await;
    let plain = create(&broker, "plain", 1, &[("max.message.bytes", "1000")]).await;
    let good = records(&["a"]);
    let refuse = async |batch: Bytes, expected: ErrorCode| {
        let response = produce(&broker, 9, &plain, 0, -1, batch).await;
        assert_eq!(code(&response), expected, "{:?}", response.error_message);
        assert_eq!((response.base_offset, response.log_start_offset), (-1, -1));
        assert!(response.error_message.is_some());
    };
    refuse(Bytes::new(), ErrorCode::InvalidRecord).await;
    refuse([&good[..], &good[..]].concat().into(), ErrorCode::InvalidRecord).await;
    refuse(rewrite(&good, |batch| batch[70] ^= 1), ErrorCode::CorruptMessage).await;
    refuse(rewrite(&good, |batch| batch[16] = 1), ErrorCode::InvalidRecord).await;
    refuse(rewrite(&good, |batch| batch[7] = 1), ErrorCode::InvalidRecord).await;
    refuse(records(&[&"x".repeat(1000)]), ErrorCode::MessageTooLarge).await;
    let attribute = |bit| finish(single().attribute(bit, true));
    refuse(attribute(batch::ATTRIBUTE_CONTROL), ErrorCode::InvalidRecord).await;
    refuse(attribute(batch::ATTRIBUTE_TIMESTAMP_TYPE), ErrorCode::InvalidTimestamp).await;
    refuse(attribute(batch::ATTRIBUTE_TRANSACTIONAL), ErrorCode::TransactionalIdAuthorizationFailed).await;
    let response = produce(&broker, 6, &plain, 0, -1, finish(single().codec(Codec::Zstd))).await;
    assert_eq!(code(&response), ErrorCode::UnsupportedCompressionType);
    assert_eq!(code(&produce(&broker, 9, &plain, 0, 2, good.clone()).await), ErrorCode::InvalidRequiredAcks);
    assert_eq!(code(&produce(&broker, 9, &plain, 1, 1, good.clone()).await), ErrorCode::UnknownTopicOrPartition);
    let nowhere = TopicRef { name: "nowhere", id: uuid::Uuid::from_u128(1) };
    assert_eq!(code(&produce(&broker, 9, &nowhere, 0, 1, good.clone()).await), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(code(&produce(&broker, 13, &nowhere, 0, 1, good).await), ErrorCode::UnknownTopicId);
    assert!(fetch_all(&broker, &plain, 0).await.is_empty(), "nothing of it was stored");
}

#[tokio::test]
async fn records_at_fault_are_named() {
    let broker = TestBroker::start().await;
    let compacted = create(&broker, "compacted", 1, &[("cleanup.policy", "compact")]).await;
    let mut builder = BatchBuilder::new(0, now_ms());
    for (offset, key) in [Some(&b"k"[..]), None, Some(b"k"), None].into_iter().enumerate() {
        builder.push(offset as i64, now_ms(), key, Some(b"v"), &[]);
    }
    let response = produce(&broker, 9, &compacted, 0, -1, finish(builder)).await;
    assert_eq!(code(&response), ErrorCode::InvalidRecord);
    let named: Vec<_> = response.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!(named, [1, 3]);

    let bounded = [("message.timestamp.before.max.ms", "1000"), ("message.timestamp.after.max.ms", "1000")];
    let bounded = create(&broker, "bounded", 1, &bounded).await;
    for offset in [-5000, 5000] {
        let mut builder = BatchBuilder::new(0, now_ms());
        builder.push(0, now_ms(), None, Some(b"v"), &[]);
        builder.push(1, now_ms() + offset, None, Some(b"v"), &[]);
        let response = produce(&broker, 9, &bounded, 0, -1, finish(builder)).await;
        assert_eq!(code(&response), ErrorCode::InvalidTimestamp);
        assert_eq!(response.record_errors[0].batch_index, 1);
    }
}

#[tokio::test]
async fn log_append_time_is_stamped_and_answered() {
    let broker = TestBroker::start().await;
    let topic = create(&broker, "t", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let before = now_ms();
    let mut builder = BatchBuilder::new(0, 5);
    builder.push(0, 5, None, Some(b"v"), &[]);
    let response = produce(&broker, 9, &topic, 0, -1, finish(builder)).await;
    assert!((before..=now_ms()).contains(&response.log_append_time_ms));
    let records = fetch_all(&broker, &topic, 0).await;
    assert_eq!(records[0].timestamp, response.log_append_time_ms);
}

#[tokio::test]
async fn a_lie_about_the_highest_timestamp_is_corrected() {
    let broker = TestBroker::start().await;
    let topic = create(&broker, "t", 1, &[]).await;
    let batch = rewrite(&records(&["a"]), |batch| batch::set_max_timestamp(batch, i64::MAX));
    assert_eq!(produce(&broker, 9, &topic, 0, -1, batch).await.error_code, 0);
    let partition = broker.broker.topics.get("t").expect("a topic").partition(0).expect("a partition");
    let max = broker.broker.log.max_timestamp(&partition).expect("readable").expect("a record");
    assert!(max.timestamp <= now_ms());
}

#[tokio::test]
async fn a_retry_of_an_idempotent_producer_gets_the_first_answer_again() {
    let broker = TestBroker::start().await;
    let topic = create(&broker, "t", 1, &[]).await;
    let numbered = |epoch, sequence| finish(single().producer(9, epoch, sequence));
    assert_eq!(produce(&broker, 9, &topic, 0, -1, numbered(1, 0)).await.base_offset, 0);
    assert_eq!(produce(&broker, 9, &topic, 0, -1, numbered(1, 1)).await.base_offset, 1);
    let retry = produce(&broker, 9, &topic, 0, -1, numbered(1, 0)).await;
    assert_eq!((retry.error_code, retry.base_offset), (0, 0));
    let gap = produce(&broker, 9, &topic, 0, -1, numbered(1, 5)).await;
    assert_eq!(code(&gap), ErrorCode::OutOfOrderSequenceNumber);
    let old = produce(&broker, 9, &topic, 0, -1, numbered(0, 2)).await;
    assert_eq!(code(&old), ErrorCode::InvalidProducerEpoch);
    let broker = broker.restart().await;
    let retry = produce(&broker, 9, &topic, 0, -1, numbered(1, 1)).await;
    assert_eq!((retry.error_code, retry.base_offset), (0, 1));
    assert_eq!(fetch_all(&broker, &topic, 0).await.len(), 2);
}

#[tokio::test]
async fn acks_0_is_not_answered_and_a_refusal_ends_the_connection() {
    let broker = TestBroker::start().await;
    let topic = create(&broker, "t", 1, &[]).await;
    let call = async |batch| broker.broker.call(raw(ApiKey::Produce, 9, produce_request(9, &topic, 0, 0, batch))).await;
    assert!(matches!(call(records(&["a"])).await, Ok(Response::None)));
    // The request was kept until the write: nothing of it waits in a queue that has no bound.
    assert_eq!(fetch_all(&broker, &topic, 0).await.len(), 1);
    assert!(matches!(call(Bytes::new()).await, Err(Error::Close(_))));
    assert_eq!(produce(&broker, 9, &topic, 0, 1, records(&["b"])).await.base_offset, 1);
    broker.broker.log.close().expect("closed");
    assert!(matches!(call(records(&["c"])).await, Err(Error::Close(_))), "an append that fails is told by the close");
}

#[tokio::test]
async fn requests_polled_once_are_in_the_log_in_that_order() {
    let broker = TestBroker::start().await;
    let topic = create(&broker, "t", 1, &[]).await;
    let mut waiting = Vec::new();
    for sequence in 0..50 {
        let batch = finish(single().producer(9, 0, sequence));
        let mut call = broker.broker.call(raw(ApiKey::Produce, 9, produce_request(9, &topic, 0, -1, batch)));
        let _ = futures_util::poll!(&mut call);
        waiting.push(call);
    }
    for call in waiting.into_iter().rev() {
        // What was answered by the first poll must not be polled again, so ask the log instead.
        drop(call);
    }
    let last = produce(&broker, 9, &topic, 0, -1, finish(single().producer(9, 0, 50))).await;
    assert_eq!((last.error_code, last.base_offset), (0, 50));
}
