//! What the features do: per topic, per view, per group. Replaced as a whole when the file changes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use globset::{GlobSet, GlobSetBuilder};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::check::{self, Fault};
use crate::schema::Config;
use crate::switch::Switch;
use crate::units;

/// Most names whose rules are remembered; then remembering starts again.
const REMEMBERED: usize = 10_000;

/// Feature rules, checked.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `[[views]]`.
    pub views: Vec<View>,
    /// Names of the topics that belong to krocket.
    pub prefixes: Prefixes,
    topics: Globs<TopicRules>,
    groups: Globs<RetryPolicy>,
}

/// `[[rules]]`: what features do for topics. The whole rule holds: keys that it does not have are at their defaults.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Globs of topic names.
    pub topics: Vec<String>,
    /// Views of the topic may be made.
    #[serde(default = "on")]
    pub filter: bool,
    /// Delayed delivery.
    #[serde(default)]
    pub schedule: Switch<ScheduleRules>,
    /// Half messages.
    #[serde(default)]
    pub half: Switch<HalfRules>,
    /// What is indexed.
    #[serde(default)]
    pub lookup: Switch<LookupRules>,
}

/// `[[retry]]`: how consumer groups retry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Globs of group ids.
    pub groups: Vec<String>,
    /// False: records sent to `retry.<group>` are plain records.
    #[serde(default = "on")]
    pub enabled: bool,
    /// Waits before attempt 1, 2, ...: a list such as `["10s", "1m"]`, of which the last repeats, or an exponential back-off.
    #[serde(default)]
    pub backoff: Backoff,
    /// Retries after which a message is dead.
    #[serde(default = "max_attempts")]
    pub max_attempts: u32,
    /// Partitions of `retry.<group>` and `dlq.<group>` when they are created.
    #[serde(default = "partitions")]
    pub partitions: i32,
    /// See [`RetryPolicy::max_dead_per_minute`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_dead_per_minute: Option<u32>,
}

fn on() -> bool {
    true
}

fn max_attempts() -> u32 {
    RetryPolicy::default().max_attempts
}

fn partitions() -> i32 {
    RetryPolicy::default().partitions
}

/// `[[views]]`: a configured view.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Its topic name.
    pub name: String,
    /// The topic that it shows a part of.
    pub source: String,
    /// Tag expression or SQL.
    pub filter: String,
}

/// `[names]`: prefixes of topics that belong to krocket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prefixes {
    /// Before a group id: what it retries.
    pub retry: String,
    /// Before a group id: its dead letters.
    pub dlq: String,
    /// Before a producer group: half messages that it is asked about.
    pub check: String,
}

impl Default for Prefixes {
    fn default() -> Self {
        Prefixes { retry: "retry.".to_owned(), dlq: "dlq.".to_owned(), check: "check.".to_owned() }
    }
}

/// Whose topic it is, by its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What a group retries.
    Retry,
    /// What a group gave up.
    Dlq,
    /// What a producer group is asked about.
    Check,
}

impl Prefixes {
    /// What kind of krocket's own topics this is, and what follows the prefix; `None` for everybody else's.
    pub fn kind<'a>(&self, topic: &'a str) -> Option<(Kind, &'a str)> {
        let all = [(Kind::Retry, &self.retry), (Kind::Dlq, &self.dlq), (Kind::Check, &self.check)];
        all.into_iter().find_map(|(kind, prefix)| Some((kind, topic.strip_prefix(prefix.as_str())?)))
    }
}

/// What holds for a topic. A feature that is `None` or false leaves its headers alone there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRules {
    /// Views of the topic may be made.
    pub filter: bool,
    /// Delayed delivery.
    pub schedule: Option<ScheduleRules>,
    /// Half messages.
    pub half: Option<HalfRules>,
    /// What is indexed.
    pub lookup: Option<LookupRules>,
}

impl Default for TopicRules {
    fn default() -> Self {
        TopicRules {
            filter: true,
            schedule: Some(ScheduleRules::default()),
            half: Some(HalfRules::default()),
            lookup: Some(LookupRules::default()),
        }
    }
}

/// `schedule = { ... }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleRules {
    /// The longest delay that is accepted.
    #[serde(with = "units::duration")]
    pub max_delay: Duration,
    /// Meaning of `DELAY` 1, 2, ...: RocketMQ's `messageDelayLevel`.
    #[serde(with = "units::durations")]
    pub levels: Vec<Duration>,
}

