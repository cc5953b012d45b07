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

#[cfg(test)]
mod tests {
    use krocket_protocol::ApiKey;

    use super::super::testing::{TestBroker, text};
    use super::*;

    #[tokio::test]
    async fn no_id_is_handed_out_twice() {
        let mut broker = TestBroker::start().await;
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 {
            for version in 0..=5 {
                let request = InitProducerIdRequest::default().with_transactional_id(None);
                let response: InitProducerIdResponse = broker.ask(ApiKey::InitProducerId, version, request).await;
                assert_eq!((response.error_code, response.producer_epoch), (0, 0));
                assert!(seen.insert(response.producer_id.0), "{:?} again", response.producer_id);
            }
            broker = broker.restart().await;
        }
    }

    #[tokio::test]
    async fn transactional_ids_are_refused() {
        let broker = TestBroker::start().await;
        for (id, code) in [("", ErrorCode::InvalidRequest), ("t", ErrorCode::TransactionalIdAuthorizationFailed)] {
            let request = InitProducerIdRequest::default().with_transactional_id(Some(text(id).into()));
            let response: InitProducerIdResponse = broker.ask(ApiKey::InitProducerId, 4, request).await;
            assert_eq!((response.error_code, response.producer_id.0), (code.code(), -1));
        }
    }
}
