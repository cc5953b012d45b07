//! Share groups (KIP-932): who the members are and which partitions each of them reads. Kafka's `ShareGroup`. What becomes
//! of their records is the share partitions' matter, which groups know as a [`ShareState`].

mod assign;
#[cfg(test)]
mod assign_tests;
mod coordinator;
mod describe;
mod heartbeat;
mod offsets;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use krocket_protocol::ErrorCode;
use uuid::Uuid;

use super::consumer::assign::{GroupSpec, MemberSpec};
use super::consumer::member::Partitions;
use super::context::Ctx;
use super::error::Refusal;
use super::metrics::METRICS;
use super::persist;
use super::timers::Timer;
use super::topics::metadata_hash;

pub(super) use heartbeat::Beaten;
pub use state::{ShareOffset, ShareState};

/// Protocol type of share groups, in ListGroups.
pub(super) const PROTOCOL_TYPE: &str = "share";

/// A member of a share group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: Arc<str>,
    pub(super) rack_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) topics: BTreeSet<String>,
    pub(super) epoch: i32,
    pub(super) previous_epoch: i32,
    /// As of the member's epoch.
    pub(super) assigned: Partitions,
    /// As of the group's assignment epoch.
    pub(super) target: Partitions,
}

impl Member {
    pub(super) fn new(id: Arc<str>) -> Self {
        Member {
            id,
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            topics: BTreeSet::new(),
            epoch: 0,
            previous_epoch: -1,
            assigned: Partitions::new(),
            target: Partitions::new(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct ShareGroup {
    /// Moves with every change of members, subscriptions or topics; never back.
    pub(super) epoch: i32,
    /// Epoch of the target assignment.
    pub(super) assignment_epoch: i32,
    /// Of the subscribed topics as the last epoch saw them.
    pub(super) metadata_hash: u64,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    /// Version of the topic table that `metadata_hash` was compared with.
    topics_version: Option<u64>,
    /// When the last target was computed.
    assigned_at: Option<Instant>,
}

impl ShareGroup {
    pub(super) fn empty(epoch: i32) -> Self {
        ShareGroup { epoch, assignment_epoch: epoch, ..ShareGroup::default() }
    }

    pub(super) fn restored(epoch: i32, assignment_epoch: i32, metadata_hash: u64, members: Vec<Member>) -> Self {
        let members = members.into_iter().map(|member| (member.id.clone(), member)).collect();
        ShareGroup { epoch, assignment_epoch, metadata_hash, members, ..ShareGroup::default() }
    }

    /// Kafka's `ShareGroupState`.
    pub(super) fn state(&self) -> &'static str {
        if self.members.is_empty() { "Empty" } else { "Stable" }
    }

    pub(super) fn member(&self, id: &str) -> Result<&Member, Refusal> {
        self.members.get(id).ok_or_else(|| {
            Refusal::new(ErrorCode::UnknownMemberId, format!("Member {id} is not a member of the group."))
        })
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.topics.contains(topic))
    }

    /// Ids of the topics that somebody reads, those that exist.
    fn subscribed(&self, ctx: &Ctx<'_>) -> BTreeSet<Uuid> {
        let names = self.members.values().flat_map(|member| &member.topics);
        names.filter_map(|name| ctx.topics.id(name)).collect()
    }

    /// Looks at the topics again if they, or `changed`, give reason to. True when what the group reads has changed.
    fn refresh_metadata(&mut self, ctx: &Ctx<'_>, changed: bool) -> bool {
        let version = ctx.topics.version();
        if self.topics_version == Some(version) && !changed {
            return false;
        }
        self.topics_version = Some(version);
        let names = self.members.values().flat_map(|member| &member.topics).map(String::as_str).collect();
        let hash = metadata_hash(ctx.topics, names);
        std::mem::replace(&mut self.metadata_hash, hash) != hash
    }

    /// Begins a new epoch.
    fn bump_epoch(&mut self, ctx: &mut Ctx<'_>) {
        self.epoch += 1;
        if self.members.is_empty() {
            // There is nobody to compute a target for.
            self.assignment_epoch = self.epoch;
        }
        self.persist_group(ctx);
        tracing::debug!(group = %ctx.group, epoch = self.epoch, "new share group epoch");
    }

    /// Computes the target of the current epoch, unless it is there or the last one is too young: then a later heartbeat
    /// does it (`share.assignment.interval.ms`).
    fn update_target(&mut self, ctx: &mut Ctx<'_>) {
        let interval = ctx.config.share_assignment_interval;
        let young = self.assigned_at.is_some_and(|at| ctx.now.saturating_duration_since(at) < interval);
        if self.assignment_epoch >= self.epoch || young {
            return;
        }
        let mut spec = GroupSpec::default();
        for member in self.members.values() {
            let topics: BTreeSet<Uuid> = member.topics.iter().filter_map(|name| ctx.topics.id(name)).collect();
            for topic in &topics {
                spec.partitions.entry(*topic).or_insert_with(|| ctx.topics.partitions(*topic).unwrap_or(0));
            }
            let member_spec = MemberSpec { instance_id: None, topics, current: member.target.clone() };
            spec.members.insert(member.id.clone(), member_spec);
        }
        for (id, target) in assign::assign(&spec) {
            if let Some(member) = self.members.get_mut(&id)
                && member.target != target
            {
                member.target = target;
                let write = persist::put_share_member(&ctx.group, member);
                ctx.writes.push(write);
            }
        }
        self.assignment_epoch = self.epoch;
        self.assigned_at = Some(ctx.now);
        self.persist_group(ctx);
        METRICS.rebalances.with_label_values(&["share"]).inc();
        tracing::info!(
            group = %ctx.group, epoch = self.epoch, members = self.members.len(), "new target assignment of a share group"
        );
    }

    /// Takes a member out for good. The others get its partitions with their next heartbeats.
    pub(super) fn expel(&mut self, ctx: &mut Ctx<'_>, id: &Arc<str>) {
        if self.members.remove(id).is_none() {
            return;
        }
        ctx.timers.cancel_member(id);
        let write = persist::delete_share_member(&ctx.group, id);
        ctx.writes.push(write);
        self.refresh_metadata(ctx, true);
        self.bump_epoch(ctx);
    }

    /// Gives every member a whole session: what a restart owes them.
    pub(super) fn resume(&mut self, ctx: &mut Ctx<'_>) {
        for id in self.members.keys() {
            ctx.timers.start(Timer::Session(id.clone()), ctx.now, ctx.config.share_session_timeout_ms);
        }
    }

    fn persist_member(&self, ctx: &mut Ctx<'_>, id: &str) {
        if let Some(member) = self.members.get(id) {
            let write = persist::put_share_member(&ctx.group, member);
            ctx.writes.push(write);
        }
    }

    fn persist_group(&self, ctx: &mut Ctx<'_>) {
        let write = persist::put_share(&ctx.group, self);
        ctx.writes.push(write);
    }

    /// Removes the whole group from the log.
    pub(super) fn unpersist(&self, ctx: &mut Ctx<'_>) {
        ctx.writes.push(persist::delete_share(&ctx.group));
        for id in self.members.keys() {
            let write = persist::delete_share_member(&ctx.group, id);
            ctx.writes.push(write);
        }
    }
}
