//! Produce: one batch per partition, checked as Kafka checks it, appended as the bytes that came.

use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceResponse, TopicName};
use krocket_protocol::records::batch::{self, BatchHeader};
use krocket_protocol::records::{Codec, Rejection, Rules, Timestamps, Walked, validate_walked};
use krocket_protocol::{ErrorCode, StrBytes};
use krocket_stack::trace::traced;
use krocket_stack::{Error, ProducePartition, ProduceTopic, Refusal, Request, Response};
use tokio::time::{Sleep, sleep};

use crate::Broker;
use crate::log::{Append, AppendError, Appending, Durability, MAX_DECOMPRESSED};
use crate::topics::{Topic, TopicConfig};
use crate::txn::Named;

/// First version that may carry zstd (KIP-110).
const ZSTD_VERSION: i16 = 7;
/// First version that names topics by id (KIP-516).
const TOPIC_ID_VERSION: i16 = 13;
/// A write is not given up before this, whatever the request's timeout: one replica answers as fast as its disk.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Validates and queues every batch before the first wait, so that requests of a connection stay in order; then waits.
pub(crate) async fn handle(broker: &Broker, request: Request) -> Result<Response, Error> {
    let (head, request) = request.into_produce()?;
    let asked = Asked {
        version: head.version,
        acks: request.acks,
        internal: head.connection.is_internal(),
        transactional_id: request.transactional_id.map(|id| id.0),
    };
    let started: Vec<_> = request.topics.into_iter().map(|topic| start_topic(broker, &asked, topic)).collect();
    if request.acks == 0 {
        return finish_unanswered(started).await;
    }
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64).max(MIN_TIMEOUT);
    let responses = traced("append", finish_answered(started, timeout)).await;
    Ok(Response::new(ProduceResponse::default().with_responses(responses)))
}

async fn finish_answered(started: Vec<StartedTopic>, timeout: Duration) -> Vec<TopicProduceResponse> {
    let mut timeout = pin!(sleep(timeout));
    let mut responses = Vec::with_capacity(started.len());
    for topic in started {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            partitions.push(partition.finish(timeout.as_mut()).await);
        }
        responses.push(topic.response.with_partition_responses(partitions));
    }
    responses
}

/// acks=0: nothing is answered. The write is awaited all the same: a request that was let go before it could pile up in
/// the log's queue without a bound. Where a batch was refused the connection is closed, as Kafka does: it is the only way
/// to tell the client.
async fn finish_unanswered(started: Vec<StartedTopic>) -> Result<Response, Error> {
    let mut refused = None;
    for partition in started.into_iter().flat_map(|topic| topic.partitions) {
        let refusal = match partition {
            Started::Refused(response) => Some(response),
            Started::Queued { index, appending, .. } => {
                appending.await.err().map(|error| response(error.into(), index))
            }
        };
        refused = refused.or(refusal);
    }
    match refused {
        None => Ok(Response::None),
        Some(response) => {
            let message = response.error_message.as_deref().unwrap_or("no reason").to_owned();
            Err(Error::Close(format!("a batch produced with acks=0 was refused: {message}")))
        }
    }
}

/// What holds for all partitions of a request.
struct Asked {
    version: i16,
    acks: i16,
    /// By a layer or worker of krocket.
    internal: bool,
    transactional_id: Option<StrBytes>,
}

struct StartedTopic {
    response: TopicProduceResponse,
    partitions: Vec<Started>,
}

/// One partition's batch on its way.
enum Started {
    Refused(PartitionProduceResponse),
    Queued { index: i32, log_append_time: bool, appending: Appending },
}

impl Started {
    async fn finish(self, timeout: Pin<&mut Sleep>) -> PartitionProduceResponse {
        let (index, log_append_time, appending) = match self {
            Started::Refused(response) => return response,
            Started::Queued { index, log_append_time, appending } => (index, log_append_time, appending),
        };
        match select(appending, timeout).await {
            Either::Left((Ok(appended), _)) => PartitionProduceResponse::default()
                .with_index(index)
                .with_base_offset(appended.base_offset)
                .with_log_append_time_ms(if log_append_time { appended.timestamp } else { -1 })
                .with_log_start_offset(appended.log_start_offset),
            Either::Left((Err(error), _)) => response(error.into(), index),
            Either::Right(_) => {
                response(Refusal::new(ErrorCode::RequestTimedOut, "the disk did not answer in time"), index)
            }
        }
    }
}

fn response(refusal: Refusal, index: i32) -> PartitionProduceResponse {
    let records = refusal.records.into_iter().map(|(index, message)| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(index)
            .with_batch_index_error_message(Some(StrBytes::from_string(message)))
    });
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(refusal.code.code())
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1)
        .with_record_errors(records.collect())
        .with_error_message(Some(StrBytes::from_string(refusal.message)))
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        Refusal::new(error.code(), error.to_string())
    }
}

