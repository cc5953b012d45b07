//! The life of a message: all copies that krocket made of it, in the order of their times, and who consumed them.

use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse, OffsetFetchResponse, TopicName};
use krocket_features::headers::{ERROR, ORIGIN_MESSAGE_ID, RECONSUME_TIMES};
use krocket_features::{MessageId, admin, escape};
use krocket_protocol::offset_fetch::{OffsetFetchGroup, OffsetFetchRequest, OffsetFetchTopic};
use krocket_protocol::{ApiKey, StrBytes};
use krocket_stack::LedgerError;
use krocket_stack::ledger::tables;
use serde::Serialize;
use utoipa::ToSchema;

use crate::index::{By, Lookup, locator};
use crate::query::{Message, Wanted};

const LIST_GROUPS: i16 = 4;
const OFFSET_FETCH: i16 = 8;
/// Copies that are shown, at most.
const COPIES: usize = 1000;

/// One thing that happened to a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Event {
    /// `produced`, `parked`, `delivered`, `retrying`, `retried`, `dead`, `asked`, `redriven`, `cancelled`, `committed`,
    /// `rolled_back` or `lost`.
    pub(crate) what: &'static str,
    /// The record, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// Epoch ms.
    pub(crate) at_ms: i64,
    /// Parked until this epoch ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until_ms: Option<i64>,
    /// The consumer group whose retry or dead letter it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// Which retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) times: Option<String>,
    /// What the consumer said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// How far a consumer group is with a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Consumed {
    /// The group.
    pub(crate) group: String,
    /// `consumed`, `waiting`, `retrying` or `dead`.
    pub(crate) state: &'static str,
}

/// Everything that is known of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Life {
    /// The first copy.
    pub(crate) id: String,
    /// In the order of time.
    pub(crate) events: Vec<Event>,
    /// Groups that have committed an offset in a topic that it is visible in.
    pub(crate) groups: Vec<Consumed>,
}

impl Lookup {
    /// The first copy of a message and all later ones.
    pub(crate) fn copies(&self, id: &MessageId) -> Result<Option<Vec<Message>>, LedgerError> {
        let Some(message) = self.message(id)? else { return Ok(None) };
        let origin = message.header(ORIGIN_MESSAGE_ID).and_then(|origin| origin.parse::<MessageId>().ok());
        let first = match &origin {
            Some(origin) => self.message(origin)?,
            None => None,
        };
        let first_id = origin.as_ref().unwrap_or(id).to_string();
        let wanted = Wanted { by: By::Origin, text: first_id.as_bytes(), topic: None, from: 0, to: i64::MAX };
        let (later, _) = self.find(&wanted, None, COPIES)?;
        let mut copies: Vec<Message> = first.into_iter().chain(later).collect();
        if !copies.iter().any(|copy| copy.id == message.id) {
            copies.push(message);
        }
        copies.sort_by_key(|copy| copy.timestamp);
        copies.dedup_by(|a, b| a.id == b.id);
        Ok(Some(copies))
    }

    /// What happened to each copy.
    pub(crate) fn events(&self, copies: &[Message]) -> Result<Vec<Event>, LedgerError> {
        let prefixes = self.rules.get().prefixes.clone();
        let mut events = Vec::new();
        for copy in copies {
            let retry = escape::group(&prefixes.retry, &copy.id.topic);
            let dead = escape::group(&prefixes.dlq, &copy.id.topic);
            let later = copy.header(ORIGIN_MESSAGE_ID).is_some();
            let key = locator(copy.at);
            let until = self.ledger.get(tables::PARKED, &key)?;
            let until_ms =
                until.and_then(|due| Some(i64::from_be_bytes(*due.first_chunk()?))).filter(|due| *due != i64::MAX);
            let what = match (&retry, &dead, copy.hidden) {
                (_, Some(_), _) => "dead",
                (Some(_), _, true) => "retrying",
                (Some(_), _, false) => "retried",
                (None, None, true) => "parked",
                (None, None, false) if escape::group(&prefixes.check, &copy.id.topic).is_some() => "asked",
                (None, None, false) if copy.header("REDRIVEN_AT").is_some() => "redriven",
                (None, None, false) if later => "delivered",
                (None, None, false) => "produced",
            };
            events.push(Event {
                what,
                id: Some(copy.id.to_string()),
                at_ms: copy.timestamp,
                until_ms,
                times: copy.header(RECONSUME_TIMES),
                reason: copy.header(ERROR),
                group: retry.or(dead),
            });
            if let Some(bytes) = self.ledger.get(tables::ENDED, &key)?
                && let Ok(ended) = serde_json::from_slice::<serde_json::Value>(&bytes)
            {
                let what = match ended.get("outcome").and_then(|outcome| outcome.as_str()) {
                    Some("cancelled") => "cancelled",
                    Some("committed") => "committed",
                    Some("rolled_back") => "rolled_back",
                    _ => "lost",
                };
                let at_ms = ended.get("at").and_then(|at| at.as_i64()).unwrap_or(copy.timestamp);
                let nothing = Event { what, id: None, at_ms, until_ms: None, group: None, times: None, reason: None };
                events.push(nothing);
            }
        }
        events.sort_by_key(|event| event.at_ms);
        Ok(events)
    }

