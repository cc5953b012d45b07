//! ElectLeaders: the leader is always the preferred one, there being no other.

use kafka_protocol::messages::elect_leaders_request::ElectLeadersRequest;
use kafka_protocol::messages::elect_leaders_response::{ElectLeadersResponse, PartitionResult, ReplicaElectionResult};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::reply::{ApiError, text, topic_name};
use crate::Broker;

/// Answers ElectLeaders. For all partitions (a null list) those that need no election are left out, as in Kafka.
pub(crate) async fn handle(broker: &Broker, _head: Head, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let response = ElectLeadersResponse::default();
    // 0 preferred, 1 unclean; version 0 knows only the first.
    if !(0..=1).contains(&request.election_type) {
        return response.with_error_code(ErrorCode::InvalidRequest.code());
    }
    let Some(topics) = request.topic_partitions else {
        let all = broker.topics.all();
        let none = all.iter().map(|topic| ReplicaElectionResult::default().with_topic(topic_name(&topic.name)));
        return response.with_replica_election_results(none.collect());
    };
    let results = topics.into_iter().map(|asked| {
        let topic = broker.topics.get(&asked.topic);
        let partitions = asked.partitions.iter().map(|&index| {
            let error = match &topic {
                None => unknown(format!("No such topic as {}", asked.topic.as_str())),
                Some(topic) if topic.partition(index).is_none() => {
                    unknown(format!("No such partition as {}-{index}", asked.topic.as_str()))
                }
                Some(_) => {
                    ApiError::new(ErrorCode::ElectionNotNeeded, "Leader election not needed for topic partition.")
                }
            };
            PartitionResult::default()
                .with_partition_id(index)
                .with_error_code(error.code.code())
                .with_error_message(error.message.as_deref().map(text))
        });
        ReplicaElectionResult::default().with_partition_result(partitions.collect()).with_topic(asked.topic)
    });
    response.with_replica_election_results(results.collect())
}

fn unknown(message: String) -> ApiError {
    ApiError::new(ErrorCode::UnknownTopicOrPartition, message)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
    use krocket_protocol::ApiKey;

    use super::*;
    use crate::api::testing::{TestBroker, error, topic};
    use crate::topics::{Edit, NewTopic};

    #[tokio::test]
    async fn no_election_is_ever_needed() {
        let broker = TestBroker::start().await;
        let change = broker.broker.topics.change().await;
        let new = NewTopic { name: "a".to_owned(), id: change.new_id(), partitions: 1, configs: Default::default() };
        change.commit(vec![Edit::Create(new)]).await.expect("created");
        for version in 0..=2 {
            let topics = vec![
                TopicPartitions::default().with_topic(topic("a")).with_partitions(vec![0, 1]),
                TopicPartitions::default().with_topic(topic("none")).with_partitions(vec![0]),
            ];
            let request = ElectLeadersRequest::default().with_topic_partitions(Some(topics));
            let response: ElectLeadersResponse = broker.ask(ApiKey::ElectLeaders, version, request).await;
            let results = response.replica_election_results.iter().flat_map(|result| &result.partition_result);
            let codes: Vec<_> = results.map(|partition| error(partition.error_code)).collect();
            let unknown = Some(ErrorCode::UnknownTopicOrPartition);
            assert_eq!(codes, [Some(ErrorCode::ElectionNotNeeded), unknown, unknown]);
            let request = ElectLeadersRequest::default().with_topic_partitions(None);
            let response: ElectLeadersResponse = broker.ask(ApiKey::ElectLeaders, version, request).await;
            assert_eq!(error(response.error_code), None);
            assert!(response.replica_election_results.iter().all(|result| result.partition_result.is_empty()));
        }
        let request = ElectLeadersRequest::default().with_election_type(2);
        let response: ElectLeadersResponse = broker.ask(ApiKey::ElectLeaders, 2, request).await;
        assert_eq!(error(response.error_code), Some(ErrorCode::InvalidRequest));
    }
}
