//! ShareAcknowledge (KIP-932): what became of records that a member holds.

use std::collections::BTreeMap;

use kafka_protocol::messages::share_acknowledge_response::{PartitionData, ShareAcknowledgeTopicResponse};
use krocket_protocol::ErrorCode;
use krocket_protocol::share_acknowledge::{ShareAcknowledgeRequest, ShareAcknowledgeResponse};
use krocket_stack::Head;
use uuid::Uuid;

use super::share_fetch::{Batches, acknowledge, owner};
use crate::Broker;
use crate::share::Turn;

/// One outcome for each partition, once it survives the end of this process.
pub(crate) async fn handle(broker: &Broker, head: Head, request: ShareAcknowledgeRequest) -> ShareAcknowledgeResponse {
    serve(broker, &head, request).await.unwrap_or_else(|code| ShareAcknowledgeResponse {
        error_code: code.code(),
        ..ShareAcknowledgeResponse::default()
    })
}

async fn serve(
    broker: &Broker,
    head: &Head,
    request: ShareAcknowledgeRequest,
) -> Result<ShareAcknowledgeResponse, ErrorCode> {
    let (group, member) = owner(broker, request.group_id.as_deref(), request.member_id.as_deref())?;
    let policy = broker.shares.policy(&group);
    let epoch = request.share_session_epoch;
    let turn = broker.shares.sessions.turn((&group, &member), epoch, None, (Vec::new(), &[]), &head.connection)?;
    let batches = request.topics.into_iter().flat_map(|topic| {
        topic.partitions.into_iter().map(move |partition| -> Batches {
            let ranges = partition.acknowledgement_batches.into_iter();
            let ranges = ranges.map(|b| (b.first_offset, b.last_offset, b.acknowledge_types)).collect();
            ((topic.topic_id, partition.partition_index), ranges)
        })
    });
    let outcomes = acknowledge(broker, &group, &member, batches.collect(), &policy).await;
    if turn == Turn::Close {
        broker.shares.release(&group, &member, false).await;
    }
    let mut topics: BTreeMap<Uuid, Vec<PartitionData>> = BTreeMap::new();
    for ((topic, index), outcome) in outcomes {
        let code = outcome.err().map_or(0, |code| code.code());
        let data = PartitionData::default().with_partition_index(index).with_error_code(code);
        topics.entry(topic).or_default().push(data);
    }
    let responses = topics
        .into_iter()
        .map(|(id, partitions)| ShareAcknowledgeTopicResponse::default().with_topic_id(id).with_partitions(partitions));
    Ok(ShareAcknowledgeResponse {
        acquisition_lock_timeout_ms: i32::try_from(policy.lock_ms).unwrap_or(i32::MAX),
        responses: responses.collect(),
        ..ShareAcknowledgeResponse::default()
    })
}