fn start_topic(broker: &Broker, asked: &Asked, topic: ProduceTopic) -> StartedTopic {
    let by_id = asked.version >= TOPIC_ID_VERSION;
    let found = if by_id { broker.topics.by_id(topic.id) } else { broker.topics.get(&topic.name) };
    let unknown = if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
    let start = |mut data: ProducePartition| {
        let index = data.index;
        let found = found.as_deref().ok_or_else(|| Refusal::new(unknown, "no such topic"));
        let refused = data.refused.take().map_or(Ok(()), Err);
        let started = refused.and(found).and_then(|found| start_partition(broker, asked, found, data));
        started.unwrap_or_else(|refusal| Started::Refused(response(refusal, index)))
    };
    let partitions = topic.partitions.into_iter().map(start).collect();
    let response = TopicProduceResponse::default().with_name(TopicName(topic.name)).with_topic_id(topic.id);
    StartedTopic { response, partitions }
}

fn start_partition(broker: &Broker, asked: &Asked, topic: &Topic, data: ProducePartition) -> Result<Started, Refusal> {
    let config = topic.config.load();
    let durability = match asked.acks {
        0 => Durability::None,
        1 => Durability::Written,
        -1 => Durability::Synced,
        acks => {
            return Err(Refusal::new(
                ErrorCode::InvalidRequiredAcks,
                format!("acks={acks}: only -1, 0 and 1 are known"),
            ));
        }
    };
    let durability = if config.sync_every_write { Durability::Synced } else { durability };
    let partition = topic
        .partition(data.index)
        .ok_or_else(|| Refusal::new(ErrorCode::UnknownTopicOrPartition, "no such partition"))?;
    let now_ms = broker.log.clock().now_ms();
    let sent = data.notes.sent.unwrap_or(data.records.len());
    let (batch, header) = check(asked, data.records, data.walked.as_ref(), sent, &config, now_ms)?;
    if !asked.internal {
        broker.log.admit(batch.len()).map_err(|error| Refusal::new(error.code(), error.message))?;
    }
    let appending = if header.is_transactional() {
        let named = || Named { topic: topic.name.clone(), index: data.index, partition: partition.clone() };
        let append = || {
            let (partition, notes) = (partition.clone(), data.notes);
            broker.log.append(Append { partition, batch, header, durability, notes })
        };
        broker.transactions.admit(asked.transactional_id.as_deref(), &header, asked.version, named, append)?
    } else {
        broker.log.append(Append { partition, batch, header, durability, notes: data.notes })
    };
    Ok(Started::Queued { index: data.index, log_append_time: config.log_append_time, appending })
}

/// Checks a batch and brings its header to what the log keeps.
///
/// Every record is walked, compressed or not, as Kafka does: whatever is in the log can be read by every client. The
/// walk streams and costs a fraction of what compressing did; memory is bounded whatever the batch claims.
fn check(
    asked: &Asked,
    mut batch: Bytes,
    walked: Option<&Walked>,
    sent: usize,
    config: &TopicConfig,
    now_ms: i64,
) -> Result<(Bytes, BatchHeader), Refusal> {
    if batch.is_empty() {
        return Err(Refusal::new(ErrorCode::InvalidRecord, "a partition without a record batch"));
    }
    // What was taken once is delivered, whatever headers krocket adds to it.
    if sent > config.max_message_bytes && !asked.internal {
        let message = format!("a batch of {sent} bytes: max.message.bytes is {}", config.max_message_bytes);
        return Err(Refusal::new(ErrorCode::MessageTooLarge, message));
    }
    let timestamps = if config.log_append_time {
        Timestamps::LogAppend
    } else {
        Timestamps::Create {
            earliest: now_ms.saturating_sub(config.timestamp_before_max_ms),
            latest: now_ms.saturating_add(config.timestamp_after_max_ms),
        }
    };
    let rules = Rules { key_required: config.compact, timestamps, max_decompressed: MAX_DECOMPRESSED };
    let mut validated = validate_walked(&batch, &rules, walked)?;
    let header = &mut validated.header;
    if header.base_offset != 0 {
        return Err(Refusal::new(
            ErrorCode::InvalidRecord,
            format!("base offset {}: 0 was expected", header.base_offset),
        ));
    }
    if header.codec() == Some(Codec::Zstd) && asked.version < ZSTD_VERSION {
        let message = format!("zstd needs Produce version {ZSTD_VERSION}");
        return Err(Refusal::new(ErrorCode::UnsupportedCompressionType, message));
    }
    if config.log_append_time {
        batch = rewrite(&batch, |batch| batch::stamp_log_append_time(batch, now_ms));
        validated.header = reread(&batch)?;
    } else if header.max_timestamp != validated.max_timestamp {
        batch = rewrite(&batch, |batch| batch::set_max_timestamp(batch, validated.max_timestamp));
        validated.header = reread(&batch)?;
    }
    Ok((batch, validated.header))
}

fn rewrite(batch: &[u8], change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = BytesMut::from(batch);
    change(&mut bytes);
    bytes.freeze()
}

fn reread(batch: &[u8]) -> Result<BatchHeader, Refusal> {
    BatchHeader::read(batch).map_err(|error| Refusal::from(Rejection::from(error)))
}

#[cfg(test)]
mod tests;
