//! DescribeTransactions: who has an id, and what is open under it.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, TopicName, TransactionalId,
};
use krocket_protocol::StrBytes;
use krocket_stack::Head;

use crate::Broker;
use crate::txn::View;

/// Answers from memory.
pub(crate) async fn handle(
    broker: &Broker,
    _head: Head,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let states = request.transactional_ids.into_iter().map(|id| match broker.transactions.describe(&id) {
        Ok(view) => state(id, view),
        Err(code) => TransactionState::default().with_transactional_id(id).with_error_code(code.code()),
    });
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}

fn state(id: TransactionalId, view: View) -> TransactionState {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (topic, index) in view.partitions {
        topics.entry(topic).or_default().push(index);
    }
    let topic = |(topic, partitions)| {
        TopicData::default().with_topic(TopicName(StrBytes::from_string(topic))).with_partitions(partitions)
    };
    TransactionState::default()
        .with_transactional_id(id)
        .with_transaction_state(StrBytes::from_static_str(view.state))
        .with_transaction_timeout_ms(view.timeout_ms)
        .with_transaction_start_time_ms(view.since_ms.unwrap_or(-1))
        .with_producer_id(ProducerId(view.producer.id))
        .with_producer_epoch(view.producer.epoch)
        .with_topics(topics.into_iter().map(topic).collect())
}
