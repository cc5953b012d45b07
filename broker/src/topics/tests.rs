//! What the topic table keeps when things go wrong in the middle.

use std::sync::Arc;
use std::task::Poll;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, MetadataRequest, MetadataResponse,
    metadata_request::MetadataRequestTopic,
};
use krocket_protocol::{ApiKey, ErrorCode};

use super::record::Deletion;
use super::{Edit, NewTopic, Topic, rows};
use crate::api::testing::{TestBroker, error, topic};
use crate::log::tables::{CLUSTER, TOPICS};
use crate::log::{Durability, Write};

async fn create(broker: &TestBroker, name: &str, partitions: u32) -> Arc<Topic> {
    let change = broker.broker.topics.change().await;
    let new = NewTopic { name: name.to_owned(), id: change.new_id(), partitions, configs: Default::default() };
    change.commit(vec![Edit::Create(new)]).await.expect("created");
    broker.broker.topics.get(name).expect("created")
}

#[tokio::test]
async fn a_deletion_that_a_crash_cut_off_is_finished_at_the_start() {
    let broker = TestBroker::start().await;
    let ids = create(&broker, "gone", 3).await.partition_ids();
    create(&broker, "there", 1).await;
    // What the first frame of a deletion leaves.
    let key = [rows::DELETING, b"id"].concat();
    let writes = vec![
        Write::Delete { table: TOPICS, key: b"gone".to_vec() },
        Write::Put { table: CLUSTER, key: key.clone(), value: Deletion::new("gone".to_owned(), &ids).encode() },
    ];
    broker.broker.log.commit(writes, Durability::Synced).await.expect("stored");
    let broker = broker.restart().await;
    let log = &broker.broker.log;
    for id in ids {
        assert!(log.partition(id).expect("readable").is_deleted(), "{id}");
    }
    assert_eq!(log.get(CLUSTER, &key).expect("readable"), None);
    let there = broker.broker.topics.get("there").expect("there");
    assert!(there.partitions.load().iter().all(|partition| !partition.is_deleted()));
    assert_eq!(broker.broker.topics.all().len(), 1);
}

#[tokio::test]
async fn a_change_is_carried_out_even_if_its_caller_goes_away() {
    let broker = TestBroker::start().await;
    let change = broker.broker.topics.change().await;
    let new = NewTopic { name: "t".to_owned(), id: change.new_id(), partitions: 1, configs: Default::default() };
    let mut committing = Box::pin(change.commit(vec![Edit::Create(new)]));
    assert!(matches!(futures_util::poll!(&mut committing), Poll::Pending));
    drop(committing);
    // The next change begins when the one before is through.
    drop(broker.broker.topics.change().await);
    assert!(broker.broker.topics.get("t").is_some());
    assert!(broker.restart().await.broker.topics.get("t").is_some());
}

#[tokio::test]
async fn what_could_not_be_stored_is_not_there() {
    let broker = TestBroker::start().await;
    create(&broker, "there", 1).await;
    let log = broker.broker.log.clone();
    tokio::task::spawn_blocking(move || log.close()).await.expect("no panic").expect("closed");
    let new = CreatableTopic::default().with_name(topic("t")).with_num_partitions(1).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![new]);
    let response: CreateTopicsResponse = broker.ask(ApiKey::CreateTopics, 7, request).await;
    assert_eq!(error(response.topics[0].error_code), Some(ErrorCode::KafkaStorageError));
    let asked = MetadataRequestTopic::default().with_name(Some(topic("u")));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let response: MetadataResponse = broker.ask(ApiKey::Metadata, 13, request).await;
    assert_eq!(error(response.topics[0].error_code), Some(ErrorCode::KafkaStorageError));
    let names: Vec<_> = broker.broker.topics.all().iter().map(|topic| topic.name.clone()).collect();
    assert_eq!(names, ["there"]);
}
