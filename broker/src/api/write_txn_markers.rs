//! WriteTxnMarkers: here only an administrator's way to abort a hanging transaction (`kafka-transactions.sh abort`).

use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use krocket_protocol::ErrorCode;
use krocket_stack::Head;

use super::partition_of;
use crate::Broker;
use crate::log::{Durability, EndTxn, Marker};

/// Writes the markers of one producer in one frame.
pub(crate) async fn handle(broker: &Broker, _head: Head, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        markers.push(one(broker, marker).await);
    }
    WriteTxnMarkersResponse::default().with_markers(markers)
}

async fn one(broker: &Broker, asked: WritableTxnMarker) -> WritableTxnMarkerResult {
    let marker =
        Marker { producer_id: asked.producer_id.0, epoch: asked.producer_epoch, commit: asked.transaction_result };
    let mut partitions = Vec::new();
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let mut results = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let checked = partition_of(broker, &topic.name, index, -1).and_then(|partition| {
                let known = broker.log.producers(&partition).map_err(|error| error.code())?;
                let newer = known.iter().any(|one| one.producer_id == marker.producer_id && one.epoch > marker.epoch);
                if newer { Err(ErrorCode::InvalidProducerEpoch) } else { Ok(partition) }
            });
            let code = checked.map(|partition| partitions.push(partition)).err();
            results.push((index, code));
        }
        topics.push((topic.name, results));
    }
    let end = EndTxn { marker, partitions, writes: Vec::new(), durability: Durability::Synced };
    let failed = broker.log.end_txn(end).await.err().map(|error| error.code());
    let topics = topics.into_iter().map(|(name, results)| {
        let partitions = results.into_iter().map(|(index, code)| {
            let code = code.or(failed).map_or(0, |code| code.code());
            WritableTxnMarkerPartitionResult::default().with_partition_index(index).with_error_code(code)
        });
        WritableTxnMarkerTopicResult::default().with_name(name).with_partitions(partitions.collect())
    });
    WritableTxnMarkerResult::default().with_producer_id(asked.producer_id).with_topics(topics.collect())
}
