//! OffsetFetch: one group up to version 7, several from there on.

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::Head;
use uuid::Uuid;

use crate::Broker;
use crate::group::{CommittedOffsets, Offset};

const BATCH_VERSION: i16 = 8;
/// Before this version an error has no field of its own: every partition carries it.
const GROUP_ERROR_VERSION: i16 = 2;

type Wanted = Option<Vec<(String, Vec<i32>)>>;

/// Answers OffsetFetch. `require_stable` holds by itself: what can be read is on disk, and no transaction can be open.
pub(crate) async fn handle(broker: &Broker, head: Head, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if head.version < BATCH_VERSION {
        let wanted: Wanted = request
            .topics
            .map(|topics| topics.into_iter().map(|topic| (topic.name.to_string(), topic.partition_indexes)).collect());
        return one_group(broker, head.version, &request.group_id, wanted);
    }
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let wanted: Wanted = group
            .topics
            .map(|topics| topics.into_iter().map(|topic| (topic.name.to_string(), topic.partition_indexes)).collect());
        let member = group.member_id.as_deref();
        let response = match fetch(broker, &group.group_id, member, group.member_epoch, wanted) {
            Ok(offsets) => OffsetFetchResponseGroup::default().with_topics(topics(offsets)),
            Err(code) => OffsetFetchResponseGroup::default().with_error_code(code.code()),
        };
        groups.push(response.with_group_id(group.group_id));
    }
    OffsetFetchResponse::default().with_groups(groups)
}

fn fetch(
    broker: &Broker,
    group: &str,
    member: Option<&str>,
    epoch: i32,
    wanted: Wanted,
) -> Result<CommittedOffsets, ErrorCode> {
    let mut offsets = broker.groups.fetch_offsets(group, member, epoch, wanted)?;
    // A topic created anew under its old name starts without offsets.
    for (topic, partitions) in &mut offsets {
        let id = broker.topics.get(topic).map(|topic| topic.id);
        for (_, offset) in partitions {
            offset.take_if(|offset| id.is_some_and(|id| id != offset.topic_id));
        }
    }
    Ok(offsets)
}

fn one_group(broker: &Broker, version: i16, group: &GroupId, wanted: Wanted) -> OffsetFetchResponse {
    let asked = wanted.clone().unwrap_or_default();
    let (offsets, error) = match fetch(broker, group, None, -1, wanted) {
        Ok(offsets) => (offsets, 0),
        Err(code) if version < GROUP_ERROR_VERSION => {
            let missing = |(topic, partitions): (String, Vec<i32>)| {
                (topic, partitions.into_iter().map(|partition| (partition, None)).collect())
            };
            (asked.into_iter().map(missing).collect(), code.code())
        }
        Err(code) => return OffsetFetchResponse::default().with_error_code(code.code()),
    };
    let partition = |(index, offset): (i32, Option<Offset>)| {
        let (offset, leader_epoch, metadata) = fields(offset);
        OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(leader_epoch)
            .with_metadata(Some(metadata))
            .with_error_code(if version < GROUP_ERROR_VERSION { error } else { 0 })
    };
    let topic = |(topic, partitions): (String, Vec<_>)| {
        OffsetFetchResponseTopic::default()
            .with_name(name(topic))
            .with_partitions(partitions.into_iter().map(partition).collect())
    };
    OffsetFetchResponse::default().with_topics(offsets.into_iter().map(topic).collect())
}

fn topics(offsets: CommittedOffsets) -> Vec<OffsetFetchResponseTopics> {
    let partition = |(index, offset): (i32, Option<Offset>)| {
        let (offset, leader_epoch, metadata) = fields(offset);
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(leader_epoch)
            .with_metadata(Some(metadata))
    };
    let topic = |(topic, partitions): (String, Vec<_>)| {
        OffsetFetchResponseTopics::default()
            .with_name(name(topic))
            .with_topic_id(Uuid::nil())
            .with_partitions(partitions.into_iter().map(partition).collect())
    };
    offsets.into_iter().map(topic).collect()
}

/// Offset, leader epoch and metadata; of an offset that isn't there -1, -1 and nothing.
fn fields(offset: Option<Offset>) -> (i64, i32, StrBytes) {
    match offset {
        Some(offset) => (offset.offset, offset.leader_epoch, StrBytes::from_string(offset.metadata)),
        None => (-1, -1, StrBytes::new()),
    }
}

fn name(topic: String) -> TopicName {
    TopicName(StrBytes::from_string(topic))
}
