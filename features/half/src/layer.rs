//! The layer: parks half messages, ends them.

use std::sync::Arc;

use krocket_config::rules::{HalfRules, Live, ScheduleRules};
use krocket_features::MessageId;
use krocket_features::escape;
use krocket_features::headers::{
    CHECK_IMMUNITY_TIME_IN_SECONDS, DELAY, Name, ORIGIN_MESSAGE_ID, PGROUP, TIMER_DEL_UNIQKEY, TIMER_DELAY_MS,
    TIMER_DELAY_SEC, TIMER_DELIVER_MS, TRAN_END, TRAN_MSG, UNIQ_KEY, mentioned,
};
use krocket_features::produce::{
    Numbered, brief, number, numbered, outside_of_transactions, records, resolve, text, uniq_key,
};
use krocket_parking::rows::{end, park, repark, unpark};
use krocket_parking::{Claim, Delay, Ended, Entry, Expected, Half, Locator, More, Outcome, Parking, Status};
use krocket_protocol::ApiKey;
use krocket_protocol::ErrorCode;
use krocket_protocol::records::Record;
use krocket_stack::ledger::TopicInfo;
use krocket_stack::{BoxFuture, Error, Handler, Layer, LedgerError, ProducePartition, Refusal, Request, Response, Row};

use crate::check::Checks;

const WANTED: &[Name] = &[Name::TRAN_MSG, Name::TRAN_END, Name::PGROUP, Name::CHECK_IMMUNITY_TIME_IN_SECONDS];
/// Longest immunity, seconds: a day.
const MAX_IMMUNITY: u64 = 86_400;

/// Half messages.
pub struct HalfMessages {
    parking: Arc<Parking>,
    checks: Arc<Checks>,
    rules: Live,
}

impl HalfMessages {
    /// On what is parked, by these rules.
    pub fn new(parking: Arc<Parking>, checks: Arc<Checks>, rules: Live) -> Self {
        HalfMessages { parking, checks, rules }
    }
}

impl Layer for HalfMessages {
    fn name(&self) -> &'static str {
        "half"
    }

    fn wants(&self, api: ApiKey) -> bool {
        api == ApiKey::Produce
    }

    fn call<'a>(&'a self, request: Request, next: &'a dyn Handler) -> BoxFuture<'a, Result<Response, Error>> {
        Box::pin(async move {
            let (head, mut produce) = request.into_produce()?;
            if head.connection.is_internal() {
                return next.call(Request::from_produce(head, produce)).await;
            }
            resolve(&mut produce, &**self.parking.ledger());
            let synced = produce.acks == -1;
            let mut held = Held::default();
            let live = self.rules.get();
            for (topic, partition) in produce.open_partitions() {
                if topic.starts_with(&live.prefixes.check) {
                    let message = format!("{topic} belongs to krocket: it asks there how half messages end");
                    partition.refused = Some(Refusal::new(ErrorCode::InvalidTopicException, message));
                    continue;
                }
                if !mentioned(partition).any(WANTED) {
                    continue;
                }
                let rules = live.topic(topic);
                let Some(half) = &rules.half else { continue };
                let Some(info) = self.parking.ledger().topic(topic) else { continue };
                let look = Look { layer: self, topic: &info, half, schedule: rules.schedule.as_ref(), synced };
                if let Err(refusal) = look.partition(partition, &live.prefixes.check, &mut held) {
                    partition.refused = Some(refusal);
                }
            }
            for group in std::mem::take(&mut held.groups) {
                self.checks.prepare(group);
            }
            let response = next.call(Request::from_produce(head, produce)).await;
            held.expected.into_iter().for_each(Expected::stored);
            response
        })
    }
}

/// What a request holds until it is answered.
#[derive(Default)]
struct Held {
    claims: Vec<Claim>,
    expected: Vec<Expected>,
    groups: Vec<String>,
}

/// What holds for the records of one partition.
struct Look<'a> {
    layer: &'a HalfMessages,
    topic: &'a TopicInfo,
    half: &'a HalfRules,
    schedule: Option<&'a ScheduleRules>,
    synced: bool,
}

