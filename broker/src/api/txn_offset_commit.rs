//! TxnOffsetCommit: offsets that count when the transaction is committed.

use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::groups::code_of;
use crate::Broker;
use crate::group::{Commit, CommitPartition};
use crate::txn::Producer;

/// One result per partition.
pub(crate) async fn handle(broker: &Broker, head: Head, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let mut partitions = Vec::new();
    let mut asked = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = broker.topics.get(&topic.name);
        let mut indexes = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let exists = found.as_ref().filter(|found| found.partition(index).is_some());
            indexes.push((index, exists.is_some()));
            partitions.extend(exists.map(|found| CommitPartition {
                topic: found.name.clone(),
                topic_id: found.id,
                partition: index,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.as_deref().unwrap_or_default().to_owned(),
            }));
        }
        asked.push((topic.name, indexes));
    }
    let commit = Commit {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_deref().map(str::to_owned),
        epoch: request.generation_id,
        version: head.version,
        retention_ms: -1,
        transactional: true,
        partitions,
    };
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let results = if commit.partitions.is_empty() {
        Ok(Vec::new())
    } else {
        let (id, group) = (&request.transactional_id, &request.group_id);
        broker.transactions.commit_offsets(id, producer, head.version, group, commit).await
    };
    let (mut results, failed) = match results {
        Ok(results) => (results.into_iter(), None),
        Err(code) => (Vec::new().into_iter(), Some(code)),
    };
    let mut partition = |(index, exists)| {
        let code = match (failed, exists) {
            (Some(code), _) => code.code(),
            (None, false) => ErrorCode::UnknownTopicOrPartition.code(),
            (None, true) => code_of(results.next().unwrap_or(Err(ErrorCode::UnknownServerError))),
        };
        TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
    };
    let topics = asked.into_iter().map(|(name, indexes)| {
        let partitions = indexes.into_iter().map(&mut partition).collect();
        TxnOffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions)
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}
