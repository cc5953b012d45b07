//! OffsetDelete: committed offsets of topics that the group does not read.

use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::groups::code_of;
use crate::Broker;

/// Answers OffsetDelete.
pub(crate) async fn handle(broker: &Broker, _: Head, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let mut existing = Vec::new();
    let mut asked = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = broker.topics.get(&topic.name);
        let mut indexes = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let exists = found.as_ref().is_some_and(|found| found.partition(index).is_some());
            if exists {
                existing.push((topic.name.to_string(), index));
            }
            indexes.push((index, exists));
        }
        asked.push((topic.name, indexes));
    }
    let mut results = match broker.groups.delete_offsets(&request.group_id, &existing).await {
        Ok(results) => results.into_iter(),
        Err(code) => return OffsetDeleteResponse::default().with_error_code(code.code()),
    };
    let mut partition = |(index, exists)| {
        let result = if exists { results.next().unwrap_or(Ok(())) } else { Err(ErrorCode::UnknownTopicOrPartition) };
        OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(code_of(result))
    };
    let topics = asked.into_iter().map(|(name, indexes)| {
        let partitions = indexes.into_iter().map(&mut partition).collect();
        OffsetDeleteResponseTopic::default().with_name(name).with_partitions(partitions)
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
