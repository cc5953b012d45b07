//! DescribeTopicPartitions (KIP-966): Metadata in pages.

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, DescribeTopicPartitionsRequest};
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor as NextCursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use krocket_protocol::ErrorCode;
use krocket_stack::{Error, Head};

use super::metadata::LEADER_EPOCH;
use super::reply::{TOPIC_OPERATIONS, topic_name};
use crate::Broker;
use crate::topics::{Topic, name};

/// Answers DescribeTopicPartitions: topics by name, from the cursor on, up to the limit of partitions.
///
/// The response has no error code, so as with Kafka a cursor that cannot be ends the connection.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: DescribeTopicPartitionsRequest,
) -> Result<DescribeTopicPartitionsResponse, Error> {
    let (first, first_partition) = start(request.cursor.as_ref())?;
    let names: Vec<String> = if request.topics.is_empty() {
        broker.topics.from(first).iter().map(|topic| topic.name.clone()).collect()
    } else {
        let mut names: Vec<String> = request.topics.iter().map(|topic| topic.name.to_string()).collect();
        names.retain(|name| name.as_str() >= first);
        names.sort_unstable();
        names.dedup();
        if !first.is_empty() && names.first().is_none_or(|name| name != first) {
            return Err(Error::Close(format!(
                "DescribeTopicPartitionsRequest topic list should contain the cursor topic: {first}"
            )));
        }
        names
    };
    let limit = request.response_partition_limit.min(broker.configs.broker().max_request_partitions).max(1);
    let mut left = limit;
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        if left == 0 {
            response.next_cursor = Some(cursor(&name, 0));
            break;
        }
        let Some(topic) = broker.topics.get(&name) else {
            // Deleted meanwhile, unless it was asked for.
            if !request.topics.is_empty() {
                response.topics.push(unknown(&name));
            }
            continue;
        };
        let from = if name == first { first_partition } else { 0 };
        let to = topic.partition_count().min(from.saturating_add(left));
        response.topics.push(describe(broker, &topic, from, to));
        if to < topic.partition_count() {
            response.next_cursor = Some(cursor(&name, to));
            break;
        }
        left -= (to - from).max(0);
    }
    Ok(response)
}

fn start(cursor: Option<&Cursor>) -> Result<(&str, i32), Error> {
    match cursor {
        None => Ok(("", 0)),
        Some(cursor) if cursor.partition_index < 0 => Err(Error::Close(format!(
            "DescribeTopicPartitionsRequest cursor partition must be valid: {}",
            cursor.partition_index
        ))),
        Some(cursor) => Ok((cursor.topic_name.as_str(), cursor.partition_index)),
    }
}

