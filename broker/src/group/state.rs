//! One group, whichever protocol it follows at the moment.

use std::sync::Arc;

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    ShareGroupHeartbeatRequest, SyncGroupRequest, SyncGroupResponse,
};
use krocket_protocol::ErrorCode;
use krocket_protocol::streams_group_heartbeat::StreamsGroupHeartbeatRequest;
use uuid::Uuid;

use super::classic::{ClassicGroup, State};
use super::consumer::ConsumerGroup;
use super::context::{Answer, Client, Ctx, Reply, text};
use super::error::Refusal;
use super::metrics::METRICS;
use super::migrate;
use super::offsets::Offsets;
use super::share::{Beaten, ShareGroup};
use super::streams::{self, StreamsGroup};
use super::timers::Timer;

#[derive(Debug)]
pub(super) enum Kind {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
    Share(ShareGroup),
    Streams(StreamsGroup),
}

#[derive(Debug)]
pub(super) struct GroupState {
    pub(super) kind: Kind,
    pub(super) offsets: Offsets,
}

impl GroupState {
    pub(super) fn new(now_ms: i64) -> Self {
        GroupState { kind: Kind::Classic(ClassicGroup::empty(0, now_ms)), offsets: Offsets::default() }
    }

    /// True when clients can tell that the group is there: it was joined, or holds offsets.
    pub(super) fn exists(&self) -> bool {
        match &self.kind {
            Kind::Classic(group) => group.is_known() || !self.offsets.is_empty(),
            Kind::Consumer(_) | Kind::Share(_) | Kind::Streams(_) => true,
        }
    }

