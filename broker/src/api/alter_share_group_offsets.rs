//! AlterShareGroupOffsets: starts a share group without members anew.

use kafka_protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::{AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;
use uuid::Uuid;

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
    let topic = |(topic, id): (_, &Option<(Uuid, i32)>)| {
        let topic: &kafka_protocol::messages::alter_share_group_offsets_request::AlterShareGroupOffsetsRequestTopic =
            topic;
        let partition = |index: i32| {
            let answer = AlterShareGroupOffsetsResponsePartition::default().with_partition_index(index);
            let result = match id {
                Some((_, count)) if (0..*count).contains(&index) => {
                    results.next().unwrap_or(Err(ErrorCode::UnknownServerError))
                }
                _ => Err(ErrorCode::UnknownTopicOrPartition),
            };
            match result {
                Ok(()) => answer,
                Err(code) => answer.with_error_code(code.code()).with_error_message(Some(text(&code.to_string()))),
            }
        };
        AlterShareGroupOffsetsResponseTopic::default()
            .with_topic_name(topic.topic_name.clone())
            .with_topic_id(id.map(|(id, _)| id).unwrap_or_default())
            .with_partitions(topic.partitions.iter().map(|p| p.partition_index).map(partition).collect())
    };
    let responses = request.topics.iter().zip(&ids).map(topic).collect();
    AlterShareGroupOffsetsResponse::default().with_responses(responses)
}
