//! DeleteShareGroupOffsets: has a share group without members forget topics.

use std::collections::BTreeSet;

use kafka_protocol::messages::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponseTopic;
use kafka_protocol::messages::{DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;
use uuid::Uuid;

use super::reply::text;
use crate::Broker;
use crate::group::Refusal;

/// Answers DeleteShareGroupOffsets.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: DeleteShareGroupOffsetsRequest,
) -> DeleteShareGroupOffsetsResponse {
    let ids: Vec<Option<Uuid>> =
        request.topics.iter().map(|topic| broker.topics.get(&topic.topic_name).map(|topic| topic.id)).collect();
    match delete(broker, &request.group_id, &ids).await {
        Err(refusal) => DeleteShareGroupOffsetsResponse::default()
            .with_error_code(refusal.code.code())
            .with_error_message(Some(text(&refusal.message))),
        Ok(deleted) => {
            let responses = request.topics.into_iter().zip(ids).map(|(topic, id)| {
                let answer = DeleteShareGroupOffsetsResponseTopic::default().with_topic_name(topic.topic_name);
                let unknown = answer.clone().with_error_code(ErrorCode::UnknownTopicOrPartition.code());
                match id {
                    Some(id) if deleted.contains(&id) => answer.with_topic_id(id),
                    Some(_) => unknown.with_error_message(Some(text("There is no offset information to delete."))),
                    None => unknown,
                }
            });
            DeleteShareGroupOffsetsResponse::default().with_responses(responses.collect())
        }
    }
}

/// Those of the topics that the group knew.
async fn delete(broker: &Broker, group: &str, ids: &[Option<Uuid>]) -> Result<BTreeSet<Uuid>, Refusal> {
    let offsets = broker.groups.share_offsets(group)?;
    let known: BTreeSet<Uuid> =
        offsets.into_iter().map(|offset| offset.topic).filter(|id| ids.contains(&Some(*id))).collect();
    let topics: Vec<Uuid> = known.iter().copied().collect();
    broker.groups.delete_share_offsets(group, &topics).await?;
    Ok(known)
}
