//! From one generation to the next.

use super::{ClassicGroup, State};
use crate::group::context::Ctx;
use crate::group::metrics::METRICS;
use crate::group::persist;
use crate::group::timers::Timer;
use krocket_protocol::ErrorCode;

impl ClassicGroup {
    pub(in crate::group) fn rebalance_or_complete(&mut self, ctx: &mut Ctx<'_>) {
        if self.can_rebalance() {
            self.prepare_rebalance(ctx);
        } else {
            self.complete_if_all_joined(ctx);
        }
    }

    /// Asks everybody to join again and waits for them.
    pub(in crate::group) fn prepare_rebalance(&mut self, ctx: &mut Ctx<'_>) {
        if self.state == State::CompletingRebalance {
            for member in self.members.values_mut() {
                member.assignment.clear();
                if let Some(reply) = member.syncing.take() {
                    ctx.sync_error(reply, ErrorCode::RebalanceInProgress);
                    ctx.timers.start(Timer::Session(member.id.clone()), ctx.now, member.session_timeout_ms);
                }
            }
        }
        self.pending_syncs.clear();
        ctx.timers.cancel(&Timer::GroupSync);
        let initial = self.state == State::Empty;
        self.transition(ctx, State::PreparingRebalance);
        if initial {
            let delay = ctx.config.initial_rebalance_delay_ms;
            self.new_member_added = false;
            self.initial_delay_left_ms = (self.rebalance_timeout_ms() - delay).max(0);
            ctx.timers.start(Timer::GroupJoin, ctx.now, delay);
        } else if self.has_all_joined() {
            self.complete_join(ctx);
        } else {
            ctx.timers.start(Timer::GroupJoin, ctx.now, self.rebalance_timeout_ms());
        }
    }

    /// Ends the wait when nobody is missing; the initial delay is waited out in any case.
    pub(in crate::group) fn complete_if_all_joined(&mut self, ctx: &mut Ctx<'_>) {
        if self.state == State::PreparingRebalance && self.previous != State::Empty && self.has_all_joined() {
            self.complete_join(ctx);
        }
    }

    /// The wait for joins is over.
    pub(in crate::group) fn on_join_timeout(&mut self, ctx: &mut Ctx<'_>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        if self.previous == State::Empty && self.new_member_added && self.initial_delay_left_ms > 0 {
            let delay = ctx.config.initial_rebalance_delay_ms.min(self.initial_delay_left_ms);
            self.new_member_added = false;
            self.initial_delay_left_ms -= delay;
            return ctx.timers.start(Timer::GroupJoin, ctx.now, delay);
        }
        self.complete_join(ctx);
    }

    /// Begins the next generation with those who came, and with static members that may still come.
    pub(super) fn complete_join(&mut self, ctx: &mut Ctx<'_>) {
        ctx.timers.cancel(&Timer::GroupJoin);
        let gone: Vec<_> = self
            .members
            .values()
            .filter(|member| member.joining.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in gone {
            tracing::info!(group = %ctx.group, member = %id, "removed: it did not rejoin in time");
            METRICS.removed_members.with_label_values(&["rejoin"]).inc();
            self.remove(&id);
            ctx.timers.cancel_member(&id);
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members, and none of them here. Their sessions or their return end this.
            return ctx.timers.start(Timer::GroupJoin, ctx.now, self.rebalance_timeout_ms());
        }
        self.generation += 1;
        METRICS.rebalances.with_label_values(&["classic"]).inc();
        self.pending_syncs.clear();
        self.protocol_name = self.select_protocol();
        self.subscribed = self.compute_subscribed();
        let next = if self.members.is_empty() { State::Empty } else { State::CompletingRebalance };
        self.transition(ctx, next);
        tracing::info!(group = %ctx.group, generation = self.generation, members = self.members.len(), state = next.name(), "next generation");
        // Durable before anybody hears of it: a number handed out is never handed out again.
        self.persist(ctx, self.members.is_empty());
        if next == State::Empty {
            return;
        }
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let response = self.joined(&id);
            self.answer_join(ctx, &id, response);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
                ctx.timers.start(Timer::Session(id.clone()), ctx.now, member.session_timeout_ms);
            }
            self.pending_syncs.insert(id);
        }
        ctx.timers.start(Timer::GroupSync, ctx.now, self.rebalance_timeout_ms());
    }

    /// Members that joined but never asked for their assignment hold the others up.
    pub(in crate::group) fn on_sync_timeout(&mut self, ctx: &mut Ctx<'_>) {
        if !matches!(self.state, State::CompletingRebalance | State::Stable) || self.pending_syncs.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_syncs) {
            tracing::info!(group = %ctx.group, member = %id, "removed: it did not sync in time");
            METRICS.removed_members.with_label_values(&["sync"]).inc();
            self.remove(&id);
            ctx.timers.cancel_member(&id);
        }
        self.prepare_rebalance(ctx);
    }

    /// The leader stays if it joined; else the first who did leads. False when nobody did.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |id: &str| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.leader.as_deref().is_some_and(joined) {
            return true;
        }
        match self.members.values().find(|member| member.joining.is_some()) {
            Some(member) => {
                self.leader = Some(member.id.clone());
                true
            }
            None => false,
        }
    }

    /// Writes the group with all its members.
    pub(in crate::group) fn persist(&mut self, ctx: &mut Ctx<'_>, settled: bool) {
        self.write(ctx, settled, true);
    }

    /// Writes the group, who came and who is gone: nothing else has changed.
    pub(super) fn persist_members(&mut self, ctx: &mut Ctx<'_>) {
        self.write(ctx, true, false);
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, settled: bool, all: bool) {
        let mut rows = std::mem::take(&mut self.rows);
        ctx.writes.extend(persist::put_classic(&ctx.group, self, settled, &mut rows, all));
        self.rows = rows;
    }

    pub(in crate::group) fn unpersist(&self, ctx: &mut Ctx<'_>) {
        ctx.writes.extend(persist::delete_classic(&ctx.group, &self.rows));
    }
}