impl Default for ScheduleRules {
    fn default() -> Self {
        let seconds = [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
        ScheduleRules { max_delay: Duration::from_secs(365 * 86400), levels: seconds.map(Duration::from_secs).into() }
    }
}

/// `half = { ... }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HalfRules {
    /// No check-back before this (RocketMQ's transactionTimeOut).
    #[serde(with = "units::duration")]
    pub immunity: Duration,
    /// Between two checks (transactionCheckInterval).
    #[serde(with = "units::duration")]
    pub check_interval: Duration,
    /// Counted checks after which a message is set aside (transactionCheckMax).
    pub max_checks: u32,
    /// Asked instead of the check topic: an http:// URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
}

impl Default for HalfRules {
    fn default() -> Self {
        HalfRules {
            immunity: Duration::from_secs(6),
            check_interval: Duration::from_secs(30),
            max_checks: 15,
            webhook: None,
        }
    }
}

/// `lookup = { ... }`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LookupRules {
    /// Index the record key as well.
    pub key: bool,
}

/// How a consumer group retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// False: records sent to `retry.<group>` are plain records, and the group gets no topics of its own.
    pub enabled: bool,
    /// Waits before attempt 1, 2, ...
    pub backoff: Backoff,
    /// Retries after which a message is dead.
    pub max_attempts: u32,
    /// Partitions of `retry.<group>` and `dlq.<group>` when they are created.
    pub partitions: i32,
    /// Dead letters that a group may make per minute before the rest wait: a brake for a broken consumer. `None`: no brake.
    pub max_dead_per_minute: Option<u32>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            enabled: true,
            backoff: Backoff::default(),
            max_attempts: 16,
            partitions: 1,
            max_dead_per_minute: None,
        }
    }
}

/// How long to wait before an attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(into = "WrittenBackoff")]
pub enum Backoff {
    /// One after the other; the last repeats.
    Steps(Vec<Duration>),
    /// initial × multiplier^n, at most `max`, give or take `jitter` of it.
    Exponential {
        /// Before the first retry.
        initial: Duration,
        /// At least 1.
        multiplier: f64,
        /// The longest.
        max: Duration,
        /// From 0 to 1: 0.2 is give or take 20 %.
        jitter: f64,
    },
}

impl Eq for Backoff {}

impl Default for Backoff {
    /// RocketMQ's.
    fn default() -> Self {
        let seconds = [10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
        Backoff::Steps(seconds.map(Duration::from_secs).into())
    }
}

/// `[...]`, `{ steps = [...] }` or `{ initial, multiplier, max, jitter }`.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenBackoff {
    #[serde(with = "units::durations", skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Duration>,
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    initial: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multiplier: Option<f64>,
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    max: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<f64>,
}

impl<'de> Deserialize<'de> for Backoff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = WrittenBackoff;

            fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
                out.write_str(
                    "waits such as [\"10s\", \"1m\"], or { initial = \"1s\", multiplier = 2.0, max = \"10m\" }",
                )
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<WrittenBackoff, A::Error> {
                let steps = units::durations::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(WrittenBackoff { steps, ..Default::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<WrittenBackoff, A::Error> {
                WrittenBackoff::deserialize(MapAccessDeserializer::new(table))
            }
        }

        Backoff::try_from(deserializer.deserialize_any(Either)?).map_err(D::Error::custom)
    }
}

impl TryFrom<WrittenBackoff> for Backoff {
    type Error = &'static str;

    fn try_from(written: WrittenBackoff) -> Result<Self, Self::Error> {
        let WrittenBackoff { steps, initial, multiplier, max, jitter } = written;
        match initial {
            Some(initial) if steps.is_empty() => Ok(Backoff::Exponential {
                initial,
                multiplier: multiplier.unwrap_or(2.0),
                max: max.unwrap_or(Duration::from_secs(7200)),
                jitter: jitter.unwrap_or(0.0),
            }),
            None if multiplier.is_none() && max.is_none() && jitter.is_none() => match steps.is_empty() {
                true => Err("a back-off needs waits, a list that is not empty, or `initial`"),
                false => Ok(Backoff::Steps(steps)),
            },
            None if steps.is_empty() => Err("an exponential back-off needs `initial`"),
            _ => Err("a back-off has either `steps` or `initial`, `multiplier`, `max` and `jitter`"),
        }
    }
}

impl From<Backoff> for WrittenBackoff {
    fn from(backoff: Backoff) -> Self {
        match backoff {
            Backoff::Steps(steps) => WrittenBackoff { steps, ..Default::default() },
            Backoff::Exponential { initial, multiplier, max, jitter } => WrittenBackoff {
                steps: Vec::new(),
                initial: Some(initial),
                multiplier: Some(multiplier),
                max: Some(max),
                jitter: Some(jitter),
            },
        }
    }
}

