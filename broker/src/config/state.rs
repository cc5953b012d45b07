//! The configs of this broker and of groups, as they are now.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::{BrokerConfig, GroupConfig, InvalidConfig, Layers, ShareConfig, broker, find};
use crate::Settings;
use crate::log::Log;
use crate::log::tables::CONFIGS;
use crate::topics::LoadError;

/// The layout written by this version.
const FORMAT: u32 = 1;
const BROKER: u8 = 4;
const GROUP: u8 = 32;

/// Whose configs a row of [`CONFIGS`](crate::log::tables::CONFIGS) holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// This node.
    Node,
    /// All brokers: the cluster-wide default.
    Cluster,
    /// A group.
    Group(String),
}

impl Owner {
    /// The row's key: Kafka's resource type, then the resource's name.
    pub(crate) fn key(&self, node_id: i32) -> Vec<u8> {
        let (kind, name) = match self {
            Owner::Node => (BROKER, node_id.to_string()),
            Owner::Cluster => (BROKER, String::new()),
            Owner::Group(group) => (GROUP, group.clone()),
        };
        [&[kind], name.as_bytes()].concat()
    }
}

#[derive(Serialize, Deserialize)]
struct ConfigRecord {
    format: u32,
    configs: BTreeMap<String, String>,
}

/// The row's value.
pub(crate) fn encode(configs: &BTreeMap<String, String>) -> Vec<u8> {
    let record = ConfigRecord { format: FORMAT, configs: configs.clone() };
    serde_json::to_vec(&record).expect("strings are JSON")
}

/// The configs of this broker and of groups.
#[derive(Debug)]
pub struct Configs {
    layers: ArcSwap<Layers>,
    broker: ArcSwap<BrokerConfig>,
    groups: RwLock<BTreeMap<String, BTreeMap<String, String>>>,
}

impl Configs {
    /// Starts from the configuration file's broker configs; unknown names and invalid values are errors.
    pub fn new(file: BTreeMap<String, String>) -> Result<Self, InvalidConfig> {
        for (name, text) in &file {
            let def = find(broker::table(), name)
                .ok_or_else(|| InvalidConfig(format!("Unknown broker config name: {name}")))?;
            def.check_file(text)?;
        }
        let layers = Layers { file, ..Layers::default() };
        broker::check_file(&layers)?;
        Ok(Configs {
            broker: ArcSwap::from_pointee(BrokerConfig::resolve(&layers)),
            layers: ArcSwap::from_pointee(layers),
            groups: RwLock::default(),
        })
    }

    /// Starts from the settings and takes in what was stored.
    pub(crate) fn load(log: &Log, settings: &Settings, data_dir: &Path) -> Result<Self, LoadError> {
        let mut file = settings.configs.clone();
        let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        // Told under Kafka's names too, but set by options of their own.
        let own = [
            ("advertised.listeners", settings.advertised_listeners()),
            ("broker.id", settings.node_id.to_string()),
            ("log.dirs", data_dir.display().to_string()),
            ("node.id", settings.node_id.to_string()),
        ];
        for (name, value) in own {
            if file.insert(name.to_owned(), value).is_some() {
                return Err(InvalidConfig(format!("{name} cannot be set here: it has an option of its own")).into());
            }
        }
        let configs = Configs::new(file)?;
        for row in log.scan(CONFIGS, b"") {
            let (key, value) = row?;
            configs
                .load_row(settings.node_id, &key, &value)
                .map_err(|why| LoadError::Row { what: "a row of configs", why })?;
        }
        Ok(configs)
    }

    /// Takes a stored row in. An unreadable one is told, as text.
    fn load_row(&self, node_id: i32, key: &[u8], value: &[u8]) -> Result<(), String> {
        let record: ConfigRecord = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if record.format != FORMAT {
            return Err(format!("its format is {}, this version of krocket reads {FORMAT}", record.format));
        }
        let (kind, name) = key.split_first().ok_or("its key is empty")?;
        let name = std::str::from_utf8(name).map_err(|error| error.to_string())?;
        let owner = match *kind {
            BROKER if name.is_empty() => Owner::Cluster,
            BROKER if name == node_id.to_string() => Owner::Node,
            // Left behind under another node id.
            BROKER => return Ok(()),
            GROUP => Owner::Group(name.to_owned()),
            other => return Err(format!("it belongs to unknown resource type {other}")),
        };
        self.set(&owner, record.configs);
        Ok(())
    }

