//! The topic table.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use uuid::Uuid;

pub mod name;
mod record;

pub use record::RecordError;

pub use crate::config::TopicConfig;
use crate::log::Partition;

/// A topic. Partitions are only ever added.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id (KIP-516), never zero.
    pub id: Uuid,
    /// Effective configuration.
    pub config: ArcSwap<TopicConfig>,
    /// Partitions in index order.
    pub partitions: ArcSwap<Vec<Arc<Partition>>>,
}

impl Topic {
    /// A partition by index.
    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        self.partitions.load().get(usize::try_from(index).ok()?).cloned()
    }
}

/// All topics, by name and by id.
#[derive(Debug, Default)]
pub struct Topics {
    tables: RwLock<(BTreeMap<String, Arc<Topic>>, HashMap<Uuid, Arc<Topic>>)>,
}

impl Topics {
    /// By name.
    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.tables.read().0.get(name).cloned()
    }

    /// By id.
    pub fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.tables.read().1.get(&id).cloned()
    }

    /// All, by name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.tables.read().0.values().cloned().collect()
    }
}
