use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::fetch_response::PartitionData;
use krocket_protocol::records::BatchHeader;

use super::super::testing::{TestBroker, topic};
use super::super::testing_data::*;
use super::*;

fn only(response: &kafka_protocol::messages::FetchResponse) -> &PartitionData {
    assert_eq!((response.error_code, response.responses.len()), (0, 1));
    &response.responses[0].partitions[0]
}

fn code(data: &PartitionData) -> Option<ErrorCode> {
    ErrorCode::try_from_code(data.error_code)
}

#[tokio::test]
async fn every_version_reads_what_was_produced() {
    let broker = TestBroker::start().await;
    let topic = create(&broker, "t", 1, &[]).await;
    for value in ["a", "b", "c"] {
        produce(&broker, 9, &topic, 0, -1, records(&[value, value])).await;
    }
    for version in 4..=18 {
        // From the middle of the second batch.
        let response = fetch(&broker, version, fetch_request(version, &topic, vec![wanted(0, 3)])).await;
        let data = only(&response);
        assert_eq!((data.error_code, data.high_watermark, data.last_stable_offset), (0, 6, 6));
        let batches = batches(data);
        let bases: Vec<_> = batches.iter().map(|(header, _)| (header.base_offset, header.leader_epoch)).collect();
        assert_eq!(bases, [(2, 0), (4, 0)]);
        assert_eq!(batches[0].1[1].value, "b");
        let committed = fetch_request(version, &topic, vec![wanted(0, 0)]).with_isolation_level(1);
        let response = fetch(&broker, version, committed).await;
        assert_eq!(only(&response).aborted_transactions.as_ref().map(Vec::len), Some(0));
    }
}

#[tokio::test]
async fn the_same_bytes_come_from_memory_and_from_disk() {
    let broker = TestBroker::start().await;
    let topic = create(&broker, "t", 1, &[]).await;
    let large = "x".repeat(100_000);
    for value in ["a", &large, "b", "c"] {
        produce(&broker, 9, &topic, 0, -1, records(&[value])).await;
    }
    let request = || fetch_request(12, &topic, vec![wanted(0, 0)]);
    let memory = fetch(&broker, 12, request()).await;
    let broker = broker.restart().await;
    let disk = fetch(&broker, 12, request()).await;
    assert_eq!(only(&memory).records, only(&disk).records);
    assert_eq!(batches(only(&disk)).len(), 4);
}

/// Each part of what is read from disk is prepared while the one before is sent.
#[tokio::test]
async fn who_reads_everything_gets_each_record_once_in_order() {
    const COUNT: i64 = 60;
    let broker = TestBroker::start().await;
    let topic = create(&broker, "t", 2, &[]).await;
    let padding = "x".repeat(20_000);
    for n in 0..COUNT {
        for partition in 0..2 {
            let value = format!("{partition} {n} {padding}");
            produce(&broker, 9, &topic, partition, -1, records(&[&value])).await;
        }
    }
    let broker = broker.restart().await;
    // The second of two readers finds what the first had prepared, or not.
    for max_bytes in [100_000, 150_000] {
        let mut next = [0, 0];
        while next != [COUNT; 2] {
            let partitions = (0..2).map(|p| wanted(p, next[p as usize]).with_partition_max_bytes(max_bytes)).collect();
            let request = fetch_request(12, &topic, partitions).with_max_bytes(250_000).with_isolation_level(1);
            let response = fetch(&broker, 12, request).await;
            let before = next;
            for data in &response.responses[0].partitions {
                let at = &mut next[data.partition_index as usize];
                for (header, records) in batches(data) {
                    assert_eq!(header.base_offset, *at);
                    assert!(records[0].value.starts_with(&format!("{} {at} ", data.partition_index)));
                    *at += 1;
                }
            }
            assert_ne!(next, before, "it goes on");
        }
    }
}