    /// Puts an owner's configs in place, whole.
    pub(crate) fn set(&self, owner: &Owner, configs: BTreeMap<String, String>) {
        let mut layers = Layers::clone(&self.layers.load());
        match owner {
            Owner::Node => layers.node = configs,
            Owner::Cluster => layers.default = configs,
            Owner::Group(group) => {
                let mut groups = self.groups.write();
                match configs.is_empty() {
                    true => groups.remove(group),
                    false => groups.insert(group.clone(), configs),
                };
                return;
            }
        }
        self.broker.store(Arc::new(BrokerConfig::resolve(&layers)));
        self.layers.store(Arc::new(layers));
    }

    /// What was set on an owner.
    pub fn get(&self, owner: &Owner) -> BTreeMap<String, String> {
        match owner {
            Owner::Node => self.layers.load().node.clone(),
            Owner::Cluster => self.layers.load().default.clone(),
            Owner::Group(group) => self.groups.read().get(group).cloned().unwrap_or_default(),
        }
    }

    /// The broker configs that were set, by layer.
    pub fn layers(&self) -> Arc<Layers> {
        self.layers.load_full()
    }

    /// The broker's effective configs.
    pub fn broker(&self) -> Arc<BrokerConfig> {
        self.broker.load_full()
    }

    /// A group's effective configs.
    pub fn group(&self, group: &str) -> GroupConfig {
        GroupConfig::resolve(self.groups.read().get(group), &self.broker.load())
    }

    /// A share group's effective configs.
    pub fn share(&self, group: &str) -> ShareConfig {
        ShareConfig::resolve(self.groups.read().get(group), &self.broker.load())
    }

    /// Groups that have configs of their own, by name.
    pub fn groups(&self) -> Vec<String> {
        self.groups.read().keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn the_configuration_file_is_checked() {
        let configs = Configs::new(pairs(&[("num.partitions", "6")])).expect("valid");
        assert_eq!(configs.broker().num_partitions, 6);
        for (name, value, why) in [
            ("num.partition", "6", "Unknown broker config name: num.partition"),
            ("num.partitions", "0", "Value must be at least 1"),
            ("compression.type", "gzip", "choose the codec in the producer"),
            ("group.consumer.session.timeout.ms", "90000", "must not be above group.consumer.max.session.timeout.ms"),
            ("group.max.session.timeout.ms", "1", "group.min.session.timeout.ms (6000) must not be above"),
            ("group.coordinator.rebalance.protocols", "consumer", "must have 'classic'"),
            ("group.consumer.assignors", "", "must not be empty"),
            ("log.cleaner.max.compaction.lag.ms", "0", "must be at least 1"),
        ] {
            let error = Configs::new(pairs(&[(name, value)])).expect_err(name).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn rows_come_back_under_the_owner_that_wrote_them() {
        let written = [
            (Owner::Node, pairs(&[("log.retention.ms", "1")])),
            (Owner::Cluster, pairs(&[("log.retention.ms", "2")])),
            (Owner::Group("g".to_owned()), pairs(&[("consumer.session.timeout.ms", "46000")])),
        ];
        let configs = Configs::new(BTreeMap::new()).expect("empty");
        for (owner, values) in &written {
            configs.load_row(7, &owner.key(7), &encode(values)).expect("its own row");
        }
        for (owner, values) in &written {
            assert_eq!(configs.get(owner), *values);
        }
        assert_eq!(configs.layers().value("log.retention.ms").map(|value| value.long()), Some(1));
        assert_eq!(configs.group("g").consumer_session_timeout_ms, 46_000);
        assert_eq!(configs.groups(), ["g"]);
        configs.set(&Owner::Group("g".to_owned()), BTreeMap::new());
        assert_eq!(configs.groups(), [""; 0]);
        configs
            .load_row(7, &Owner::Node.key(8), &encode(&pairs(&[("log.retention.ms", "9")])))
            .expect("another node's");
        assert_eq!(configs.get(&Owner::Node), pairs(&[("log.retention.ms", "1")]));
        configs.load_row(7, &[32, b'g'], br#"{"format":2,"configs":{}}"#).expect_err("a later format");
    }
}
