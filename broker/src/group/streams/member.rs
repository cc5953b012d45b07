//! A member of a streams group, and the tasks it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use krocket_protocol::streams_group_heartbeat::{TaskIds, TaskOffset};
use serde::{Deserialize, Serialize};

use crate::group::consumer::member::MemberState;
use crate::group::context::text;

/// Epoch of a static member that left but may come back.
pub(super) const LEFT_STATIC: i32 = -2;

/// A task: a subtopology and a partition.
pub(in crate::group) type Task = (String, i32);

/// Tasks with what is known of each, by subtopology and partition.
pub(in crate::group) type Active = BTreeMap<Task, i32>;

/// The tasks of a member, those with the epoch in which it got them that it is to process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Owned {
    pub(in crate::group) active: Active,
    pub(in crate::group) standby: BTreeSet<Task>,
}

impl Owned {
    pub(in crate::group) fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty()
    }

    pub(in crate::group) fn same_tasks(&self, other: &Owned) -> bool {
        self.active.keys().eq(other.active.keys()) && self.standby == other.standby
    }
}

/// The tasks that a member shall have, or says it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::group) struct Tasks {
    pub(in crate::group) active: BTreeSet<Task>,
    pub(in crate::group) standby: BTreeSet<Task>,
}

/// Tasks of a message.
pub(super) fn tasks(ids: &[TaskIds]) -> BTreeSet<Task> {
    let of = |ids: &TaskIds| {
        let id = ids.subtopology_id.to_string();
        ids.partitions.iter().map(move |partition| (id.clone(), *partition)).collect::<Vec<_>>()
    };
    ids.iter().flat_map(of).collect()
}

/// Tasks for a message.
pub(super) fn task_ids<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Vec<TaskIds> {
    let mut by_subtopology: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (subtopology, partition) in tasks {
        by_subtopology.entry(subtopology).or_default().push(*partition);
    }
    let ids = |(id, partitions): (&str, Vec<i32>)| TaskIds { subtopology_id: text(id), partitions };
    by_subtopology.into_iter().map(ids).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) struct Member {
    pub(in crate::group) id: Arc<str>,
    pub(in crate::group) instance_id: Option<Arc<str>>,
    pub(in crate::group) rack_id: Option<String>,
    pub(in crate::group) client_id: String,
    pub(in crate::group) client_host: String,
    pub(in crate::group) rebalance_timeout_ms: i32,
    pub(in crate::group) topology_epoch: i32,
    pub(in crate::group) process_id: String,
    /// Where its process answers interactive queries.
    pub(in crate::group) endpoint: Option<(String, u16)>,
    pub(in crate::group) client_tags: BTreeMap<String, String>,
    pub(in crate::group) epoch: i32,
    pub(in crate::group) previous_epoch: i32,
    pub(in crate::group) state: MemberState,
    pub(in crate::group) assigned: Owned,
    pub(in crate::group) revoking: Owned,
    /// As of the group's assignment epoch.
    pub(in crate::group) target: Tasks,
    /// What it says of its changelogs: how far it is, and where they end. Not written down.
    pub(in crate::group) offsets: Vec<TaskOffset>,
    pub(in crate::group) end_offsets: Vec<TaskOffset>,
}

impl Member {
    pub(in crate::group) fn new(id: Arc<str>) -> Self {
        Member {
            id,
            instance_id: None,
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout_ms: -1,
            topology_epoch: -1,
            process_id: String::new(),
            endpoint: None,
            client_tags: BTreeMap::new(),
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Owned::default(),
            revoking: Owned::default(),
            target: Tasks::default(),
            offsets: Vec::new(),
            end_offsets: Vec::new(),
        }
    }

    pub(in crate::group) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    pub(super) fn move_to_epoch(&mut self, epoch: i32) {
        if self.epoch != epoch {
            self.previous_epoch = self.epoch;
            self.epoch = epoch;
        }
    }

    /// True when a change from `other` to this concerns who gets which task.
    pub(super) fn assigns_differently(&self, other: &Member) -> bool {
        (self.topology_epoch, &self.process_id, &self.rack_id, &self.client_tags)
            != (other.topology_epoch, &other.process_id, &other.rack_id, &other.client_tags)
    }
}
