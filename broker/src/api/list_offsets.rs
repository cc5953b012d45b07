//! ListOffsets: first, last, by time.

use std::sync::Arc;

use kafka_protocol::messages::ListOffsetsResponse as Answer;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use krocket_protocol::ErrorCode;
use krocket_protocol::list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
use krocket_stack::Head;

use super::partition_of;
use crate::Broker;
use crate::log::{LEADER_EPOCH, Log, Partition, StorageError, TimedOffset};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// KIP-734.
const MAX_TIMESTAMP: i64 = -3;
/// KIP-405.
const EARLIEST_LOCAL: i64 = -4;
/// KIP-1005.
const LATEST_TIERED: i64 = -5;
/// KIP-1023.
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Offsets by time read the index and, at the end, one batch: on a thread that may block.
pub(crate) async fn handle(broker: &Broker, head: Head, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let ListOffsetsRequest(request) = request;
    let read_committed = request.isolation_level == 1;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let index = asked.partition_index;
            let answer = match partition_of(broker, &topic.name, index, asked.current_leader_epoch) {
                Ok(partition) => look_up(broker, head.version, partition, asked, read_committed).await,
                Err(code) => Err(code),
            };
            let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
            partitions.push(match answer {
                Ok(Some(TimedOffset { offset, timestamp })) => {
                    let leader_epoch = if head.version >= 4 { LEADER_EPOCH } else { -1 };
                    response.with_offset(offset).with_timestamp(timestamp).with_leader_epoch(leader_epoch)
                }
                Ok(None) => response,
                Err(code) => response.with_error_code(code.code()),
            });
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    ListOffsetsResponse(Answer::default().with_topics(topics))
}

async fn look_up(
    broker: &Broker,
    version: i16,
    partition: Arc<Partition>,
    asked: ListOffsetsPartition,
    read_committed: bool,
) -> Result<Option<TimedOffset>, ErrorCode> {
    let untimed = |offset| Ok(Some(TimedOffset { offset, timestamp: -1 }));
    match asked.timestamp {
        LATEST if read_committed => untimed(partition.last_stable_offset()),
        LATEST => untimed(partition.high_watermark()),
        EARLIEST => untimed(partition.log_start()),
        // All there is is local.
        EARLIEST_LOCAL if version >= 8 => untimed(partition.log_start()),
        // Nothing is in remote storage: Kafka answers no offset, and no error.
        LATEST_TIERED if version >= 9 => Ok(None),
        EARLIEST_PENDING_UPLOAD if version >= 11 => Ok(None),
        MAX_TIMESTAMP if version >= 7 => search(broker, move |log| log.max_timestamp(&partition)).await,
        timestamp if timestamp >= 0 => search(broker, move |log| log.offset_for_timestamp(&partition, timestamp)).await,
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

async fn search(
    broker: &Broker,
    search: impl FnOnce(&Log) -> Result<Option<TimedOffset>, StorageError> + Send + 'static,
) -> Result<Option<TimedOffset>, ErrorCode> {
    let log = broker.log.clone();
    let found = tokio::task::spawn_blocking(move || search(&log)).await;
    found.map_err(|_| ErrorCode::UnknownServerError)?.map_err(|error| {
        tracing::error!(%error, "cannot look up an offset by time");
        error.code()
    })
}

#[cfg(test)]
mod tests;
