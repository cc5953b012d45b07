//! Transactions: Write on the transactional id, Describe to see it.

use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, ListTransactionsRequest, ListTransactionsResponse, ProducerId, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use krocket_protocol::ErrorCode;
use krocket_stack::security::Operation::{Alter, ClusterAction, Describe, IdempotentWrite, Read, Write};
use krocket_stack::security::ResourceType::{Topic, TransactionalId};
use krocket_stack::{Error, Handler, Request, Response};

use super::Ask;
use super::rest::{ask_rest, whole};

const FAILED: i16 = ErrorCode::TopicAuthorizationFailed.code();
/// From this version on AddPartitionsToTxn is between brokers.
const BATCHED_VERSION: i16 = 4;

/// InitProducerId: Write on the transactional id; without one IdempotentWrite on the cluster or Write on any topic.
pub(super) async fn init_producer_id(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |message: &InitProducerIdRequest| match &message.transactional_id {
        Some(id) => ask.transactional_id(Write, id),
        None if ask.would_cluster(IdempotentWrite) || ask.writes_any_topic() => Ok(()),
        None => ask.cluster(IdempotentWrite),
    };
    whole(request, next, check, |_, code| {
        InitProducerIdResponse::default().with_error_code(code).with_producer_id(ProducerId(-1)).with_producer_epoch(-1)
    })
    .await
}

/// AddPartitionsToTxn: Write on the transactional id and on every topic, else none is added; between brokers ClusterAction.
pub(super) async fn add_partitions(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, message) = request.into_message::<AddPartitionsToTxnRequest>()?;
    if head.version >= BATCHED_VERSION {
        return match ask.cluster(ClusterAction) {
            Ok(()) => next.call(Request::new(head, message)).await,
            Err(code) => Ok(Response::new(AddPartitionsToTxnResponse::default().with_error_code(code.code()))),
        };
    }
    let id = ask.transactional_id(Write, &message.v3_and_below_transactional_id);
    let topics = message.v3_and_below_topics.iter();
    let allowed: Vec<bool> = topics.clone().map(|topic| id.is_err() || ask.topic(Write, &topic.name)).collect();
    if id.is_ok() && allowed.iter().all(|allowed| *allowed) {
        return next.call(Request::new(head, message)).await;
    }
    let result = |(topic, allowed): (
        &kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic,
        &bool,
    )| {
        let code = match (id, allowed) {
            (Err(code), _) => code,
            (Ok(()), true) => ErrorCode::OperationNotAttempted,
            (Ok(()), false) => ErrorCode::TopicAuthorizationFailed,
        };
        let partition = |index: &i32| {
            let result = AddPartitionsToTxnPartitionResult::default().with_partition_index(*index);
            result.with_partition_error_code(code.code())
        };
        let partitions = topic.partitions.iter().map(partition).collect();
        let name = topic.name.clone();
        AddPartitionsToTxnTopicResult::default().with_name(name).with_results_by_partition(partitions)
    };
    let results = topics.zip(&allowed).map(result).collect();
    Ok(Response::new(AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results)))
}

/// AddOffsetsToTxn: Write on the transactional id, Read on the group.
pub(super) async fn add_offsets(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |message: &AddOffsetsToTxnRequest| {
        ask.transactional_id(Write, &message.transactional_id)?;
        ask.group(Read, &message.group_id)
    };
    whole(request, next, check, |_, code| AddOffsetsToTxnResponse::default().with_error_code(code)).await
}

/// EndTxn: Write.
pub(super) async fn end(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |message: &EndTxnRequest| ask.transactional_id(Write, &message.transactional_id);
    whole(request, next, check, |_, code| EndTxnResponse::default().with_error_code(code)).await
}

/// TxnOffsetCommit: Write on the transactional id, Read on the group and on each topic.
pub(super) async fn offset_commit(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<TxnOffsetCommitRequest>()?;
    let whole =
        ask.transactional_id(Write, &message.transactional_id).and_then(|()| ask.group(Read, &message.group_id));
    let mut denied = Vec::new();
    message.topics.retain(|topic| {
        let code = match whole {
            Err(code) => code.code(),
            Ok(()) if ask.topic(Read, &topic.name) => return true,
            Ok(()) => FAILED,
        };
        let partition =
            |index| TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code);
        let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect();
        let name = topic.name.clone();
        denied.push(TxnOffsetCommitResponseTopic::default().with_name(name).with_partitions(partitions));
        false
    });
    let nothing_left = whole.is_err() || (message.topics.is_empty() && !denied.is_empty());
    let mut response: TxnOffsetCommitResponse = ask_rest(head, message, next, nothing_left).await?;
    response.topics.extend(denied);
    Ok(Response::new(response))
}

/// WriteTxnMarkers: ClusterAction or Alter on the cluster.
pub(super) async fn write_markers(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let check = |_: &WriteTxnMarkersRequest| match ask.would_cluster(Alter) {
        true => Ok(()),
        false => ask.cluster(ClusterAction),
    };
    whole(request, next, check, |message, code| {
        let partition =
            |index| WritableTxnMarkerPartitionResult::default().with_partition_index(index).with_error_code(code);
        let topic = |topic: kafka_protocol::messages::write_txn_markers_request::WritableTxnMarkerTopic| {
            let partitions = topic.partition_indexes.into_iter().map(partition).collect();
            WritableTxnMarkerTopicResult::default().with_name(topic.name).with_partitions(partitions)
        };
        let markers = message.markers.into_iter().map(|marker| {
            let topics = marker.topics.into_iter().map(topic).collect();
            WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics)
        });
        WriteTxnMarkersResponse::default().with_markers(markers.collect())
    })
    .await
}

/// DescribeTransactions: Describe on the transactional id; topics that may not be seen are left out.
pub(super) async fn describe(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<DescribeTransactionsRequest>()?;
    let mut denied = Vec::new();
    message.transactional_ids.retain(|id| {
        let checked = ask.transactional_id(Describe, id);
        let state = |code: ErrorCode| {
            TransactionState::default().with_transactional_id(id.clone()).with_error_code(code.code())
        };
        denied.extend(checked.err().map(state));
        checked.is_ok()
    });
    let nothing_left = message.transactional_ids.is_empty() && !denied.is_empty();
    let mut response: DescribeTransactionsResponse = ask_rest(head, message, next, nothing_left).await?;
    for state in &mut response.transaction_states {
        state.topics.retain(|topic| ask.would(Describe, Topic, &topic.topic));
    }
    response.transaction_states.extend(denied);
    Ok(Response::new(response))
}

/// ListTransactions: those that may be seen.
pub(super) async fn list(ask: &Ask<'_>, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, message) = request.into_message::<ListTransactionsRequest>()?;
    let version = head.version;
    let mut response: ListTransactionsResponse = next.call(Request::new(head, message)).await?.into_message(version)?;
    response.transaction_states.retain(|state| ask.would(Describe, TransactionalId, &state.transactional_id));
    Ok(Response::new(response))
}
