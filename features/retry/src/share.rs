//! What `[[retry]]` says of share groups: they wait and die by the same rules, and the backend sees to it.

use std::time::Duration;

use krocket_config::rules::Live;
use krocket_features::escape;

use crate::policy::wait_ms;

/// The rules for share groups. Kafka's own defaults hold where no `[[retry]]` names the group, but dead letters are kept.
#[derive(Clone, Debug)]
pub struct ShareRetry {
    rules: Live,
}

impl ShareRetry {
    /// By these rules, as they are at the time.
    pub fn new(rules: Live) -> Self {
        ShareRetry { rules }
    }

    /// Where the group's dead letters go; `None` where its retries are switched off.
    pub fn dead_letter_topic(&self, group: &str) -> Option<String> {
        let rules = self.rules.get();
        rules.retry(group).enabled.then(|| escape::topic(&rules.prefixes.dlq, group)).flatten()
    }

    /// How long a record waits after so many deliveries.
    pub fn backoff(&self, group: &str, deliveries: u32) -> Option<Duration> {
        let policy = self.rules.get().retry_rule(group).filter(|policy| policy.enabled)?;
        Some(Duration::from_millis(wait_ms(&policy, deliveries).unsigned_abs()))
    }

    /// How often a record is delivered: once, and once for each retry.
    pub fn delivery_limit(&self, group: &str) -> Option<u32> {
        let policy = self.rules.get().retry_rule(group).filter(|policy| policy.enabled)?;
        Some(policy.max_attempts.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use krocket_config::Config;
    use krocket_config::rules::{Backoff, Retry as RetryRule, Rules};

    use super::*;

    #[test]
    fn a_rule_holds_for_the_groups_that_it_names() {
        let steps = [1, 5].map(Duration::from_secs).to_vec();
        let named = |groups: &str| RetryRule {
            groups: vec![groups.to_owned()],
            enabled: true,
            backoff: Backoff::default(),
            max_attempts: 16,
            partitions: 1,
            max_dead_per_minute: None,
        };
        let config = Config {
            retry: vec![
                RetryRule { backoff: Backoff::Steps(steps), max_attempts: 3, ..named("billing") },
                RetryRule { enabled: false, ..named("off") },
            ],
            ..Config::default()
        };
        let retry = ShareRetry::new(Live::new(Rules::new(&config).expect("rules")));
        assert_eq!(retry.delivery_limit("billing"), Some(4));
        assert_eq!(retry.backoff("billing", 1), Some(Duration::from_secs(1)));
        assert_eq!(retry.backoff("billing", 9), Some(Duration::from_secs(5)));
        assert_eq!(retry.dead_letter_topic("billing").as_deref(), Some("dlq.billing"));
        assert_eq!((retry.delivery_limit("other"), retry.backoff("other", 1)), (None, None));
        assert_eq!(retry.dead_letter_topic("other").as_deref(), Some("dlq.other"));
        assert_eq!((retry.delivery_limit("off"), retry.dead_letter_topic("off")), (None, None));
    }
}
