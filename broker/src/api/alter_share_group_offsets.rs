//! AlterShareGroupOffsets: starts a share group without members anew.

use kafka_protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::{AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;
use uuid::Uuid;

use super::groups::code_of;
use super::reply::text;
use crate::Broker;

/// Answers AlterShareGroupOffsets.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: AlterShareGroupOffsetsRequest,
) -> AlterShareGroupOffsetsResponse {
    let ids: Vec<Option<(Uuid, i32)>> = request
        .topics
        .iter()
        .map(|topic| broker.topics.get(&topic.topic_name).map(|found| (found.id, found.partition_count())))
        .collect();
    let starts: Vec<(Uuid, i32, i64)> = request
        .topics
        .iter()
        .zip(&ids)
        .filter_map(|(topic, id)| Some((topic, (*id)?)))
        .flat_map(|(topic, (id, count))| {
            let there = topic.partitions.iter().filter(move |p| (0..count).contains(&p.partition_index));
            there.map(move |p| (id, p.partition_index, p.start_offset))
        })
        .collect();
    let results = match broker.groups.alter_share_offsets(&request.group_id, &starts).await {
        Ok(results) => results,
        Err(refusal) => {
            return AlterShareGroupOffsetsResponse::default()
                .with_error_code(refusal.code.code())
                .with_error_message(Some(text(&refusal.message)));
        }
    };
    let mut results = results.into_iter();
    let mut responses = Vec::with_capacity(request.topics.len());
    for (topic, id) in request.topics.into_iter().zip(ids) {
        let mut partition = |index: i32| {
            let result = match id {
                Some((_, count)) if (0..count).contains(&index) => {
                    results.next().unwrap_or(Err(ErrorCode::UnknownServerError))
                }
                _ => Err(ErrorCode::UnknownTopicOrPartition),
            };
            let answer = AlterShareGroupOffsetsResponsePartition::default().with_partition_index(index);
            answer.with_error_code(code_of(result))
        };
        let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
        let answer = AlterShareGroupOffsetsResponseTopic::default()
            .with_topic_name(topic.topic_name)
            .with_topic_id(id.map(|(id, _)| id).unwrap_or_default());
        responses.push(answer.with_partitions(partitions));
    }
    AlterShareGroupOffsetsResponse::default().with_responses(responses)
}
