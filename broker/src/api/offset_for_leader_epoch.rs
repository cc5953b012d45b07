//! OffsetForLeaderEpoch: where an epoch ends. There is one epoch, and it ends at the high watermark's log end.

use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use krocket_stack::Head;

use super::partition_of;
use crate::Broker;
use crate::log::LEADER_EPOCH;

/// As Kafka's `LeaderEpochFileCache.endOffsetFor`: for the current epoch the log's end, for one that never was nothing.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|asked| {
            let response = EpochEndOffset::default().with_partition(asked.partition);
            match partition_of(broker, &topic.topic, asked.partition, asked.current_leader_epoch) {
                Err(code) => response.with_error_code(code.code()),
                Ok(partition) if asked.leader_epoch == LEADER_EPOCH => {
                    response.with_leader_epoch(LEADER_EPOCH).with_end_offset(partition.log_end())
                }
                Ok(_) => response,
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
