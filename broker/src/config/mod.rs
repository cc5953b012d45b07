//! Dynamic configs: what exists, what a value must look like, where an effective value comes from.
//!
//! One table per resource type ([`topic::TABLE`], [`broker::table`], [`group::TABLE`]) drives validation, DescribeConfigs,
//! the typed views that the rest of the broker reads, and docs/configs.md.

pub mod alter;
pub mod broker;
pub mod describe;
pub mod group;
pub mod logger;
pub(crate) mod resource;
pub mod share;
pub(crate) mod state;
pub mod topic;
pub mod value;

use std::collections::BTreeMap;

pub use broker::BrokerConfig;
pub use group::GroupConfig;
pub use share::{Backoff, OffsetReset, ShareConfig};
pub use state::{Configs, Owner};
pub use topic::TopicConfig;
pub use value::{Kind, Value};

/// One config of a resource.
#[derive(Debug)]
pub struct ConfigDef {
    /// Kafka's name for it.
    pub name: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// Value when nobody sets one.
    pub default: &'static str,
    /// The broker config that a topic or group takes its default from; empty for none.
    pub synonym: &'static str,
    /// What it does here.
    pub doc: &'static str,
    /// How it is kept.
    pub promise: Promise,
}

/// What accepting a value obliges krocket to.
#[derive(Clone, Copy, Debug)]
pub enum Promise {
    /// The named part of the broker acts on every valid value.
    Enforced(&'static str),
    /// Every valid value is honoured by how krocket is built; the sentence says why.
    Kept(&'static str),
    /// Only the default is accepted; the sentence tells a client why.
    DefaultOnly(&'static str),
    /// Shown, and set by the configuration file or at build time only.
    ReadOnly,
}

/// Where an effective value comes from; the numbers are DescribeConfigs's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// Set on the topic.
    Topic = 1,
    /// Set on this broker while running.
    DynamicBroker = 2,
    /// Set on all brokers while running.
    DynamicDefaultBroker = 3,
    /// From the configuration file.
    StaticBroker = 4,
    /// Built in.
    Default = 5,
    /// A logger's level.
    BrokerLogger = 6,
    /// Set on the group.
    Group = 8,
}

/// Why a config is refused: the message that goes with INVALID_CONFIG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidConfig(pub String);

impl ConfigDef {
    /// Parses and checks a value that a client wants to set.
    pub fn check(&self, text: &str) -> Result<Value, InvalidConfig> {
        if let Promise::ReadOnly = self.promise {
            return Err(InvalidConfig(format!("Cannot update {}: it is read-only while the broker runs", self.name)));
        }
        self.check_file(text)
    }

    /// Parses and checks a value of the configuration file.
    pub fn check_file(&self, text: &str) -> Result<Value, InvalidConfig> {
        let value = self.kind.parse(self.name, text)?;
        match self.promise {
            Promise::DefaultOnly(why) if value != self.default_value() => {
                Err(InvalidConfig(format!("Invalid value {text} for configuration {}: {why}", self.name)))
            }
            _ => Ok(value),
        }
    }

    /// The built-in default.
    pub fn default_value(&self) -> Value {
        self.kind.parse(self.name, self.default).expect("defaults are valid: tested")
    }

    /// The documentation that clients are shown: what it does, and how krocket keeps it.
    pub fn documentation(&self) -> String {
        match self.promise {
            Promise::Enforced(_) | Promise::ReadOnly => self.doc.to_owned(),
            Promise::Kept(why) | Promise::DefaultOnly(why) => format!("{} {why}", self.doc),
        }
    }
}

/// The row of that name in a table that is sorted.
pub fn find(table: &'static [ConfigDef], name: &str) -> Option<&'static ConfigDef> {
    table.binary_search_by_key(&name, |def| def.name).ok().map(|at| &table[at])
}

/// Broker configs that were set, each map by name; the first that has a name decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// On this node while running.
    pub node: BTreeMap<String, String>,
    /// On all brokers while running.
    pub default: BTreeMap<String, String>,
    /// In the configuration file.
    pub file: BTreeMap<String, String>,
}

impl Layers {
    /// Every layer's value of a config, the deciding one first, the built-in default last.
    pub fn values(&self, def: &'static ConfigDef) -> impl Iterator<Item = (Source, String)> {
        let layers = [
            (Source::DynamicBroker, &self.node),
            (Source::DynamicDefaultBroker, &self.default),
            (Source::StaticBroker, &self.file),
        ];
        let set = layers.into_iter().filter_map(|(source, layer)| Some((source, layer.get(def.name)?.clone())));
        set.chain([(Source::Default, def.default.to_owned())])
    }

    /// The effective value of a broker config; `None` for an unknown name. A stored value that no longer parses does not count.
    pub fn value(&self, name: &str) -> Option<Value> {
        let def = find(broker::table(), name)?;
        self.values(def).find_map(|(_, text)| def.kind.parse(name, &text).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_complete_and_their_defaults_valid() {
        for table in [topic::TABLE, broker::table(), group::TABLE] {
            for pair in table.windows(2) {
                assert!(pair[0].name < pair[1].name, "{} after {}", pair[1].name, pair[0].name);
            }
            for def in table {
                assert_eq!(def.default_value().to_string(), def.default, "{}", def.name);
                assert!(def.doc.ends_with('.'), "{}", def.name);
            }
        }
        for def in topic::TABLE.iter().chain(group::TABLE).filter(|def| !def.synonym.is_empty()) {
            let synonym = find(broker::table(), def.synonym).unwrap_or_else(|| panic!("{} has no row", def.synonym));
            assert_eq!((synonym.kind, synonym.default), (def.kind, def.default), "{}", def.name);
        }
    }
}
