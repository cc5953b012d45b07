//! Nacks: what is sent to a group's retry topic becomes a message that waits there, or a dead letter.

use std::sync::Arc;

use krocket_config::rules::{Kind, RetryPolicy, Rules};
use krocket_features::headers::{
    BORN_TIMESTAMP, ERROR, MAX_RECONSUME_TIMES, ORIGIN_MESSAGE_ID, REAL_TOPIC, RECONSUME_TIMES, TIMER_DEL_UNIQKEY,
    TRAN_END, VIEW_SOURCE,
};
use krocket_features::produce::{brief, number, records, text};
use krocket_features::{MessageId, escape};
use krocket_parking::rows::park;
use krocket_parking::{Entry, Expected, Locator, More, Parking, Status};
use krocket_protocol::ErrorCode;
use krocket_protocol::records::Record;
use krocket_stack::ledger::TopicInfo;
use krocket_stack::{LedgerError, ProducePartition, Refusal, Row};

use crate::attempts::{Attempts, Counting};
use crate::original::{Opened, Original, with_originals};
use crate::policy::wait_ms;
use crate::redrive::Brake;

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
pub(crate) const RETRIES: &str = "a number of retries";

/// What holds for the nacks of one partition.
pub(crate) struct Nacks<'a> {
    pub(crate) parking: &'a Arc<Parking>,
    pub(crate) attempts: &'a Arc<Attempts>,
    pub(crate) brake: &'a Brake,
    pub(crate) rules: &'a Rules,
    pub(crate) group: &'a str,
    pub(crate) policy: &'a RetryPolicy,
    /// The group's retry topic.
    pub(crate) topic: &'a TopicInfo,
    pub(crate) synced: bool,
}

/// What a request holds until it is answered.
pub(crate) struct Held {
    expected: Expected,
    _counting: Vec<Counting>,
}

impl Held {
    /// The rows are there.
    pub(crate) fn stored(self) {
        self.expected.stored();
    }
}

/// The message that a nack is about.
struct Named {
    /// Its first copy.
    first: MessageId,
    at: Locator,
    /// The copy that the nack names, where it can still be read.
    copy: Option<Original>,
}

/// What a nack comes to.
struct Outcome {
    due: i64,
    entry: Entry,
    counting: Option<Counting>,
    row: Option<Row>,
}

