use kafka_protocol::messages::list_offsets_request::ListOffsetsTopic;
use krocket_protocol::ApiKey;
use krocket_protocol::records::BatchBuilder;

use super::super::testing::{TestBroker, topic};
use super::super::testing_data::*;
use super::*;

async fn list(broker: &TestBroker, version: i16, timestamp: i64) -> (i16, i64, i64) {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let partition = if version >= 4 { partition.with_current_leader_epoch(0) } else { partition };
    let topics = vec![ListOffsetsTopic::default().with_name(topic("t")).with_partitions(vec![partition])];
    let request = ListOffsetsRequest(kafka_protocol::messages::ListOffsetsRequest::default().with_topics(topics));
    let response: ListOffsetsResponse = broker.ask(ApiKey::ListOffsets, version, request).await;
    let answer = &response.0.topics[0].partitions[0];
    (answer.error_code, answer.offset, answer.timestamp)
}

#[tokio::test]
async fn every_kind_of_offset_is_found() {
    let broker = TestBroker::start().await;
    let to = create(&broker, "t", 1, &[]).await;
    assert_eq!(list(&broker, 7, MAX_TIMESTAMP).await, (0, -1, -1));
    for timestamps in [[10, 30], [20, 25], [40, 40]] {
        let mut builder = BatchBuilder::new(0, 10);
        for (offset, timestamp) in timestamps.into_iter().enumerate() {
            builder.push(offset as i64, timestamp, None, Some(b"v"), &[]);
        }
        produce(&broker, 9, &to, 0, -1, finish(builder)).await;
    }
    let partition = broker.broker.topics.get("t").expect("a topic").partition(0).expect("a partition");
    broker.broker.log.delete_records(&partition, 1, crate::log::Durability::Written).await.expect("trimmed");
    for version in 1..=11 {
        assert_eq!(list(&broker, version, LATEST).await, (0, 6, -1));
        assert_eq!(list(&broker, version, EARLIEST).await, (0, 1, -1));
        assert_eq!(list(&broker, version, 0).await, (0, 1, 30));
        assert_eq!(list(&broker, version, 31).await, (0, 4, 40));
        assert_eq!(list(&broker, version, 41).await, (0, -1, -1));
    }
    assert_eq!(list(&broker, 7, MAX_TIMESTAMP).await, (0, 4, 40));
    assert_eq!(list(&broker, 8, EARLIEST_LOCAL).await, (0, 1, -1));
    assert_eq!(list(&broker, 9, LATEST_TIERED).await, (0, -1, -1));
    assert_eq!(list(&broker, 11, EARLIEST_PENDING_UPLOAD).await, (0, -1, -1));
    let unsupported = ErrorCode::UnsupportedVersion.code();
    let too_early = [(6, MAX_TIMESTAMP), (7, EARLIEST_LOCAL), (8, LATEST_TIERED), (10, EARLIEST_PENDING_UPLOAD)];
    for (version, timestamp) in too_early.into_iter().chain([(11, -7)]) {
        assert_eq!(list(&broker, version, timestamp).await.0, unsupported);
    }
}
