//! SyncGroup.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use krocket_protocol::ErrorCode;

use super::{ClassicGroup, State};
use crate::group::context::{Answer, Ctx, Reply, maybe_text};
use crate::group::timers::Timer;

impl ClassicGroup {
    pub(in crate::group) fn sync(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &SyncGroupRequest,
        reply: Reply<SyncGroupResponse>,
    ) {
        if let Err(code) = self.validate_sync(request) {
            return ctx.sync_error(reply, code);
        }
        let id = &*request.member_id;
        match self.state {
            State::Empty => ctx.sync_error(reply, ErrorCode::UnknownMemberId),
            State::PreparingRebalance => ctx.sync_error(reply, ErrorCode::RebalanceInProgress),
            State::CompletingRebalance => {
                if let Some(member) = self.members.get_mut(id) {
                    member.syncing = Some(reply);
                }
                self.synced(ctx, id);
                if self.is_leader(id) {
                    self.assign(ctx, request);
                }
            }
            State::Stable => {
                self.synced(ctx, id);
                let response = self.assigned(id);
                ctx.answers.push(Answer::Sync(reply, response));
            }
        }
    }

    fn validate_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        let differs = |asked: &Option<krocket_protocol::StrBytes>, ours: &Option<String>| match (asked, ours) {
            (Some(asked), Some(ours)) => **asked != **ours,
            _ => false,
        };
        self.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            Err(ErrorCode::IllegalGeneration)
        } else if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol_name)
        {
            Err(ErrorCode::InconsistentGroupProtocol)
        } else {
            Ok(())
        }
    }

    fn synced(&mut self, ctx: &mut Ctx<'_>, id: &str) {
        self.pending_syncs.remove(id);
        if self.pending_syncs.is_empty() {
            ctx.timers.cancel(&Timer::GroupSync);
        }
    }

    /// The leader has decided. Members it left out get an empty assignment.
    fn assign(&mut self, ctx: &mut Ctx<'_>, request: &SyncGroupRequest) {
        let mut assignments: HashMap<&str, &Bytes> =
            request.assignments.iter().map(|a| (&*a.member_id, &a.assignment)).collect();
        for (id, member) in &mut self.members {
            member.assignment =
                assignments.remove(&**id).map(|bytes| Bytes::copy_from_slice(bytes)).unwrap_or_default();
        }
        self.transition(ctx, State::Stable);
        self.persist(ctx, true);
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let response = self.assigned(&id);
            if let Some(member) = self.members.get_mut(&id)
                && let Some(reply) = member.syncing.take()
            {
                // A session that ran out while it waited here was not counted: it starts anew.
                ctx.timers.start(Timer::Session(id), ctx.now, member.session_timeout_ms);
                ctx.answers.push(Answer::Sync(reply, response));
            }
        }
    }

    fn assigned(&self, id: &str) -> SyncGroupResponse {
        SyncGroupResponse::default()
            .with_protocol_type(maybe_text(self.protocol_type.as_deref()))
            .with_protocol_name(maybe_text(self.protocol_name.as_deref()))
            .with_assignment(self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default())
    }
}
