//! Streams groups (KIP-1071): the members of a Kafka Streams application, the topology that they bring along, and the tasks
//! that follow from it. Kafka's `StreamsGroup`.

mod assign;
mod configure;
mod coordinator;
mod describe;
mod heartbeat;
mod member;
mod reconcile;
#[cfg(test)]
mod tests;
mod topology;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use krocket_protocol::ErrorCode;

use super::consumer::member::MemberState;
use super::context::Ctx;
use super::error::Refusal;
use super::metrics::METRICS;
use super::persist;
use super::timers::Timer;
use assign::{GroupSpec, MemberSpec};
use configure::Configured;

pub use coordinator::MissingTopics;
pub(super) use heartbeat::Beaten;
pub(super) use member::{Member, Owned, Task, Tasks};
pub(super) use topology::Topology;

/// Protocol type of streams groups, in ListGroups.
pub(super) const PROTOCOL_TYPE: &str = "streams";

/// The topology epoch of a group whose topology is not ready.
const NOT_READY: i32 = -1;

#[derive(Debug)]
pub(super) struct StreamsGroup {
    /// Moves with every change of members, topics or configs; never back.
    pub(super) epoch: i32,
    /// Epoch of the target assignment.
    pub(super) assignment_epoch: i32,
    /// Of the topology's topics as the last epoch saw them.
    pub(super) metadata_hash: u64,
    /// Epoch of the topology whose topics are all there; -1 for none.
    pub(super) validated_epoch: i32,
    /// streams.num.standby.replicas as the last epoch had it.
    pub(super) standby_replicas: i32,
    pub(super) topology: Topology,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    /// The topology over the topics of `topics_version`.
    configured: Option<Configured>,
    topics_version: Option<u64>,
    /// Moves whenever a process that answers queries comes, goes or has other tasks.
    endpoint_epoch: i32,
    /// Who wants everybody to shut down.
    shutdown_by: Option<Arc<str>>,
}

impl StreamsGroup {
    /// A group without members. Its epoch is never 0: that is how members say that they join.
    pub(super) fn empty(epoch: i32) -> Self {
        let epoch = epoch.max(1);
        StreamsGroup {
            epoch,
            assignment_epoch: epoch,
            metadata_hash: 0,
            validated_epoch: NOT_READY,
            standby_replicas: 0,
            topology: Topology::default(),
            members: BTreeMap::new(),
            configured: None,
            topics_version: None,
            endpoint_epoch: 0,
            shutdown_by: None,
        }
    }

