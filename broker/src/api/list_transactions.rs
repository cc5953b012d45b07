//! ListTransactions: by state, producer, duration (KIP-994) and pattern (KIP-1152).

use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::Head;

use crate::Broker;
use crate::pattern;
use crate::txn::View;

/// Kafka's names of states (`TransactionState`).
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// Answers from memory.
pub(crate) async fn handle(broker: &Broker, _head: Head, request: ListTransactionsRequest) -> ListTransactionsResponse {
    let pattern = match request.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty()) {
        None => None,
        Some(pattern) => match pattern::whole(pattern) {
            Ok(pattern) => Some(pattern),
            Err(_) => {
                let code = ErrorCode::InvalidRegularExpression.code();
                return ListTransactionsResponse::default().with_error_code(code);
            }
        },
    };
    let now_ms = broker.log.clock().steady_ms();
    let wanted = |view: &View| {
        let (states, producers) = (&request.state_filters, &request.producer_id_filters);
        (states.is_empty() || states.iter().any(|state| &**state == view.state))
            && (producers.is_empty() || producers.iter().any(|id| id.0 == view.producer.id))
            && (request.duration_filter < 0
                || view.since_ms.is_some_and(|since| now_ms.saturating_sub(since) > request.duration_filter))
            && pattern.as_ref().is_none_or(|pattern| pattern.is_match(&view.id))
    };
    let found = broker.transactions.list().into_iter().filter(wanted).map(|view| {
        TransactionState::default()
            .with_transactional_id(TransactionalId(StrBytes::from_string(view.id)))
            .with_producer_id(ProducerId(view.producer.id))
            .with_transaction_state(StrBytes::from_static_str(view.state))
    });
    let unknown = request.state_filters.iter().filter(|state| !STATES.contains(&&***state)).cloned().collect();
    ListTransactionsResponse::default().with_transaction_states(found.collect()).with_unknown_state_filters(unknown)
}
