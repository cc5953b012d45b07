//! What features say about share groups, put together for the backend.

use std::sync::Arc;
use std::time::Duration;

use krocket_config::rules::Live;
use krocket_retry::ShareRetry;
use krocket_stack::share::{RecordFilter, ShareRules};

/// Filters by features/filter, retries by features/retry.
pub(crate) struct FeatureRules(ShareRetry);

impl FeatureRules {
    /// By these rules.
    pub(crate) fn new(rules: Live) -> Self {
        FeatureRules(ShareRetry::new(rules))
    }
}

impl ShareRules for FeatureRules {
    fn filter(&self, text: &str) -> Result<Arc<dyn RecordFilter>, String> {
        krocket_filter::share_filter(text)
    }

    fn dead_letter_topic(&self, group: &str) -> Option<String> {
        self.0.dead_letter_topic(group)
    }

    fn backoff(&self, group: &str, deliveries: u32) -> Option<Duration> {
        self.0.backoff(group, deliveries)
    }

    fn delivery_limit(&self, group: &str) -> Option<u32> {
        self.0.delivery_limit(group)
    }
}