impl Look<'_> {
    fn partition(&self, partition: &mut ProducePartition, prefix: &str, held: &mut Held) -> Result<(), Refusal> {
        let id = usize::try_from(partition.index).ok().and_then(|index| self.topic.partitions.get(index));
        let (Some(id), Some(records)) = (id, records(partition)) else { return Ok(()) };
        let now = self.layer.parking.ledger().now_ms();
        let (mut hidden, mut rows, mut claims, mut expected) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut groups = Vec::new();
        for (place, record) in (0..).zip(&records) {
            let Ok(record) = record else { return Ok(()) };
            if partition.notes.hides(place) {
                continue;
            }
            let ends = text(&record, place, TRAN_END)?;
            let begins = self.begins(&record, place)?;
            match (begins, ends) {
                (false, None) => {
                    named_group(&record, place)?;
                    immunity(&record, place)?;
                }
                (true, Some(_)) => {
                    return Err(Refusal::record(
                        place,
                        format!("{TRAN_MSG} and {TRAN_END} in one record: it begins or ends"),
                    ));
                }
                (true, None) => {
                    outside_of_transactions(records.header(), place, TRAN_MSG)?;
                    let (due, entry) = self.entry(&record, place, prefix, now)?;
                    groups.extend(entry.half().map(|half| half.group.clone()));
                    rows.extend(park(*id, place, due, &entry));
                    expected.push((*id, due));
                    hidden.push(place);
                }
                (false, Some(verdict)) => {
                    outside_of_transactions(records.header(), place, TRAN_END)?;
                    let commit = match verdict {
                        "COMMIT" => true,
                        "ROLLBACK" => false,
                        other => {
                            let message = format!("{TRAN_END}={}: COMMIT or ROLLBACK is expected", brief(other));
                            return Err(Refusal::record(place, message));
                        }
                    };
                    let by = numbered(records.header(), place);
                    if record.header(TIMER_DEL_UNIQKEY.as_bytes()).is_some() {
                        return Err(Refusal::record(
                            place,
                            format!("{TRAN_END} and {TIMER_DEL_UNIQKEY} in one record"),
                        ));
                    }
                    let group = named_group(&record, place)?;
                    let at = self.target(&record, place)?;
                    if held.claims.iter().chain(&claims).any(|claim: &Claim| claim.at() == at) {
                        return Err(Refusal::record(
                            place,
                            format!("{TRAN_END}: the message is ended twice in one request"),
                        ));
                    }
                    if let Some((claim, change, due)) = self.end(at, group, place, commit, by, now)? {
                        claims.push(claim);
                        rows.extend(change);
                        expected.extend(due.map(|due| (at.0, due)));
                    }
                    hidden.push(place);
                }
            }
        }
        hidden.into_iter().for_each(|place| partition.notes.hide(place));
        partition.notes.rows.extend(rows);
        held.claims.extend(claims);
        held.groups.extend(groups);
        held.expected.extend(expected.into_iter().map(|(id, due)| self.layer.parking.expect(id, due)));
        Ok(())
    }

    fn begins(&self, record: &Record<'_>, place: i32) -> Result<bool, Refusal> {
        match text(record, place, TRAN_MSG)? {
            Some("true") => Ok(true),
            Some("false") | None => Ok(false),
            Some(other) => {
                Err(Refusal::record(place, format!("{TRAN_MSG}={}: true or false is expected", brief(other))))
            }
        }
    }

    /// When to ask about a half message first, and all that is known of it.
    fn entry(&self, record: &Record<'_>, place: i32, prefix: &str, now: i64) -> Result<(i64, Entry), Refusal> {
        let Some(group) = text(record, place, PGROUP)?.filter(|group| !group.is_empty()) else {
            let message = format!("{TRAN_MSG} without {PGROUP}: the producer group that is asked how it ends");
            return Err(Refusal::record(place, message));
        };
        if escape::topic(prefix, group).is_none() {
            let message = format!("{PGROUP}={} is too long: its check topic would have no name", brief(group));
            return Err(Refusal::record(place, message));
        }
        if record.header(TIMER_DEL_UNIQKEY.as_bytes()).is_some() {
            return Err(Refusal::record(place, format!("{TRAN_MSG} and {TIMER_DEL_UNIQKEY} in one record")));
        }
        let usual = || i64::try_from(self.half.immunity.as_millis()).unwrap_or(i64::MAX);
        let immunity = immunity(record, place)?.map_or_else(usual, |seconds| seconds as i64 * 1000);
        let delay = self.delay(record, place, now)?;
        let uniq = uniq_key(record, place)?.map(str::to_owned);
        let half = Half { group: group.to_owned(), checks: 0, delay };
        let more = More { half: Some(half), uniq, ..More::default() };
        Ok((now.saturating_add(immunity), Entry { synced: self.synced, more: Some(Box::new(more)) }))
    }

    /// A delay starts at the commit. Where the schedule is off its headers mean nothing.
    fn delay(&self, record: &Record<'_>, place: i32, now: i64) -> Result<Option<Delay>, Refusal> {
        let Some(rules) = self.schedule else { return Ok(None) };
        let named = [DELAY, TIMER_DELAY_SEC, TIMER_DELAY_MS, TIMER_DELIVER_MS];
        if !named.iter().any(|name| record.header(name.as_bytes()).is_some()) {
            return Ok(None);
        }
        let Some(due) = krocket_features::delay::due(record, place, rules, now)? else { return Ok(None) };
        let absolute = named[..3].iter().all(|name| record.header(name.as_bytes()).is_none());
        Ok(Some(if absolute { Delay::At(due) } else { Delay::After(due - now) }))
    }

    /// The half message that an end names.
    fn target(&self, record: &Record<'_>, place: i32) -> Result<Locator, Refusal> {
        let refused = |why: String| Err(Refusal::record(place, format!("{TRAN_END}: {why}")));
        let parking = &self.layer.parking;
        if let Some(id) = text(record, place, ORIGIN_MESSAGE_ID)? {
            let parsed: MessageId = match id.parse() {
                Ok(parsed) => parsed,
                Err(_) => return refused(format!("{ORIGIN_MESSAGE_ID}={} is not topic:partition:offset", brief(id))),
            };
            if parsed.topic != *self.topic.name {
                return refused(format!("{} is a message of another topic", brief(id)));
            }
            return match parking.locate(&parsed) {
                Some(at) => Ok(at),
                None => refused(format!("{} is no message", brief(id))),
            };
        }
        let Some(uniq) = uniq_key(record, place)? else {
            return refused(format!("it names no message: {UNIQ_KEY} or {ORIGIN_MESSAGE_ID} is expected"));
        };
        let found = parking.by_uniq(&self.topic.partitions, uniq).map_err(|error| unreadable(&error))?;
        let mut pending = Vec::new();
        for at in &found {
            let status = parking.status(*at).map_err(|error| unreadable(&error))?;
            if matches!(&status, Status::Pending { entry, .. } if entry.half().is_some()) || status == Status::Busy {
                pending.push(*at);
            }
        }
        match (pending.as_slice(), found.last()) {
            ([at], _) => Ok(*at),
            ([], Some(at)) => Ok(*at),
            ([], None) => refused(format!("no half message of this topic has {UNIQ_KEY}={}", brief(uniq))),
            _ => refused(format!("{} half messages have {UNIQ_KEY}={}: name one by id", pending.len(), brief(uniq))),
        }
    }

    /// The claim, the rows and the delivery time of an end; nothing where it is a repetition.
    fn end(
        &self,
        at: Locator,
        group: Option<&str>,
        place: i32,
        commit: bool,
        by: Option<Numbered>,
        now: i64,
    ) -> Result<Option<End>, Refusal> {
        let refused = |why: &str| Err(Refusal::record(place, format!("{TRAN_END}: {why}")));
        let parking = &self.layer.parking;
        let Some(claim) = parking.claim(at) else {
            return Err(Refusal::busy(place, format!("{TRAN_END}: the message is being ended by another right now")));
        };
        let ended = parking.ended(at).map_err(|error| unreadable(&error))?;
        if let Some(ended) = ended {
            let repeated = by.is_some() && ended.by == by;
            return if repeated {
                Ok(None)
            } else {
                refused(&format!("the message was {} already", ended.outcome.words()))
            };
        }
        match parking.stored_status(at).map_err(|error| unreadable(&error))? {
            Status::Pending { due, entry } => {
                let owner = entry.half().map(|half| &*half.group);
                if let (Some(owner), Some(_)) = (owner, group.filter(|group| owner != Some(*group))) {
                    return refused(&format!("the message is of the producer group {}", brief(owner)));
                }
                match end_rows(at, due, &entry, commit, by, now) {
                    Some((rows, due)) => Ok(Some((claim, rows, due))),
                    None => refused("the message is delayed, not a half message"),
                }
            }
            Status::Delivered | Status::Busy | Status::Ended(_) | Status::Unknown => refused("no such half message"),
        }
    }
}

