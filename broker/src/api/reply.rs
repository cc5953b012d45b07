//! Small pieces that many answers are made of.

use std::collections::HashSet;
use std::hash::Hash;

use kafka_protocol::messages::TopicName;
use krocket_protocol::{ErrorCode, StrBytes};

use crate::config::InvalidConfig;
use crate::log::StorageError;

/// The error code of success.
pub(crate) const NONE: i16 = 0;
/// authorized_operations where they were not asked for.
pub(crate) const NOT_ASKED: i32 = i32::MIN;
/// Every operation on a topic, as bits by AclOperation: READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS,
/// ALTER_CONFIGS. Without ACLs everybody may do everything; a layer with ACLs takes bits away.
pub(crate) const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// Every operation on the cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE.
pub(crate) const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);

const fn bits(operations: &[u32]) -> i32 {
    let (mut bits, mut at) = (0, 0);
    while at < operations.len() {
        bits |= 1 << operations[at];
        at += 1;
    }
    bits
}

/// A Kafka error with the sentence that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// The code.
    pub(crate) code: ErrorCode,
    /// What a person is told; `None` lets the client use the code's own words.
    pub(crate) message: Option<String>,
}

impl ApiError {
    /// A code and a sentence.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ApiError { code, message: Some(message.into()) }
    }

    /// The sentence as a message field.
    pub(crate) fn text(&self) -> Option<StrBytes> {
        self.message.clone().map(StrBytes::from_string)
    }
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        ApiError { code, message: None }
    }
}

impl From<InvalidConfig> for ApiError {
    fn from(InvalidConfig(message): InvalidConfig) -> Self {
        ApiError::new(ErrorCode::InvalidConfig, message)
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        ApiError::new(error.code(), error.to_string())
    }
}

/// A string field.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic name field.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// The items that occur more than once.
pub(crate) fn duplicates<T: Hash + Eq + Clone>(items: impl IntoIterator<Item = T>) -> HashSet<T> {
    let mut seen = HashSet::new();
    items.into_iter().filter(|item| !seen.insert(item.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_what_a_kafka_broker_without_acls_says() {
        assert_eq!((TOPIC_OPERATIONS, CLUSTER_OPERATIONS), (3576, 8096));
    }
}
