//! EndTxn: commits or aborts, and from version 5 on gives the producer its next epoch (KIP-890).

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};
use krocket_stack::Head;

use super::add_partitions_to_txn::unfenced;
use crate::Broker;
use crate::txn::Producer;

const FENCED_VERSION: i16 = 2;

/// Answers when the end is on disk, in all partitions.
pub(crate) async fn handle(broker: &Broker, head: Head, request: EndTxnRequest) -> EndTxnResponse {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    match broker.transactions.end(&request.transactional_id, producer, head.version, request.committed).await {
        Ok(next) => EndTxnResponse::default().with_producer_id(ProducerId(next.id)).with_producer_epoch(next.epoch),
        Err(code) => {
            let code = if head.version < FENCED_VERSION { unfenced(code) } else { code };
            EndTxnResponse::default()
                .with_error_code(code.code())
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1)
        }
    }
}
