//! CreatePartitions: adds partitions to topics.

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_protocol::messages::create_partitions_response::{CreatePartitionsResponse, CreatePartitionsTopicResult};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::create_topics::{MAX_PARTITIONS, check_replicas};
use super::reply::{ApiError, duplicates};
use crate::Broker;
use crate::topics::Edit;

/// Answers CreatePartitions: all valid topics of a request grow as one.
pub(crate) async fn handle(broker: &Broker, head: Head, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let twice = duplicates(request.topics.iter().map(|topic| &topic.name));
    let change = broker.topics.change().await;
    let mut allowance = broker.mutations.of(&head, 3);
    let mut outcomes: Vec<(&CreatePartitionsTopic, Result<Edit, ApiError>)> = Vec::new();
    for topic in &request.topics {
        if !twice.contains(&topic.name) {
            let edit = check(broker, topic).and_then(|edit| match &edit {
                Edit::Grow { by, .. } if !request.validate_only => allowance.take(*by).map(|()| edit),
                _ => Ok(edit),
            });
            outcomes.push((topic, edit));
        } else if !outcomes.iter().any(|(told, _)| told.name == topic.name) {
            outcomes.push((topic, Err(ApiError::new(ErrorCode::InvalidRequest, "Duplicate topic name."))));
        }
    }
    let edits = outcomes.iter().filter_map(|(_, edit)| edit.clone().ok()).collect();
    let stored = match request.validate_only {
        true => Ok(()),
        false => change.commit(edits).await.map_err(ApiError::from),
    };
    let results = outcomes.into_iter().map(|(topic, edit)| {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        match edit.map(drop).and(stored.clone()) {
            Ok(()) => result,
            Err(error) => result.with_error_code(error.code.code()).with_error_message(error.text()),
        }
    });
    let throttled = allowance.throttle_time_ms();
    CreatePartitionsResponse::default().with_results(results.collect()).with_throttle_time_ms(throttled)
}

