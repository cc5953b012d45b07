//! The layer: a record sent to `retry.<group>` waits by the group's policy and comes back, or dies.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, JoinGroupRequest, MetadataRequest};
use krocket_config::rules::{Live, RetryPolicy, Rules};
use krocket_features::headers::{
    BORN_TIMESTAMP, ERROR, MAX_DECOMPRESSED, MAX_RECONSUME_TIMES, Name, ORIGIN_MESSAGE_ID, REAL_TOPIC, RECONSUME_TIMES,
    TIMER_DEL_UNIQKEY, TRAN_END, mentioned,
};
use krocket_features::produce::{brief, number, records, resolve, text};
use krocket_features::{MessageId, escape};
use krocket_parking::rows::park;
use krocket_parking::{Entry, Expected, Locator, More, Parking, Status};
use krocket_protocol::records::{BatchBuilder, BatchHeader, Header, LastOffset, Record, Records};
use krocket_protocol::{ApiKey, ErrorCode};
use krocket_stack::ledger::{PartitionId, TopicInfo};
use krocket_stack::{BoxFuture, Error, Handler, Layer, LedgerError, ProducePartition, Refusal, Request, Response};

use crate::policy::wait_ms;
use crate::topics::Topics;

/// A batch of nacks may grow to this when ids are replaced by their messages.
const MAX_BATCH: usize = 64 << 20;
/// Where a dead letter says more (KIP-1191), and RocketMQ's names for the same.
pub(crate) const DLQ_TOPIC: &str = "__dlq.errors.topic";
const DLQ_PARTITION: &str = "__dlq.errors.partition";
const DLQ_OFFSET: &str = "__dlq.errors.offset";
const DLQ_GROUP: &str = "__dlq.errors.group";
const DLQ_DELIVERY_COUNT: &str = "__dlq.errors.delivery.count";
const DLQ_MESSAGE: &str = "__dlq.errors.message";
const DLQ_ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
const DLQ_ORIGIN_MESSAGE_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";
/// What some headers hold.
const RETRIES: &str = "a number of retries";

/// Retry and dead letters.
pub struct Retry {
    parking: Arc<Parking>,
    topics: Arc<Topics>,
    rules: Live,
    brake: crate::redrive::Brake,
}

impl Retry {
    /// On what is parked, by these rules.
    pub fn new(parking: Arc<Parking>, topics: Arc<Topics>, rules: Live) -> Self {
        Retry { parking, topics, rules, brake: crate::redrive::Brake::default() }
    }
}

impl Layer for Retry {
    fn name(&self) -> &'static str {
        "retry"
    }

    fn wants(&self, api: ApiKey) -> bool {
        matches!(api, ApiKey::Produce | ApiKey::Metadata | ApiKey::JoinGroup | ApiKey::ConsumerGroupHeartbeat)
    }

    fn call<'a>(&'a self, request: Request, next: &'a dyn Handler) -> BoxFuture<'a, Result<Response, Error>> {
        if request.head.connection.is_internal() {
            return next.call(request);
        }
        match request.head.api {
            ApiKey::Produce => Box::pin(self.produce(request, next)),
            ApiKey::Metadata => Box::pin(self.metadata(request, next)),
            ApiKey::JoinGroup => Box::pin(async move {
                let (head, message) = request.into_message::<JoinGroupRequest>()?;
                if &*message.protocol_type == "consumer" {
                    self.topics.prepare(&message.group_id);
                }
                next.call(Request::new(head, message)).await
            }),
            _ => Box::pin(async move {
                let (head, message) = request.into_message::<ConsumerGroupHeartbeatRequest>()?;
                if message.member_epoch == 0 {
                    self.topics.prepare(&message.group_id);
                }
                next.call(Request::new(head, message)).await
            }),
        }
    }
}

impl Retry {
    /// A retry topic that is asked for by name is there, though its group may not be yet.
    async fn metadata(&self, request: Request, next: &dyn Handler) -> Result<Response, Error> {
        let (head, message) = request.into_message::<MetadataRequest>()?;
        for topic in message.topics.iter().flatten() {
            let Some(name) = topic.name.as_ref().filter(|name| self.parking.ledger().topic(name).is_none()) else { continue };
            if let Some(group) = self.topics.group_of(name)
                && let Err(error) = self.topics.create(&group).await
            {
                tracing::warn!(%error, group, "a group has no retry topics");
            }
        }
        next.call(Request::new(head, message)).await
    }

