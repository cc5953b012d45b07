//! OffsetFetch: one group up to version 7, several from there on; topics by id from version 10 on.

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchResponse, TopicName};
use krocket_protocol::offset_fetch::{
    GROUPS_VERSION, OffsetFetchGroup, OffsetFetchRequest, OffsetFetchTopic, TOPIC_ID_VERSION,
};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::Head;

use crate::Broker;
use crate::group::{CommittedOffsets, Offset};

/// Before this version an error has no field of its own: every partition carries it.
const GROUP_ERROR_VERSION: i16 = 2;

type Wanted = Option<Vec<(String, Vec<i32>)>>;

/// Answers OffsetFetch. What can be read is on disk; where `require_stable` asks for it, offsets that an open transaction
/// may change are not told (KIP-447).
pub(crate) async fn handle(broker: &Broker, head: Head, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let OffsetFetchRequest { mut groups, require_stable } = request;
    if head.version < GROUPS_VERSION {
        let Some(group) = groups.pop() else { return OffsetFetchResponse::default() };
        let wanted = group.topics.map(|topics| topics.into_iter().map(by_name).collect());
        return one_group(broker, head.version, &group.group_id, wanted, require_stable);
    }
    let by_id = head.version >= TOPIC_ID_VERSION;
    let groups = groups.into_iter().map(|group| several(broker, group, by_id, require_stable)).collect();
    OffsetFetchResponse::default().with_groups(groups)
}

fn by_name(topic: OffsetFetchTopic) -> (String, Vec<i32>) {
    (topic.name.to_string(), topic.partition_indexes)
}

/// One group of several. Asked by id, it tells nothing of topics that are gone: they have none.
fn several(broker: &Broker, group: OffsetFetchGroup, by_id: bool, require_stable: bool) -> OffsetFetchResponseGroup {
    let mut unknown = Vec::new();
    let wanted = group.topics.map(|topics| match by_id {
        false => topics.into_iter().map(by_name).collect(),
        true => {
            let mut known = Vec::with_capacity(topics.len());
            for topic in topics {
                match broker.topics.by_id(topic.topic_id) {
                    Some(found) => known.push((found.name.clone(), topic.partition_indexes)),
                    None => unknown.push(unknown_topic(topic)),
                }
            }
            known
        }
    });
    let response = match fetch(broker, &group.group_id, group.member_id.as_deref(), group.member_epoch, wanted) {
        Ok(offsets) => {
            let unstable =
                |topic: &str, index| require_stable && broker.transactions.is_unstable(&group.group_id, topic, index);
            let mut topics = topics(offsets, unstable);
            for topic in &mut topics {
                topic.topic_id = broker.topics.get(&topic.name).map(|topic| topic.id).unwrap_or_default();
            }
            topics.retain(|topic| !by_id || !topic.topic_id.is_nil());
            topics.append(&mut unknown);
            OffsetFetchResponseGroup::default().with_topics(topics)
        }
        Err(code) => OffsetFetchResponseGroup::default().with_error_code(code.code()),
    };
    response.with_group_id(group.group_id)
}

fn unknown_topic(topic: OffsetFetchTopic) -> OffsetFetchResponseTopics {
    let partition = |index| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(-1)
            .with_metadata(Some(StrBytes::new()))
            .with_error_code(ErrorCode::UnknownTopicId.code())
    };
    OffsetFetchResponseTopics::default()
        .with_topic_id(topic.topic_id)
        .with_partitions(topic.partition_indexes.into_iter().map(partition).collect())
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
        OffsetFetchResponseTopics::default().with_name(name(topic)).with_partitions(partitions)
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