    /// Kafka's `StreamsGroupState`.
    pub(super) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.validated_epoch != self.topology.epoch {
            "NotReady"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().all(|member| member.is_reconciled_to(self.assignment_epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    pub(super) fn member(&self, id: &str) -> Result<&Member, Refusal> {
        self.members.get(id).ok_or_else(|| {
            Refusal::new(ErrorCode::UnknownMemberId, format!("Member {id} is not a member of the group."))
        })
    }

    fn static_member(&self, instance: &str) -> Option<&Member> {
        self.members.values().find(|member| member.instance_id.as_deref() == Some(instance))
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        !self.members.is_empty()
            && self.topology.subtopologies.values().any(|part| part.reads().any(|name| name == topic))
    }

    /// Whether this member may commit offsets. Older epochs may commit what the member processed by then and still does
    /// (KIP-1251); the returned function tells per partition.
    pub(super) fn validate_commit(
        &self,
        id: &str,
        epoch: i32,
        version: i16,
        transactional: bool,
    ) -> Result<impl Fn(&str, i32) -> Result<(), ErrorCode> + use<'_>, ErrorCode> {
        let nobody = epoch < 0 && (self.members.is_empty() || transactional && id.is_empty());
        let member = match self.members.get(id) {
            _ if nobody => None,
            member => Some(member.ok_or(ErrorCode::UnknownMemberId)?),
        };
        if let Some(member) = member {
            if version < 9 && !transactional {
                return Err(ErrorCode::UnsupportedVersion);
            }
            if epoch > member.epoch {
                return Err(ErrorCode::StaleMemberEpoch);
            }
        }
        Ok(move |topic: &str, partition| match member {
            Some(member) if epoch != member.epoch => match self.assignment_epoch(member, topic, partition) {
                Some(assigned) if epoch >= assigned => Ok(()),
                _ => Err(ErrorCode::StaleMemberEpoch),
            },
            _ => Ok(()),
        })
    }

    /// Epoch in which the member got the task that reads this partition, while it has not given it up.
    fn assignment_epoch(&self, member: &Member, topic: &str, partition: i32) -> Option<i32> {
        let reading = self.topology.subtopologies.iter().filter(|(_, part)| part.reads().any(|name| name == topic));
        let mut tasks = reading.map(|(id, _)| (id.clone(), partition));
        tasks.find_map(|task| member.assigned.active.get(&task).or_else(|| member.revoking.active.get(&task)).copied())
    }

    /// Whether this member may read offsets; None for those who are not members.
    pub(super) fn validate_fetch(&self, id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        match id {
            None if epoch < 0 => Ok(()),
            id => {
                let member = self.members.get(id.unwrap_or_default()).ok_or(ErrorCode::UnknownMemberId)?;
                if epoch == member.epoch { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
            }
        }
    }

    /// Begins a new epoch.
    fn bump_epoch(&mut self, ctx: &mut Ctx<'_>) {
        self.epoch += 1;
        if self.members.is_empty() {
            // There is nobody to compute a target for.
            self.assignment_epoch = self.epoch;
            self.shutdown_by = None;
        }
        self.persist_group(ctx);
        tracing::debug!(group = %ctx.group, epoch = self.epoch, "new group epoch");
    }

    /// Computes the target of the current epoch, unless it is there. Without its topics nobody has anything to do.
    pub(super) fn update_target(&mut self, ctx: &mut Ctx<'_>) {
        if self.assignment_epoch >= self.epoch || self.members.is_empty() {
            return;
        }
        let mut spec = GroupSpec { standby_replicas: self.standby_replicas, ..GroupSpec::default() };
        if let Some(configured) = self.configured.as_ref().filter(|configured| configured.is_ready()) {
            for (id, count) in configured.tasks.iter().flatten() {
                let stateful = self.topology.subtopologies.get(id).is_some_and(|part| part.is_stateful());
                spec.subtopologies.insert(id.clone(), (*count, stateful));
            }
        }
        for member in self.members.values() {
            let has_state = member.offsets.iter().map(|at| (at.subtopology_id.to_string(), at.partition)).collect();
            let member_spec =
                MemberSpec { process_id: member.process_id.clone(), current: member.target.clone(), has_state };
            spec.members.insert(member.id.clone(), member_spec);
        }
        for (id, target) in assign::assign(&spec) {
            if let Some(member) = self.members.get_mut(&id)
                && member.target != target
            {
                member.target = target;
                let write = persist::put_streams_member(&ctx.group, member);
                ctx.writes.push(write);
            }
        }
        self.assignment_epoch = self.epoch;
        self.persist_group(ctx);
        METRICS.rebalances.with_label_values(&["streams"]).inc();
        tracing::info!(group = %ctx.group, epoch = self.epoch, members = self.members.len(), "new target assignment");
    }

    /// Takes a member out for good.
    pub(super) fn expel(&mut self, ctx: &mut Ctx<'_>, id: &Arc<str>) {
        if let Some(member) = self.members.remove(id) {
            ctx.timers.cancel_member(id);
            ctx.writes.push(persist::delete_streams_member(&ctx.group, id));
            self.endpoint_epoch += i32::from(member.endpoint.is_some());
            self.bump_epoch(ctx);
        }
    }

    /// True when the member still has not given up what it had to: it is to be fenced.
    pub(super) fn failed_to_revoke(&self, id: &str) -> bool {
        self.members.get(id).is_some_and(|member| member.state == MemberState::Unrevoked)
    }

    /// Gives every member a whole session: what a restart owes them.
    pub(super) fn resume(&mut self, ctx: &mut Ctx<'_>) {
        for member in self.members.values() {
            ctx.timers.start(Timer::Session(member.id.clone()), ctx.now, ctx.config.streams_session_timeout_ms);
            if member.state == MemberState::Unrevoked {
                ctx.timers.start(Timer::Revocation(member.id.clone()), ctx.now, member.rebalance_timeout_ms);
            }
        }
    }

    /// Tasks that members other than this one process or have not given up, and those that other members of its process
    /// have in any role.
    fn held_by_others(&self, id: &str, process_id: &str) -> (BTreeSet<&Task>, BTreeSet<&Task>) {
        let (mut active, mut in_process) = (BTreeSet::new(), BTreeSet::new());
        for member in self.members.values().filter(|member| *member.id != *id) {
            for owned in [&member.assigned, &member.revoking] {
                active.extend(owned.active.keys());
                if member.process_id == process_id {
                    in_process.extend(owned.active.keys().chain(&owned.standby));
                }
            }
        }
        (active, in_process)
    }

    fn persist_member(&self, ctx: &mut Ctx<'_>, id: &str) {
        if let Some(member) = self.members.get(id) {
            ctx.writes.push(persist::put_streams_member(&ctx.group, member));
        }
    }

    fn persist_group(&self, ctx: &mut Ctx<'_>) {
        ctx.writes.push(persist::put_streams(&ctx.group, self));
    }

    /// Removes the whole group from the log.
    pub(super) fn unpersist(&self, ctx: &mut Ctx<'_>) {
        ctx.writes.push(persist::delete_streams(&ctx.group));
        ctx.writes.push(persist::delete_topology(&ctx.group));
        for id in self.members.keys() {
            ctx.writes.push(persist::delete_streams_member(&ctx.group, id));
        }
    }
}