    async fn produce(&self, request: Request, next: &dyn Handler) -> Result<Response, Error> {
        let (head, mut produce) = request.into_produce()?;
        resolve(&mut produce, &**self.parking.ledger());
        let rules = self.rules.get();
        let synced = produce.acks == -1;
        let mut expected: Vec<Expected> = Vec::new();
        for (topic, partition) in produce.open_partitions() {
            if escape::group(&rules.prefixes.dlq, topic).is_some() {
                let message = format!("{topic} belongs to krocket: messages come to it from {}", rules.prefixes.retry);
                partition.refused = Some(Refusal::new(ErrorCode::InvalidTopicException, message));
                continue;
            }
            let Some(group) = escape::group(&rules.prefixes.retry, topic) else {
                if mentioned(partition).any(&[Name::MAX_RECONSUME_TIMES]) {
                    partition.refused = check_limits(partition).err();
                }
                continue;
            };
            let policy = rules.retry(&group);
            if !policy.enabled {
                continue;
            }
            let Some(info) = self.parking.ledger().topic(topic) else { continue };
            let nacks = Nacks { retry: self, rules: &rules, group: &group, policy: &policy, topic: &info, synced };
            match nacks.look(partition) {
                Ok(parked) => expected.extend(parked),
                Err(refusal) => partition.refused = Some(refusal),
            }
        }
        let response = next.call(Request::from_produce(head, produce)).await;
        expected.into_iter().for_each(Expected::stored);
        response
    }
}

/// What holds for the nacks of one partition.
struct Nacks<'a> {
    retry: &'a Retry,
    rules: &'a Rules,
    group: &'a str,
    policy: &'a RetryPolicy,
    topic: &'a TopicInfo,
    synced: bool,
}

/// Batches that a request's nacks name messages of: each is opened once, and all together are bounded.
#[derive(Default)]
struct Opened {
    batches: HashMap<(PartitionId, i64), (Records, Vec<i64>)>,
    bytes: usize,
}

impl Opened {
    /// The batch that holds a message, and whether the message is hidden in it; `None` where it is gone.
    fn batch(&mut self, parking: &Parking, at: Locator) -> Result<Option<(Records, bool)>, Refusal> {
        let held = self.batches.iter().find(|((partition, base), (records, _))| {
            *partition == at.0 && (*base..=records.header().last_offset()).contains(&at.1)
        });
        if let Some((_, (records, hidden))) = held {
            return Ok(Some((records.clone(), hidden.binary_search(&at.1).is_ok())));
        }
        let stored = parking.ledger().batches(at.0, at.1, 1).map_err(|error| unreadable(&error))?;
        let Some(stored) = stored.into_iter().next() else { return Ok(None) };
        let Ok(header) = BatchHeader::read(&stored.batch) else { return Ok(None) };
        let Ok(records) = Records::open(&stored.batch, &header, MAX_DECOMPRESSED) else { return Ok(None) };
        self.bytes += records.section().len();
        if self.bytes > MAX_DECOMPRESSED {
            let message = "the batches that hold these messages are too large to be read at once: name fewer at a time";
            return Err(Refusal::new(ErrorCode::MessageTooLarge, message));
        }
        let is_hidden = stored.hidden.binary_search(&at.1).is_ok();
        self.batches.insert((at.0, header.base_offset), (records.clone(), stored.hidden));
        Ok(Some((records, is_hidden)))
    }
}

/// A message that was named by its id.
struct Original {
    records: Records,
    offset: i64,
}

impl Original {
    fn record(&self) -> Option<Record<'_>> {
        self.records.iter().map_while(Result::ok).find(|record| record.offset == self.offset)
    }
}

