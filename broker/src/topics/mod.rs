//! The topic table: what topics there are, where it is stored, who is told of changes.
//!
//! Reads are lock-free in practice (a short read lock). Changes go through [`Change`], one at a time: checked under its
//! lock, committed to the log as one frame, and only then visible.

mod change;
pub mod name;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use krocket_stack::BoxFuture;
use parking_lot::RwLock;
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

pub use change::{Change, Edit, NewTopic};
pub use record::{RecordError, partitions_of};

pub use crate::config::TopicConfig;
use crate::config::{Configs, InvalidConfig, Layers};
use crate::log::tables::{CLUSTER, TOPICS};
use crate::log::{Log, Partition, PartitionId, StorageError};
use change::State;
use record::{Deletion, TopicRecord};

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
    fn new(
        name: String,
        id: Uuid,
        partitions: Vec<Arc<Partition>>,
        overrides: BTreeMap<String, String>,
        layers: &Layers,
    ) -> Self {
        Topic {
            name,
            id,
            partitions: ArcSwap::from_pointee(partitions),
            config: ArcSwap::from_pointee(TopicConfig::resolve(overrides, layers)),
        }
    }

    fn partition_ids(&self) -> Vec<PartitionId> {
        self.partitions.load().iter().map(|partition| partition.id).collect()
    }

    /// A partition by index.
    pub fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        self.partitions.load().get(usize::try_from(index).ok()?).cloned()
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.load().len()).unwrap_or(i32::MAX)
    }
}

/// Why the topic table cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The log cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A config of the configuration file.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// A topic's row.
    #[error("topic {name:?} cannot be read: {source}")]
    Topic {
        /// Its name.
        name: String,
        /// Why.
        source: RecordError,
    },
    /// Another row.
    #[error("{what} cannot be read: {why}")]
    Row {
        /// Which.
        what: &'static str,
        /// Why.
        why: String,
    },
}

/// Who else keeps something under a topic's name and has to forget it when the topic is deleted: committed offsets.
pub trait Forget: Send + Sync + 'static {
    /// Comes back when nothing is left. Called again after a crash in between, so it must not mind finding nothing.
    fn forget<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, ()>;
}

/// All topics, by name and by id.
#[derive(Clone)]
pub struct Topics {
    shared: Arc<Shared>,
}

struct Shared {
    log: Log,
    node_id: i32,
    configs: Arc<Configs>,
    tables: RwLock<Tables>,
    changing: Arc<Mutex<State>>,
    epoch: watch::Sender<u64>,
    forget: RwLock<Vec<Weak<dyn Forget>>>,
}

#[derive(Default)]
struct Tables {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
    /// Whose a partition is, and its index.
    owners: HashMap<PartitionId, (Arc<Topic>, i32)>,
    /// What a name looks like in metrics -> the topic that has it.
    collisions: HashMap<String, String>,
}

impl Tables {
    fn insert(&mut self, topic: Arc<Topic>) {
        if let Some(key) = name::collision_key(&topic.name) {
            self.collisions.insert(key, topic.name.clone());
        }
        self.own(&topic);
        self.by_id.insert(topic.id, topic.clone());
        self.by_name.insert(topic.name.clone(), topic);
    }

    /// Notes whose the topic's partitions are.
    fn own(&mut self, topic: &Arc<Topic>) {
        for (index, id) in (0..).zip(topic.partition_ids()) {
            self.owners.insert(id, (topic.clone(), index));
        }
    }

    fn remove(&mut self, topic: &Topic) {
        for id in topic.partition_ids() {
            self.owners.remove(&id);
        }
        if let Some(key) = name::collision_key(&topic.name) {
            self.collisions.remove(&key);
        }
        self.by_id.remove(&topic.id);
        self.by_name.remove(&topic.name);
    }
}

/// Rows of [`CLUSTER`] that belong to the topic table.
pub(super) mod rows {
    /// The next partition id, big-endian.
    pub(crate) const NEXT_PARTITION: &[u8] = b"next-partition";
    /// Before a topic id: a deletion that may not be finished.
    pub(crate) const DELETING: &[u8] = b"deleting/";
}

