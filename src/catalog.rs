//! What the authorizer needs to know of topics and features.

use std::sync::Arc;

use krocket_broker::Broker;
use krocket_config::rules::Live;
use krocket_features::escape;
use krocket_filter::Views;
use krocket_protocol::StrBytes;
use krocket_proxy::acl::Catalog;
use krocket_stack::{Ledger, ProducePartition};
use uuid::Uuid;

/// The topics of the backend, and what the features make of their names.
pub(crate) struct Topics {
    pub(crate) broker: Arc<Broker>,
    pub(crate) views: Views,
    pub(crate) rules: Live,
}

impl Catalog for Topics {
    fn name(&self, id: Uuid) -> Option<StrBytes> {
        self.broker.topic_by_id(id).map(|topic| topic.name)
    }

    fn exists(&self, topic: &str) -> bool {
        self.broker.topics.get(topic).is_some()
    }

    fn creates_topics(&self) -> bool {
        self.broker.configs.broker().auto_create_topics
    }

    fn source(&self, topic: &str) -> Option<String> {
        self.views.source(topic)
    }

    fn group(&self, topic: &str) -> Option<String> {
        let rules = self.rules.get();
        let prefixes = &rules.prefixes;
        [&prefixes.retry, &prefixes.dlq, &prefixes.check].into_iter().find_map(|prefix| escape::group(prefix, topic))
    }

    fn reads(&self, topic: &str, partition: &mut ProducePartition) -> Vec<String> {
        krocket_retry::named_topics(&self.rules.get().prefixes, topic, partition)
    }
}
