//! What clients of one share group saw, record by record.

use std::collections::HashMap;

use krocket_testkit::share::{Place, Verdict};

/// A record came to a member: between `sent` and `got` (epoch µs).
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) member: String,
    pub(crate) count: i16,
    pub(crate) value: String,
    pub(crate) sent: i64,
    pub(crate) got: i64,
}

/// A member's word. `None` when no answer came: it may have counted or not.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) member: String,
    pub(crate) verdict: Verdict,
    pub(crate) sent: i64,
    pub(crate) got: i64,
    pub(crate) code: Option<i16>,
}

impl Word {
    pub(crate) fn counted(&self) -> bool {
        self.code == Some(0)
    }

    pub(crate) fn may_have_counted(&self) -> bool {
        matches!(self.code, None | Some(0))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) words: Vec<Word>,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) records: HashMap<Place, Story>,
    /// When fetches were sent to which no answer came: each may have delivered something.
    pub(crate) unanswered: Vec<i64>,
    /// Members that closed their sessions, and when they began to.
    pub(crate) closed: Vec<(String, i64)>,
    /// Members that dropped their connections, and when.
    pub(crate) dropped: Vec<(String, i64)>,
    pub(crate) counts: Counts,
}

/// What happened how often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) deliveries: u64,
    pub(crate) accepted: u64,
    pub(crate) released: u64,
    pub(crate) rejected: u64,
    pub(crate) renewed: u64,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    pub(crate) closed: u64,
    pub(crate) dropped: u64,
    pub(crate) dead: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        self.deliveries += other.deliveries;
        self.accepted += other.accepted;
        self.released += other.released;
        self.rejected += other.rejected;
        self.renewed += other.renewed;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.closed += other.closed;
        self.dropped += other.dropped;
        self.dead += other.dead;
    }
}

impl History {
    pub(crate) fn delivered(&mut self, place: Place, delivery: Delivery) {
        self.counts.deliveries += 1;
        self.records.entry(place).or_default().deliveries.push(delivery);
    }

    pub(crate) fn said(&mut self, place: Place, word: Word) {
        let counter = match (word.code, word.verdict) {
            (None, _) => &mut self.counts.unanswered,
            (Some(0), Verdict::Accept) => &mut self.counts.accepted,
            (Some(0), Verdict::Release) => &mut self.counts.released,
            (Some(0), Verdict::Reject) => &mut self.counts.rejected,
            (Some(0), Verdict::Renew) => &mut self.counts.renewed,
            (Some(_), _) => &mut self.counts.refused,
        };
        *counter += 1;
        self.records.entry(place).or_default().words.push(word);
    }

    pub(crate) fn closes(&mut self, member: &str, at: i64) {
        self.counts.closed += 1;
        self.closed.push((member.to_owned(), at));
    }

    pub(crate) fn drops(&mut self, member: &str, at: i64) {
        self.counts.dropped += 1;
        self.dropped.push((member.to_owned(), at));
    }
}
