//! Choosing among records by what is in them: a filter, one record of a key at a time, the most urgent first.
//!
//! What was read of a record stays here for as long as the record is in the window: a hash of its key and a number that
//! says how urgent it is. Nothing of it is stored; after a restart the window is read again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use krocket_protocol::records::Record;

use super::policy::Sight;
use super::window::{Delivered, State, Window};

#[cfg(test)]
mod tests;

/// A step of priority is worth so much waiting, ms: a record is overtaken only by more urgent ones that came not much
/// later, so none waits for ever.
const AGEING_MS: i64 = 60_000;
/// Priorities beyond are as good as this.
const MAX_PRIORITY: f64 = 1e6;

/// What is known of the records of a window.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    /// The configs that it was made for: a change makes it begin again.
    made_for: Option<Made>,
    /// Records before were read.
    pub(super) seen_to: i64,
    traits: BTreeMap<i64, Traits>,
    by_key: HashMap<u64, BTreeSet<i64>>,
    /// Those to choose from, the most urgent first.
    queue: BTreeSet<(i64, i64)>,
    given_back: u64,
}

type Made = (Option<String>, bool, Option<String>);

#[derive(Clone, Copy, Debug)]
struct Traits {
    key: Option<u64>,
    rank: i64,
}

impl Sieve {
    /// Brings it up to what happened to the window meanwhile.
    pub(super) fn follow(&mut self, window: &Window, sight: &Sight) {
        let made = (sight.filter_text.clone(), sight.key_order, sight.priority.clone());
        if self.made_for.as_ref() != Some(&made) {
            *self = Sieve {
                made_for: Some(made),
                seen_to: window.start(),
                given_back: window.given_back(),
                ..Sieve::default()
            };
        }
        if self.seen_to < window.start() {
            self.seen_to = window.start();
        }
        let rest = self.traits.split_off(&window.start());
        for (offset, traits) in std::mem::replace(&mut self.traits, rest) {
            self.drop_record(offset, traits);
        }
        // A queued record leaves the queue when it is given out, and comes back with its next delivery.
        let all = std::mem::replace(&mut self.given_back, window.given_back()) != window.given_back();
        for run in window.ready().filter(|run| all || run.count > 0) {
            for (offset, traits) in self.traits.range(run.first..=run.last) {
                self.queue.insert((traits.rank, *offset));
            }
        }
    }

    fn drop_record(&mut self, offset: i64, traits: Traits) {
        self.queue.remove(&(traits.rank, offset));
        let Some(key) = traits.key else { return };
        if let Some(offsets) = self.by_key.get_mut(&key) {
            offsets.remove(&offset);
            if offsets.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }

    /// Takes a record up, of which nobody has decided yet.
    pub(super) fn add(&mut self, record: &Record<'_>, sight: &Sight) {
        let rank = match &sight.priority {
            None => record.offset,
            Some(name) => record.timestamp.saturating_sub(priority(record.header(name.as_bytes()).flatten())),
        };
        let key = record.key.filter(|_| sight.key_order).map(|key| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            hasher.finish()
        });
        if let Some(key) = key {
            self.by_key.entry(key).or_default().insert(record.offset);
        }
        self.traits.insert(record.offset, Traits { key, rank });
        self.queue.insert((rank, record.offset));
    }

    /// Puts back what was chosen and yet not given.
    pub(super) fn put_back(&mut self, chosen: &[(i64, i64)], given: &[Delivered]) {
        for (first, last) in chosen {
            for (offset, traits) in self.traits.range(*first..=*last) {
                let at = given.partition_point(|run| run.last < *offset);
                if given.get(at).is_none_or(|run| *offset < run.first) {
                    self.queue.insert((traits.rank, *offset));
                }
            }
        }
    }

    /// Records to choose from.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Chooses records that may be given out now, ascending. They are not chosen again before they come back.
    pub(super) fn choose(&mut self, window: &Window, most: i64, portion: impl Fn(u32) -> i64) -> Vec<i64> {
        let mut chosen = BTreeSet::new();
        let mut left = most;
        let mut passed = Vec::new();
        let mut keys = BTreeSet::new();
        for &(rank, offset) in &self.queue {
            if left <= 0 {
                break;
            }
            let count = match window.run_of(offset) {
                Some((_, run)) if run.state == (State::Available { from_ms: 0 }) => run.count,
                // It is held, waits or is done with.
                _ => {
                    passed.push((rank, offset));
                    continue;
                }
            };
            let key = self.traits.get(&offset).and_then(|traits| traits.key);
            if let Some(key) = key {
                // The first of its key that is not done with.
                let first = self.by_key.get(&key).and_then(|offsets| {
                    offsets
                        .iter()
                        .find(|offset| window.run_of(**offset).is_some_and(|(_, run)| run.state != State::Done))
                });
                if first != Some(&offset) || !keys.insert(key) {
                    continue;
                }
            }
            let portion = portion(count);
            if portion < most && !chosen.is_empty() {
                // One that consumers may die of goes without others, when its turn is first.
                continue;
            }
            left = left.min(portion) - 1;
            chosen.insert(offset);
            passed.push((rank, offset));
        }
        for entry in passed {
            self.queue.remove(&entry);
        }
        chosen.into_iter().collect()
    }
}

/// What a record's priority is worth, ms. No number is priority 0.
fn priority(header: Option<&[u8]>) -> i64 {
    let text = header.and_then(|value| std::str::from_utf8(value).ok());
    let number = text.and_then(|text| text.trim().parse::<f64>().ok()).filter(|number| !number.is_nan());
    (number.unwrap_or(0.0).clamp(-MAX_PRIORITY, MAX_PRIORITY) * AGEING_MS as f64) as i64
}

/// Ascending offsets as ranges.
pub(super) fn ranges(offsets: &[i64]) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *offset => *last = *offset,
            _ => ranges.push((*offset, *offset)),
        }
    }
    ranges
}
