//! Changes of topics and configs: one at a time, one frame each.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::record::{Deletion, TopicRecord};
use super::{Shared, Topic, TopicConfig, rows};
use crate::config::state::{self, Owner};
use crate::log::tables::{CLUSTER, CONFIGS, TOPICS};
use crate::log::{Durability, Partition, PartitionId, StorageError, Write};

/// What only the one who changes may touch.
#[derive(Debug)]
pub(super) struct State {
    pub(super) next_partition: PartitionId,
}

/// A topic to be.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name, checked.
    pub name: String,
    /// Its id; see [`Change::new_id`].
    pub id: Uuid,
    /// How many partitions, at least one.
    pub partitions: u32,
    /// Its configs, checked.
    pub configs: BTreeMap<String, String>,
}

/// One part of a change.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Adds a topic.
    Create(NewTopic),
    /// Removes a topic with its records and committed offsets.
    Delete(Arc<Topic>),
    /// Adds partitions.
    Grow {
        /// The topic.
        topic: Arc<Topic>,
        /// How many partitions it gets.
        by: u32,
    },
    /// Replaces a topic's own configs.
    ConfigureTopic {
        /// The topic.
        topic: Arc<Topic>,
        /// Its new configs, checked.
        configs: BTreeMap<String, String>,
    },
    /// Replaces the configs of this broker, of all brokers, or of a group.
    Configure {
        /// Whose.
        owner: Owner,
        /// Its new configs, checked.
        configs: BTreeMap<String, String>,
    },
}

/// The right to change topics and configs. Nobody else can while it lives, so what it was checked against holds.
pub struct Change {
    pub(super) shared: Arc<Shared>,
    pub(super) state: OwnedMutexGuard<State>,
}

impl Change {
    /// A topic id that is neither taken nor reserved (Kafka's Uuid.randomUuid).
    pub fn new_id(&self) -> Uuid {
        loop {
            let id = Uuid::new_v4();
            // In base64 it would begin with '-', which command lines take for an option.
            let dash = id.as_bytes()[0] >> 2 == 62;
            if !dash && !self.shared.tables.read().by_id.contains_key(&id) {
                return id;
            }
        }
    }

    /// Stores the edits as one frame, then makes them visible. It happens even if the caller goes away.
    pub async fn commit(self, edits: Vec<Edit>) -> Result<(), StorageError> {
        if edits.is_empty() {
            return Ok(());
        }
        let done = tokio::spawn(self.run(edits)).await;
        done.unwrap_or_else(|error| {
            tracing::error!(%error, "a change of topics was cut off");
            Err(StorageError { message: "the broker is shutting down".to_owned(), passing: false, damaged: false })
        })
    }

    async fn run(mut self, edits: Vec<Edit>) -> Result<(), StorageError> {
        let mut writes = Vec::new();
        let mut steps = Vec::with_capacity(edits.len());
        let next_partition = self.state.next_partition;
        for edit in edits {
            steps.push(self.plan(edit, &mut writes)?);
        }
        if self.state.next_partition != next_partition {
            let value = self.state.next_partition.to_be_bytes().to_vec();
            writes.push(Write::Put { table: CLUSTER, key: rows::NEXT_PARTITION.to_vec(), value });
        }
        self.shared.log.commit(writes, Durability::Synced).await?;
        let mut deletions = Vec::new();
        for step in steps {
            self.apply(step, &mut deletions);
        }
        self.shared.epoch.send_modify(|epoch| *epoch += 1);
        for (key, deletion) in deletions {
            self.shared.finish_deletion(key, deletion).await?;
        }
        Ok(())
    }

