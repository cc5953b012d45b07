//! The layer: parks what has a delay, takes back what is cancelled.

use std::sync::Arc;

use krocket_config::rules::{Live, ScheduleRules};
use krocket_features::headers::{
    DELAY, Name, TIMER_DEL_UNIQKEY, TIMER_DELAY_MS, TIMER_DELAY_SEC, TIMER_DELIVER_MS, mentioned,
};
use krocket_features::produce::{brief, numbered, outside_of_transactions, records, resolve, text, uniq_key};
use krocket_features::{MessageId, delay};
use krocket_parking::rows::{end, park, unpark};
use krocket_parking::{Claim, Ended, Entry, Expected, Locator, More, Outcome, Parking, Status};
use krocket_protocol::ApiKey;
use krocket_protocol::records::{BatchHeader, Record};
use krocket_stack::ledger::TopicInfo;
use krocket_stack::{BoxFuture, Error, Handler, Layer, LedgerError, ProducePartition, Refusal, Request, Response};

const WANTED: &[Name] =
    &[Name::DELAY, Name::TIMER_DELAY_SEC, Name::TIMER_DELAY_MS, Name::TIMER_DELIVER_MS, Name::TIMER_DEL_UNIQKEY];

/// Delayed delivery.
pub struct Schedule {
    pub(crate) parking: Arc<Parking>,
    rules: Live,
}

impl Schedule {
    /// On what is parked, by these rules.
    pub fn new(parking: Arc<Parking>, rules: Live) -> Self {
        Schedule { parking, rules }
    }
}

