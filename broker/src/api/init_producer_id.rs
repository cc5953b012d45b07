//! InitProducerId: ids for idempotent producers, and who has a transactional id.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::add_partitions_to_txn::unfenced;
use crate::Broker;
use crate::txn::Producer;

/// First version that tells fencing from a wrong epoch.
const FENCED_VERSION: i16 = 4;

/// Without a transactional id Kafka hands out a new id whatever a client brings; with one it is the epoch that grows.
pub(crate) async fn handle(broker: &Broker, head: Head, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refuse = |code: ErrorCode| {
        let code = if head.version < FENCED_VERSION { unfenced(code) } else { code };
        InitProducerIdResponse::default()
            .with_error_code(code.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    let initialised = match request.transactional_id {
        Some(id) => {
            let (producer_id, epoch) = (request.producer_id.0, request.producer_epoch);
            let asks = (producer_id >= 0 && epoch >= 0).then_some(Producer { id: producer_id, epoch });
            let longest = broker.configs.broker().transaction_max_timeout_ms;
            if id.is_empty() || (producer_id >= 0) != (epoch >= 0) {
                Err(ErrorCode::InvalidRequest)
            } else if !(1..=longest).contains(&request.transaction_timeout_ms) {
                Err(ErrorCode::InvalidTransactionTimeout)
            } else {
                broker.transactions.init(&id, request.transaction_timeout_ms, asks).await
            }
        }
        None => match broker.producer_ids.next(&broker.log).await {
            Ok(id) => Ok(Producer { id, epoch: 0 }),
            Err(error) => {
                tracing::error!(%error, "cannot hand out a producer id");
                Err(error.code())
            }
        },
    };
    match initialised {
        Ok(Producer { id, epoch }) => {
            InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(epoch)
        }
        Err(code) => refuse(code),
    }
}

#[cfg(test)]
mod tests {
    use krocket_protocol::ApiKey;

    use super::super::testing::TestBroker;
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
}
