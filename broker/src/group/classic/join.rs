//! JoinGroup.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use krocket_protocol::ErrorCode;
use uuid::Uuid;

use super::{ClassicGroup, Member, State, own_protocols, same_protocols};
use crate::group::context::{Answer, Client, Ctx, Reply, text};
use crate::group::timers::Timer;

/// From this version on a dynamic member first gets its id (KIP-394), so that a lost answer leaves no ghost behind.
const MEMBER_ID_REQUIRED_VERSION: i16 = 4;
/// From this version on a leader that was replaced by its own restart is told to keep the assignment (KIP-814).
const SKIP_ASSIGNMENT_VERSION: i16 = 9;

impl ClassicGroup {
    pub(in crate::group) fn join(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &JoinGroupRequest,
        reply: Reply<JoinGroupResponse>,
    ) {
        let id = &*request.member_id;
        if !self.accepts(ctx, id) {
            self.remove(id);
            return ctx.join_error(reply, "", ErrorCode::GroupMaxSizeReached);
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            return ctx.join_error(reply, id, ErrorCode::InconsistentGroupProtocol);
        }
        if id.is_empty() {
            self.join_new(ctx, client, request, reply);
        } else {
            self.join_existing(ctx, client, request, reply);
        }
    }

    /// group.max.size. While the group gathers, those who wait count: the last to come find it full.
    fn accepts(&self, ctx: &Ctx<'_>, id: &str) -> bool {
        let max = ctx.config.max_size;
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                self.members.get(id).is_some_and(|member| member.joining.is_some())
                    || self.members.values().filter(|member| member.joining.is_some()).count() < max
            }
            State::CompletingRebalance | State::Stable => self.members.contains_key(id) || self.members.len() < max,
        }
    }

    fn join_new(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &JoinGroupRequest,
        reply: Reply<JoinGroupResponse>,
    ) {
        let prefix = request.group_instance_id.as_deref().unwrap_or(&client.id);
        let id: Arc<str> = format!("{prefix}-{}", Uuid::new_v4()).into();
        match request.group_instance_id.as_deref() {
            Some(instance) => match self.static_members.get(instance).cloned() {
                Some(old) => self.replace_static(ctx, client, request, &old, id, reply),
                None => self.add(ctx, client, request, id, reply),
            },
            None if client.version >= MEMBER_ID_REQUIRED_VERSION => {
                self.pending_joins.insert(id.clone());
                ctx.timers.start(Timer::Session(id.clone()), ctx.now, request.session_timeout_ms);
                ctx.join_error(reply, &id, ErrorCode::MemberIdRequired);
            }
            None => self.add(ctx, client, request, id, reply),
        }
    }

    fn join_existing(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &JoinGroupRequest,
        reply: Reply<JoinGroupResponse>,
    ) {
        let id = &*request.member_id;
        if self.pending_joins.contains(id) {
            if request.group_instance_id.is_some() {
                return ctx.join_error(reply, id, ErrorCode::InvalidRequest);
            }
            return self.add(ctx, client, request, id.into(), reply);
        }
        if let Err(code) = self.validate_member(id, request.group_instance_id.as_deref()) {
            return ctx.join_error(reply, id, code);
        }
        let same = self.members.get(id).is_some_and(|member| same_protocols(member, &request.protocols));
        match self.state {
            // It lost the answer, or, as a follower, has nothing new to say: the generation stands.
            State::CompletingRebalance if same => ctx.answers.push(Answer::Join(reply, self.joined(id))),
            State::Stable if same && !self.is_leader(id) => ctx.answers.push(Answer::Join(reply, self.joined(id))),
            // A leader that joins again has seen something that the metadata does not show.
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update(id, request, reply);
                self.rebalance_or_complete(ctx);
            }
            State::Empty => ctx.join_error(reply, id, ErrorCode::UnknownMemberId),
        }
    }

    fn add(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &JoinGroupRequest,
        id: Arc<str>,
        reply: Reply<JoinGroupResponse>,
    ) {
        if self.state == State::PreparingRebalance && self.previous == State::Empty {
            self.new_member_added = true;
        }
        let member = Member {
            id: id.clone(),
            instance_id: request.group_instance_id.as_deref().map(Arc::from),
            client_id: client.id.clone(),
            client_host: client.host.clone(),
            rebalance_timeout_ms: rebalance_timeout_ms(request),
            session_timeout_ms: request.session_timeout_ms,
            protocols: own_protocols(&request.protocols),
            assignment: Bytes::new(),
            joining: Some(reply),
            syncing: None,
            is_new: true,
        };
        self.insert(member, &request.protocol_type);
        ctx.timers.start(Timer::Session(id), ctx.now, ctx.config.new_member_join_timeout_ms);
        self.rebalance_or_complete(ctx);
    }

    /// Takes over what a member says of itself. A request it still had waiting is lost: its client has moved on.
    fn update(&mut self, id: &str, request: &JoinGroupRequest, reply: Reply<JoinGroupResponse>) {
        if let Some(member) = self.members.get_mut(id) {
            member.protocols = own_protocols(&request.protocols);
            member.rebalance_timeout_ms = rebalance_timeout_ms(request);
            member.session_timeout_ms = request.session_timeout_ms;
            member.joining = Some(reply);
        }
    }

    /// A static member comes back under a new id (KIP-345): it takes its old place, without a rebalance if it can.
    fn replace_static(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &JoinGroupRequest,
        old: &Arc<str>,
        new: Arc<str>,
        reply: Reply<JoinGroupResponse>,
    ) {
        let Some(mut member) = self.members.remove(old) else {
            return ctx.join_error(reply, "", ErrorCode::UnknownMemberId);
        };
        if let Some(reply) = member.joining.take() {
            ctx.join_error(reply, old, ErrorCode::FencedInstanceId);
        }
        if let Some(reply) = member.syncing.take() {
            ctx.sync_error(reply, ErrorCode::FencedInstanceId);
        }
        ctx.timers.cancel_member(old);
        let old_leader = self.leader.clone();
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), new.clone());
        }
        self.pending_syncs.remove(old);
        member.id = new.clone();
        member.client_id.clone_from(&client.id);
        member.client_host.clone_from(&client.host);
        let session_timeout_ms = request.session_timeout_ms;
        self.members.insert(new.clone(), member);
        self.update(&new, request, reply);
        ctx.timers.start(Timer::Session(new.clone()), ctx.now, session_timeout_ms);

        match self.state {
            State::Stable if self.select_protocol() == self.protocol_name => {
                self.persist_members(ctx);
                let mut response = self.joined(&new);
                if client.version >= SKIP_ASSIGNMENT_VERSION {
                    response.skip_assignment = self.is_leader(&new);
                } else {
                    // An older client must not believe that it leads: it would assign anew.
                    response.members.clear();
                    response.leader = text(old_leader.as_deref().unwrap_or_default());
                }
                self.answer_join(ctx, &new, response);
            }
            State::Stable => self.rebalance_or_complete(ctx),
            // The leader may be assigning to the old id at this moment.
            State::CompletingRebalance => self.prepare_rebalance(ctx),
            State::Empty | State::PreparingRebalance => self.complete_if_all_joined(ctx),
        }
    }
}

/// Version 0 has no rebalance timeout: the session's stands in.
fn rebalance_timeout_ms(request: &JoinGroupRequest) -> i32 {
    match request.rebalance_timeout_ms {
        timeout if timeout < 0 => request.session_timeout_ms,
        timeout => timeout,
    }
}