fn cursor(topic: &str, partition: i32) -> NextCursor {
    NextCursor::default().with_topic_name(topic_name(topic)).with_partition_index(partition)
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = match name::check(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code.code())
        .with_name(Some(topic_name(name)))
        .with_is_internal(name::is_internal(name))
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn describe(broker: &Broker, topic: &Topic, from: i32, to: i32) -> DescribeTopicPartitionsResponseTopic {
    let node = BrokerId(broker.settings.node_id);
    let partition = |index| {
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(name::is_internal(&topic.name))
        .with_partitions((from..to).map(partition).collect())
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
    use krocket_protocol::ApiKey;

    use super::*;
    use crate::api::testing::{NODE, TestBroker, error, topic};
    use crate::topics::{Edit, NewTopic};

    /// a has 3 partitions, b 2, c 1.
    async fn broker() -> TestBroker {
        let broker = TestBroker::start().await;
        let change = broker.broker.topics.change().await;
        let edits = [("a", 3), ("b", 2), ("c", 1)].map(|(name, partitions)| {
            let name = name.to_owned();
            Edit::Create(NewTopic { name, id: change.new_id(), partitions, configs: Default::default() })
        });
        change.commit(edits.into()).await.expect("created");
        broker
    }

    fn request(names: &[&'static str], limit: i32) -> DescribeTopicPartitionsRequest {
        let topics = names.iter().map(|name| TopicRequest::default().with_name(topic(name))).collect();
        DescribeTopicPartitionsRequest::default()
            .with_topics(topics)
            .with_response_partition_limit(limit)
            .with_cursor(None)
    }

    fn from(
        request: DescribeTopicPartitionsRequest,
        name: &'static str,
        partition: i32,
    ) -> DescribeTopicPartitionsRequest {
        request.with_cursor(Some(Cursor::default().with_topic_name(topic(name)).with_partition_index(partition)))
    }

    /// What was told, as `topic:partitions`, and where it goes on.
    async fn ask(broker: &TestBroker, request: DescribeTopicPartitionsRequest) -> (Vec<String>, Option<String>) {
        let response: DescribeTopicPartitionsResponse = broker.ask(ApiKey::DescribeTopicPartitions, 0, request).await;
        let told = response.topics.iter().map(|topic| {
            let indexes: Vec<_> =
                topic.partitions.iter().map(|partition| partition.partition_index.to_string()).collect();
            let code = error(topic.error_code).map_or(indexes.join(","), |code| format!("{code:?}"));
            format!("{}:{code}", topic.name.as_ref().expect("a name").as_str())
        });
        let next = response.next_cursor.map(|next| format!("{}:{}", next.topic_name.as_str(), next.partition_index));
        (told.collect(), next)
    }

    #[tokio::test]
    async fn pages_follow_each_other_without_a_gap() {
        let broker = broker().await;
        let all = ["a:0,1,2", "b:0,1", "c:0"].map(str::to_owned);
        assert_eq!(ask(&broker, request(&[], 2000)).await, (all.to_vec(), None));
        assert_eq!(ask(&broker, request(&["c", "a", "b", "a"], 2000)).await, (all.to_vec(), None));
        let cases: [(DescribeTopicPartitionsRequest, &[&str], Option<&str>); 6] = [
            (request(&[], 2), &["a:0,1"], Some("a:2")),
            (from(request(&[], 2), "a", 2), &["a:2", "b:0"], Some("b:1")),
            (from(request(&[], 2), "b", 1), &["b:1", "c:0"], None),
            (request(&[], 3), &["a:0,1,2"], Some("b:0")),
            (from(request(&["a", "b"], 3), "b", 0), &["b:0,1"], None),
            (request(&[], 0), &["a:0"], Some("a:1")),
        ];
        for (request, told, next) in cases {
            let case = format!("{request:?}");
            let (was_told, was_next) = ask(&broker, request).await;
            assert_eq!((was_told, was_next.as_deref()), (told.iter().map(|t| t.to_string()).collect(), next), "{case}");
        }
    }

    #[tokio::test]
    async fn the_broker_limits_a_page_too() {
        let limited = TestBroker::with(&[("max.request.partition.size.limit", "1")]).await;
        let change = limited.broker.topics.change().await;
        let new = NewTopic { name: "a".to_owned(), id: change.new_id(), partitions: 3, configs: Default::default() };
        change.commit(vec![Edit::Create(new)]).await.expect("created");
        assert_eq!(ask(&limited, request(&[], 2000)).await, (vec!["a:0".to_owned()], Some("a:1".to_owned())));
    }

    #[tokio::test]
    async fn every_field_of_a_partition_is_told() {
        let broker = broker().await;
        let response: DescribeTopicPartitionsResponse =
            broker.ask(ApiKey::DescribeTopicPartitions, 0, request(&["c"], 1)).await;
        let topic = &response.topics[0];
        assert_eq!(topic.topic_id, broker.broker.topics.get("c").expect("c").id);
        assert_eq!(topic.topic_authorized_operations, TOPIC_OPERATIONS);
        let partition = &topic.partitions[0];
        assert_eq!((partition.leader_id, partition.leader_epoch), (NODE, 0));
        assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![NODE], &vec![NODE]));
        assert_eq!((&partition.eligible_leader_replicas, &partition.offline_replicas), (&Some(vec![]), &vec![]));
    }

    #[tokio::test]
    async fn unknown_topics_are_told_and_impossible_cursors_end_the_connection() {
        let broker = broker().await;
        let (told, _) = ask(&broker, request(&["none", "a b"], 9)).await;
        assert_eq!(told, ["a b:InvalidTopicException", "none:UnknownTopicOrPartition"]);
        for request in [from(request(&["a"], 9), "b", 0), from(request(&[], 9), "b", -1)] {
            let outcome: Result<DescribeTopicPartitionsResponse, _> =
                broker.try_ask(ApiKey::DescribeTopicPartitions, 0, request).await;
            assert!(matches!(outcome, Err(Error::Close(_))), "{outcome:?}");
        }
    }
}
