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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    use krocket_protocol::{ApiKey, ErrorCode};

    use super::super::testing::{TestBroker, topic};
    use super::super::testing_data::*;
    use super::*;

    #[tokio::test]
    async fn the_one_epoch_ends_where_the_log_ends() {
        let broker = TestBroker::start().await;
        let to = create(&broker, "t", 1, &[]).await;
        produce(&broker, 9, &to, 0, -1, records(&["a", "b"])).await;
        for (current, asked, expected) in [
            (0, 0, (0, 0, 2)),
            (-1, 0, (0, 0, 2)),
            (0, 1, (0, -1, -1)),
            (1, 0, (ErrorCode::UnknownLeaderEpoch.code(), -1, -1)),
        ] {
            for version in 2..=4 {
                let partition =
                    OffsetForLeaderPartition::default().with_current_leader_epoch(current).with_leader_epoch(asked);
                let topics =
                    vec![OffsetForLeaderTopic::default().with_topic(topic("t")).with_partitions(vec![partition])];
                let request = OffsetForLeaderEpochRequest::default().with_topics(topics);
                let response: OffsetForLeaderEpochResponse =
                    broker.ask(ApiKey::OffsetForLeaderEpoch, version, request).await;
                let end = &response.topics[0].partitions[0];
                assert_eq!((end.error_code, end.leader_epoch, end.end_offset), expected);
            }
        }
    }
}
