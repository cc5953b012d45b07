//! CreateTopics.

use std::collections::HashSet;

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::reply::{ApiError, duplicates, text};
use crate::Broker;
use crate::config::alter::Scope;
use crate::config::describe;
use crate::topics::{Change, Edit, NewTopic, Topics, name};

/// Most partitions that one request may create: what a slip of the finger may cost.
pub(super) const MAX_PARTITIONS: u32 = 100_000;

/// Answers CreateTopics: all valid topics of a request are created as one.
pub(crate) async fn handle(broker: &Broker, head: Head, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let twice = duplicates(request.topics.iter().map(|topic| &topic.name));
    let change = broker.topics.change().await;
    let internal = head.connection.is_internal();
    let mut plan = Plan { broker, change: &change, internal, collisions: HashSet::new(), partitions: 0 };
    let mut allowance = broker.mutations.of(&head, 6);
    let mut edits = Vec::new();
    let mut results = Vec::new();
    let mut told = HashSet::new();
    for topic in &request.topics {
        if twice.contains(&topic.name) && !told.insert(&topic.name) {
            continue;
        }
        let new = if twice.contains(&topic.name) {
            Err(ApiError::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
        } else {
            plan.check(topic).and_then(|new| {
                if !request.validate_only {
                    allowance.take(new.partitions)?;
                }
                Ok(new)
            })
        };
        results.push(match new {
            Ok(new) => {
                let result = created(broker, topic, &new);
                edits.push(Edit::Create(new));
                result
            }
            Err(error) => failed(topic, &error),
        });
    }
    if !request.validate_only
        && let Err(error) = change.commit(edits).await
    {
        let error = ApiError::from(error);
        for (result, topic) in results.iter_mut().zip(&request.topics) {
            if result.error_code == 0 {
                *result = failed(topic, &error);
            }
        }
    }
    let throttled = allowance.throttle_time_ms();
    CreateTopicsResponse::default().with_topics(results).with_throttle_time_ms(throttled)
}

struct Plan<'a> {
    broker: &'a Broker,
    change: &'a Change,
    /// By krocket, which names topics after groups: `a.b` and `a_b` may both be one, and are never mixed up here.
    internal: bool,
    collisions: HashSet<String>,
    partitions: u32,
}

impl Plan<'_> {
    fn check(&mut self, topic: &CreatableTopic) -> Result<NewTopic, ApiError> {
        let name = topic.name.as_str();
        name::check(name).map_err(|why| ApiError::new(ErrorCode::InvalidTopicException, why))?;
        if self.broker.topics.get(name).is_some() {
            return Err(ApiError::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        if let Some(other) = self.broker.topics.colliding(name).filter(|_| !self.internal) {
            return Err(ApiError::new(
                ErrorCode::InvalidTopicException,
                format!("Topic '{name}' collides with existing topic: {other}"),
            ));
        }
        if !Topics::claim(&mut self.collisions, name) && !self.internal {
            return Err(ApiError::new(
                ErrorCode::InvalidTopicException,
                format!("Topic '{name}' collides with another topic of this request"),
            ));
        }
        let configs = configs(topic)?;
        let configs = Scope::Topic.replace(configs)?;
        Scope::Topic.check(&configs, &self.broker.configs.layers(), &self.broker.configs.broker())?;
        let partitions = partitions(self.broker, topic)?;
        let total = self.partitions.saturating_add(partitions);
        if total > MAX_PARTITIONS {
            return Err(ApiError::new(
                ErrorCode::PolicyViolation,
                format!("Excessively large number of partitions per request: the limit is {MAX_PARTITIONS}."),
            ));
        }
        self.partitions = total;
        Ok(NewTopic { name: name.to_owned(), id: self.change.new_id(), partitions, configs })
    }
}

fn configs(topic: &CreatableTopic) -> Result<Vec<(String, String)>, ApiError> {
    let null: Vec<&str> = topic.configs.iter().filter(|c| c.value.is_none()).map(|c| c.name.as_str()).collect();
    if !null.is_empty() {
        let message = format!("Null value not supported for topic configs: {}", null.join(","));
        return Err(ApiError::new(ErrorCode::InvalidConfig, message));
    }
    Ok(topic.configs.iter().filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string()))).collect())
}