fn check(broker: &Broker, wanted: &CreatePartitionsTopic) -> Result<Edit, ApiError> {
    let topic = broker.topics.get(&wanted.name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let count = topic.partition_count();
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidPartitions, message));
    if wanted.count == count {
        return invalid(format!("Topic already has {count} partition(s)."));
    }
    if wanted.count < count {
        return invalid(format!(
            "The topic {} currently has {count} partition(s); {} would not be an increase.",
            topic.name, wanted.count
        ));
    }
    let by = wanted.count.abs_diff(count);
    if by > MAX_PARTITIONS {
        return invalid(format!("At most {MAX_PARTITIONS} partitions can be added at a time."));
    }
    if let Some(assignments) = &wanted.assignments {
        if assignments.len() != by as usize {
            return Err(ApiError::new(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "Attempted to add {by} additional partition(s), but only {} assignment(s) were specified.",
                    assignments.len()
                ),
            ));
        }
        for assignment in assignments {
            check_replicas(broker, &assignment.broker_ids)?;
        }
    }
    Ok(Edit::Grow { topic, by })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::create_partitions_request::CreatePartitionsAssignment;
    use krocket_protocol::ApiKey;

    use super::*;
    use crate::api::testing::{NODE, TestBroker, error, topic};
    use crate::topics::NewTopic;

    async fn with_topics(names: &[&str]) -> TestBroker {
        let broker = TestBroker::start().await;
        let change = broker.broker.topics.change().await;
        let edits = names.iter().map(|name| {
            let name = name.to_string();
            Edit::Create(NewTopic { name, id: change.new_id(), partitions: 2, configs: Default::default() })
        });
        let edits = edits.collect();
        change.commit(edits).await.expect("created");
        broker
    }

    fn grow(name: &'static str, count: i32) -> CreatePartitionsTopic {
        CreatePartitionsTopic::default().with_name(topic(name)).with_count(count).with_assignments(None)
    }

    fn assigned(name: &'static str, count: i32, replicas: &[&[BrokerId]]) -> CreatePartitionsTopic {
        let assignments =
            replicas.iter().map(|ids| CreatePartitionsAssignment::default().with_broker_ids(ids.to_vec()));
        grow(name, count).with_assignments(Some(assignments.collect()))
    }

    async fn ask(
        broker: &TestBroker,
        version: i16,
        topics: Vec<CreatePartitionsTopic>,
    ) -> Vec<CreatePartitionsTopicResult> {
        let request = CreatePartitionsRequest::default().with_topics(topics);
        broker.ask::<_, CreatePartitionsResponse>(ApiKey::CreatePartitions, version, request).await.results
    }

    #[tokio::test]
    async fn topics_grow_at_every_version_and_keep_what_they_have() {
        let broker = with_topics(&["a", "b"]).await;
        for version in 0..=3 {
            let before = broker.broker.topics.get("a").expect("a").partitions.load_full();
            let count = 3 + i32::from(version);
            let result = ask(&broker, version, vec![grow("a", count)]).await.remove(0);
            assert_eq!((result.name.as_str(), error(result.error_code)), ("a", None));
            let after = broker.broker.topics.get("a").expect("a").partitions.load_full();
            assert_eq!(after.len(), count as usize);
            assert!(before.iter().zip(after.iter()).all(|(before, after)| Arc::ptr_eq(before, after)));
        }
        let ids = |broker: &TestBroker| {
            let topic = broker.broker.topics.get("a").expect("a");
            topic.partitions.load().iter().map(|partition| partition.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&broker), [0, 1, 4, 5, 6, 7]);
        let broker = broker.restart().await;
        assert_eq!(ids(&broker), [0, 1, 4, 5, 6, 7]);
    }

    #[tokio::test]
    async fn what_cannot_grow_says_why() {
        let broker = with_topics(&["a", "b"]).await;
        let cases = [
            (grow("none", 3), ErrorCode::UnknownTopicOrPartition, ""),
            (grow("a", 2), ErrorCode::InvalidPartitions, "already has 2"),
            (grow("a", 1), ErrorCode::InvalidPartitions, "would not be an increase"),
            (grow("a", -1), ErrorCode::InvalidPartitions, "would not be an increase"),
            (grow("a", i32::MAX), ErrorCode::InvalidPartitions, "At most"),
            (assigned("a", 4, &[&[NODE]]), ErrorCode::InvalidReplicaAssignment, "only 1 assignment(s)"),
            (assigned("a", 3, &[&[BrokerId(8)]]), ErrorCode::InvalidReplicaAssignment, "broker 8"),
        ];
        for (topic, code, why) in cases {
            let told = format!("{topic:?}");
            let result = ask(&broker, 3, vec![topic]).await.remove(0);
            assert_eq!(error(result.error_code), Some(code), "{told}");
            assert!(result.error_message.as_deref().unwrap_or_default().contains(why), "{result:?}");
        }
        let results = ask(&broker, 3, vec![grow("a", 3), grow("b", 3), grow("a", 4)]).await;
        let told: Vec<_> = results.iter().map(|result| (result.name.as_str(), error(result.error_code))).collect();
        assert_eq!(told, [("a", Some(ErrorCode::InvalidRequest)), ("b", None)]);
        assert_eq!(error(ask(&broker, 3, vec![assigned("a", 3, &[&[NODE]])]).await[0].error_code), None);
    }

    #[tokio::test]
    async fn validating_grows_nothing() {
        let broker = with_topics(&["a"]).await;
        let request = CreatePartitionsRequest::default().with_topics(vec![grow("a", 9)]).with_validate_only(true);
        let response: CreatePartitionsResponse = broker.ask(ApiKey::CreatePartitions, 3, request).await;
        assert_eq!(error(response.results[0].error_code), None);
        assert_eq!(broker.broker.topics.get("a").expect("a").partition_count(), 2);
    }
}
