//! Metadata: the brokers and topics there are; creates topics that may be created by asking for them.

use std::collections::{BTreeMap, HashMap, HashSet};

use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;
use uuid::Uuid;

use super::reply::{CLUSTER_OPERATIONS, NONE, NOT_ASKED, TOPIC_OPERATIONS, text, topic_name};
use crate::Broker;
use crate::topics::{Edit, NewTopic, Topic, Topics, name};

/// The leader epoch of every partition: a broker that is alone never elects.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// Answers Metadata.
pub(crate) async fn handle(broker: &Broker, head: Head, request: MetadataRequest) -> MetadataResponse {
    let operations = if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { NOT_ASKED };
    let mut topics = match wanted(&request, head.version) {
        Wanted::All => broker.topics.all().iter().map(|topic| describe(broker, topic)).collect(),
        Wanted::Ids(ids) => ids.into_iter().map(|id| by_id(broker, id)).collect(),
        Wanted::Names(names) => {
            let refused = create_missing(broker, &names, request.allow_auto_topic_creation).await;
            names.iter().map(|name| by_name(broker, name, refused.get(name))).collect::<Vec<_>>()
        }
        Wanted::Invalid(topics) => topics,
    };
    for topic in &mut topics {
        topic.topic_authorized_operations = operations;
    }
    let node = BrokerId(broker.settings.node_id);
    let (host, port) = broker.settings.advertised_to(&head.connection);
    let this = MetadataResponseBroker::default().with_node_id(node).with_host(text(host)).with_port(port.into());
    let cluster_asked = request.include_cluster_authorized_operations && (8..=10).contains(&head.version);
    MetadataResponse::default()
        .with_brokers(vec![this])
        .with_cluster_id(Some(text(&broker.cluster_id)))
        .with_controller_id(node)
        .with_topics(topics)
        .with_cluster_authorized_operations(if cluster_asked { CLUSTER_OPERATIONS } else { NOT_ASKED })
}

enum Wanted {
    All,
    Names(Vec<String>),
    Ids(Vec<Uuid>),
    Invalid(Vec<MetadataResponseTopic>),
}

/// As Kafka reads the list: null means all (and so does an empty one in v0); ids come before names.
fn wanted(request: &MetadataRequest, version: i16) -> Wanted {
    let topics = match &request.topics {
        None => return Wanted::All,
        Some(topics) if topics.is_empty() && version == 0 => return Wanted::All,
        Some(topics) => topics,
    };
    // Versions 10 and 11 have the id, but it means something from 12 on only.
    if version < 12 && topics.iter().any(|topic| topic.name.is_none() || !topic.topic_id.is_nil()) {
        let names = topics.iter().map(|topic| topic.name.as_ref().map_or("", |name| name.as_str()));
        return Wanted::Invalid(names.map(|name| failed(ErrorCode::InvalidRequest, Some(name), Uuid::nil())).collect());
    }
    let mut ids: Vec<Uuid> = topics.iter().map(|topic| topic.topic_id).filter(|id| !id.is_nil()).collect();
    if !ids.is_empty() {
        ids.sort_unstable();
        ids.dedup();
        return Wanted::Ids(ids);
    }
    let mut names: Vec<String> = topics.iter().filter_map(|topic| Some(topic.name.as_ref()?.to_string())).collect();
    names.sort_unstable();
    names.dedup();
    Wanted::Names(names)
}

fn by_id(broker: &Broker, id: Uuid) -> MetadataResponseTopic {
    match broker.topics.by_id(id) {
        Some(topic) => describe(broker, &topic),
        None => failed(ErrorCode::UnknownTopicId, None, id),
    }
}

fn by_name(broker: &Broker, name: &str, refused: Option<&ErrorCode>) -> MetadataResponseTopic {
    if let Some(topic) = broker.topics.get(name) {
        return describe(broker, &topic);
    }
    let code = match refused {
        Some(code) => *code,
        None if name::check(name).is_err() => ErrorCode::InvalidTopicException,
        None => ErrorCode::UnknownTopicOrPartition,
    };
    failed(code, Some(name), Uuid::nil())
}

