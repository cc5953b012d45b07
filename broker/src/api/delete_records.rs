//! DeleteRecords: moves the log start of partitions.

use futures_util::future::join_all;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::partition_of;
use crate::Broker;
use crate::log::Durability;

/// Stands for the high watermark.
const TO_HIGH_WATERMARK: i64 = -1;

/// Deletes what lies before each offset; answered when that is durable, so that records stay deleted.
pub(crate) async fn handle(broker: &Broker, _head: Head, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(async |topic| {
        let partitions = topic.partitions.iter().map(async |asked| {
            let result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            match delete(broker, &topic.name, asked.partition_index, asked.offset).await {
                Ok(low_watermark) => result.with_low_watermark(low_watermark),
                Err(code) => result.with_low_watermark(-1).with_error_code(code.code()),
            }
        });
        let partitions = join_all(partitions).await;
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(join_all(topics).await)
}

async fn delete(broker: &Broker, topic: &str, index: i32, offset: i64) -> Result<i64, ErrorCode> {
    let partition = partition_of(broker, topic, index, -1)?;
    // Kafka refuses on a compacted topic that is not deleted from as well.
    let config = broker.topics.get(topic).map(|topic| topic.config.load_full());
    if config.is_some_and(|config| !config.delete) {
        return Err(ErrorCode::PolicyViolation);
    }
    let high_watermark = partition.high_watermark();
    let offset = if offset == TO_HIGH_WATERMARK { high_watermark } else { offset };
    if !(0..=high_watermark).contains(&offset) {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    if offset > partition.log_start() {
        broker.log.delete_records(&partition, offset, Durability::Synced).await.map_err(|error| error.code())?;
    }
    Ok(partition.log_start())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    use krocket_protocol::ApiKey;

    use super::super::testing::{TestBroker, topic};
    use super::super::testing_data::*;
    use super::*;

    async fn ask(broker: &TestBroker, version: i16, name: &'static str, offset: i64) -> (i16, i64) {
        let partitions = vec![DeleteRecordsPartition::default().with_offset(offset)];
        let topics = vec![DeleteRecordsTopic::default().with_name(topic(name)).with_partitions(partitions)];
        let request = DeleteRecordsRequest::default().with_topics(topics).with_timeout_ms(1000);
        let response: DeleteRecordsResponse = broker.ask(ApiKey::DeleteRecords, version, request).await;
        let result = &response.topics[0].partitions[0];
        (result.error_code, result.low_watermark)
    }

    #[tokio::test]
    async fn what_lies_before_the_offset_goes_for_good() {
        let broker = TestBroker::start().await;
        let to = create(&broker, "t", 1, &[]).await;
        produce(&broker, 9, &to, 0, -1, records(&["a", "b", "c"])).await;
        produce(&broker, 9, &to, 0, -1, records(&["d"])).await;
        assert_eq!(ask(&broker, 0, "t", 2).await, (0, 2));
        assert_eq!(ask(&broker, 1, "t", 1).await, (0, 2), "the start does not move back");
        for (offset, name, code) in [
            (5, "t", ErrorCode::OffsetOutOfRange),
            (-2, "t", ErrorCode::OffsetOutOfRange),
            (1, "nowhere", ErrorCode::UnknownTopicOrPartition),
        ] {
            assert_eq!(ask(&broker, 2, name, offset).await, (code.code(), -1));
        }
        let broker = broker.restart().await;
        let response = fetch(&broker, 12, fetch_request(12, &to, vec![wanted(0, 2)])).await;
        let data = &response.responses[0].partitions[0];
        // The batch that holds the start comes whole, as from Kafka; clients skip what lies before their offset.
        assert_eq!((data.log_start_offset, batches(data)[0].0.base_offset), (2, 0));
        assert_eq!(ask(&broker, 2, "t", TO_HIGH_WATERMARK).await, (0, 4));
        assert_eq!(produce(&broker, 9, &to, 0, -1, records(&["e"])).await.base_offset, 4);
    }

    #[tokio::test]
    async fn a_compacted_topic_is_not_deleted_from() {
        let broker = TestBroker::start().await;
        create(&broker, "t", 1, &[("cleanup.policy", "compact")]).await;
        assert_eq!(ask(&broker, 2, "t", 0).await, (ErrorCode::PolicyViolation.code(), -1));
    }
}
