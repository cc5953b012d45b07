//! What the configs say of one share group.

/// Where a group begins in a partition that it has not read yet (`share.auto.offset.reset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    /// What comes from now on.
    Latest,
    /// What there is.
    Earliest,
    /// What is at most so old, ms.
    ByDuration(i64),
}

/// How long a record waits that comes back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Backoff {
    /// Not at all, as in Kafka.
    None,
    /// After each delivery another wait, ms; the last one repeats.
    Steps(Vec<i64>),
}

impl Backoff {
    /// The wait after so many deliveries, ms.
    pub(super) fn after(&self, deliveries: u32) -> i64 {
        match self {
            Backoff::None => 0,
            Backoff::Steps(steps) => {
                let index = (deliveries.max(1) as usize - 1).min(steps.len().saturating_sub(1));
                steps.get(index).copied().unwrap_or_default()
            }
        }
    }
}

/// The configs that a share group follows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    /// `share.record.lock.duration.ms`
    pub(crate) lock_ms: i64,
    /// `share.delivery.count.limit`
    pub(crate) limit: u32,
    /// `share.partition.max.record.locks`
    pub(crate) max_locks: i64,
    /// `share.auto.offset.reset`
    pub(crate) reset: Reset,
    /// `share.isolation.level` is `read_committed`
    pub(crate) read_committed: bool,
    /// `share.renew.acknowledge.enable`
    pub(crate) renewals: bool,
    /// `krocket.retry.backoff`
    pub(crate) backoff: Backoff,
    /// `errors.deadletterqueue.topic.name`
    pub(crate) dead_letters: Option<String>,
    /// `errors.deadletterqueue.copy.record.enable`
    pub(crate) copies: bool,
}

impl Policy {
    /// What holds for a group.
    pub(crate) fn of(_configs: &crate::config::Configs, _group: &str) -> Self {
        Policy { reset: Reset::Earliest, ..Policy::default() }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            lock_ms: 30_000,
            limit: 5,
            max_locks: 2000,
            reset: Reset::Latest,
            read_committed: false,
            renewals: true,
            backoff: Backoff::None,
            dead_letters: None,
            copies: false,
        }
    }
}
