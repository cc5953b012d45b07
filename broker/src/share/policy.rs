//! What holds for one share group: its configs, and where they say nothing, what krocket's rules say.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use krocket_stack::share::{RecordFilter, ShareRules};

use crate::config::{Backoff, OffsetReset, ShareConfig};

/// Filters that were read: a group asks with every fetch.
#[derive(Default)]
pub(super) struct Filters(DashMap<String, Arc<dyn RecordFilter>>);

impl Filters {
    /// Most filters that are remembered; then remembering starts again.
    const MOST: usize = 1000;

    fn read(&self, text: &str, rules: Option<&dyn ShareRules>) -> Result<Arc<dyn RecordFilter>, String> {
        if let Some(found) = self.0.get(text) {
            return Ok(found.clone());
        }
        let filter = rules.ok_or("nobody here reads filters")?.filter(text)?;
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        self.0.insert(text.to_owned(), filter.clone());
        Ok(filter)
    }
}

/// The configs that a share group follows.
#[derive(Clone)]
pub(crate) struct Policy {
    /// Why the group's filter cannot be read: then it gets nothing, and loses nothing.
    pub(crate) fault: Option<String>,
    /// `share.record.lock.duration.ms`
    pub(crate) lock_ms: i64,
    /// `share.delivery.count.limit`
    pub(super) limit: u32,
    /// `share.partition.max.record.locks`
    pub(super) max_locks: i64,
    /// `share.auto.offset.reset`
    pub(super) reset: OffsetReset,
    /// `share.isolation.level` is `read_committed`
    pub(super) read_committed: bool,
    /// `share.renew.acknowledge.enable`
    pub(super) renewals: bool,
    /// `errors.deadletterqueue.topic.name`, or krocket's own
    pub(super) dead_letters: Option<String>,
    /// `errors.deadletterqueue.copy.record.enable`; krocket's own have copies
    pub(super) copies: bool,
    /// What the group wants to see of a topic.
    pub(super) sight: Sight,
    backoff: Backoff,
    group: Arc<str>,
    rules: Option<Arc<dyn ShareRules>>,
}

/// What depends on the records themselves.
#[derive(Clone, Default)]
pub(super) struct Sight {
    /// The filter as it was given.
    pub(super) filter_text: Option<String>,
    /// `krocket.filter`
    pub(super) filter: Option<Arc<dyn RecordFilter>>,
    /// `krocket.share.key.order`
    pub(super) key_order: bool,
    /// `krocket.share.priority.header`
    pub(super) priority: Option<String>,
}

impl Sight {
    /// True where one record is as good as another.
    pub(super) fn is_plain(&self) -> bool {
        self.filter.is_none() && !self.key_order && self.priority.is_none()
    }
}

impl Policy {
    /// What holds for a group.
    pub(super) fn new(group: &str, config: ShareConfig, rules: Option<Arc<dyn ShareRules>>, known: &Filters) -> Self {
        let own_topic = || rules.as_ref()?.dead_letter_topic(group);
        let rule_limit = rules.as_ref().and_then(|rules| rules.delivery_limit(group));
        let limit = if config.delivery_count_limit_is_set { None } else { rule_limit };
        let filter = config.filter.as_deref().map(|text| known.read(text, rules.as_deref()));
        let (filter, fault) = match filter.transpose() {
            Ok(filter) => (filter, None),
            Err(fault) => (None, Some(fault)),
        };
        Policy {
            fault,
            lock_ms: config.record_lock_duration_ms.into(),
            limit: limit.unwrap_or_else(|| config.delivery_count_limit.unsigned_abs()),
            max_locks: config.partition_max_record_locks.into(),
            reset: config.auto_offset_reset,
            read_committed: config.read_committed,
            renewals: config.renew_acknowledge,
            copies: config.dlq_copy_record || config.dlq_topic.is_none(),
            dead_letters: config.dlq_topic.or_else(own_topic),
            sight: Sight {
                filter_text: config.filter,
                filter,
                key_order: config.key_order,
                priority: config.priority_header,
            },
            backoff: config.retry_backoff,
            group: group.into(),
            rules,
        }
    }

    /// The wait after so many deliveries, ms.
    pub(super) fn backoff_ms(&self, deliveries: u32) -> i64 {
        let wait = match (&self.backoff, &self.rules) {
            (Backoff::None, Some(rules)) => rules.backoff(&self.group, deliveries).unwrap_or(Duration::ZERO),
            (backoff, _) => backoff.after(deliveries),
        };
        i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
    }
}