/// The producer group of a record that need not have one.
fn named_group<'a>(record: &Record<'a>, place: i32) -> Result<Option<&'a str>, Refusal> {
    match text(record, place, PGROUP)? {
        Some("") => Err(Refusal::record(place, format!("{PGROUP} is empty"))),
        group => Ok(group),
    }
}

/// How long a half message is not to be asked about, seconds.
fn immunity(record: &Record<'_>, place: i32) -> Result<Option<u64>, Refusal> {
    let seconds = number(record, place, CHECK_IMMUNITY_TIME_IN_SECONDS, "a number of seconds")?;
    match seconds.filter(|seconds| *seconds > MAX_IMMUNITY) {
        Some(seconds) => {
            let message = format!("{CHECK_IMMUNITY_TIME_IN_SECONDS}={seconds}: at most {MAX_IMMUNITY} are possible");
            Err(Refusal::record(place, message))
        }
        None => Ok(seconds),
    }
}

type End = (Claim, Vec<Row>, Option<i64>);

/// What ends a half message, and when it is delivered if it is; `None` where it is none.
pub(crate) fn end_rows(
    at: Locator,
    due: i64,
    entry: &Entry,
    commit: bool,
    by: Option<Numbered>,
    now: i64,
) -> Option<(Vec<Row>, Option<i64>)> {
    let half = entry.half()?;
    let outcome = if commit { Outcome::Committed } else { Outcome::RolledBack };
    let mark = end(at, &Ended { outcome, at: now, by });
    if !commit {
        return Some((unpark(at, due).into_iter().chain([mark]).collect(), None));
    }
    let deliver = half.delay.map_or(now, |delay| delay.due(now));
    let mut whole = Entry { synced: entry.synced, more: entry.more.clone() };
    if let Some(more) = &mut whole.more {
        more.half = None;
    }
    Some((repark(at, due, deliver, &whole).into_iter().chain([mark]).collect(), Some(deliver)))
}

fn unreadable(error: &LedgerError) -> Refusal {
    Refusal::new(ErrorCode::KafkaStorageError, error.to_string())
}
