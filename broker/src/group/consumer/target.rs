//! The group's epoch and its target assignment.

use std::sync::Arc;

use super::assign::{GroupSpec, MemberSpec};
use super::{ConsumerGroup, persist};
use crate::group::context::Ctx;
use crate::group::metrics::METRICS;

impl ConsumerGroup {
    /// Begins a new epoch.
    pub(super) fn bump_epoch(&mut self, ctx: &mut Ctx<'_>) {
        self.epoch += 1;
        if self.members.is_empty() {
            // There is nobody to compute a target for.
            self.assignment_epoch = self.epoch;
        }
        self.persist_group(ctx);
        tracing::debug!(group = %ctx.group, epoch = self.epoch, "new group epoch");
    }

    /// Computes the target of the current epoch, unless it is there.
    pub(super) fn update_target(&mut self, ctx: &mut Ctx<'_>) {
        if self.assignment_epoch >= self.epoch {
            return;
        }
        let mut spec = GroupSpec::default();
        for member in self.members.values() {
            let topics = self.topic_ids(ctx, member);
            for topic in &topics {
                spec.partitions.entry(*topic).or_insert_with(|| ctx.topics.partitions(*topic).unwrap_or(0));
            }
            let member_spec =
                MemberSpec { instance_id: member.instance_id.clone(), topics, current: member.target.clone() };
            spec.members.insert(member.id.clone(), member_spec);
        }
        let assignor = self.assignor(ctx.config.default_assignor());
        for (id, target) in assignor.assign(&spec) {
            if let Some(member) = self.members.get_mut(&id)
                && member.target != target
            {
                member.target = target;
                let write = persist::put_member(&ctx.group, member);
                ctx.writes.push(write);
            }
        }
        self.assignment_epoch = self.epoch;
        self.persist_group(ctx);
        METRICS.rebalances.with_label_values(&["consumer"]).inc();
        tracing::info!(
            group = %ctx.group, epoch = self.epoch, members = self.members.len(), assignor = assignor.name(),
            "new target assignment"
        );
    }

    /// Takes members out for good. They must be written off by the caller's epoch: it is bumped here.
    pub(in crate::group) fn expel(&mut self, ctx: &mut Ctx<'_>, ids: &[Arc<str>]) {
        for id in ids {
            if self.remove(id).is_some() {
                ctx.timers.cancel_member(id);
                let write = persist::delete_member(&ctx.group, id);
                ctx.writes.push(write);
            }
        }
        self.refresh_metadata(ctx, true);
        self.bump_epoch(ctx);
    }
}
