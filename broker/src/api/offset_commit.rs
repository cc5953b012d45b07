//! OffsetCommit: answered when the offsets are on disk.

use kafka_protocol::messages::OffsetCommitResponse;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use krocket_protocol::ErrorCode;
use krocket_protocol::offset_commit::{OffsetCommitRequest, TOPIC_ID_VERSION};
use krocket_stack::Head;

use super::groups::code_of;
use crate::Broker;
use crate::group::{Commit, CommitPartition};

/// Answers OffsetCommit.
pub(crate) async fn handle(broker: &Broker, head: Head, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut partitions = Vec::new();
    // Per topic and partition: its index and what to say if it does not exist, in the request's order.
    let mut asked = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = match head.version >= TOPIC_ID_VERSION {
            true => broker.topics.by_id(topic.topic_id),
            false => broker.topics.get(&topic.name),
        };
        let missing = match found {
            None if head.version >= TOPIC_ID_VERSION => ErrorCode::UnknownTopicId,
            _ => ErrorCode::UnknownTopicOrPartition,
        };
        let mut indexes = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let exists = found.as_ref().filter(|found| found.partition(index).is_some());
            indexes.push((index, exists.is_none().then_some(missing)));
            partitions.extend(exists.map(|found| CommitPartition {
                topic: found.name.clone(),
                topic_id: found.id,
                partition: index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.as_deref().unwrap_or_default().to_owned(),
            }));
        }
        asked.push((topic.name, topic.topic_id, indexes));
    }
    let commit = Commit {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_deref().map(str::to_owned),
        epoch: request.generation_id_or_member_epoch,
        version: head.version,
        retention_ms: request.retention_time_ms,
        transactional: false,
        partitions,
    };
    let results = if commit.partitions.is_empty() {
        Ok(Vec::new())
    } else {
        broker.groups.commit_offsets(&request.group_id, commit).await
    };
    let (mut results, failed) = match results {
        Ok(results) => (results.into_iter(), None),
        Err(code) => (Vec::new().into_iter(), Some(code)),
    };
    let mut partition = |(index, missing): (i32, Option<ErrorCode>)| {
        let code = match (failed, missing) {
            (Some(code), _) | (None, Some(code)) => code.code(),
            (None, None) => code_of(results.next().unwrap_or(Err(ErrorCode::UnknownServerError))),
        };
        OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
    };
    let topics = asked.into_iter().map(|(name, id, indexes)| {
        let partitions = indexes.into_iter().map(&mut partition).collect();
        OffsetCommitResponseTopic::default().with_name(name).with_topic_id(id).with_partitions(partitions)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}
