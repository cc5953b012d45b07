//! Heartbeat, LeaveGroup, sessions that run out, and what members may commit.

use std::sync::Arc;

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use krocket_protocol::ErrorCode;

use super::{ClassicGroup, State};
use crate::group::context::Ctx;
use crate::group::metrics::METRICS;
use crate::group::timers::Timer;

impl ClassicGroup {
    pub(in crate::group) fn heartbeat(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        self.validate_member(id, instance)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.renew_session(ctx, id);
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    fn renew_session(&self, ctx: &mut Ctx<'_>, id: &str) {
        if let Some(member) = self.members.get(id) {
            ctx.timers.start(Timer::Session(member.id.clone()), ctx.now, member.session_timeout_ms);
        }
    }

    /// Removes those who leave. One error per member, in order.
    pub(in crate::group) fn leave(
        &mut self,
        ctx: &mut Ctx<'_>,
        members: &[MemberIdentity],
    ) -> Vec<Result<(), ErrorCode>> {
        let results: Vec<_> = members.iter().map(|member| self.leave_one(ctx, member)).collect();
        if results.iter().any(Result::is_ok) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.rebalance_or_complete(ctx),
                State::PreparingRebalance => self.complete_if_all_joined(ctx),
                State::Empty => {}
            }
        }
        results
    }

    fn leave_one(&mut self, ctx: &mut Ctx<'_>, member: &MemberIdentity) -> Result<(), ErrorCode> {
        let id: Arc<str> = if member.member_id.is_empty() {
            // An administrator removes by instance id alone.
            let instance = member.group_instance_id.as_deref().ok_or(ErrorCode::UnknownMemberId)?;
            self.static_members.get(instance).cloned().ok_or(ErrorCode::UnknownMemberId)?
        } else if let Some(id) = self.pending_joins.get(&*member.member_id) {
            id.clone()
        } else {
            self.validate_member(&member.member_id, member.group_instance_id.as_deref())?;
            (*member.member_id).into()
        };
        let reason = member.reason.as_deref().unwrap_or("not provided");
        tracing::info!(group = %ctx.group, member = %id, reason, "left");
        METRICS.removed_members.with_label_values(&["left"]).inc();
        self.expel(ctx, &id);
        Ok(())
    }

    /// Takes the member out. Should it wait for a generation, it learns that it has to start again.
    fn expel(&mut self, ctx: &mut Ctx<'_>, id: &Arc<str>) {
        if let Some(member) = self.members.get_mut(id) {
            if let Some(reply) = member.joining.take() {
                ctx.join_error(reply, "", ErrorCode::UnknownMemberId);
            }
            if let Some(reply) = member.syncing.take() {
                ctx.sync_error(reply, ErrorCode::UnknownMemberId);
            }
        }
        ctx.timers.cancel_member(id);
        self.remove(id);
    }

    pub(in crate::group) fn on_session_timeout(&mut self, ctx: &mut Ctx<'_>, id: &Arc<str>) {
        match self.members.get(id) {
            Some(member) if member.has_satisfied_heartbeat() => return,
            Some(_) => {}
            None if self.pending_joins.contains(id) => {}
            None => return,
        }
        tracing::info!(group = %ctx.group, member = %id, "removed: its session ran out");
        METRICS.removed_members.with_label_values(&["session"]).inc();
        self.expel(ctx, id);
        match self.state {
            State::Stable | State::CompletingRebalance => self.rebalance_or_complete(ctx),
            State::PreparingRebalance if self.has_all_joined() => self.complete_join(ctx),
            State::PreparingRebalance | State::Empty => {}
        }
    }

    /// Whether this member may commit offsets now. A commit also keeps its session.
    pub(in crate::group) fn validate_commit(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: &str,
        instance: Option<&str>,
        generation: i32,
        transactional: bool,
    ) -> Result<(), ErrorCode> {
        // Nobody manages the group: an administrator, or a consumer that assigns itself.
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation < 0 && id.is_empty() && instance.is_none() {
            // A producer that was not told of the consumer's group (before KIP-447) is fenced by its transactional id.
            return if transactional { Ok(()) } else { Err(ErrorCode::UnknownMemberId) };
        }
        self.validate_member(id, instance)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if transactional {
            return Ok(());
        }
        if self.state == State::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.renew_session(ctx, id);
        Ok(())
    }

    /// Gives every member a whole session, and a rebalance that was under way its time: what a restart owes them.
    pub(in crate::group) fn resume(&mut self, ctx: &mut Ctx<'_>) {
        for member in self.members.values() {
            ctx.timers.start(Timer::Session(member.id.clone()), ctx.now, member.session_timeout_ms);
        }
        if self.state == State::PreparingRebalance {
            ctx.timers.start(Timer::GroupJoin, ctx.now, self.rebalance_timeout_ms());
        } else if self.members.len() > ctx.config.max_size {
            self.prepare_rebalance(ctx);
        }
    }
}
