//! AddOffsetsToTxn: a group whose offsets will come with TxnOffsetCommit. Clients since Kafka 4.0 don't send it.

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::add_partitions_to_txn::unfenced;
use crate::Broker;
use crate::txn::Producer;

const FENCED_VERSION: i16 = 2;

/// Opens the transaction where that is the first thing in it.
pub(crate) async fn handle(broker: &Broker, head: Head, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let result = if request.group_id.is_empty() {
        Err(ErrorCode::InvalidGroupId)
    } else {
        broker.transactions.add_offsets(&request.transactional_id, producer, &request.group_id).await
    };
    let told = |code| if head.version < FENCED_VERSION { unfenced(code) } else { code };
    AddOffsetsToTxnResponse::default().with_error_code(result.map_or_else(|code| told(code).code(), |()| 0))
}
