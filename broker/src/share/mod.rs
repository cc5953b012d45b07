//! Share groups (KIP-932): records of a partition handed out one by one to many consumers, each acknowledged by itself.
//!
//! Members and assignments are [`crate::group`]'s. Here is what Kafka calls the share coordinator and the
//! SharePartition, which on one machine are one: a [`window::Window`] for each group and partition, written down as it
//! changes. Locks and delivery counts survive a restart.

mod bury;
mod metrics;
mod partition;
mod piece;
mod policy;
mod read;
mod rows;
mod session;
mod sieve;
mod state;
mod take;
mod wait;
mod watchman;
mod window;

use std::collections::HashMap;
use std::sync::Arc;

use dashmap::DashMap;
use krocket_protocol::ErrorCode;
use krocket_stack::BoxFuture;
use krocket_stack::share::ShareRules;
use parking_lot::RwLock;
use tokio::sync::Notify;
use uuid::Uuid;

pub(crate) use partition::Acknowledgement;
use policy::Filters;
pub(crate) use policy::Policy;
pub(crate) use session::{Asked, FINAL_EPOCH, INITIAL_EPOCH, Sessions, Turn};
pub(crate) use wait::Poll;

use crate::config::Configs;
use crate::log::{Log, PartitionId, StorageError, tables};
use crate::topics::{Forget, Topics};
use partition::SharePartition;
use rows::Row;
use window::{Run, Window};

/// What every share group has read.
pub(crate) struct Shares {
    log: Log,
    topics: Topics,
    configs: Arc<Configs>,
    groups: DashMap<String, Arc<ShareGroup>>,
    rules: RwLock<Option<Arc<dyn ShareRules>>>,
    filters: Filters,
    pub(crate) sessions: Sessions,
}

/// A share group's partitions.
#[derive(Debug)]
struct ShareGroup {
    id: Arc<str>,
    partitions: DashMap<PartitionId, Arc<SharePartition>>,
    /// Woken when there may be more for its members.
    changed: Notify,
}

impl ShareGroup {
    fn new(id: &str) -> Arc<Self> {
        Arc::new(ShareGroup { id: id.into(), partitions: DashMap::new(), changed: Notify::new() })
    }

    fn all(&self) -> Vec<Arc<SharePartition>> {
        self.partitions.iter().map(|entry| entry.value().clone()).collect()
    }
}

impl Shares {
    /// Loads every share partition. Must be called on a Tokio runtime: locks end there.
    pub(crate) fn open(log: &Log, topics: &Topics, configs: &Arc<Configs>) -> Result<Arc<Self>, StorageError> {
        let shares = Arc::new(Shares {
            log: log.clone(),
            topics: topics.clone(),
            configs: configs.clone(),
            groups: DashMap::new(),
            rules: RwLock::default(),
            filters: Filters::default(),
            sessions: Sessions::default(),
        });
        let mut found: HashMap<(String, PartitionId), (Option<i64>, Vec<(i64, Run)>)> = HashMap::new();
        for row in log.scan(tables::SHARES, &[]) {
            let (key, value) = row?;
            let Some((group, partition, row)) = rows::read(&key, &value) else {
                tracing::error!("unreadable state of a share group: left out");
                continue;
            };
            let entry = found.entry((group.to_owned(), partition)).or_default();
            match row {
                Row::Start(start) => entry.0 = Some(start),
                Row::Run(first, run) => entry.1.push((first, run)),
            }
        }
        for ((group, id), (start, runs)) in found {
            let (Some(start), Some((topic, index))) = (start, topics.owner(id)) else { continue };
            if let Some(partition) = shares.partition_of(&group, topic.id, index) {
                *partition.window.lock() = Some(Window::restored(start, runs));
            }
        }
        tracing::info!(groups = shares.groups.len(), "share groups loaded");
        topics.add_forget(&shares);
        tokio::spawn(watchman::watch(Arc::downgrade(&shares)));
        Ok(shares)
    }

    /// The configs that a group follows.
    pub(crate) fn policy(&self, group: &str) -> Policy {
        Policy::new(group, self.configs.share(group), self.rules.read().clone(), &self.filters)
    }

    /// Has groups follow these rules where their configs say nothing.
    pub(crate) fn set_rules(&self, rules: Arc<dyn ShareRules>) {
        *self.rules.write() = Some(rules);
    }

    fn group(&self, id: &str) -> Arc<ShareGroup> {
        if let Some(group) = self.groups.get(id) {
            return group.clone();
        }
        self.groups.entry(id.to_owned()).or_insert_with(|| ShareGroup::new(id)).clone()
    }

    /// A group's share of a partition that exists; it comes into being if it has to.
    fn partition_of(&self, group: &str, topic: Uuid, index: i32) -> Option<Arc<SharePartition>> {
        let topic = self.topics.by_id(topic)?;
        let partition = topic.partition(index).filter(|partition| !partition.is_deleted())?;
        let group = self.group(group);
        let entry = group.partitions.entry(partition.id).or_insert_with(|| {
            Arc::new(SharePartition {
                group: group.id.clone(),
                topic: topic.id,
                topic_name: topic.name.clone(),
                index,
                partition: partition.clone(),
                reading: tokio::sync::Mutex::default(),
                burying: tokio::sync::Mutex::new(()),
                window: parking_lot::Mutex::new(None),
            })
        });
        Some(entry.clone())
    }

    /// What a partition that is not there is told: topics are named by their ids.
    fn unknown(&self, topic: Uuid) -> ErrorCode {
        match self.topics.by_id(topic) {
            Some(_) => ErrorCode::UnknownTopicOrPartition,
            None => ErrorCode::UnknownTopicId,
        }
    }

    /// Acknowledgements of one partition.
    pub(crate) async fn acknowledge(
        &self,
        group: &str,
        member: &str,
        (topic, index): Asked,
        acknowledgements: &[Acknowledgement],
        policy: &Policy,
    ) -> Result<(), ErrorCode> {
        let partition = self.partition_of(group, topic, index).ok_or_else(|| self.unknown(topic))?;
        let result = partition.acknowledge(&self.log, policy, member, acknowledgements).await;
        self.after_change(group, &partition, policy).await;
        result
    }

    /// Takes back all that a member holds.
    pub(crate) async fn release(&self, group: &str, member: &str, lost: bool) {
        let Some(found) = self.groups.get(group).map(|found| found.clone()) else { return };
        let policy = self.policy(group);
        for partition in found.all() {
            if let Err(error) = partition.release(&self.log, &policy, member, lost).await {
                tracing::error!(%error, group, topic = partition.topic_name, "records cannot be taken back");
            }
            self.after_change(group, &partition, &policy).await;
        }
    }

    /// Wakes who waits for records, and buries the dead.
    async fn after_change(&self, group: &str, partition: &Arc<SharePartition>, policy: &Policy) {
        self.bury(partition, policy).await;
        if let Some(group) = self.groups.get(group) {
            group.changed.notify_waiters();
        }
    }
}

impl Forget for Shares {
    fn forget<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(self.forget_topic(topic))
    }
}

impl std::fmt::Debug for Shares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shares").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}
