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

/// Answers OffsetFetch. What can be read is on disk; where `require_stable` asks for it, offsets that an open transaction
/// may change are not told (KIP-447).
pub(crate) async fn handle(broker: &Broker, head: Head, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if head.version < BATCH_VERSION {
        let wanted: Wanted = request
            .topics
            .map(|topics| topics.into_iter().map(|topic| (topic.name.to_string(), topic.partition_indexes)).collect());
        return one_group(broker, head.version, &request.group_id, wanted, request.require_stable);
    }
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let wanted: Wanted = group
            .topics
            .map(|topics| topics.into_iter().map(|topic| (topic.name.to_string(), topic.partition_indexes)).collect());
        let member = group.member_id.as_deref();
        let response = match fetch(broker, &group.group_id, member, group.member_epoch, wanted) {
            Ok(offsets) => {
                let unstable = |topic: &str, index| {
                    request.require_stable && broker.transactions.is_unstable(&group.group_id, topic, index)
                };
                OffsetFetchResponseGroup::default().with_topics(topics(offsets, unstable))
            }
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

fn one_group(
    broker: &Broker,
    version: i16,
    group: &GroupId,
    wanted: Wanted,
    require_stable: bool,
) -> OffsetFetchResponse {
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
    let partition = |topic: &str, index: i32, offset: Option<Offset>| {
        let unstable = require_stable && broker.transactions.is_unstable(group, topic, index);
        let error = if unstable { ErrorCode::UnstableOffsetCommit.code() } else { error };
        let (offset, leader_epoch, metadata) = fields(offset.filter(|_| !unstable));
        OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(leader_epoch)
            .with_metadata(Some(metadata))
            .with_error_code(error)
    };
    let topic = |(topic, partitions): (String, Vec<_>)| {
        let partitions = partitions.into_iter().map(|(index, offset)| partition(&topic, index, offset)).collect();
        OffsetFetchResponseTopic::default().with_name(name(topic)).with_partitions(partitions)
    };
    OffsetFetchResponse::default().with_topics(offsets.into_iter().map(topic).collect())
}

fn topics(offsets: CommittedOffsets, unstable: impl Fn(&str, i32) -> bool) -> Vec<OffsetFetchResponseTopics> {
    let partition = |topic: &str, index: i32, offset: Option<Offset>| {
        let unstable = unstable(topic, index);
        let (offset, leader_epoch, metadata) = fields(offset.filter(|_| !unstable));
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(leader_epoch)
            .with_metadata(Some(metadata))
            .with_error_code(if unstable { ErrorCode::UnstableOffsetCommit.code() } else { 0 })
    };
    let topic = |(topic, partitions): (String, Vec<_>)| {
        let partitions = partitions.into_iter().map(|(index, offset)| partition(&topic, index, offset)).collect();
        OffsetFetchResponseTopics::default()
            .with_name(name(topic))
            .with_topic_id(Uuid::nil())
            .with_partitions(partitions)
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
