//! The invariants S1 to S6 over what clients of a share group saw. A request takes effect at some instant between its
//! sending and its answer; only what no such instant explains is a violation.

use std::collections::{BTreeMap, HashMap};

use krocket_testkit::share::{Place, Verdict};

use crate::history::{Delivery, History, Story};
use crate::wire::{Letter, Record};
use crate::{Group, LOCK_MS, TOPIC, UNANSWERED_MS};

/// krocket counts whole milliseconds.
const LOCK_US: i64 = (LOCK_MS - 1) * 1000;
const UNANSWERED_US: i64 = UNANSWERED_MS * 1000;

/// Every record of the topic.
pub(crate) type Truth = BTreeMap<Place, Record>;

pub(crate) struct Checker<'a> {
    pub(crate) group: &'a Group,
    pub(crate) truth: &'a Truth,
    pub(crate) history: &'a History,
    pub(crate) letters: &'a [Letter],
}

impl Checker<'_> {
    /// Records with which the group is not done by its own account.
    pub(crate) fn missing(&self) -> Vec<Place> {
        let dead = self.dead();
        let is_missing = |place: &&Place| {
            let story = self.history.records.get(*place);
            let rejected = story.is_some_and(|story| surely(story, Verdict::Reject));
            // An ACCEPT without an answer may have counted.
            let doubt = story
                .is_some_and(|s| s.words.iter().any(|word| word.verdict == Verdict::Accept && word.may_have_counted()));
            !dead.contains_key(*place) && (rejected || !doubt)
        };
        self.truth.keys().filter(is_missing).copied().collect()
    }

    fn dead(&self) -> HashMap<Place, Vec<&Letter>> {
        let mut dead: HashMap<Place, Vec<&Letter>> = HashMap::new();
        for letter in self.letters {
            if let Some(place) = letter.place() {
                dead.entry(place).or_default().push(letter);
            }
        }
        dead
    }

    /// The first violation.
    pub(crate) fn check(&self) -> Result<(), String> {
        let of_group = |error: String| format!("{}: {error}", self.group.name);
        self.check_records().and_then(|()| self.check_letters()).and_then(|()| self.check_keys()).map_err(of_group)
    }

    fn check_records(&self) -> Result<(), String> {
        for (place, story) in &self.history.records {
            let told = |what: &str| format!("{what}: {place:?} {story:?}");
            let Some(record) = self.truth.get(place) else { return Err(told("S1: not in the topic")) };
            if let Some(other) = story.deliveries.iter().find(|delivery| delivery.value != record.value) {
                return Err(told(&format!("S1: {} instead of {}", other.value, record.value)));
            }
            for word in story.words.iter().filter(|word| word.counted()) {
                let done = matches!(word.verdict, Verdict::Accept | Verdict::Reject);
                if done && story.deliveries.iter().any(|delivery| delivery.sent > word.got) {
                    return Err(told("S2: delivered after it was done with"));
                }
            }
            self.check_counts(story).map_err(|what| told(&what))?;
        }
        Ok(())
    }

    fn check_counts(&self, story: &Story) -> Result<(), String> {
        let nothing = Delivery { member: String::new(), count: 0, value: String::new(), sent: 0, got: 0 };
        let before = std::iter::once(&nothing).chain(&story.deliveries);
        for (one, next) in before.zip(&story.deliveries) {
            if next.count > self.group.limit {
                return Err(format!("S4: delivered {} times", next.count));
            }
            let within = |at: i64| (one.sent..=next.got).contains(&at);
            let unanswered =
                self.history.unanswered.iter().filter(|sent| **sent <= next.got && **sent + UNANSWERED_US >= one.sent);
            let closed = self.history.closed.iter().filter(|(_, at)| within(*at)).count() as i64;
            let (due, count) = (i64::from(one.count) + 1, i64::from(next.count));
            if count > due + unanswered.count() as i64 || count < due - closed {
                return Err(format!("S4: delivery {count} where {due} was due"));
            }
            if one.count > 0 {
                self.check_pair(story, one, next)?;
            }
        }
        Ok(())
    }

    /// A delivery and the next that was seen.
    fn check_pair(&self, story: &Story, one: &Delivery, next: &Delivery) -> Result<(), String> {
        let since = |at: i64| (one.sent..=next.got).contains(&at);
        let own =
            story.words.iter().filter(|word| word.member == one.member && (one.got..next.got).contains(&word.sent));
        let mut until = one.sent + LOCK_US;
        let mut ended =
            self.history.closed.iter().chain(&self.history.dropped).any(|(m, at)| *m == one.member && since(*at));
        for word in own {
            match word.verdict {
                Verdict::Renew if word.counted() && word.got < next.got => until = until.max(word.sent + LOCK_US),
                Verdict::Renew => {}
                _ => ended |= word.may_have_counted(),
            }
            if word.verdict == Verdict::Release && word.counted() && word.got < one.sent + LOCK_US {
                let wait = (self.group.backoff(one.count) - 1) * 1000;
                if next.got < word.sent + wait {
                    return Err(format!("S4: came {} µs after its release", next.got - word.sent));
                }
            }
        }
        if !ended && next.got < until {
            return Err(format!(
                "S3: {} held it for {} µs more when {} got it",
                one.member,
                until - next.got,
                next.member
            ));
        }
        Ok(())
    }

    fn check_letters(&self) -> Result<(), String> {
        for (place, letters) in self.dead() {
            let [letter] = letters[..] else { return Err(format!("S1: buried more than once: {letters:?}")) };
            let record = self.truth.get(&place).ok_or_else(|| format!("S6: of no record: {letter:?}"))?;
            let story = self.history.records.get(&place);
            let told = |what: &str| format!("{what}: {letter:?}, {record:?}, {story:?}");
            let header = |name: &str| letter.header(&format!("__dlq.errors.{name}"));
            if letter.value != record.value || letter.key != record.key {
                return Err(told("S6: not the record's key and value"));
            }
            if header("topic") != TOPIC || header("group") != self.group.name {
                return Err(told("S6: another topic or group"));
            }
            let seen =
                story.and_then(|story| story.deliveries.iter().map(|delivery| delivery.count).max()).unwrap_or(0);
            let count: i16 = header("delivery.count").parse().map_err(|_| told("S6: no delivery count"))?;
            let closed = !self.history.closed.is_empty();
            if count > self.group.limit || count < 1 || (count < seen && !closed) {
                return Err(told("S6: a wrong delivery count"));
            }
            let rejected = story.is_some_and(|story| {
                story.words.iter().any(|word| word.verdict == Verdict::Reject && word.may_have_counted())
            });
            let fits = if header("message").contains("rejected") { rejected } else { count == self.group.limit };
            if !fits {
                return Err(told("S6: buried for no reason"));
            }
            if story.is_some_and(|story| surely(story, Verdict::Accept)) {
                return Err(told("S1: accepted, and buried"));
            }
        }
        Ok(())
    }

    fn check_keys(&self) -> Result<(), String> {
        if !self.group.key_order {
            return Ok(());
        }
        let dead = self.dead();
        // Earlier records of a key in a partition.
        let mut earlier: HashMap<(i32, &str), Vec<Place>> = HashMap::new();
        for (place, record) in self.truth {
            let earlier = earlier.entry((place.0, &record.key)).or_default();
            if let Some(story) = self.history.records.get(place) {
                for delivery in &story.deliveries {
                    for before in &*earlier {
                        let other = self.history.records.get(before);
                        let again = other.is_some_and(|s| s.deliveries.iter().any(|d| d.sent > delivery.got));
                        let done = dead.contains_key(before)
                            || other.is_some_and(|story| {
                                story.words.iter().any(|word| {
                                    matches!(word.verdict, Verdict::Accept | Verdict::Reject)
                                        && word.may_have_counted()
                                        && word.sent <= delivery.got
                                })
                            });
                        if again || !done {
                            return Err(format!(
                                "S5: {place:?} {delivery:?} before {before:?} {other:?} was done with"
                            ));
                        }
                    }
                }
            }
            earlier.push(*place);
        }
        Ok(())
    }
}

/// True when a member said so, and was heard, while its lock surely lasted: a word for what is done with long since is
/// passed over.
fn surely(story: &Story, verdict: Verdict) -> bool {
    story.words.iter().filter(|word| word.verdict == verdict && word.counted()).any(|word| {
        let held = |one: &Delivery| one.member == word.member && one.got <= word.sent && word.got < one.sent + LOCK_US;
        story.deliveries.iter().any(held)
    })
}