fn describe(broker: &Broker, topic: &Topic) -> MetadataResponseTopic {
    let node = BrokerId(broker.settings.node_id);
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    };
    MetadataResponseTopic::default()
        .with_error_code(NONE)
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(name::is_internal(&topic.name))
        .with_partitions((0..topic.partition_count()).map(partition).collect())
}

fn failed(code: ErrorCode, name: Option<&str>, id: Uuid) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(code.code())
        .with_name(name.map(topic_name))
        .with_topic_id(id)
        .with_is_internal(name.is_some_and(name::is_internal))
}

/// Creates what does not exist, if the client and the broker allow it; comes back with what could not be created.
async fn create_missing(broker: &Broker, names: &[String], allowed: bool) -> HashMap<String, ErrorCode> {
    let mut refused = HashMap::new();
    let config = broker.configs.broker();
    let missing =
        |name: &&String| broker.topics.get(name).is_none() && name::check(name).is_ok() && !name::is_internal(name);
    if !allowed || !config.auto_create_topics || !names.iter().any(|name| missing(&name)) {
        return refused;
    }
    let change = broker.topics.change().await;
    let mut collisions = HashSet::new();
    let mut edits: Vec<Edit> = Vec::new();
    for name in names.iter().filter(missing) {
        if broker.topics.colliding(name).is_some() || !Topics::claim(&mut collisions, name) {
            refused.insert(name.clone(), ErrorCode::InvalidTopicException);
            continue;
        }
        edits.push(Edit::Create(NewTopic {
            name: name.clone(),
            id: change.new_id(),
            partitions: config.num_partitions.unsigned_abs(),
            configs: BTreeMap::new(),
        }));
    }
    if let Err(error) = change.commit(edits).await {
        tracing::error!(%error, "topics could not be created");
        refused.extend(names.iter().filter(missing).map(|name| (name.clone(), error.code())));
    }
    refused
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use krocket_protocol::ApiKey;

    use super::*;
    use crate::api::testing::{NODE, TestBroker, error, topic};

    fn named(name: &'static str) -> MetadataRequestTopic {
        MetadataRequestTopic::default().with_name(Some(topic(name)))
    }

    fn with_id(id: Uuid) -> MetadataRequestTopic {
        MetadataRequestTopic::default().with_name(None).with_topic_id(id)
    }

    fn for_topics(topics: Vec<MetadataRequestTopic>) -> MetadataRequest {
        MetadataRequest::default().with_topics(Some(topics))
    }

    async fn ask(broker: &TestBroker, version: i16, request: MetadataRequest) -> MetadataResponse {
        broker.ask(ApiKey::Metadata, version, request).await
    }

    fn told(response: &MetadataResponse) -> Vec<(&str, Option<ErrorCode>, usize)> {
        let topic = |topic: &'_ MetadataResponseTopic| (error(topic.error_code), topic.partitions.len());
        let names = response.topics.iter().map(|topic| topic.name.as_ref().map_or("", |name| name.as_str()));
        names.zip(&response.topics).map(|(name, each)| (name, topic(each).0, topic(each).1)).collect()
    }

    #[tokio::test]
    async fn every_version_tells_the_broker_and_creates_what_is_asked_for() {
        let broker = TestBroker::with(&[("num.partitions", "2")]).await;
        let names = ["v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13"];
        for (version, name) in (0..=13).zip(names) {
            let response = ask(&broker, version, for_topics(vec![named(name)])).await;
            assert_eq!(told(&response), [(name, None, 2)], "version {version}");
            let this = &response.brokers[0];
            assert_eq!((this.node_id, this.host.as_str(), this.port), (NODE, "127.0.0.1", 9092));
            let partition = &response.topics[0].partitions[1];
            assert_eq!((partition.partition_index, partition.leader_id, partition.error_code), (1, NODE, 0));
            assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![NODE], &vec![NODE]));
            if version >= 1 {
                assert_eq!(response.controller_id, NODE);
                assert!(!response.topics[0].is_internal);
            }
            if version >= 2 {
                assert_eq!(response.cluster_id.as_deref(), Some(broker.broker.cluster_id.as_str()));
            }
            if version >= 7 {
                assert_eq!(partition.leader_epoch, 0);
            }
            if version >= 8 {
                assert_eq!(response.topics[0].topic_authorized_operations, NOT_ASKED);
            }
            if version >= 10 {
                assert_eq!(response.topics[0].topic_id, broker.broker.topics.get(name).expect("created").id);
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_created_unless_both_sides_allow_it() {
        let broker = TestBroker::start().await;
        let request = for_topics(vec![named("t")]).with_allow_auto_topic_creation(false);
        let unknown = Some(ErrorCode::UnknownTopicOrPartition);
        assert_eq!(told(&ask(&broker, 13, request).await), [("t", unknown, 0)]);
        let strict = TestBroker::with(&[("auto.create.topics.enable", "false")]).await;
        assert_eq!(told(&ask(&strict, 13, for_topics(vec![named("t")])).await), [("t", unknown, 0)]);
        assert!(strict.broker.topics.all().is_empty() && broker.broker.topics.all().is_empty());
    }

    #[tokio::test]
    async fn names_that_cannot_be_are_refused() {
        let broker = TestBroker::start().await;
        ask(&broker, 13, for_topics(vec![named("a.b")])).await;
        let invalid = Some(ErrorCode::InvalidTopicException);
        let names = vec![named("a b"), named("a_b"), named("__krocket_x"), named("__consumer_offsets"), named("a.b")];
        let response = ask(&broker, 13, for_topics(names)).await;
        assert_eq!(
            told(&response),
            [
                ("__consumer_offsets", Some(ErrorCode::UnknownTopicOrPartition), 0),
                ("__krocket_x", invalid, 0),
                ("a b", invalid, 0),
                ("a.b", None, 1),
                ("a_b", invalid, 0),
            ]
        );
        assert!(response.topics[0].is_internal);
    }

    #[tokio::test]
    async fn all_topics_are_asked_for_with_null_and_none_with_an_empty_list() {
        let broker = TestBroker::start().await;
        ask(&broker, 13, for_topics(vec![named("a"), named("b")])).await;
        let all = [("a", None, 1), ("b", None, 1)];
        assert_eq!(told(&ask(&broker, 13, MetadataRequest::default().with_topics(None)).await), all);
        assert_eq!(told(&ask(&broker, 0, for_topics(vec![])).await), all);
        assert_eq!(told(&ask(&broker, 1, for_topics(vec![])).await), []);
        assert_eq!(told(&ask(&broker, 13, for_topics(vec![])).await), []);
    }

    #[tokio::test]
    async fn topics_are_found_by_id_from_version_12() {
        let broker = TestBroker::start().await;
        ask(&broker, 13, for_topics(vec![named("a")])).await;
        let id = broker.broker.topics.get("a").expect("created").id;
        let unknown = Uuid::from_u128(5);
        for version in 12..=13 {
            let response = ask(&broker, version, for_topics(vec![with_id(id), with_id(unknown)])).await;
            let found: HashMap<_, _> =
                response.topics.iter().map(|topic| (topic.topic_id, error(topic.error_code))).collect();
            assert_eq!(found, HashMap::from([(id, None), (unknown, Some(ErrorCode::UnknownTopicId))]));
        }
        for version in 10..=11 {
            let request = for_topics(vec![named("a").with_topic_id(id)]);
            assert_eq!(told(&ask(&broker, version, request).await), [("a", Some(ErrorCode::InvalidRequest), 0)]);
        }
    }

    #[tokio::test]
    async fn operations_are_told_to_those_who_ask() {
        let broker = TestBroker::start().await;
        let request = for_topics(vec![named("a")])
            .with_include_topic_authorized_operations(true)
            .with_include_cluster_authorized_operations(true);
        let response = ask(&broker, 10, request).await;
        assert_eq!(response.cluster_authorized_operations, CLUSTER_OPERATIONS);
        assert_eq!(response.topics[0].topic_authorized_operations, TOPIC_OPERATIONS);
        let response = ask(&broker, 10, for_topics(vec![named("a")])).await;
        assert_eq!(response.cluster_authorized_operations, NOT_ASKED);
    }
}
