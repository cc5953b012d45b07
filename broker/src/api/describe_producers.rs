//! DescribeProducers: the idempotent producers that a partition remembers.

use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::Head;

use super::partition_of;
use crate::Broker;
use crate::log::ProducerView;

/// Reads memory, or the index where nobody has written since the start.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|&index| {
            let response = PartitionResponse::default().with_partition_index(index);
            match describe(broker, &topic.name, index) {
                Ok(producers) => response.with_active_producers(producers),
                Err((code, message)) => response
                    .with_error_code(code.code())
                    .with_error_message(message.map(StrBytes::from_string)),
            }
        });
        let partitions = partitions.collect();
        TopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn describe(broker: &Broker, topic: &str, index: i32) -> Result<Vec<ProducerState>, (ErrorCode, Option<String>)> {
    let partition = partition_of(broker, topic, index, -1).map_err(|code| (code, None))?;
    let views = broker.log.producers(&partition).map_err(|error| (error.code(), Some(error.to_string())))?;
    let state = |view: ProducerView| {
        ProducerState::default()
            .with_producer_id(ProducerId(view.producer_id))
            .with_producer_epoch(i32::from(view.epoch))
            .with_last_sequence(view.last_sequence)
            .with_last_timestamp(view.last_timestamp)
            .with_coordinator_epoch(-1)
            .with_current_txn_start_offset(-1)
    };
    Ok(views.into_iter().map(state).collect())
}
