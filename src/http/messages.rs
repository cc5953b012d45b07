//! POST /v1/messages

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use krocket_features::http::{ErrorBody, Problem};
use krocket_protocol::ApiKey;
use krocket_protocol::records::{BatchBuilder, Header, LastOffset};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::kafka::{Kafka, check, topic_name};

/// The last version in which topics are named.
const PRODUCE_BY_NAME: i16 = 12;
/// How long the log may take.
const TIMEOUT_MS: i32 = 30_000;

#[derive(Clone)]
struct Producer {
    kafka: Kafka,
    /// Messages without a key go to the partitions in turn.
    turn: Arc<AtomicUsize>,
}

pub(super) fn routes(kafka: Kafka) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(produce)).with_state(Producer { kafka, turn: Arc::default() })
}

/// A message to produce.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMessage {
    /// The topic; it is created as a Kafka producer's would be.
    topic: String,
    /// The partition; by default the key's, as Kafka's Java client computes it, else the next in turn.
    partition: Option<i32>,
    /// The record key.
    key: Option<String>,
    /// The record value; none is a tombstone.
    value: Option<String>,
    /// Record headers, such as TAGS or TIMER_DELAY_MS.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// Where a message was stored.
#[derive(Serialize, ToSchema)]
struct Stored {
    /// The message's id.
    id: String,
    /// The topic.
    topic: String,
    /// The partition.
    partition: i32,
    /// The offset.
    offset: i64,
}

/// Produces a message with acks=all: what its headers ask for is done as for any producer.
#[utoipa::path(
    post, path = "/v1/messages", tag = "messages", request_body = NewMessage,
    responses((status = 201, body = Stored), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody))
)]
async fn produce(
    State(producer): State<Producer>,
    Json(message): Json<NewMessage>,
) -> Result<(StatusCode, Json<Stored>), Problem> {
    let topic = producer.kafka.topic(&message.topic, true).await?;
    let count = topic.partitions.len().max(1);
    let partition = message.partition.unwrap_or_else(|| match &message.key {
        Some(key) => (murmur2(key.as_bytes()) & 0x7fff_ffff) as i32 % count as i32,
        None => (producer.turn.fetch_add(1, Ordering::Relaxed) % count) as i32,
    });
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let headers: Vec<Header<'_>> = message
        .headers
        .iter()
        .map(|(name, value)| Header { key: name.as_bytes(), value: Some(value.as_bytes()) })
        .collect();
    let mut batch = BatchBuilder::new(0, now_ms);
    batch.push(
        0,
        now_ms,
        message.key.as_ref().map(String::as_bytes),
        message.value.as_ref().map(String::as_bytes),
        &headers,
    );
    let batch = batch.finish(LastOffset::Keep).map_err(|error| Problem::bad_request(error.to_string()))?;
    let data = PartitionProduceData::default().with_index(partition).with_records(batch);
    let data = TopicProduceData::default().with_name(topic_name(&message.topic)).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(TIMEOUT_MS).with_topic_data(vec![data]);
    let response: ProduceResponse = producer.kafka.ask_at(ApiKey::Produce, PRODUCE_BY_NAME, request).await?;
    let answer = response.responses.into_iter().flat_map(|topic| topic.partition_responses).next();
    let answer = answer.ok_or_else(|| Problem::unavailable("the broker gave no answer for the message"))?;
    let record = answer.record_errors.first().and_then(|record| record.batch_index_error_message.as_deref());
    let why = record.or(answer.error_message.as_deref());
    check(answer.error_code, why, || format!("{}:{partition}", message.topic))?;
    let id = format!("{}:{partition}:{}", message.topic, answer.base_offset);
    Ok((StatusCode::CREATED, Json(Stored { id, topic: message.topic, partition, offset: answer.base_offset })))
}

/// Kafka's Utils.murmur2, by which producers choose a key's partition.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let word = word.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ word >> 24).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = (hash ^ word).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Kafka's own UtilsTest.testMurmur2.
    #[test]
    fn keys_go_where_kafkas_clients_put_them() {
        let cases: [(&str, i32); 7] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
            ("", 275_646_681),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }
}
