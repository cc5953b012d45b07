//! What the broker is started with.

use uuid::Uuid;

/// Broker-wide settings; topic and group defaults are Kafka's broker configs of the same names.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node's id in Metadata.
    pub node_id: i32,
    /// Host and port that clients are told to connect to.
    pub advertised: (String, u16),
    /// The cluster id to use on a new data folder; an existing folder keeps its own.
    pub cluster_id: Option<Uuid>,
    /// auto.create.topics.enable
    pub auto_create_topics: bool,
    /// num.partitions for topics created without a count.
    pub num_partitions: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            node_id: 1,
            advertised: ("127.0.0.1".to_owned(), 9092),
            cluster_id: None,
            auto_create_topics: true,
            num_partitions: 1,
        }
    }
}