    /// True without members.
    pub(super) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Classic(group) => group.state == State::Empty,
            Kind::Consumer(group) => group.members.is_empty(),
            Kind::Share(group) => group.members.is_empty(),
            Kind::Streams(group) => group.members.is_empty(),
        }
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.kind {
            Kind::Classic(group) => group.is_subscribed(topic),
            Kind::Consumer(group) => group.is_subscribed(topic),
            Kind::Share(group) => group.is_subscribed(topic),
            Kind::Streams(group) => group.is_subscribed(topic),
        }
    }

    /// Picks up after a restart.
    pub(super) fn resume(&mut self, ctx: &mut Ctx<'_>) {
        match &mut self.kind {
            Kind::Classic(group) => group.resume(ctx),
            Kind::Consumer(group) => group.resume(ctx),
            Kind::Share(group) => group.resume(ctx),
            Kind::Streams(group) => group.resume(ctx),
        }
    }

    pub(super) fn join(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &JoinGroupRequest,
        reply: Reply<JoinGroupResponse>,
    ) {
        if let Kind::Share(_) = &self.kind {
            return ctx.join_error(reply, "", ErrorCode::InconsistentGroupProtocol);
        }
        if let Kind::Streams(group) = &self.kind {
            if !group.members.is_empty() {
                return ctx.join_error(reply, "", ErrorCode::InconsistentGroupProtocol);
            }
            group.unpersist(ctx);
            self.kind = Kind::Classic(ClassicGroup::empty(group.epoch, ctx.now_ms));
        }
        if let Kind::Consumer(group) = &mut self.kind {
            if !group.members.is_empty() {
                return self.join_consumer(ctx, client, request, reply);
            }
            group.unpersist(ctx);
            self.kind = Kind::Classic(ClassicGroup::empty(group.epoch, ctx.now_ms));
        }
        let exists = self.exists();
        let Kind::Classic(group) = &mut self.kind else { return };
        if !exists && !request.member_id.is_empty() {
            return ctx.join_error(reply, &request.member_id, ErrorCode::UnknownMemberId);
        }
        group.join(ctx, client, request, reply);
    }

    /// A classic client joins a group of the new protocol.
    fn join_consumer(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &JoinGroupRequest,
        reply: Reply<JoinGroupResponse>,
    ) {
        let Kind::Consumer(group) = &mut self.kind else { return };
        match group.join_classic(ctx, client, request) {
            Ok(joined) => {
                if joined.downgrade {
                    self.downgrade(ctx, &[], joined.rebalance);
                }
                ctx.answers.push(Answer::Join(reply, joined.response));
            }
            Err(refusal) => ctx.join_error(reply, &request.member_id, refusal.code),
        }
    }

    pub(super) fn sync(&mut self, ctx: &mut Ctx<'_>, request: &SyncGroupRequest, reply: Reply<SyncGroupResponse>) {
        match &mut self.kind {
            Kind::Classic(group) => group.sync(ctx, request, reply),
            Kind::Consumer(group) => match group.sync_classic(ctx, request) {
                Ok(response) => ctx.answers.push(Answer::Sync(reply, response)),
                Err(refusal) => ctx.sync_error(reply, refusal.code),
            },
            Kind::Share(_) | Kind::Streams(_) => ctx.sync_error(reply, ErrorCode::UnknownMemberId),
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        match &mut self.kind {
            Kind::Classic(group) => group.heartbeat(ctx, id, instance, generation),
            Kind::Consumer(group) => group.heartbeat_classic(ctx, id, instance, generation).map_err(|r| r.code),
            Kind::Share(_) | Kind::Streams(_) => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// One result per member, in order.
    pub(super) fn leave(&mut self, ctx: &mut Ctx<'_>, members: &[MemberIdentity]) -> Vec<Result<(), ErrorCode>> {
        let group = match &mut self.kind {
            Kind::Classic(group) => return group.leave(ctx, members),
            Kind::Consumer(group) => group,
            Kind::Share(_) | Kind::Streams(_) => return vec![Err(ErrorCode::UnknownMemberId); members.len()],
        };
        let mut leaving: Vec<Arc<str>> = Vec::new();
        let mut results = Vec::new();
        for member in members {
            let instance = member.group_instance_id.as_deref();
            // An administrator removes by instance id alone.
            let found = match instance.filter(|_| member.member_id.is_empty()) {
                Some(instance) => group.static_member(instance).map(|m| m.id.clone()).ok_or(ErrorCode::UnknownMemberId),
                None => group.leaving(&member.member_id, instance).map_err(|refusal| refusal.code),
            };
            results.push(found.map(|id| {
                let reason = member.reason.as_deref().unwrap_or("not provided");
                tracing::info!(group = %ctx.group, member = %id, reason, "left");
                METRICS.removed_members.with_label_values(&["left"]).inc();
                leaving.push(id);
            }));
        }
        leaving.sort();
        leaving.dedup();
        self.fence(ctx, &leaving);
        results
    }

    pub(super) fn consumer_heartbeat(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        if request.member_epoch < 0 {
            return self.consumer_leave(ctx, request);
        }
        let id: Arc<str> = match &*request.member_id {
            "" => Uuid::new_v4().to_string().into(),
            id => id.into(),
        };
        let exists = self.exists();
        let classic = match &mut self.kind {
            Kind::Consumer(group) => return group.heartbeat(ctx, client, &id, request),
            Kind::Classic(classic) => classic,
            Kind::Share(_) | Kind::Streams(_) => {
                let message = format!("Group {} is not a consumer group.", ctx.group);
                return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
            }
        };
        if request.member_epoch != 0 {
            let what = if exists { "is not a consumer group" } else { "not found" };
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {} {what}.", ctx.group)));
        }
        // The protocol changes only if the request is good; until then the classic group is left as it is.
        let mut group = if classic.state == State::Empty {
            ConsumerGroup::empty(classic.generation)
        } else {
            migrate::to_consumer(ctx, classic)?
        };
        let response = group.heartbeat(ctx, client, &id, request)?;
        tracing::info!(group = %ctx.group, members = group.members.len(), "is a consumer group now");
        classic.answer_all(ctx, ErrorCode::RebalanceInProgress);
        ctx.timers.cancel(&Timer::GroupJoin);
        ctx.timers.cancel(&Timer::GroupSync);
        for member in classic.members.values() {
            ctx.timers.start(Timer::Session(member.id.clone()), ctx.now, member.session_timeout_ms);
        }
        classic.unpersist(ctx);
        group.persist_all(ctx);
        self.kind = Kind::Consumer(group);
        Ok(response)
    }

    pub(super) fn share_heartbeat(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &ShareGroupHeartbeatRequest,
    ) -> Result<Beaten, Refusal> {
        let exists = self.exists();
        match &mut self.kind {
            Kind::Share(group) if request.member_epoch < 0 => group.leave(ctx, request),
            Kind::Share(group) => group.heartbeat(ctx, client, request),
            Kind::Classic(classic) if !exists && request.member_epoch == 0 => {
                let mut group = ShareGroup::empty(classic.generation);
                let beaten = group.heartbeat(ctx, client, request)?;
                self.kind = Kind::Share(group);
                Ok(beaten)
            }
            Kind::Classic(_) | Kind::Consumer(_) | Kind::Streams(_) => {
                let what = if exists { "is not a share group" } else { "not found" };
                Err(Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {} {what}.", ctx.group)))
            }
        }
    }

    pub(super) fn streams_heartbeat(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &StreamsGroupHeartbeatRequest,
    ) -> Result<streams::Beaten, Refusal> {
        let exists = self.exists();
        match &mut self.kind {
            Kind::Streams(group) if request.member_epoch < 0 => group.leave(ctx, request),
            Kind::Streams(group) => group.heartbeat(ctx, client, request),
            // An application that went over from the classic protocol keeps its offsets.
            Kind::Classic(classic) if classic.state == State::Empty && request.member_epoch == 0 => {
                let mut group = StreamsGroup::empty(classic.generation);
                let beaten = group.heartbeat(ctx, client, request)?;
                classic.unpersist(ctx);
                self.kind = Kind::Streams(group);
                Ok(beaten)
            }
            Kind::Classic(_) | Kind::Consumer(_) | Kind::Share(_) => {
                let what = if exists { "is not a streams group" } else { "not found" };
                Err(Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {} {what}.", ctx.group)))
            }
        }
    }

    fn consumer_leave(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let Kind::Consumer(group) = &mut self.kind else {
            let message = format!("Group {} is not a consumer group.", ctx.group);
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
        };
        let instance = request.instance_id.as_deref();
        match instance {
            Some(instance) if request.member_epoch == super::consumer::member::LEFT_STATIC => {
                group.leave_static(ctx, &request.member_id, instance)?;
            }
            instance => {
                let id = group.leaving(&request.member_id, instance)?;
                tracing::info!(group = %ctx.group, member = %id, "left");
                METRICS.removed_members.with_label_values(&["left"]).inc();
                self.fence(ctx, &[id]);
            }
        }
        Ok(ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(&request.member_id)))
            .with_member_epoch(request.member_epoch))
    }

    /// Takes members out of a consumer group, which may be classic afterwards.
    fn fence(&mut self, ctx: &mut Ctx<'_>, ids: &[Arc<str>]) {
        let Kind::Consumer(group) = &mut self.kind else { return };
        if ids.is_empty() {
            return;
        }
        if migrate::can_downgrade(group, ids, ctx.config) {
            self.downgrade(ctx, ids, true);
        } else {
            group.expel(ctx, ids);
        }
    }

    fn downgrade(&mut self, ctx: &mut Ctx<'_>, leaving: &[Arc<str>], rebalance: bool) {
        let Kind::Consumer(group) = &mut self.kind else { return };
        tracing::info!(group = %ctx.group, "is a classic group again");
        group.unpersist(ctx);
        let ids: Vec<_> = group.members.keys().cloned().collect();
        ids.iter().for_each(|id| ctx.timers.cancel_member(id));
        for id in leaving {
            group.remove(id);
        }
        let mut classic = migrate::to_classic(ctx, group);
        classic.persist(ctx, true);
        classic.resume(ctx);
        if rebalance {
            classic.prepare_rebalance(ctx);
        }
        self.kind = Kind::Classic(classic);
    }

    pub(super) fn on_timer(&mut self, ctx: &mut Ctx<'_>, timer: &Timer) {
        match (&mut self.kind, timer) {
            (Kind::Classic(group), Timer::GroupJoin) => group.on_join_timeout(ctx),
            (Kind::Classic(group), Timer::GroupSync) => group.on_sync_timeout(ctx),
            (Kind::Classic(group), Timer::Session(id)) => group.on_session_timeout(ctx, id),
            (Kind::Share(group), Timer::Session(id)) if group.members.contains_key(id) => {
                tracing::info!(group = %ctx.group, member = %id, "removed: its session ran out");
                METRICS.removed_members.with_label_values(&["session"]).inc();
                group.expel(ctx, id);
            }
            (Kind::Streams(group), Timer::InitialRebalance) => group.update_target(ctx),
            (Kind::Streams(group), Timer::Revocation(id)) if !group.failed_to_revoke(id) => {}
            (Kind::Streams(group), Timer::Session(id) | Timer::Revocation(id)) if group.members.contains_key(id) => {
                tracing::info!(group = %ctx.group, ?timer, "removed: the time ran out");
                let why = if matches!(timer, Timer::Session(_)) { "session" } else { "revocation" };
                METRICS.removed_members.with_label_values(&[why]).inc();
                group.expel(ctx, id);
            }
            (Kind::Consumer(group), Timer::Revocation(id)) if !group.failed_to_revoke(id) => {}
            (
                Kind::Consumer(group),
                Timer::Session(id) | Timer::Revocation(id) | Timer::MemberJoin(id) | Timer::MemberSync(id),
            ) if group.members.contains_key(id) => {
                tracing::info!(group = %ctx.group, ?timer, "fenced: the time ran out");
                let why = match timer {
                    Timer::Session(_) => "session",
                    Timer::Revocation(_) => "revocation",
                    Timer::MemberJoin(_) => "rejoin",
                    _ => "sync",
                };
                METRICS.removed_members.with_label_values(&[why]).inc();
                self.fence(ctx, std::slice::from_ref(id));
            }
            _ => {}
        }
    }

    /// DeleteGroups: the group with its offsets.
    pub(super) fn delete(&mut self, ctx: &mut Ctx<'_>) -> Result<(), ErrorCode> {
        if !self.exists() {
            return Err(ErrorCode::GroupIdNotFound);
        }
        if !self.is_empty() {
            return Err(ErrorCode::NonEmptyGroup);
        }
        ctx.offsets.extend(self.offsets.removals(|_, _, _| true));
        self.forget(ctx);
        Ok(())
    }

    /// Leaves only the number that a new group of this name goes on from.
    pub(super) fn forget(&mut self, ctx: &mut Ctx<'_>) {
        let generation = match &self.kind {
            Kind::Classic(group) => {
                group.unpersist(ctx);
                group.generation
            }
            Kind::Consumer(group) => {
                group.unpersist(ctx);
                group.epoch
            }
            Kind::Share(group) => {
                group.unpersist(ctx);
                group.epoch
            }
            Kind::Streams(group) => {
                group.unpersist(ctx);
                group.epoch
            }
        };
        ctx.timers.clear();
        self.kind = Kind::Classic(ClassicGroup::empty(generation, ctx.now_ms));
    }
}
