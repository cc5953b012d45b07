//! InitProducerId: ids for idempotent producers.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use crate::Broker;

/// Hands out a new id. Without a transactional id Kafka ignores the id and epoch that a client brings, too.
pub(crate) async fn handle(broker: &Broker, _head: Head, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refuse = |code: ErrorCode| {
        InitProducerIdResponse::default()
            .with_error_code(code.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    match request.transactional_id {
        Some(id) if id.is_empty() => return refuse(ErrorCode::InvalidRequest),
        // Transactions are not served yet. This is the one answer that every client takes as final.
        Some(_) => return refuse(ErrorCode::TransactionalIdAuthorizationFailed),
        None => {}
    }
    match broker.producer_ids.next(&broker.log).await {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(error) => {
            tracing::error!(%error, "cannot hand out a producer id");
            refuse(error.code())
        }
    }
}
