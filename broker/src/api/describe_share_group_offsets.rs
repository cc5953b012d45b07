//! DescribeShareGroupOffsets: where share groups start in their partitions, and how much is left to do.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup;
use krocket_protocol::describe_share_group_offsets::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse, DescribedShareGroup, DescribedSharePartition,
    DescribedShareTopic, UNKNOWN,
};
use krocket_stack::Head;
use uuid::Uuid;

use super::reply::{NONE, text};
use crate::Broker;
use crate::group::ShareOffset;
use crate::log::LEADER_EPOCH;

/// Answers DescribeShareGroupOffsets. A group, topic or partition without state is no error: its offset is unknown.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: DescribeShareGroupOffsetsRequest,
) -> DescribeShareGroupOffsetsResponse {
    let groups = request.0.groups.into_iter().map(|group| describe(broker, group)).collect();
    DescribeShareGroupOffsetsResponse { throttle_time_ms: 0, groups }
}

fn describe(broker: &Broker, group: DescribeShareGroupOffsetsRequestGroup) -> DescribedShareGroup {
    let mut described = DescribedShareGroup { id: group.group_id.0.clone(), ..DescribedShareGroup::default() };
    let offsets = match broker.groups.share_offsets(&group.group_id) {
        Ok(offsets) => offsets,
        Err(code) => {
            described.error_code = code.code();
            return described;
        }
    };
    let mut known: BTreeMap<Uuid, BTreeMap<i32, ShareOffset>> = BTreeMap::new();
    for offset in offsets {
        known.entry(offset.topic).or_default().insert(offset.partition, offset);
    }
    described.topics = match group.topics {
        Some(topics) => topics
            .into_iter()
            .map(|topic| {
                let id = broker.topics.get(&topic.topic_name).map(|topic| topic.id).unwrap_or_default();
                let offset = |index: &i32| partition(*index, known.get(&id).and_then(|topic| topic.get(index)));
                let partitions = topic.partitions.iter().map(offset).collect();
                DescribedShareTopic { name: topic.topic_name.0, id, partitions }
            })
            .collect(),
        None => known
            .iter()
            .filter_map(|(id, offsets)| {
                let name = text(&broker.topics.by_id(*id)?.name);
                let partitions = offsets.iter().map(|(index, offset)| partition(*index, Some(offset))).collect();
                Some(DescribedShareTopic { name, id: *id, partitions })
            })
            .collect(),
    };
    described
}

fn partition(index: i32, offset: Option<&ShareOffset>) -> DescribedSharePartition {
    DescribedSharePartition {
        index,
        start_offset: offset.and_then(|offset| offset.start).unwrap_or(UNKNOWN),
        leader_epoch: offset.and_then(|offset| offset.start).map_or(0, |_| LEADER_EPOCH),
        lag: offset.and_then(|offset| offset.lag).unwrap_or(UNKNOWN),
        error_code: NONE,
        error_message: None,
    }
}