#[tokio::test]
async fn limits_are_kept_but_the_first_batch_always_comes() {
    let broker = TestBroker::start().await;
    let topic = create(&broker, "t", 3, &[]).await;
    let len = records(&["0123456789"]).len() as i32;
    for partition in [1, 2] {
        for _ in 0..4 {
            produce(&broker, 9, &topic, partition, -1, records(&["0123456789"])).await;
        }
    }
    let counts = async |max_bytes: i32, partition_max_bytes: i32| -> Vec<usize> {
        let partitions = (0..3).map(|p| wanted(p, 0).with_partition_max_bytes(partition_max_bytes)).collect();
        let request = fetch_request(12, &topic, partitions).with_max_bytes(max_bytes);
        let response = fetch(&broker, 12, request).await;
        response.responses[0].partitions.iter().map(|data| batches(data).len()).collect()
    };
    assert_eq!(counts(1 << 20, 1 << 20).await, [0, 4, 4]);
    assert_eq!(counts(1 << 20, len * 2).await, [0, 2, 2]);
    assert_eq!(counts(len * 5, len * 3 + 1).await, [0, 3, 2]);
    // The first batch of the first partition that has one, however large (KIP-74).
    assert_eq!(counts(1, 1 << 20).await, [0, 1, 0]);
    assert_eq!(counts(1 << 20, 1).await, [0, 1, 0]);
    assert_eq!(counts(0, 0).await, [0, 1, 0]);
}