impl Topics {
    /// Loads the table. Call [`Topics::finish_deletions`] when everything else is loaded.
    pub fn load(log: &Log, node_id: i32, configs: Arc<Configs>) -> Result<Self, LoadError> {
        let layers = configs.layers();
        let mut tables = Tables::default();
        for row in log.scan(TOPICS, b"") {
            let (key, value) = row?;
            let name = String::from_utf8_lossy(&key).into_owned();
            let record =
                TopicRecord::decode(&value).map_err(|source| LoadError::Topic { name: name.clone(), source })?;
            let partitions = record.partitions().map(|id| log.partition(id)).collect::<Result<_, _>>()?;
            tables.insert(Arc::new(Topic::new(name, record.id, partitions, record.configs, &layers)));
        }
        let next_partition = match log.get(CLUSTER, rows::NEXT_PARTITION)? {
            None => 0,
            Some(bytes) => PartitionId::from_be_bytes(bytes.as_slice().try_into().map_err(|_| LoadError::Row {
                what: "the next partition id",
                why: format!("it has {} bytes", bytes.len()),
            })?),
        };
        Ok(Topics {
            shared: Arc::new(Shared {
                log: log.clone(),
                node_id,
                configs,
                tables: RwLock::new(tables),
                changing: Arc::new(Mutex::new(State { next_partition })),
                epoch: watch::Sender::new(0),
                forget: RwLock::default(),
            }),
        })
    }

    /// Says who else has to forget deleted topics; before the first request. Held weakly, for whoever that is holds the
    /// topics: together they would never let go of the log.
    pub fn add_forget<F: Forget>(&self, forget: &Arc<F>) {
        let forget: Weak<F> = Arc::downgrade(forget);
        self.shared.forget.write().push(forget);
    }

    /// Finishes what a crash interrupted.
    pub async fn finish_deletions(&self) -> Result<(), LoadError> {
        let rows = self.shared.log.scan(CLUSTER, rows::DELETING).collect::<Result<Vec<_>, _>>()?;
        for (key, value) in rows {
            let deletion = Deletion::decode(&value)
                .map_err(|error| LoadError::Row { what: "an unfinished deletion", why: error.to_string() })?;
            tracing::info!(topic = deletion.name, "finishing the deletion of a topic");
            self.shared.finish_deletion(key, deletion).await?;
        }
        Ok(())
    }

    /// By name.
    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.shared.tables.read().by_name.get(name).cloned()
    }

    /// By id.
    pub fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.shared.tables.read().by_id.get(&id).cloned()
    }

    /// The topic that has this partition, and the partition's index.
    pub fn owner(&self, id: PartitionId) -> Option<(Arc<Topic>, i32)> {
        self.shared.tables.read().owners.get(&id).cloned()
    }

    /// All, by name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.from("")
    }

    /// Those whose names are not before this one, by name.
    pub fn from(&self, first: &str) -> Vec<Arc<Topic>> {
        let range = (Bound::Included(first), Bound::Unbounded);
        self.shared.tables.read().by_name.range::<str, _>(range).map(|(_, topic)| topic.clone()).collect()
    }

    /// The topic whose metrics could not be told from those of a topic of this name.
    pub fn colliding(&self, name: &str) -> Option<String> {
        let key = name::collision_key(name)?;
        self.shared.tables.read().collisions.get(&key).filter(|other| *other != name).cloned()
    }

    /// Notes a name among others that are to be created together; false if it collides with one of them.
    pub fn claim(claimed: &mut HashSet<String>, name: &str) -> bool {
        name::collision_key(name).is_none_or(|key| claimed.insert(key))
    }

    /// A number that grows with every topic created, deleted, grown or configured.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.epoch.subscribe()
    }

    /// Waits for its turn to change topics or configs.
    pub async fn change(&self) -> Change {
        Change { shared: self.shared.clone(), state: self.shared.changing.clone().lock_owned().await }
    }
}