impl Nacks<'_> {
    pub(crate) fn look(&self, partition: &mut ProducePartition) -> Result<Option<Held>, Refusal> {
        let id = usize::try_from(partition.index).ok().and_then(|index| self.topic.partitions.get(index));
        let (Some(id), Some(nacks)) = (id, records(partition)) else { return Ok(None) };
        // A batch that is rebuilt gets a CRC that is right; what came in has to be right before. The backend says why not.
        if nacks.header().check_crc(&partition.records).is_err() {
            return Ok(None);
        }
        let now = self.parking.ledger().now_ms();
        let (mut rows, mut counting, mut originals) = (Vec::new(), Vec::new(), Vec::new());
        let mut opened = Opened::default();
        let mut soonest: Option<i64> = None;
        for (place, nack) in (0..).zip(&nacks) {
            // Nothing has been noted yet: the backend refuses a batch that does not parse.
            let Ok(nack) = nack else { return Ok(None) };
            let named = self.named(&nack, place, &mut opened)?;
            let outcome = self.outcome(&nack, named.as_ref(), place, partition.index, now)?;
            rows.extend(park(*id, place, outcome.due, &outcome.entry));
            rows.extend(outcome.row);
            counting.extend(outcome.counting);
            soonest = Some(soonest.map_or(outcome.due, |soonest| soonest.min(outcome.due)));
            originals.push(named.and_then(|named| named.copy).filter(|_| is_empty(&nack)));
        }
        let Some(soonest) = soonest else { return Ok(None) };
        if originals.iter().any(Option::is_some) {
            partition.notes.sent.get_or_insert(partition.records.len());
            partition.records = with_originals(&nacks, &originals)?;
        }
        partition.notes.rows.extend(rows);
        (0..).take(originals.len()).for_each(|place| partition.notes.hide(place));
        krocket_parking::metrics::parked(originals.len() as u64);
        Ok(Some(Held { expected: self.parking.expect(*id, soonest), _counting: counting }))
    }

    /// The message that a nack is about, where it says so; an empty one has to.
    fn named(&self, nack: &Record<'_>, place: i32, opened: &mut Opened) -> Result<Option<Named>, Refusal> {
        let refused = |why: String| Err(Refusal::record(place, why));
        let empty = is_empty(nack);
        let mut id = match text(nack, place, ORIGIN_MESSAGE_ID)?.map(str::parse::<MessageId>) {
            None if empty => return refused(format!("an empty record without {ORIGIN_MESSAGE_ID}: nothing to retry")),
            None => return Ok(None),
            Some(Ok(id)) => id,
            Some(Err(error)) => return refused(format!("{ORIGIN_MESSAGE_ID}: {error}")),
        };
        id.topic = self.source(&id.topic);
        if escape::group(&self.rules.prefixes.dlq, &id.topic).is_some() {
            return refused(format!("{id} is a dead letter: it is redriven, not retried"));
        }
        let parking = self.parking;
        let end = |at: Locator| parking.ledger().partition(at.0).map_or(0, |info| info.end);
        let Some(at) = parking.locate(&id) else { return refused(format!("{id}: no such topic or partition")) };
        let gone = || refused(format!("{id}: no such message, or it is past its retention"));
        if id.offset >= end(at) {
            return gone();
        }
        let found = match opened.batch(parking, at) {
            Err(refusal) if empty => return Err(refusal),
            found => found.ok().flatten(),
        };
        let copy = found.map(|(records, hidden)| (Original { records, offset: id.offset }, hidden));
        let seen = copy.as_ref().and_then(|(copy, hidden)| Some((copy.record()?, *hidden)));
        let Some((record, hidden)) = seen else {
            // Who has the message needs none of it.
            return if empty { gone() } else { Ok(Some(Named { first: id, at, copy: None })) };
        };
        if hidden {
            // Nobody can have consumed what waits, was taken back, or only commands. What is delivered can be read before
            // the delivery lets go of it.
            let waits = !matches!(parking.stored_status(at).map_err(|error| unreadable(&error))?, Status::Delivered);
            let commands = [TRAN_END, TIMER_DEL_UNIQKEY].iter().any(|name| record.header(name.as_bytes()).is_some());
            if waits || commands {
                return refused(format!("{id} is not visible: it cannot have been consumed"));
            }
        } else if empty && parking.ledger().partition(at.0).is_none_or(|info| id.offset < info.log_start) {
            return gone();
        }
        // The first copy's id stays. It is in the headers of what krocket delivered: late, in the same topic, or retried.
        let first =
            text(&record, place, ORIGIN_MESSAGE_ID).ok().flatten().and_then(|first| first.parse::<MessageId>().ok());
        let first = first.filter(|first| first.topic == id.topic || self.is_retry(&id.topic));
        let first = first.and_then(|first| Some((parking.locate(&first)?, first)));
        let (at, first) = first.filter(|(at, first)| first.offset < end(*at)).unwrap_or((at, id));
        Ok(Some(Named { first, at, copy: copy.map(|(copy, _)| copy) }))
    }

    /// When the message comes back and as what.
    fn outcome(
        &self,
        nack: &Record<'_>,
        named: Option<&Named>,
        place: i32,
        index: i32,
        now: i64,
    ) -> Result<Outcome, Refusal> {
        let copy = named.and_then(|named| named.copy.as_ref()).and_then(Original::record);
        let copy = copy.as_ref();
        let count = |name: &str| -> Result<Option<u32>, Refusal> {
            let given = match (number(nack, place, name, RETRIES)?, copy) {
                // What the message says that makes no sense is no fault of who nacks it.
                (None, Some(copy)) => number(copy, place, name, RETRIES).ok().flatten(),
                (given, _) => given,
            };
            Ok(given.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
        };
        let counting = named.map(|named| self.attempts.of(self.group, named.at)).transpose();
        let counting = counting.map_err(|error| unreadable(&error))?;
        let before = counting.as_ref().and_then(|counting| counting.before);
        let said = count(RECONSUME_TIMES)?;
        let done = said.or(before).unwrap_or(0);
        let limit = count(MAX_RECONSUME_TIMES)?.unwrap_or(self.policy.max_attempts);
        let real = self.real_topic(nack, named, copy, place)?;
        let reason = text(nack, place, ERROR)?.unwrap_or("the retries are used up");
        number(nack, place, BORN_TIMESTAMP, "a time in milliseconds since 1970")?;
        let born = text(nack, place, BORN_TIMESTAMP)?;
        let born = born.or_else(|| copy.and_then(|copy| text(copy, place, BORN_TIMESTAMP).ok().flatten()));
        let born = born.map_or_else(|| copy.unwrap_or(nack).timestamp.to_string(), str::to_owned);

        let mut headers: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
        if let Some(named) = named {
            add(ORIGIN_MESSAGE_ID, named.first.to_string());
        }
        if let Some(real) = &real {
            add(REAL_TOPIC, real.clone());
        }
        add(BORN_TIMESTAMP, born);
        let synced = self.synced;
        if done < limit {
            add(RECONSUME_TIMES, (done + 1).to_string());
            let due = now.saturating_add(wait_ms(self.policy, done + 1));
            // Who says how often needs no row, unless there is one.
            let counted = counting.as_ref().filter(|_| said.is_none() || before.is_some());
            let row = counted.map(|counting| counting.set(before.unwrap_or(0).max(done + 1), due));
            let entry = Entry { synced, more: Some(Box::new(More { headers, ..More::default() })) };
            return Ok(Outcome { due, entry, counting, row });
        }
        add(RECONSUME_TIMES, done.to_string());
        let topic = real.unwrap_or_else(|| self.topic.name.to_string());
        add(DLQ_TOPIC, topic.clone());
        add(DLQ_ORIGIN_TOPIC, topic);
        if let Some(Named { first, .. }) = named {
            add(DLQ_PARTITION, first.partition.to_string());
            add(DLQ_OFFSET, first.offset.to_string());
            add(DLQ_ORIGIN_MESSAGE_ID, first.to_string());
        }
        add(DLQ_GROUP, self.group.to_owned());
        add(DLQ_DELIVERY_COUNT, done.saturating_add(1).to_string());
        add(DLQ_MESSAGE, brief_reason(reason));
        let dlq = escape::topic(&self.rules.prefixes.dlq, self.group).unwrap_or_default();
        let info = self.parking.ledger().topic(&dlq);
        let partitions = info.map_or(1, |info| info.partitions.len().max(1)) as i32;
        let more = More { target: Some((dlq, index.rem_euclid(partitions))), headers, ..More::default() };
        let wait = self.policy.max_dead_per_minute.map_or(0, |limit| self.brake.wait_ms(self.group, limit, now));
        // Redriven it begins anew.
        let row = counting.as_ref().filter(|counting| counting.before.is_some()).map(Counting::clear);
        Ok(Outcome {
            due: now.saturating_add(wait),
            entry: Entry { synced, more: Some(Box::new(more)) },
            counting,
            row,
        })
    }

    /// The topic that the message was first consumed from: the first copy's, or one that the nack says and that is there.
    fn real_topic(
        &self,
        nack: &Record<'_>,
        named: Option<&Named>,
        copy: Option<&Record<'_>>,
        place: i32,
    ) -> Result<Option<String>, Refusal> {
        let refused = |why: String| Err(Refusal::record(place, format!("{REAL_TOPIC}{why}")));
        let said = text(nack, place, REAL_TOPIC)?.map(|said| (said, self.source(said)));
        if let Some(Named { first, .. }) = named.filter(|named| !self.is_retry(&named.first.topic)) {
            return match said {
                Some((said, source)) if source != first.topic => {
                    refused(format!("={}: {first} is a message of {}", brief(said), first.topic))
                }
                _ => Ok(Some(first.topic.clone())),
            };
        }
        // What krocket wrote on the retried copy was looked at when it did.
        let known = copy.and_then(|copy| text(copy, place, REAL_TOPIC).ok().flatten());
        match said {
            None => Ok(known.map(str::to_owned)),
            Some((said, _)) if known == Some(said) => Ok(Some(said.to_owned())),
            Some((said, source)) => match self.rules.prefixes.kind(&source) {
                Some((Kind::Dlq, _)) => refused(format!("={}: it holds dead letters", brief(said))),
                Some(_) => refused(format!("={}: it belongs to krocket", brief(said))),
                None if self.parking.ledger().topic(&source).is_none() => {
                    refused(format!("={}: no such topic", brief(said)))
                }
                None => Ok(Some(source)),
            },
        }
    }

    /// The topic that a view shows; any other is itself. A view has its source's partitions and offsets.
    fn source(&self, topic: &str) -> String {
        let source = self.parking.ledger().topic_config(topic, VIEW_SOURCE).filter(|source| !source.is_empty());
        source.unwrap_or_else(|| topic.to_owned())
    }

    fn is_retry(&self, topic: &str) -> bool {
        matches!(self.rules.prefixes.kind(topic), Some((Kind::Retry, _)))
    }
}

/// A nack by id.
fn is_empty(nack: &Record<'_>) -> bool {
    nack.key.is_none_or(<[u8]>::is_empty) && nack.value.is_none_or(<[u8]>::is_empty)
}

/// A header is no place for a stack trace of megabytes.
fn brief_reason(reason: &str) -> String {
    if reason.len() <= 4096 { reason.to_owned() } else { brief(reason) }
}

pub(crate) fn unreadable(error: &LedgerError) -> Refusal {
    Refusal::new(ErrorCode::KafkaStorageError, error.to_string())
}