#[tokio::test]
async fn errors_are_told_at_once() {
    let broker = TestBroker::start().await;
    let topic = create(&broker, "t", 1, &[]).await;
    produce(&broker, 9, &topic, 0, -1, records(&["a"])).await;
    let ask = async |version, of: &TopicRef, partition: kafka_protocol::messages::fetch_request::FetchPartition| {
        let request = fetch_request(version, of, vec![partition]).with_max_wait_ms(60_000).with_min_bytes(1000);
        let response = fetch(&broker, version, request).await;
        only(&response).clone()
    };
    for offset in [-1, 2] {
        let data = ask(11, &topic, wanted(0, offset)).await;
        assert_eq!(code(&data), Some(ErrorCode::OffsetOutOfRange));
        assert_eq!((data.high_watermark, data.log_start_offset), (-1, -1));
    }
    let newer = wanted(0, 0).with_current_leader_epoch(1);
    assert_eq!(code(&ask(11, &topic, newer).await), Some(ErrorCode::UnknownLeaderEpoch));
    assert_eq!(code(&ask(11, &topic, wanted(5, 0)).await), Some(ErrorCode::UnknownTopicOrPartition));
    let nowhere = TopicRef { name: "nowhere", id: uuid::Uuid::from_u128(1) };
    assert_eq!(code(&ask(12, &nowhere, wanted(0, 0)).await), Some(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(code(&ask(13, &nowhere, wanted(0, 0)).await), Some(ErrorCode::UnknownTopicId));
    // An offset past the end, from the only epoch: the client learns where that ends.
    let data = ask(12, &topic, wanted(0, 7).with_last_fetched_epoch(0)).await;
    assert_eq!((data.error_code, data.diverging_epoch.epoch, data.diverging_epoch.end_offset), (0, 0, 1));
}

#[tokio::test]
async fn a_long_poll_ends_with_the_bytes_it_waits_for() {
    let broker = TestBroker::start().await;
    let topic = create(&broker, "t", 2, &[]).await;
    let len = records(&["a"]).len() as i32;
    let request = fetch_request(12, &topic, vec![wanted(0, 0), wanted(1, 0)]).with_max_wait_ms(60_000);
    let waiting = fetch(&broker, 12, request.with_min_bytes(len * 3));
    tokio::pin!(waiting);
    for partition in [0, 1] {
        assert!(futures_util::poll!(&mut waiting).is_pending());
        produce(&broker, 9, &topic, partition, -1, records(&["a"])).await;
    }
    assert!(futures_util::poll!(&mut waiting).is_pending());
    produce(&broker, 9, &topic, 0, -1, records(&["b"])).await;
    let response = waiting.await;
    let counts: Vec<_> = response.responses[0].partitions.iter().map(|data| batches(data).len()).collect();
    assert_eq!(counts, [2, 1]);
}

#[tokio::test]
async fn a_long_poll_ends_with_its_time_and_with_the_topic() {
    let broker = TestBroker::start().await;
    let topic_ref = create(&broker, "t", 1, &[]).await;
    let request = fetch_request(12, &topic_ref, vec![wanted(0, 0)]);
    let response = fetch(&broker, 12, request.clone().with_max_wait_ms(1)).await;
    assert_eq!(batches(only(&response)).len(), 0);
    let waiting = fetch(&broker, 12, request.with_max_wait_ms(60_000));
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let delete = kafka_protocol::messages::DeleteTopicsRequest::default()
        .with_topic_names(vec![topic("t")])
        .with_timeout_ms(1000);
    let _: kafka_protocol::messages::DeleteTopicsResponse =
        broker.ask(krocket_protocol::ApiKey::DeleteTopics, 5, delete).await;
    assert_eq!(code(only(&waiting.await)), Some(ErrorCode::UnknownTopicOrPartition));
}

#[tokio::test]
async fn a_session_answers_changes_only() {
    let broker = TestBroker::start().await;
    for version in [12, 13] {
        let name = if version == 12 { "by-name" } else { "by-id" };
        let topic_ref = create(&broker, name, 3, &[]).await;
        let all = (0..3).map(|partition| wanted(partition, 0)).collect();
        let first = fetch_request(version, &topic_ref, all).with_session_epoch(0);
        let response = fetch(&broker, version, first).await;
        assert_eq!(response.responses[0].partitions.len(), 3);
        let session = response.session_id;
        assert_ne!(session, 0);
        produce(&broker, 9, &topic_ref, 1, -1, records(&["a"])).await;
        let nothing_new = |epoch| {
            let request = fetch_request(version, &topic_ref, vec![]).with_topics(vec![]);
            request.with_session_id(session).with_session_epoch(epoch)
        };
        let response = fetch(&broker, version, nothing_new(1)).await;
        assert_eq!((response.session_id, only(&response).partition_index), (session, 1));
        let forgotten = ForgottenTopic::default().with_partitions(vec![1]);
        let forgotten =
            if version >= 13 { forgotten.with_topic_id(topic_ref.id) } else { forgotten.with_topic(topic(name)) };
        let request = nothing_new(2).with_forgotten_topics_data(vec![forgotten]);
        assert!(fetch(&broker, version, request).await.responses.is_empty());
        let response = fetch(&broker, version, nothing_new(2)).await;
        assert_eq!(ErrorCode::try_from_code(response.error_code), Some(ErrorCode::InvalidFetchSessionEpoch));
        let response = fetch(&broker, version, nothing_new(1).with_session_id(session ^ 1)).await;
        assert_eq!(ErrorCode::try_from_code(response.error_code), Some(ErrorCode::FetchSessionIdNotFound));
    }
}

#[tokio::test]
async fn a_stored_batch_differs_from_the_produced_in_offset_and_epoch_only() {
    let broker = TestBroker::start().await;
    let topic = create(&broker, "t", 1, &[]).await;
    produce(&broker, 9, &topic, 0, -1, records(&["first"])).await;
    let batch = records(&["a", "b"]);
    produce(&broker, 9, &topic, 0, -1, batch.clone()).await;
    let response = fetch(&broker, 12, fetch_request(12, &topic, vec![wanted(0, 1)])).await;
    let stored = only(&response).records.clone().expect("records");
    let header = BatchHeader::read(&stored).expect("a batch");
    assert_eq!((header.base_offset, header.leader_epoch), (1, LEADER_EPOCH));
    assert_eq!(stored[8..12], batch[8..12]);
    assert_eq!(stored[16..], batch[16..]);
}
