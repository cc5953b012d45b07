//! What was promised to clients, message by message, and whether it was kept.

use std::collections::HashMap;

use super::wire::Read;
use super::{DLQ, RETRY, TOPIC};

/// What a message is, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Delayed, acknowledged.
    Delayed,
    /// Its cancel was acknowledged.
    Cancelled,
    /// A half message without an end.
    Half,
    /// Its commit was acknowledged.
    Committed,
    /// Its rollback was acknowledged.
    RolledBack,
    /// Delayed in a transaction whose commit was acknowledged.
    InTransaction,
    /// The same, and its abort was.
    Aborted,
    /// Sent to retry, to come back once.
    Retried,
    /// Sent to retry with no attempt left.
    Dead,
    /// No answer came: it may be there or not, but not twice.
    Unknown,
}

impl Kind {
    /// Those of which something was promised in the end: a test that saw none of one has shown nothing of it.
    pub const PROMISED: [Kind; 8] = [
        Kind::Delayed,
        Kind::Cancelled,
        Kind::Committed,
        Kind::RolledBack,
        Kind::InTransaction,
        Kind::Aborted,
        Kind::Retried,
        Kind::Dead,
    ];
}

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    /// Not visible before, epoch ms.
    pub(crate) not_before: i64,
    /// The record that was acknowledged, where there is one.
    pub(crate) id: Option<String>,
}

/// All messages by value: each value is sent once.
#[derive(Debug)]
pub(crate) struct Ledger {
    messages: HashMap<String, Message>,
    /// The least that is a promise, and what clients ask for where they may ask for little.
    pub(crate) acks: i16,
}

/// How many messages of which kind.
#[derive(Clone, Debug, Default)]
pub struct Counts(HashMap<Kind, u64>);

impl Counts {
    /// Messages of a kind.
    pub fn of(&self, kind: Kind) -> u64 {
        self.0.get(&kind).copied().unwrap_or(0)
    }

    /// All messages.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Adds those of another life.
    pub fn add(&mut self, other: &Counts) {
        for (kind, count) in &other.0 {
            *self.0.entry(*kind).or_default() += count;
        }
    }
}

impl Ledger {
    pub(crate) fn new(acks: i16) -> Self {
        Ledger { messages: HashMap::new(), acks }
    }

    pub(crate) fn set(&mut self, value: &str, kind: Kind, not_before: i64) {
        self.messages.insert(value.to_owned(), Message { kind, not_before, id: None });
    }

    /// Something is under way whose outcome is not known until its answer comes.
    pub(crate) fn doubt(&mut self, value: &str) {
        if let Some(message) = self.messages.get_mut(value) {
            message.kind = Kind::Unknown;
        }
    }

    pub(crate) fn settle(&mut self, value: &str, kind: Kind) {
        if let Some(message) = self.messages.get_mut(value) {
            message.kind = kind;
        }
    }

    pub(crate) fn named(&mut self, value: &str, id: String) {
        if let Some(message) = self.messages.get_mut(value) {
            message.id = Some(id);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for message in self.messages.values() {
            *counts.0.entry(message.kind).or_default() += 1;
        }
        counts
    }

    /// The first promise that was broken. What is only late counts where `all` has to be there.
    pub(crate) fn check(&self, records: &[Read], all: bool) -> Result<(), String> {
        let mut seen: HashMap<&str, Vec<&Read>> = HashMap::new();
        for record in records {
            seen.entry(&record.value).or_default().push(record);
        }
        for (value, records) in &seen {
            let Some(message) = self.messages.get(*value) else {
                return Err(format!("a record that nobody sent: {value} at {}", records[0].id()));
            };
            let name = match message.kind {
                Kind::Committed | Kind::RolledBack | Kind::Half => "K9",
                Kind::Cancelled => "K8",
                Kind::Retried | Kind::Dead => "K6",
                Kind::InTransaction | Kind::Aborted => "K4",
                Kind::Delayed | Kind::Unknown => "K7",
            };
            if records.len() > 1 {
                let places: Vec<_> = records.iter().map(|record| record.id()).collect();
                return Err(format!("{name}: {value} is there more than once: {places:?} ({message:?})"));
            }
            let record = records[0];
            if matches!(message.kind, Kind::Cancelled | Kind::RolledBack | Kind::Half | Kind::Aborted) {
                return Err(format!("{name}: {value} is visible at {} ({message:?})", record.id()));
            }
            if record.timestamp < message.not_before && record.topic != DLQ {
                let early = message.not_before - record.timestamp;
                return Err(format!("{name}: {value} is {early} ms early at {} ({message:?})", record.id()));
            }
            let wanted = match message.kind {
                Kind::Retried => RETRY,
                Kind::Dead => DLQ,
                Kind::Delayed | Kind::Committed | Kind::InTransaction => TOPIC,
                _ => &record.topic,
            };
            if record.topic != wanted {
                return Err(format!("{name}: {value} came to {}, not to {wanted} ({message:?})", record.topic));
            }
            if let Some(id) = &message.id
                && record.origin.as_ref() != Some(id)
            {
                return Err(format!("{name}: the origin of {value} is {id}, not {:?}", record.origin));
            }
        }
        if all {
            for (value, message) in &self.messages {
                let due = matches!(
                    message.kind,
                    Kind::Delayed | Kind::Committed | Kind::InTransaction | Kind::Retried | Kind::Dead
                );
                if due && !seen.contains_key(value.as_str()) {
                    return Err(format!("K7: {value} never came ({message:?})"));
                }
            }
        }
        Ok(())
    }
}