impl Rules {
    /// From a configuration; the first fault is returned.
    pub fn new(config: &Config) -> Result<Self, Fault> {
        check::rules(config)?;
        let topics = config.rules.iter().map(|rule| (rule.topics.as_slice(), TopicRules::from(rule)));
        let groups = config.retry.iter().map(|retry| (retry.groups.as_slice(), RetryPolicy::from(retry)));
        Ok(Rules {
            views: config.views.clone(),
            prefixes: config.names.clone(),
            topics: Globs::new("rules", "topics", topics)?,
            groups: Globs::new("retry", "groups", groups)?,
        })
    }

    /// What holds for a topic: the first rule whose glob matches, else the defaults.
    pub fn topic(&self, name: &str) -> Arc<TopicRules> {
        self.topics.get(name)
    }

    /// How a group retries: the first policy whose glob matches, else RocketMQ's.
    pub fn retry(&self, group: &str) -> Arc<RetryPolicy> {
        self.groups.get(group)
    }

    /// As [`retry`](Self::retry); `None` where no glob matches.
    pub fn retry_rule(&self, group: &str) -> Option<Arc<RetryPolicy>> {
        let found = self.groups.get(group);
        (!Arc::ptr_eq(&found, &self.groups.fallback)).then_some(found)
    }
}

impl From<&Rule> for TopicRules {
    fn from(rule: &Rule) -> Self {
        TopicRules {
            filter: rule.filter,
            schedule: rule.schedule.0.clone(),
            half: rule.half.0.clone(),
            lookup: rule.lookup.0.clone(),
        }
    }
}

impl From<&Retry> for RetryPolicy {
    fn from(retry: &Retry) -> Self {
        RetryPolicy {
            enabled: retry.enabled,
            backoff: retry.backoff.clone(),
            max_attempts: retry.max_attempts,
            partitions: retry.partitions,
            max_dead_per_minute: retry.max_dead_per_minute,
        }
    }
}

/// Values by globs of names; the first that matches.
#[derive(Debug, Default)]
struct Globs<T> {
    globs: GlobSet,
    /// Of each glob in the set, the index of its value.
    owners: Vec<usize>,
    values: Vec<Arc<T>>,
    fallback: Arc<T>,
    remembered: RwLock<HashMap<Box<str>, Arc<T>>>,
}

impl<T: Default> Globs<T> {
    fn new<'a>(
        section: &'static str,
        key: &'static str,
        entries: impl Iterator<Item = (&'a [String], T)>,
    ) -> Result<Self, Fault> {
        let mut builder = GlobSetBuilder::new();
        let (mut owners, mut values) = (Vec::new(), Vec::new());
        for (index, (globs, value)) in entries.enumerate() {
            for (place, glob) in globs.iter().enumerate() {
                let path = [section.into(), index.into(), key.into(), place.into()];
                builder.add(check::glob(glob).map_err(|message| Fault::new(path, message))?);
                owners.push(index);
            }
            values.push(Arc::new(value));
        }
        let globs = builder.build().map_err(|error| Fault::new([section.into()], error.to_string()))?;
        Ok(Globs { globs, owners, values, fallback: Arc::default(), remembered: RwLock::default() })
    }

    fn get(&self, name: &str) -> Arc<T> {
        if self.values.is_empty() {
            return self.fallback.clone();
        }
        if let Some(value) = self.remembered.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return value.clone();
        }
        // The globs are in the order of the rules.
        let first = self.globs.matches(name).into_iter().min();
        let value = first.map_or(&self.fallback, |glob| &self.values[self.owners[glob]]).clone();
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(name.into(), value.clone());
        value
    }
}

impl<T> Clone for Globs<T> {
    fn clone(&self) -> Self {
        Globs {
            globs: self.globs.clone(),
            owners: self.owners.clone(),
            values: self.values.clone(),
            fallback: self.fallback.clone(),
            remembered: RwLock::default(),
        }
    }
}

/// The rules that hold now. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Live(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    rules: ArcSwap<Rules>,
    changes: tokio::sync::watch::Sender<u64>,
}

impl Live {
    /// Starts with these.
    pub fn new(rules: Rules) -> Self {
        let live = Live::default();
        live.0.rules.store(Arc::new(rules));
        live
    }

    /// The rules now.
    pub fn get(&self) -> Arc<Rules> {
        self.0.rules.load_full()
    }

    /// Replaces the rules and tells who subscribed.
    pub fn set(&self, rules: Rules) {
        self.0.rules.store(Arc::new(rules));
        self.0.changes.send_modify(|version| *version += 1);
    }

    /// Changes with every [`Live::set`].
    pub fn subscribe(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}