/// How many partitions it gets; ReplicationControlManager.createTopic for a cluster of one.
fn partitions(broker: &Broker, topic: &CreatableTopic) -> Result<u32, ApiError> {
    if !topic.assignments.is_empty() {
        return assigned(broker, topic);
    }
    match topic.replication_factor {
        -1 | 1 => {}
        factor if factor < 1 => {
            return Err(ApiError::new(
                ErrorCode::InvalidReplicationFactor,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            ));
        }
        factor => {
            return Err(ApiError::new(
                ErrorCode::InvalidReplicationFactor,
                format!(
                    "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot \
                     be reached because only 1 broker(s) are registered."
                ),
            ));
        }
    }
    match topic.num_partitions {
        -1 => Ok(broker.configs.broker().num_partitions.unsigned_abs()),
        count if count < 1 => Err(ApiError::new(
            ErrorCode::InvalidPartitions,
            "Number of partitions was set to an invalid non-positive value.",
        )),
        count => Ok(count.unsigned_abs()),
    }
}

fn assigned(broker: &Broker, topic: &CreatableTopic) -> Result<u32, ApiError> {
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    if topic.replication_factor != -1 {
        return invalid("A manual partition assignment was specified, but replication factor was not set to -1.");
    }
    if topic.num_partitions != -1 {
        return invalid("A manual partition assignment was specified, but numPartitions was not set to -1.");
    }
    let mut indexes = HashSet::new();
    for assignment in &topic.assignments {
        if !indexes.insert(assignment.partition_index) {
            return Err(ApiError::new(
                ErrorCode::InvalidReplicaAssignment,
                format!("Found multiple manual partition assignments for partition {}", assignment.partition_index),
            ));
        }
        check_replicas(broker, &assignment.broker_ids)?;
    }
    let count = u32::try_from(indexes.len()).unwrap_or(u32::MAX);
    if (0..topic.assignments.len()).any(|index| !indexes.contains(&(index as i32))) {
        return Err(ApiError::new(
            ErrorCode::InvalidReplicaAssignment,
            "partitions should be a consecutive 0-based integer sequence",
        ));
    }
    Ok(count)
}

/// The one list of replicas that can be: this node.
pub(super) fn check_replicas(broker: &Broker, replicas: &[BrokerId]) -> Result<(), ApiError> {
    let node = broker.settings.node_id;
    let why = match replicas {
        [] => "includes an empty replica list.".to_owned(),
        [only] if only.0 == node => return Ok(()),
        _ => match replicas.iter().find(|replica| replica.0 != node) {
            Some(other) => format!("includes broker {}, but no such broker is registered.", other.0),
            None => format!("includes the broker {node} more than once."),
        },
    };
    Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, format!("The manual partition assignment {why}")))
}

fn created(broker: &Broker, topic: &CreatableTopic, new: &NewTopic) -> CreatableTopicResult {
    let entries = describe::topic(&new.configs, &broker.configs.layers());
    let configs = entries.iter().map(|entry| {
        CreatableTopicConfigs::default()
            .with_name(text(entry.def.name))
            .with_value(Some(text(entry.value())))
            .with_read_only(entry.read_only())
            .with_config_source(entry.source() as i8)
    });
    CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_topic_id(new.id)
        .with_num_partitions(i32::try_from(new.partitions).unwrap_or(i32::MAX))
        .with_replication_factor(1)
        .with_configs(Some(configs.collect()))
}