    fn plan(&mut self, edit: Edit, writes: &mut Vec<Write>) -> Result<Step, StorageError> {
        Ok(match edit {
            Edit::Create(new) => {
                let partitions = self.new_partitions(new.partitions)?;
                let ids: Vec<_> = partitions.iter().map(|partition| partition.id).collect();
                let layers = self.shared.configs.layers();
                let topic = Topic::new(new.name, new.id, partitions, new.configs, &layers);
                writes.push(put_topic(&topic, &ids, topic.config.load().overrides.clone()));
                Step::Insert(topic)
            }
            Edit::Delete(topic) => {
                let deletion = Deletion::new(topic.name.clone(), &topic.partition_ids());
                let key = [rows::DELETING, topic.id.as_bytes()].concat();
                writes.push(Write::Delete { table: TOPICS, key: topic.name.clone().into_bytes() });
                writes.push(Write::Put { table: CLUSTER, key: key.clone(), value: deletion.encode() });
                Step::Remove(topic, key, deletion)
            }
            Edit::Grow { topic, by } => {
                let mut partitions = Vec::clone(&topic.partitions.load());
                partitions.extend(self.new_partitions(by)?);
                let ids: Vec<_> = partitions.iter().map(|partition| partition.id).collect();
                writes.push(put_topic(&topic, &ids, topic.config.load().overrides.clone()));
                Step::Grow(topic, partitions)
            }
            Edit::ConfigureTopic { topic, configs } => {
                writes.push(put_topic(&topic, &topic.partition_ids(), configs.clone()));
                Step::ConfigureTopic(topic, configs)
            }
            Edit::Configure { owner, configs } => {
                let key = owner.key(self.shared.node_id);
                writes.push(match configs.is_empty() {
                    true => Write::Delete { table: CONFIGS, key },
                    false => Write::Put { table: CONFIGS, key, value: state::encode(&configs) },
                });
                Step::Configure(owner, configs)
            }
        })
    }

    /// Ids are taken even if the commit fails: whether it reached the disk may be unknown.
    fn new_partitions(&mut self, count: u32) -> Result<Vec<Arc<Partition>>, StorageError> {
        let first = self.state.next_partition;
        let next = first.checked_add(count).ok_or_else(|| StorageError {
            message: "all partition ids are used up".to_owned(),
            passing: false,
            damaged: false,
        })?;
        self.state.next_partition = next;
        (first..next).map(|id| self.shared.log.partition(id)).collect()
    }

    fn apply(&self, step: Step, deletions: &mut Vec<(Vec<u8>, Deletion)>) {
        let shared = &*self.shared;
        match step {
            Step::Insert(topic) => shared.tables.write().insert(Arc::new(topic)),
            Step::Remove(topic, key, deletion) => {
                shared.tables.write().remove(&topic);
                deletions.push((key, deletion));
            }
            Step::Grow(topic, partitions) => {
                topic.partitions.store(Arc::new(partitions));
                shared.tables.write().own(&topic);
            }
            Step::ConfigureTopic(topic, configs) => {
                topic.config.store(Arc::new(TopicConfig::resolve(configs, &shared.configs.layers())));
            }
            Step::Configure(owner, configs) => {
                shared.configs.set(&owner, configs);
                if !matches!(owner, Owner::Group(_)) {
                    shared.inherit();
                }
            }
        }
    }
}

enum Step {
    Insert(Topic),
    Remove(Arc<Topic>, Vec<u8>, Deletion),
    Grow(Arc<Topic>, Vec<Arc<Partition>>),
    ConfigureTopic(Arc<Topic>, BTreeMap<String, String>),
    Configure(Owner, BTreeMap<String, String>),
}

fn put_topic(topic: &Topic, partitions: &[PartitionId], configs: BTreeMap<String, String>) -> Write {
    let record = TopicRecord::new(topic.id, partitions, configs);
    Write::Put { table: TOPICS, key: topic.name.clone().into_bytes(), value: record.encode() }
}

impl Shared {
    /// Gives topics the broker's new defaults.
    fn inherit(&self) {
        let layers = self.configs.layers();
        for topic in self.tables.read().by_name.values() {
            let overrides = topic.config.load().overrides.clone();
            topic.config.store(Arc::new(TopicConfig::resolve(overrides, &layers)));
        }
    }

    /// Lets go of a deleted topic's records and offsets, and then of the note that this is to be done.
    pub(super) async fn finish_deletion(&self, key: Vec<u8>, deletion: Deletion) -> Result<(), StorageError> {
        let partitions = deletion.partitions().map(|id| self.log.partition(id)).collect::<Result<Vec<_>, _>>()?;
        // All are queued before the first is awaited.
        let gone: Vec<_> = partitions.into_iter().map(|partition| self.log.delete_partition(partition)).collect();
        for gone in gone {
            gone.await?;
        }
        let forget = self.forget.read().clone();
        for each in forget.iter().filter_map(Weak::upgrade) {
            each.forget(&deletion.name).await;
        }
        self.log.commit(vec![Write::Delete { table: CLUSTER, key }], Durability::Written).await
    }
}
