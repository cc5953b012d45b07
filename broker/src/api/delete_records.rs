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
