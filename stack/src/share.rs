//! What features know about share groups (KIP-932), which the backend serves: filters, and the rules for retries.

use std::sync::Arc;
use std::time::Duration;

use krocket_protocol::records::Record;

/// Which records a share group gets.
pub trait RecordFilter: Send + Sync {
    /// True for a record that it gets.
    fn matches(&self, record: &Record<'_>) -> bool;
}

/// Rules for share groups whose own configs say nothing.
pub trait ShareRules: Send + Sync {
    /// Reads the config `krocket.filter`; the error says what is wrong with it and where.
    fn filter(&self, text: &str) -> Result<Arc<dyn RecordFilter>, String>;

    /// Where the group's dead letters go; `None` where they are not kept.
    fn dead_letter_topic(&self, group: &str) -> Option<String>;

    /// How long a record waits that was delivered so often; `None` where no rule was given for the group.
    fn backoff(&self, group: &str, deliveries: u32) -> Option<Duration>;

    /// How often a record is delivered; `None` where no rule was given for the group.
    fn delivery_limit(&self, group: &str) -> Option<u32>;
}
