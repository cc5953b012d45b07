//! What the broker is started with.

use std::collections::BTreeMap;

use uuid::Uuid;

/// What is not a Kafka config, and the Kafka configs of the configuration file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's id in Metadata.
    pub node_id: i32,
    /// Host and port that clients are told to connect to.
    pub advertised: (String, u16),
    /// The cluster id to use on a new data folder; an existing folder keeps its own.
    pub cluster_id: Option<Uuid>,
    /// Kafka broker configs, by Kafka's names (`log.retention.ms`, `num.partitions`, ...): what
    /// [`config::broker::table`](crate::config::broker::table) lists.
    pub configs: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            node_id: 1,
            advertised: ("127.0.0.1".to_owned(), 9092),
            cluster_id: None,
            configs: BTreeMap::new(),
        }
    }
}
