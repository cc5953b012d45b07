//! AddPartitionsToTxn: from clients before Kafka 4.0, and as brokers ask whether a partition was added (KIP-890).

use std::collections::HashSet;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::partition_of;
use crate::Broker;
use crate::txn::{Named, Producer};

/// First version that speaks of several transactions.
const BATCHED_VERSION: i16 = 4;
/// First version that tells fencing from a wrong epoch.
const FENCED_VERSION: i16 = 2;

/// Adds all partitions of a transaction or none.
pub(crate) async fn handle(
    broker: &Broker,
    head: Head,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if head.version < BATCHED_VERSION {
        let producer = Producer { id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
        let id = request.v3_and_below_transactional_id;
        let fenced = |code| if head.version < FENCED_VERSION { unfenced(code) } else { code };
        let results = one(broker, &id, producer, false, request.v3_and_below_topics, fenced).await;
        return AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results);
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for txn in request.transactions {
        let producer = Producer { id: txn.producer_id.0, epoch: txn.producer_epoch };
        let topics = one(broker, &txn.transactional_id, producer, txn.verify_only, txn.topics, |code| code).await;
        results.push(
            AddPartitionsToTxnResult::default().with_transactional_id(txn.transactional_id).with_topic_results(topics),
        );
    }
    AddPartitionsToTxnResponse::default().with_results_by_transaction(results)
}

/// What clients are told that don't know PRODUCER_FENCED.
pub(super) fn unfenced(code: ErrorCode) -> ErrorCode {
    if code == ErrorCode::ProducerFenced { ErrorCode::InvalidProducerEpoch } else { code }
}

async fn one(
    broker: &Broker,
    id: &str,
    producer: Producer,
    verify_only: bool,
    topics: Vec<AddPartitionsToTxnTopic>,
    translate: impl Fn(ErrorCode) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let mut found = Vec::new();
    let mut missing = HashSet::new();
    for (at, topic) in topics.iter().enumerate() {
        for index in &topic.partitions {
            match partition_of(broker, &topic.name, *index, -1) {
                Ok(partition) => found.push(Named { topic: topic.name.to_string(), index: *index, partition }),
                Err(_) => drop(missing.insert((at, *index))),
            }
        }
    }
    let result = if !missing.is_empty() {
        Err(ErrorCode::OperationNotAttempted)
    } else if verify_only {
        found.iter().try_for_each(|named| broker.transactions.verify(id, producer, named))
    } else {
        broker.transactions.add_partitions(id, producer, found).await
    };
    let code = result.map_or_else(|code| translate(code).code(), |()| 0);
    let topics = topics.into_iter().enumerate().map(|(at, topic)| {
        let partitions = topic.partitions.into_iter().map(|index| {
            let unknown = missing.contains(&(at, index));
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(if unknown { ErrorCode::UnknownTopicOrPartition.code() } else { code })
        });
        let partitions = partitions.collect();
        AddPartitionsToTxnTopicResult::default().with_name(topic.name).with_results_by_partition(partitions)
    });
    topics.collect()
}