fn failed(topic: &CreatableTopic, error: &ApiError) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_error_code(error.code.code())
        .with_error_message(error.text())
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(None)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};
    use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
    use krocket_protocol::ApiKey;

    use super::*;
    use crate::api::testing::{NODE, TestBroker, error, text, topic};

    fn new(name: &'static str) -> CreatableTopic {
        CreatableTopic::default().with_name(topic(name)).with_num_partitions(1).with_replication_factor(1)
    }

    fn config(name: &'static str, value: Option<&'static str>) -> CreatableTopicConfig {
        CreatableTopicConfig::default().with_name(text(name)).with_value(value.map(text))
    }

    fn assigned(replicas: &[&[BrokerId]]) -> CreatableTopic {
        let assignments = replicas.iter().enumerate().map(|(index, replicas)| {
            CreatableReplicaAssignment::default().with_partition_index(index as i32).with_broker_ids(replicas.to_vec())
        });
        new("t").with_num_partitions(-1).with_replication_factor(-1).with_assignments(assignments.collect())
    }

    async fn create(broker: &TestBroker, version: i16, topics: Vec<CreatableTopic>) -> Vec<CreatableTopicResult> {
        let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(1000);
        broker.ask::<_, CreateTopicsResponse>(ApiKey::CreateTopics, version, request).await.topics
    }

    #[tokio::test]
    async fn a_topic_is_told_at_every_version() {
        let broker = TestBroker::with(&[("num.partitions", "3")]).await;
        let names = ["v2", "v3", "v4", "v5", "v6", "v7"];
        for (version, name) in (2..=7).zip(names) {
            let topic = new(name).with_num_partitions(-1).with_configs(vec![config("retention.ms", Some(" 5 "))]);
            let result = create(&broker, version, vec![topic]).await.remove(0);
            assert_eq!((result.name.as_str(), error(result.error_code)), (name, None));
            let there = broker.broker.topics.get(name).expect("created");
            assert_eq!(there.partition_count(), 3);
            assert_eq!(there.config.load().retention_ms, Some(5));
            if version >= 5 {
                assert_eq!((result.num_partitions, result.replication_factor), (3, 1));
                let configs = result.configs.expect("configs");
                let find = |name: &str| configs.iter().find(|config| config.name.as_str() == name).expect("a config");
                let retention = find("retention.ms");
                assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5"), 1));
                assert_eq!(
                    (find("cleanup.policy").value.as_deref(), find("cleanup.policy").config_source),
                    (Some("delete"), 5)
                );
            }
            if version >= 7 {
                assert_eq!(result.topic_id, there.id);
            }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_created_says_why() {
        let broker = TestBroker::start().await;
        create(&broker, 7, vec![new("there"), new("a.b")]).await;
        let cases = [
            (new("there"), ErrorCode::TopicAlreadyExists, "Topic 'there' already exists."),
            (new("a_b"), ErrorCode::InvalidTopicException, "collides with existing topic: a.b"),
            (new("a b"), ErrorCode::InvalidTopicException, "other than ASCII alphanumerics"),
            (new("__krocket"), ErrorCode::InvalidTopicException, "reserved"),
            (new("t").with_num_partitions(0), ErrorCode::InvalidPartitions, "non-positive"),
            (new("t").with_num_partitions(-2), ErrorCode::InvalidPartitions, "non-positive"),
            (new("t").with_num_partitions(100_001), ErrorCode::PolicyViolation, "Excessively large"),
            (new("t").with_replication_factor(0), ErrorCode::InvalidReplicationFactor, "larger than 0"),
            (new("t").with_replication_factor(3), ErrorCode::InvalidReplicationFactor, "only 1 broker(s)"),
            (
                new("t").with_configs(vec![config("x", Some("1"))]),
                ErrorCode::InvalidConfig,
                "Unknown topic config name: x",
            ),
            (new("t").with_configs(vec![config("retention.ms", Some("x"))]), ErrorCode::InvalidConfig, "Not a number"),
            (new("t").with_configs(vec![config("retention.ms", None)]), ErrorCode::InvalidConfig, "Null value"),
            (assigned(&[&[BrokerId(8)]]), ErrorCode::InvalidReplicaAssignment, "broker 8"),
            (assigned(&[&[NODE, BrokerId(8)]]), ErrorCode::InvalidReplicaAssignment, "broker 8"),
            (assigned(&[&[NODE, NODE]]), ErrorCode::InvalidReplicaAssignment, "more than once"),
            (assigned(&[&[]]), ErrorCode::InvalidReplicaAssignment, "empty replica list"),
            (assigned(&[&[NODE]]).with_num_partitions(1), ErrorCode::InvalidRequest, "numPartitions"),
            (assigned(&[&[NODE]]).with_replication_factor(1), ErrorCode::InvalidRequest, "replication factor"),
        ];
        for (topic, code, why) in cases {
            let told = format!("{topic:?}");
            let result = create(&broker, 7, vec![topic]).await.remove(0);
            assert_eq!(error(result.error_code), Some(code), "{told}");
            assert!(result.error_message.as_deref().is_some_and(|message| message.contains(why)), "{result:?}");
        }
        assert_eq!(broker.broker.topics.all().len(), 2);
        assert_eq!(error(create(&broker, 7, vec![assigned(&[&[NODE], &[NODE]])]).await[0].error_code), None);
        assert_eq!(broker.broker.topics.get("t").expect("created").partition_count(), 2);
    }

    #[tokio::test]
    async fn one_bad_topic_does_not_spoil_the_others() {
        let broker = TestBroker::start().await;
        let topics = vec![new("twice"), new("good"), new("twice"), new("x.y"), new("x_y")];
        let results = create(&broker, 7, topics).await;
        let told: Vec<_> = results.iter().map(|result| (result.name.as_str(), error(result.error_code))).collect();
        assert_eq!(
            told,
            [
                ("twice", Some(ErrorCode::InvalidRequest)),
                ("good", None),
                ("x.y", None),
                ("x_y", Some(ErrorCode::InvalidTopicException)),
            ]
        );
        let names: Vec<_> = broker.broker.topics.all().iter().map(|topic| topic.name.clone()).collect();
        assert_eq!(names, ["good", "x.y"]);
    }

    #[tokio::test]
    async fn validating_creates_nothing() {
        let broker = TestBroker::start().await;
        let request = CreateTopicsRequest::default().with_topics(vec![new("t")]).with_validate_only(true);
        let response: CreateTopicsResponse = broker.ask(ApiKey::CreateTopics, 7, request).await;
        assert_eq!(error(response.topics[0].error_code), None);
        assert!(broker.broker.topics.all().is_empty());
    }

    #[tokio::test]
    async fn a_topic_is_the_same_after_a_restart_and_its_ids_are_new_for_ever() {
        let broker = TestBroker::start().await;
        let configs = vec![config("cleanup.policy", Some("compact"))];
        create(&broker, 7, vec![new("a").with_num_partitions(2).with_configs(configs), new("b")]).await;
        let (a, b) = (broker.broker.topics.get("a").expect("a"), broker.broker.topics.get("b").expect("b"));
        let ids = |topic: &crate::topics::Topic| {
            topic.partitions.load().iter().map(|partition| partition.id).collect::<Vec<_>>()
        };
        let cluster = broker.broker.cluster_id.clone();
        assert_eq!((ids(&a), ids(&b)), (vec![0, 1], vec![2]));
        let broker = broker.restart().await;
        let again = broker.broker.topics.get("a").expect("a");
        assert_eq!((again.id, ids(&again)), (a.id, ids(&a)));
        assert_eq!(*again.config.load().clone(), *a.config.load().clone());
        assert_eq!(broker.broker.topics.by_id(b.id).expect("b").name, "b");
        assert_eq!(broker.broker.cluster_id, cluster);
        assert_eq!(cluster.len(), 22);
        let change = broker.broker.topics.change().await;
        change.commit(vec![Edit::Delete(again)]).await.expect("deleted");
        create(&broker, 7, vec![new("a")]).await;
        let a_new = broker.broker.topics.get("a").expect("a");
        assert_eq!(ids(&a_new), [3]);
        assert_ne!(a_new.id, a.id);
    }

    #[tokio::test]
    async fn many_topics_in_one_request_are_one_commit() {
        let broker = TestBroker::start().await;
        let names: Vec<String> = (0..5_000).map(|n| format!("topic-{n:04}")).collect();
        let topics = names.iter().map(|name| {
            let name = kafka_protocol::messages::TopicName(krocket_protocol::StrBytes::from_string(name.clone()));
            CreatableTopic::default().with_name(name).with_num_partitions(10).with_replication_factor(-1)
        });
        let results = create(&broker, 7, topics.collect()).await;
        assert!(results.iter().all(|result| result.error_code == 0));
        let response: MetadataResponse =
            broker.ask(ApiKey::Metadata, 13, MetadataRequest::default().with_topics(None)).await;
        assert_eq!(response.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>(), 50_000);
        let broker = broker.restart().await;
        assert_eq!(broker.broker.topics.all().len(), 5_000);
    }
}
