//! DescribeLogDirs: the one data folder, and what each partition takes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::reply::{text, topic_name};
use crate::Broker;
use crate::log::{Log, StorageError};
use crate::topics::Topic;

/// Answers DescribeLogDirs. What does not exist is left out, as in Kafka.
pub(crate) async fn handle(broker: &Broker, _head: Head, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let wanted = wanted(broker, request.topics);
    let dir = broker.configs.layers().value("log.dirs").map(|dir| dir.to_string()).unwrap_or_default();
    let log = broker.log.clone();
    // Sizes come from the index, and there may be many.
    let describing = tokio::task::spawn_blocking(move || (describe(&log, wanted), space(&dir), dir));
    let response = DescribeLogDirsResponse::default();
    let Ok((topics, space, dir)) = describing.await else {
        return response.with_error_code(ErrorCode::UnknownServerError.code());
    };
    let result = DescribeLogDirsResult::default().with_log_dir(text(&dir));
    let result = match (topics, space) {
        (Ok(topics), Ok((total, usable))) => {
            result.with_topics(topics).with_total_bytes(total).with_usable_bytes(usable)
        }
        (topics, space) => {
            let why = topics.err().map(|error| error.to_string()).or(space.err().map(|error| error.to_string()));
            tracing::error!(dir, why, "cannot describe the data folder");
            result.with_error_code(ErrorCode::KafkaStorageError.code())
        }
    };
    response.with_results(vec![result])
}

/// Topics with the indexes asked for; all of them for `None`.
fn wanted(broker: &Broker, topics: Option<Vec<DescribableLogDirTopic>>) -> Vec<(Arc<Topic>, Option<BTreeSet<i32>>)> {
    let Some(topics) = topics else {
        return broker.topics.all().into_iter().map(|topic| (topic, None)).collect();
    };
    let mut indexes: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for topic in topics {
        indexes.entry(topic.topic.to_string()).or_default().extend(topic.partitions);
    }
    indexes.into_iter().filter_map(|(name, indexes)| Some((broker.topics.get(&name)?, Some(indexes)))).collect()
}

fn describe(
    log: &Log,
    wanted: Vec<(Arc<Topic>, Option<BTreeSet<i32>>)>,
) -> Result<Vec<DescribeLogDirsTopic>, StorageError> {
    let mut topics = Vec::with_capacity(wanted.len());
    for (topic, indexes) in wanted {
        let mut partitions = Vec::new();
        for (index, partition) in (0..).zip(topic.partitions.load().iter()) {
            if indexes.as_ref().is_none_or(|indexes| indexes.contains(&index)) {
                let size = i64::try_from(log.size(partition)?).unwrap_or(i64::MAX);
                partitions
                    .push(DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(size));
            }
        }
        if !partitions.is_empty() {
            topics.push(DescribeLogDirsTopic::default().with_name(topic_name(&topic.name)).with_partitions(partitions));
        }
    }
    Ok(topics)
}

/// Total and usable bytes of the file system.
fn space(dir: &str) -> Result<(i64, i64), rustix::io::Errno> {
    let space = rustix::fs::statvfs(dir)?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(space.f_frsize)).unwrap_or(i64::MAX);
    Ok((bytes(space.f_blocks), bytes(space.f_bavail)))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
    use krocket_protocol::ApiKey;
    use krocket_protocol::records::{BatchBuilder, LastOffset};

    use super::*;
    use crate::api::testing::{TestBroker, error, topic};
    use crate::topics::{Edit, NewTopic};

    async fn broker() -> TestBroker {
        let broker = TestBroker::start().await;
        let change = broker.broker.topics.change().await;
        let edits = ["a", "b"].map(|name| {
            let name = name.to_owned();
            Edit::Create(NewTopic { name, id: change.new_id(), partitions: 2, configs: Default::default() })
        });
        change.commit(edits.into()).await.expect("created");
        broker
    }

    async fn ask(
        broker: &TestBroker,
        version: i16,
        topics: Option<Vec<DescribableLogDirTopic>>,
    ) -> DescribeLogDirsResult {
        let request = DescribeLogDirsRequest::default().with_topics(topics);
        let mut response: DescribeLogDirsResponse = broker.ask(ApiKey::DescribeLogDirs, version, request).await;
        assert_eq!((error(response.error_code), response.results.len()), (None, 1));
        let result = response.results.remove(0);
        assert_eq!(error(result.error_code), None);
        result
    }

    #[tokio::test]
    async fn every_partition_is_told_with_its_size() {
        let broker = broker().await;
        let now = broker.broker.log.clock().now_ms();
        let mut batch = BatchBuilder::new(0, now);
        batch.push(0, now, None, Some(b"value"), &[]);
        let batch = batch.finish(LastOffset::Trim).expect("records").expect("a record");
        let size = batch.len() as i64;
        let data = PartitionProduceData::default().with_index(1).with_records(Some(batch));
        let data = TopicProduceData::default().with_name(topic("a")).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![data]);
        let response: ProduceResponse = broker.ask(ApiKey::Produce, 9, request).await;
        assert_eq!(error(response.responses[0].partition_responses[0].error_code), None);
        for version in 1..=4 {
            let result = ask(&broker, version, None).await;
            assert!(result.log_dir.starts_with('/'), "{}", result.log_dir.as_str());
            let told: Vec<_> = result
                .topics
                .iter()
                .flat_map(|topic| {
                    topic.partitions.iter().map(|each| (topic.name.as_str(), each.partition_index, each.partition_size))
                })
                .collect();
            assert_eq!(told, [("a", 0, 0), ("a", 1, size), ("b", 0, 0), ("b", 1, 0)]);
            let partitions = result.topics.iter().flat_map(|topic| &topic.partitions);
            assert!(partitions.into_iter().all(|partition| partition.offset_lag == 0 && !partition.is_future_key));
            if version >= 4 {
                assert!(result.usable_bytes > 0 && result.total_bytes >= result.usable_bytes, "{result:?}");
            }
        }
    }

    #[tokio::test]
    async fn only_what_is_asked_for_and_exists_is_told() {
        let broker = broker().await;
        let asked = |name, partitions: &[i32]| {
            DescribableLogDirTopic::default().with_topic(topic(name)).with_partitions(partitions.to_vec())
        };
        let topics = vec![asked("a", &[1, 2]), asked("none", &[0]), asked("b", &[])];
        let result = ask(&broker, 4, Some(topics)).await;
        let told: Vec<_> = result.topics.iter().map(|topic| (topic.name.as_str(), topic.partitions.len())).collect();
        assert_eq!(told, [("a", 1)]);
        assert!(ask(&broker, 4, Some(vec![])).await.topics.is_empty());
    }
}