impl Nacks<'_> {
    fn look(&self, partition: &mut ProducePartition) -> Result<Option<Expected>, Refusal> {
        let id = usize::try_from(partition.index).ok().and_then(|index| self.topic.partitions.get(index));
        let (Some(id), Some(nacks)) = (id, records(partition)) else { return Ok(None) };
        // A batch that is rebuilt gets a CRC that is right; what came in has to be right before. The backend says why not.
        if nacks.header().check_crc(&partition.records).is_err() {
            return Ok(None);
        }
        let now = self.retry.parking.ledger().now_ms();
        let mut rows = Vec::new();
        let mut originals: Vec<Option<Original>> = Vec::new();
        let mut opened = Opened::default();
        let mut soonest: Option<i64> = None;
        for (place, nack) in (0..).zip(&nacks) {
            let Ok(nack) = nack else { return Ok(None) };
            let original = self.original(&nack, place, &mut opened)?;
            let record = original.as_ref().and_then(Original::record);
            let (due, entry) = self.entry(&nack, record.as_ref(), place, partition.index, now)?;
            rows.extend(park(*id, place, due, &entry));
            soonest = Some(soonest.map_or(due, |soonest| soonest.min(due)));
            originals.push(original);
        }
        if originals.iter().any(Option::is_some) {
            partition.records = with_originals(&nacks, &originals)?;
            partition.mentioned = None;
        }
        partition.notes.rows.extend(rows);
        (0..).take(originals.len()).for_each(|place| partition.notes.hide(place));
        krocket_parking::metrics::parked(originals.len() as u64);
        Ok(soonest.map(|due| self.retry.parking.expect(*id, due)))
    }

    /// The message that an empty nack names; `None` for a nack that is the message itself.
    fn original(&self, nack: &Record<'_>, place: i32, opened: &mut Opened) -> Result<Option<Original>, Refusal> {
        let refused = |why: String| Err(Refusal::record(place, why));
        let empty = nack.key.is_none_or(<[u8]>::is_empty) && nack.value.is_none_or(<[u8]>::is_empty);
        let named = text(nack, place, ORIGIN_MESSAGE_ID)?;
        let id = match named.map(str::parse::<MessageId>) {
            None if empty => return refused(format!("an empty record without {ORIGIN_MESSAGE_ID}: nothing to retry")),
            None => return Ok(None),
            Some(Ok(id)) => id,
            Some(Err(error)) => return refused(format!("{ORIGIN_MESSAGE_ID}: {error}")),
        };
        if escape::group(&self.rules.prefixes.dlq, &id.topic).is_some() {
            return refused(format!("{id} is a dead letter: it is redriven, not retried"));
        }
        if !empty {
            return Ok(None);
        }
        let parking = &self.retry.parking;
        let Some(at) = parking.locate(&id) else { return refused(format!("{id}: no such topic or partition")) };
        let gone = || refused(format!("{id}: no such message, or it is past its retention"));
        let (records, hidden) = match opened.batch(parking, at)? {
            Some(found) => found,
            None => return gone(),
        };
        let original = Original { records, offset: id.offset };
        let Some(record) = original.record() else { return gone() };
        if hidden {
            // Nobody can have consumed what waits, was taken back, or only commands.
            let waits = !matches!(parking.status(at).map_err(|error| unreadable(&error))?, Status::Delivered);
            let commands = [TRAN_END, TIMER_DEL_UNIQKEY].iter().any(|name| record.header(name.as_bytes()).is_some());
            if waits || commands {
                return refused(format!("{id} is not visible: it cannot have been consumed"));
            }
        } else if parking.ledger().partition(at.0).is_none_or(|info| id.offset < info.log_start) {
            return gone();
        }
        Ok(Some(original))
    }

    /// When the message comes back and as what.
    fn entry(
        &self,
        nack: &Record<'_>,
        original: Option<&Record<'_>>,
        place: i32,
        index: i32,
        now: i64,
    ) -> Result<(i64, Entry), Refusal> {
        let either = |name: &str| -> Result<Option<u64>, Refusal> {
            let given = number(nack, place, name, RETRIES)?;
            match (given, original) {
                // What the message says that makes no sense is no fault of who nacks it.
                (None, Some(original)) => Ok(number(original, place, name, RETRIES).ok().flatten()),
                _ => Ok(given),
            }
        };
        let words = |name: &str| -> Result<Option<String>, Refusal> {
            let given = text(nack, place, name)?.map(str::to_owned);
            let of_original = || original.and_then(|original| text(original, place, name).ok().flatten()).map(str::to_owned);
            Ok(given.or_else(of_original))
        };
        let done = u32::try_from(either(RECONSUME_TIMES)?.unwrap_or(0)).unwrap_or(u32::MAX);
        let limit = either(MAX_RECONSUME_TIMES)?.map_or(self.policy.max_attempts, |max| u32::try_from(max).unwrap_or(u32::MAX));
        // The first copy's id stays: of what was delivered late or retried before it is in its headers.
        let of_original = original.and_then(|original| text(original, place, ORIGIN_MESSAGE_ID).ok().flatten());
        let origin = of_original.map(str::to_owned).or(text(nack, place, ORIGIN_MESSAGE_ID)?.map(str::to_owned));
        let parsed: Option<MessageId> = origin.as_deref().and_then(|origin| origin.parse().ok());
        let real = words(REAL_TOPIC)?.or_else(|| parsed.as_ref().map(|id| id.topic.clone()));
        if let Some(real) = &real
            && escape::group(&self.rules.prefixes.dlq, real).is_some()
        {
            return Err(Refusal::record(place, format!("{real} holds dead letters: they are redriven, not retried")));
        }
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
        if let Some(origin) = &origin {
            add(ORIGIN_MESSAGE_ID, origin.clone());
        }
        if let Some(real) = &real {
            add(REAL_TOPIC, real.clone());
        }
        number(nack, place, BORN_TIMESTAMP, "a time in milliseconds since 1970")?;
        let born = words(BORN_TIMESTAMP)?.unwrap_or_else(|| original.unwrap_or(nack).timestamp.to_string());
        let reason = text(nack, place, ERROR)?.unwrap_or("the retries are used up");
        add(BORN_TIMESTAMP, born);
        let synced = self.synced;
        if done < limit {
            add(RECONSUME_TIMES, (done + 1).to_string());
            let due = now.saturating_add(wait_ms(self.policy, done + 1));
            return Ok((due, Entry { synced, more: Some(Box::new(More { headers, ..More::default() })) }));
        }
        add(RECONSUME_TIMES, done.to_string());
        let topic = real.unwrap_or_else(|| self.topic.name.to_string());
        add(DLQ_TOPIC, topic.clone());
        add(DLQ_ORIGIN_TOPIC, topic);
        if let (Some(id), Some(origin)) = (&parsed, &origin) {
            add(DLQ_PARTITION, id.partition.to_string());
            add(DLQ_OFFSET, id.offset.to_string());
            add(DLQ_ORIGIN_MESSAGE_ID, origin.clone());
        }
        add(DLQ_GROUP, self.group.to_owned());
        add(DLQ_DELIVERY_COUNT, done.saturating_add(1).to_string());
        add(DLQ_MESSAGE, brief_reason(reason));
        let dlq = escape::topic(&self.rules.prefixes.dlq, self.group).unwrap_or_default();
        let info = self.retry.parking.ledger().topic(&dlq);
        let partitions = info.map_or(1, |info| info.partitions.len().max(1)) as i32;
        let more = More { target: Some((dlq, index.rem_euclid(partitions))), headers, ..More::default() };
        let wait = self.policy.max_dead_per_minute.map_or(0, |limit| self.retry.brake.wait_ms(self.group, limit, now));
        Ok((now.saturating_add(wait), Entry { synced, more: Some(Box::new(more)) }))
    }
}