impl Layer for Schedule {
    fn name(&self) -> &'static str {
        "schedule"
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
            for (topic, partition) in produce.open_partitions() {
                if !mentioned(partition).any(WANTED) {
                    continue;
                }
                let Some(rules) = self.rules.get().topic(topic).schedule.clone() else { continue };
                let Some(info) = self.parking.ledger().topic(topic) else { continue };
                if let Err(refusal) = self.look(&info, partition, &rules, synced, &mut held) {
                    partition.refused = Some(refusal);
                }
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
}

impl Schedule {
    fn look(
        &self,
        topic: &TopicInfo,
        partition: &mut ProducePartition,
        rules: &ScheduleRules,
        synced: bool,
        held: &mut Held,
    ) -> Result<(), Refusal> {
        let id = usize::try_from(partition.index).ok().and_then(|index| topic.partitions.get(index));
        let (Some(id), Some(records)) = (id, records(partition)) else { return Ok(()) };
        let now = self.parking.ledger().now_ms();
        let mut soonest: Option<i64> = None;
        let mut parked = 0;
        let (mut hidden, mut rows, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        for (place, record) in (0..).zip(&records) {
            let Ok(record) = record else { return Ok(()) };
            // Another layer has parked it.
            if partition.notes.hides(place) {
                continue;
            }
            if let Some(target) = text(&record, place, TIMER_DEL_UNIQKEY)? {
                alone(&record, place)?;
                outside_of_transactions(records.header(), place, TIMER_DEL_UNIQKEY)?;
                for at in self.targets(topic, target, place)? {
                    if held.claims.iter().chain(&claims).any(|claim: &Claim| claim.at() == at) {
                        continue;
                    }
                    let cancelled = self.cancel(at, target, place, now, records.header());
                    if let Some((claim, cancel)) = cancelled? {
                        claims.push(claim);
                        rows.extend(cancel);
                    }
                }
                hidden.push(place);
                continue;
            }
            // Past due is delivered at once: in place.
            let Some(due) = delay::due(&record, place, rules, now)?.filter(|due| *due > now) else { continue };
            let uniq = uniq_key(&record, place)?.map(str::to_owned);
            let more = uniq.map(|uniq| Box::new(More { uniq: Some(uniq), ..More::default() }));
            rows.extend(park(*id, place, due, &Entry { synced, more }));
            soonest = Some(soonest.map_or(due, |soonest| soonest.min(due)));
            hidden.push(place);
            parked += 1;
        }
        hidden.into_iter().for_each(|place| partition.notes.hide(place));
        partition.notes.rows.extend(rows);
        held.claims.extend(claims);
        held.expected.extend(soonest.map(|due| self.parking.expect(*id, due)));
        krocket_parking::metrics::parked(parked);
        Ok(())
    }

    /// What a cancel names: a message id of this topic, or all that were parked in it under a UNIQ_KEY.
    fn targets(&self, topic: &TopicInfo, target: &str, place: i32) -> Result<Vec<Locator>, Refusal> {
        if let Ok(id) = target.parse::<MessageId>()
            && id.topic == *topic.name
        {
            return Ok(self.parking.locate(&id).into_iter().collect());
        }
        let found = self.parking.by_uniq(&topic.partitions, target).map_err(|error| unreadable(&error))?;
        if found.is_empty() {
            return Err(unknown(place, target));
        }
        // Of several, those that are over do not matter while one is pending.
        let mut pending = Vec::new();
        for at in &found {
            if matches!(
                self.parking.status(*at).map_err(|error| unreadable(&error))?,
                Status::Pending { .. } | Status::Busy
            ) {
                pending.push(*at);
            }
        }
        Ok(if pending.is_empty() { found.into_iter().rev().take(1).collect() } else { pending })
    }

    /// The claim and the rows of a cancel; none where it is cancelled already.
    fn cancel(
        &self,
        at: Locator,
        target: &str,
        place: i32,
        now: i64,
        header: &BatchHeader,
    ) -> Result<Option<(Claim, Vec<krocket_stack::Row>)>, Refusal> {
        let refused = |why: &str| Err(Refusal::record(place, format!("{TIMER_DEL_UNIQKEY}={}: {why}", brief(target))));
        let busy = || {
            Refusal::busy(
                place,
                format!("{TIMER_DEL_UNIQKEY}={}: the message is being delivered or changed right now", brief(target)),
            )
        };
        let Some(claim) = self.parking.claim(at) else { return Err(busy()) };
        match self.parking.stored_status(at).map_err(|error| unreadable(&error))? {
            Status::Pending { entry, .. } if entry.half().is_some() => {
                refused("it is a half message, which is rolled back, not cancelled: TRAN_END=ROLLBACK")
            }
            Status::Pending { due, .. } => {
                let ended = Ended { outcome: Outcome::Cancelled, at: now, by: numbered(header, place) };
                Ok(Some((claim, unpark(at, due).into_iter().chain([end(at, &ended)]).collect())))
            }
            // Said twice it is as true, and an idempotent producer may say it twice.
            Status::Ended(Ended { outcome: Outcome::Cancelled, .. }) => Ok(None),
            Status::Ended(ended) => refused(&format!("the message was {}", ended.outcome.words())),
            Status::Busy => Err(busy()),
            Status::Delivered => refused("the message was delivered already"),
            Status::Unknown => Err(unknown(place, target)),
        }
    }
}

/// A command has no delay of its own.
fn alone(record: &Record<'_>, place: i32) -> Result<(), Refusal> {
    let delays = [DELAY, TIMER_DELAY_SEC, TIMER_DELAY_MS, TIMER_DELIVER_MS];
    match delays.iter().find(|name| record.header(name.as_bytes()).is_some()) {
        None => Ok(()),
        Some(name) => {
            Err(Refusal::record(place, format!("{TIMER_DEL_UNIQKEY} and {name} in one record: a cancel has no delay")))
        }
    }
}

fn unknown(place: i32, target: &str) -> Refusal {
    Refusal::record(place, format!("{TIMER_DEL_UNIQKEY}={}: no such delayed message in this topic", brief(target)))
}

fn unreadable(error: &LedgerError) -> Refusal {
    Refusal::new(krocket_protocol::ErrorCode::KafkaStorageError, error.to_string())
}
