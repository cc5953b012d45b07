//! DescribeQuorum: a quorum of one. What Kafka keeps in a metadata log of its own is in the commit log here.

use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use kafka_protocol::messages::{BrokerId, DescribeQuorumRequest, DescribeQuorumResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::reply::text;
use crate::Broker;

const TOPIC: &str = "__cluster_metadata";

/// Answers DescribeQuorum. As Kafka's, a request for anything else is answered with that as unknown.
pub(crate) async fn handle(broker: &Broker, head: Head, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions =
            topic.partitions.iter().map(|asked| match (topic.topic_name.as_str(), asked.partition_index) {
                (TOPIC, 0) => quorum(broker, head.version),
                (_, index) => PartitionData::default()
                    .with_partition_index(index)
                    .with_error_code(ErrorCode::UnknownTopicOrPartition.code()),
            });
        let partitions = partitions.collect();
        TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions)
    });
    let response = DescribeQuorumResponse::default().with_topics(topics.collect());
    if head.version < 2 {
        return response;
    }
    let (host, port) = broker.settings.advertised_to(&head.connection);
    // Kafka's client takes no other (RaftVoterEndpoint).
    let name = text(&head.connection.listener.to_uppercase());
    let listener = Listener::default().with_name(name).with_host(text(host)).with_port(port);
    let node = Node::default().with_node_id(BrokerId(broker.settings.node_id)).with_listeners(vec![listener]);
    response.with_nodes(vec![node])
}

fn quorum(broker: &Broker, version: i16) -> PartitionData {
    let node = BrokerId(broker.settings.node_id);
    let end = i64::try_from(broker.log.position()).unwrap_or(i64::MAX);
    let mut this = ReplicaState::default().with_replica_id(node).with_log_end_offset(end);
    if version >= 1 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(-1, |since| since.as_millis() as i64);
        this = this.with_last_fetch_timestamp(now).with_last_caught_up_timestamp(now);
    }
    PartitionData::default().with_leader_id(node).with_high_watermark(end).with_current_voters(vec![this])
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::describe_quorum_request as request;
    use krocket_protocol::ApiKey;

    use super::*;
    use crate::api::testing::{NODE, TestBroker, error};

    #[tokio::test]
    async fn the_quorum_is_this_broker() {
        let broker = TestBroker::start().await;
        for version in 0..=2 {
            let partition = |index| request::PartitionData::default().with_partition_index(index);
            let asked = |name: &'static str, partitions| {
                request::TopicData::default().with_topic_name(TopicName(text(name))).with_partitions(partitions)
            };
            let topics = vec![asked(TOPIC, vec![partition(0), partition(1)]), asked("t", vec![partition(0)])];
            let asked = DescribeQuorumRequest::default().with_topics(topics);
            let response: DescribeQuorumResponse = broker.ask(ApiKey::DescribeQuorum, version, asked).await;
            assert_eq!(error(response.error_code), None);
            let [metadata, other] = &response.topics[..] else { panic!("{} topics", response.topics.len()) };
            for unknown in [&metadata.partitions[1], &other.partitions[0]] {
                assert_eq!(error(unknown.error_code), Some(ErrorCode::UnknownTopicOrPartition));
            }
            let quorum = &metadata.partitions[0];
            assert_eq!((error(quorum.error_code), quorum.leader_id), (None, NODE));
            let [voter] = &quorum.current_voters[..] else { panic!("{} voters", quorum.current_voters.len()) };
            assert_eq!((voter.replica_id, voter.log_end_offset), (NODE, quorum.high_watermark));
            assert_eq!(voter.last_caught_up_timestamp > 0, version >= 1);
            assert_eq!(response.nodes.len(), usize::from(version >= 2));
            for listener in response.nodes.iter().flat_map(|node| &node.listeners) {
                assert_eq!(listener.name.as_str(), listener.name.to_uppercase());
            }
        }
    }
}