/// A limit is a property of the message from the beginning; it would be too late to hear of it with the first retry.
fn check_limits(partition: &ProducePartition) -> Result<(), Refusal> {
    let Some(records) = records(partition) else { return Ok(()) };
    for (place, record) in (0..).zip(records.iter().map_while(Result::ok)) {
        number(&record, place, MAX_RECONSUME_TIMES, RETRIES)?;
    }
    Ok(())
}

/// A header is no place for a stack trace of megabytes.
fn brief_reason(reason: &str) -> String {
    if reason.len() <= 4096 { reason.to_owned() } else { brief(reason) }
}

/// The batch of nacks with the messages that were named by id in their places.
fn with_originals(nacks: &Records, originals: &[Option<Original>]) -> Result<Bytes, Refusal> {
    let mut builder = BatchBuilder::like(nacks.header());
    for (nack, original) in nacks.iter().map_while(Result::ok).zip(originals) {
        match original.as_ref().and_then(Original::record) {
            None => builder.push_record(&nack),
            Some(record) => {
                let given: Vec<Header<'_>> = nack.headers().map_while(Result::ok).collect();
                let own = record.headers().map_while(Result::ok);
                let kept = own.filter(|header| !given.iter().any(|given| given.key == header.key));
                let headers: Vec<Header<'_>> = kept.chain(given.iter().copied()).collect();
                builder.push(nack.offset, nack.timestamp, record.key, record.value, &headers);
            }
        }
        if builder.section_len() > MAX_BATCH {
            let message = format!("the messages named in this batch are more than {MAX_BATCH} bytes: name fewer at a time");
            return Err(Refusal::new(ErrorCode::MessageTooLarge, message));
        }
    }
    let batch = builder.finish(LastOffset::Keep);
    batch.ok().flatten().ok_or_else(|| Refusal::new(ErrorCode::InvalidRecord, "the batch cannot be rebuilt"))
}

fn unreadable(error: &LedgerError) -> Refusal {
    Refusal::new(ErrorCode::KafkaStorageError, error.to_string())
}