    /// How far each group is with a message that is visible in these places.
    pub(crate) async fn groups(&self, copies: &[Message]) -> Result<Vec<Consumed>, krocket_stack::Error> {
        let prefixes = self.rules.get().prefixes.clone();
        let internal = |topic: &str| {
            [&prefixes.retry, &prefixes.dlq, &prefixes.check]
                .iter()
                .any(|prefix| escape::group(prefix, topic).is_some())
        };
        let Some(shown) = copies.iter().rev().find(|copy| !copy.hidden && !internal(&copy.id.topic)) else {
            return Ok(Vec::new());
        };
        let listed: ListGroupsResponse =
            admin::call(&*self.next, ApiKey::ListGroups, LIST_GROUPS, ListGroupsRequest::default()).await?;
        let mut groups = Vec::new();
        for group in listed.groups {
            let mut chain = copies.iter().rev().filter_map(|copy| {
                let of = |prefix: &str| escape::group(prefix, &copy.id.topic).filter(|of| *of == *group.group_id.0);
                let retry = of(&prefixes.retry).map(|_| (false, copy));
                retry.or_else(|| of(&prefixes.dlq).map(|_| (true, copy)))
            });
            let latest = chain.next();
            let at = match latest {
                Some((true, _)) => {
                    groups.push(Consumed { group: group.group_id.to_string(), state: "dead" });
                    continue;
                }
                Some((false, copy)) if copy.hidden => {
                    groups.push(Consumed { group: group.group_id.to_string(), state: "retrying" });
                    continue;
                }
                Some((false, copy)) => copy,
                None => shown,
            };
            if let Some(committed) = self.committed(&group.group_id, &at.id).await? {
                let state = match (committed > at.id.offset, latest.is_some()) {
                    (true, _) => "consumed",
                    (false, true) => "retrying",
                    (false, false) => "waiting",
                };
                groups.push(Consumed { group: group.group_id.to_string(), state });
            }
        }
        Ok(groups)
    }

    async fn committed(&self, group: &GroupId, id: &MessageId) -> Result<Option<i64>, krocket_stack::Error> {
        let name = TopicName(StrBytes::from_string(id.topic.clone()));
        let topic = OffsetFetchTopic { name, partition_indexes: vec![id.partition], ..OffsetFetchTopic::default() };
        let asked =
            OffsetFetchGroup { group_id: group.clone(), topics: Some(vec![topic]), ..OffsetFetchGroup::default() };
        let request = OffsetFetchRequest { groups: vec![asked], require_stable: false };
        let response: OffsetFetchResponse =
            admin::call(&*self.next, ApiKey::OffsetFetch, OFFSET_FETCH, request).await?;
        let offset = response.groups.first().and_then(|group| group.topics.first()?.partitions.first());
        Ok(offset.map(|partition| partition.committed_offset).filter(|offset| *offset >= 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Memory, lookup, record};

    #[test]
    fn every_copy_leads_to_the_whole_life() {
        let memory = Memory::new(&["orders", "retry.g", "dlq.g", "check.shop"]);
        let origin = ("ORIGIN_MESSAGE_ID", "orders:0:0");
        memory.append(0, 0, &record(&[("TAGS", "paid")]));
        memory.append(1, 1, &record(&[origin, ("ERROR", "no money"), ("RECONSUME_TIMES", "1")]));
        memory.hide(1, 1);
        memory.append(1, 2, &record(&[origin, ("RECONSUME_TIMES", "1")]));
        memory.append(2, 3, &record(&[origin]));
        memory.append(0, 4, &record(&[origin, ("REDRIVEN_AT", "5")]));
        memory.append(0, 5, &record(&[]));
        memory.append(3, 6, &record(&[origin]));
        memory.put(tables::PARKED, &locator((1, 1)), &9000_i64.to_be_bytes());
        let lookup = lookup(&memory, &["*"]);
        assert_eq!(lookup.rebuild_now(b"1", || false), Ok(true));
        for id in ["orders:0:0", "retry.g:0:1", "retry.g:0:2", "dlq.g:0:3", "orders:0:4", "check.shop:0:6"] {
            let copies = lookup.copies(&id.parse().expect("an id")).expect("reads").expect("copies");
            let events = lookup.events(&copies).expect("reads");
            let told: Vec<_> = events.iter().map(|event| (event.what, event.at_ms, event.group.as_deref())).collect();
            let g = Some("g");
            assert_eq!(
                told,
                [
                    ("produced", 1000, None),
                    ("retrying", 1001, g),
                    ("retried", 1002, g),
                    ("dead", 1003, g),
                    ("redriven", 1004, None),
                    ("asked", 1006, None),
                ],
                "{id}"
            );
            let nack = &events[1];
            assert_eq!(
                (nack.until_ms, nack.times.as_deref(), nack.reason.as_deref()),
                (Some(9000), Some("1"), Some("no money"))
            );
        }
        assert!(lookup.copies(&"orders:0:9".parse().expect("an id")).expect("reads").is_none());
    }

    #[test]
    fn how_a_parked_message_ended_is_told() {
        for (outcome, what) in
            [("cancelled", "cancelled"), ("committed", "committed"), ("rolled_back", "rolled_back"), ("lost", "lost")]
        {
            let memory = Memory::new(&["orders"]);
            memory.append(0, 0, &record(&[("TRAN_MSG", "true")]));
            memory.hide(0, 0);
            let ended = format!("{{\"outcome\": \"{outcome}\", \"at\": 1500}}");
            memory.put(tables::ENDED, &locator((0, 0)), ended.as_bytes());
            let lookup = lookup(&memory, &["*"]);
            let copies = lookup.copies(&"orders:0:0".parse().expect("an id")).expect("reads").expect("copies");
            let events = lookup.events(&copies).expect("reads");
            let told: Vec<_> = events.iter().map(|event| (event.what, event.at_ms)).collect();
            assert_eq!(told, [("parked", 1000), (what, 1500)]);
        }
    }
}
