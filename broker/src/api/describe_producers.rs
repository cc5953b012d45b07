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
                Err((code, message)) => {
                    response.with_error_code(code.code()).with_error_message(message.map(StrBytes::from_string))
                }
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
            .with_coordinator_epoch(view.coordinator_epoch)
            .with_current_txn_start_offset(view.txn_start)
    };
    Ok(views.into_iter().map(state).collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_producers_request::TopicRequest;
    use krocket_protocol::ApiKey;

    use super::super::testing::{TestBroker, topic};
    use super::super::testing_data::*;
    use super::*;

    #[tokio::test]
    async fn producers_are_shown_with_their_last_sequence_also_after_a_restart() {
        let broker = TestBroker::start().await;
        let to = create(&broker, "t", 1, &[]).await;
        for sequence in 0..3 {
            produce(&broker, 9, &to, 0, -1, finish(single().producer(9, 4, sequence))).await;
        }
        let broker = broker.restart().await;
        let topics = vec![TopicRequest::default().with_name(topic("t")).with_partition_indexes(vec![0, 1])];
        let request = DescribeProducersRequest::default().with_topics(topics);
        let response: DescribeProducersResponse = broker.ask(ApiKey::DescribeProducers, 0, request).await;
        let [found, missing] = &response.topics[0].partitions[..] else { panic!("two were asked for") };
        let state = &found.active_producers[0];
        assert_eq!((state.producer_id.0, state.producer_epoch, state.last_sequence), (9, 4, 2));
        assert_eq!((state.coordinator_epoch, state.current_txn_start_offset), (-1, -1));
        assert_eq!(missing.error_code, ErrorCode::UnknownTopicOrPartition.code());
    }
}
