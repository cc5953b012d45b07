//! AlterPartitionReassignments: there is no other broker to move a partition to.

use kafka_protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition,
};
use kafka_protocol::messages::alter_partition_reassignments_response::{
    AlterPartitionReassignmentsResponse, ReassignablePartitionResponse, ReassignableTopicResponse,
};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::create_topics::check_replicas;
use super::reply::ApiError;
use crate::Broker;

/// Answers AlterPartitionReassignments: success for the assignment that is there already, an error for every other.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let response = ReassignablePartitionResponse::default().with_partition_index(partition.partition_index);
            match check(broker, &topic.name, partition) {
                Ok(()) => response,
                Err(error) => response.with_error_code(error.code.code()).with_error_message(error.text()),
            }
        });
        ReassignableTopicResponse::default().with_partitions(partitions.collect()).with_name(topic.name)
    });
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_responses(topics.collect())
}

fn check(broker: &Broker, name: &str, partition: &ReassignablePartition) -> Result<(), ApiError> {
    let unknown = |message: String| ApiError::new(ErrorCode::UnknownTopicOrPartition, message);
    let topic = broker.topics.get(name).ok_or_else(|| unknown(format!("Unable to find a topic named {name}.")))?;
    let index = partition.partition_index;
    if topic.partition(index).is_none() {
        return Err(unknown(format!("Unable to find partition {name}:{index}.")));
    }
    match &partition.replicas {
        None => Err(ErrorCode::NoReassignmentInProgress.into()),
        Some(replicas) => check_replicas(broker, replicas),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::alter_partition_reassignments_request::ReassignableTopic;
    use kafka_protocol::messages::{BrokerId, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};
    use krocket_protocol::ApiKey;

    use super::*;
    use crate::api::testing::{NODE, TestBroker, error, topic};
    use crate::topics::{Edit, NewTopic};

    #[tokio::test]
    async fn only_what_is_there_already_can_be_assigned() {
        let broker = TestBroker::start().await;
        let change = broker.broker.topics.change().await;
        let new = NewTopic { name: "a".to_owned(), id: change.new_id(), partitions: 5, configs: Default::default() };
        change.commit(vec![Edit::Create(new)]).await.expect("created");
        let cases = [
            (0, Some(vec![NODE]), None),
            (1, Some(vec![BrokerId(8)]), Some(ErrorCode::InvalidReplicaAssignment)),
            (2, Some(vec![NODE, BrokerId(8)]), Some(ErrorCode::InvalidReplicaAssignment)),
            (3, Some(vec![]), Some(ErrorCode::InvalidReplicaAssignment)),
            (4, None, Some(ErrorCode::NoReassignmentInProgress)),
            (5, Some(vec![NODE]), Some(ErrorCode::UnknownTopicOrPartition)),
        ];
        for version in 0..=1 {
            let partitions = cases.iter().map(|(index, replicas, _)| {
                ReassignablePartition::default().with_partition_index(*index).with_replicas(replicas.clone())
            });
            let topics = vec![ReassignableTopic::default().with_name(topic("a")).with_partitions(partitions.collect())];
            let request = AlterPartitionReassignmentsRequest::default().with_topics(topics);
            let response: AlterPartitionReassignmentsResponse =
                broker.ask(ApiKey::AlterPartitionReassignments, version, request).await;
            assert_eq!(error(response.error_code), None);
            for (partition, (index, _, code)) in response.responses[0].partitions.iter().zip(&cases) {
                assert_eq!((partition.partition_index, error(partition.error_code)), (*index, *code));
            }
        }
        let request = ListPartitionReassignmentsRequest::default().with_topics(None);
        let response: ListPartitionReassignmentsResponse =
            broker.ask(ApiKey::ListPartitionReassignments, 0, request).await;
        assert!(response.topics.is_empty() && response.error_code == 0);
    }
}
