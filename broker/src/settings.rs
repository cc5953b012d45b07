//! What the broker is started with.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use krocket_stack::Connection;
use uuid::Uuid;

use crate::config::logger::Loggers;
use crate::log::LogConfig;

/// What is not a Kafka config, and the Kafka configs of the configuration file.
#[derive(Clone)]
pub struct Settings {
    /// This node's id in Metadata.
    pub node_id: i32,
    /// Host and port that clients are told to connect to.
    pub advertised: (String, u16),
    /// What clients that came by a listener of this name are told instead, with the listener's name.
    pub listeners: BTreeMap<String, (String, u16)>,
    /// The cluster id to use on a new data folder; an existing folder keeps its own.
    pub cluster_id: Option<Uuid>,
    /// Kafka broker configs, by Kafka's names (`log.retention.ms`, `num.partitions`, ...): what
    /// [`config::broker::table`](crate::config::broker::table) lists.
    pub configs: BTreeMap<String, String>,
    /// True where ACLs decide; without it they cannot be looked at or changed.
    pub authorizer: bool,
    /// How the log uses disk and memory.
    pub log: LogConfig,
    /// The log levels of this process, if they can be changed while it runs.
    pub loggers: Option<Arc<dyn Loggers>>,
}

impl Settings {
    /// Host and port that this client is told to connect to: those of the listener by which it came.
    pub fn advertised_to(&self, client: &Connection) -> (&str, u16) {
        let (host, port) = self.listeners.get(&client.listener).unwrap_or(&self.advertised);
        (host, *port)
    }

    /// Kafka's advertised.listeners.
    pub(crate) fn advertised_listeners(&self) -> String {
        if self.listeners.is_empty() {
            let (host, port) = &self.advertised;
            return format!("PLAINTEXT://{host}:{port}");
        }
        let listeners = self.listeners.iter().map(|(name, (host, port))| format!("{name}://{host}:{port}"));
        listeners.collect::<Vec<_>>().join(",")
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("node_id", &self.node_id)
            .field("advertised", &self.advertised)
            .field("listeners", &self.listeners)
            .field("cluster_id", &self.cluster_id)
            .field("configs", &self.configs)
            .field("authorizer", &self.authorizer)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            node_id: 1,
            advertised: ("127.0.0.1".to_owned(), 9092),
            listeners: BTreeMap::new(),
            cluster_id: None,
            configs: BTreeMap::new(),
            authorizer: false,
            log: LogConfig::default(),
            loggers: None,
        }
    }
}
