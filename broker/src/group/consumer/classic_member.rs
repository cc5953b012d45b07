//! Members of a consumer group that still speak the classic protocol: a rolling upgrade is under way. JoinGroup,
//! SyncGroup and Heartbeat carry them through the same steps as the others.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse};
use krocket_protocol::ErrorCode;
use uuid::Uuid;

use super::heartbeat::{Base, Update};
use super::member::{Classic, Partitions};
use super::{ConsumerGroup, Member, MemberState, not_fenced, unknown_instance};
use crate::group::classic::CONSUMER;
use crate::group::context::{Client, Ctx, maybe_text, text};
use crate::group::embedded;
use crate::group::error::Refusal;
use crate::group::settings::MigrationPolicy;
use crate::group::timers::Timer;

/// What became of a classic member's JoinGroup.
pub(in crate::group) struct Joined {
    pub(in crate::group) response: JoinGroupResponse,
    /// The last member of the new protocol was replaced by this one: the group can be classic again.
    pub(in crate::group) downgrade: bool,
    /// The classic group has to rebalance: its assignment is out of date.
    pub(in crate::group) rebalance: bool,
}

impl ConsumerGroup {
    pub(in crate::group) fn join_classic(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &JoinGroupRequest,
    ) -> Result<Joined, Refusal> {
        if ctx.config.migration == MigrationPolicy::Disabled {
            return Err(ErrorCode::InconsistentGroupProtocol.into());
        }
        let unknown = request.member_id.is_empty();
        let id: Arc<str> = if unknown { Uuid::new_v4().to_string().into() } else { (*request.member_id).into() };
        let instance = request.group_instance_id.as_deref();
        self.check_room(&id, instance, ctx.config.consumer_max_size)?;
        let shared = |name: &str| {
            let mut classic = self.members.values().filter_map(|member| member.classic.as_ref());
            classic.all(|member| member.protocols.iter().any(|(other, _)| other == name))
        };
        if *request.protocol_type != *CONSUMER || !request.protocols.iter().any(|p| shared(&p.name)) {
            return Err(ErrorCode::InconsistentGroupProtocol.into());
        }
        if instance.is_none() && unknown && client.version >= 4 {
            let response = JoinGroupResponse::default()
                .with_error_code(ErrorCode::MemberIdRequired.code())
                .with_generation_id(-1)
                .with_member_id(text(&id));
            return Ok(Joined { response, downgrade: false, rebalance: false });
        }
        let base = self.classic_base(&id, instance, unknown)?;
        let metadata = request.protocols.first().map(|p| p.metadata.as_ref()).unwrap_or_default();
        let subscription = embedded::subscription(metadata).map_err(ErrorCode::from)?;
        let downgrade = matches!(&base, Base::Replaced(old) if self.is_last_of_the_new_protocol(old))
            && ctx.config.migration.downgrades()
            && self.members.len() <= ctx.config.max_size;

        let mut member = base.member(&id);
        member.instance_id = instance.map(Arc::from).or(member.instance_id);
        member.rack_id = subscription.rack.filter(|rack| !rack.is_empty()).or(member.rack_id);
        member.rebalance_timeout_ms = match request.rebalance_timeout_ms {
            timeout if timeout < 0 => request.session_timeout_ms,
            timeout => timeout,
        };
        member.topics = subscription.topics.into_iter().collect();
        member.regex = None;
        member.client_id.clone_from(&client.id);
        member.client_host.clone_from(&client.host);
        let own = |p: &kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol| {
            (p.name.to_string(), Bytes::copy_from_slice(&p.metadata))
        };
        member.classic = Some(Classic {
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols.iter().map(own).collect(),
        });
        let owned: Partitions = subscription
            .owned
            .into_iter()
            .filter_map(|(topic, partitions)| Some((ctx.topics.id(&topic)?, partitions.into_iter().collect())))
            .collect();
        if matches!(base, Base::New) {
            tracing::info!(group = %ctx.group, member = %id, instance, "joins a consumer group with the classic protocol");
        }
        // Who joins takes up no assignment of before.
        member.untaken.clear();
        let epoch = self.epoch;
        self.admit(ctx, Update { base, member, owned: Some(owned), unsure: false });

        ctx.timers.cancel(&Timer::MemberJoin(id.clone()));
        ctx.timers.start(Timer::Session(id.clone()), ctx.now, request.session_timeout_ms);
        let member = self.member(&id)?;
        ctx.timers.start(Timer::MemberSync(id.clone()), ctx.now, member.rebalance_timeout_ms);
        let response = JoinGroupResponse::default()
            .with_member_id(text(&id))
            .with_generation_id(member.epoch)
            .with_protocol_type(Some(text(CONSUMER)))
            .with_protocol_name(maybe_text(member.classic_protocol().map(|(name, _)| name.as_str())));
        Ok(Joined { response, downgrade, rebalance: self.epoch != epoch })
    }

    fn classic_base(&self, id: &Arc<str>, instance: Option<&str>, unknown: bool) -> Result<Base, Refusal> {
        let known = |member: Option<&Member>| member.map_or(Base::New, |member| Base::Same(member.clone()));
        let Some(instance) = instance else { return Ok(known(self.members.get(id))) };
        match self.static_member(instance) {
            None if unknown => Ok(Base::New),
            None => Err(unknown_instance(instance)),
            Some(member) if unknown => Ok(Base::Replaced(member.clone())),
            Some(member) => {
                not_fenced(member, id, instance)?;
                Ok(Base::Same(member.clone()))
            }
        }
    }

    fn is_last_of_the_new_protocol(&self, last: &Member) -> bool {
        last.classic.is_none() && self.members.values().all(|member| member.classic.is_some() || member.id == last.id)
    }

    fn classic_member(&self, id: &str, instance: Option<&str>, generation: i32) -> Result<&Member, Refusal> {
        let member = self.validate_member(id, instance)?;
        if member.classic.is_none() {
            return Err(ErrorCode::UnknownMemberId.into());
        }
        if member.epoch != generation {
            return Err(ErrorCode::IllegalGeneration.into());
        }
        Ok(member)
    }

    pub(in crate::group) fn sync_classic(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &SyncGroupRequest,
    ) -> Result<SyncGroupResponse, Refusal> {
        let instance = request.group_instance_id.as_deref();
        let member = self.classic_member(&request.member_id, instance, request.generation_id)?;
        let protocol = member.classic_protocol();
        let differs = |asked: Option<&str>, ours: Option<&str>| asked.is_some() && asked != ours;
        if differs(request.protocol_type.as_deref(), Some(CONSUMER))
            || differs(request.protocol_name.as_deref(), protocol.map(|(name, _)| name.as_str()))
        {
            return Err(ErrorCode::InconsistentGroupProtocol.into());
        }
        // A member that has partitions to give up has joined already; it learns of the next round after that.
        if self.assignment_epoch > member.epoch && member.state != MemberState::Unrevoked {
            let timer = Timer::MemberJoin(member.id.clone());
            ctx.timers.start_if_absent(timer, ctx.now, member.rebalance_timeout_ms);
            return Err(ErrorCode::RebalanceInProgress.into());
        }
        ctx.timers.cancel(&Timer::MemberSync(member.id.clone()));
        start_session(ctx, member);
        let version = protocol.and_then(|(_, metadata)| embedded::version(metadata).ok()).unwrap_or(0);
        let named = |(topic, partitions): (&Uuid, &std::collections::BTreeMap<i32, i32>)| {
            Some((ctx.topics.name(*topic)?, partitions.keys().copied().collect()))
        };
        let assignment = member.assigned.iter().filter_map(named).collect();
        Ok(SyncGroupResponse::default()
            .with_protocol_type(request.protocol_type.clone())
            .with_protocol_name(request.protocol_name.clone())
            .with_assignment(embedded::encode_assignment(version, &assignment)))
    }

    pub(in crate::group) fn heartbeat_classic(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), Refusal> {
        let member = self.classic_member(id, instance, generation)?;
        start_session(ctx, member);
        let rejoin = member.epoch < self.assignment_epoch
            || member.state == MemberState::Unrevoked
            || (member.state == MemberState::Unreleased && !self.waits_for_others(member));
        if !rejoin {
            return Ok(());
        }
        ctx.timers.start_if_absent(Timer::MemberJoin(member.id.clone()), ctx.now, member.rebalance_timeout_ms);
        Err(ErrorCode::RebalanceInProgress.into())
    }

    /// True while a partition it shall have is held by somebody else.
    fn waits_for_others(&self, member: &Member) -> bool {
        let has = |topic, partition| member.assigned.get(topic).is_some_and(|set| set.contains_key(partition));
        member.target.iter().any(|(topic, partitions)| {
            partitions.iter().any(|p| !has(topic, p) && self.held_by_other(&member.id, *topic, *p))
        })
    }
}

fn start_session(ctx: &mut Ctx<'_>, member: &Member) {
    if let Some(classic) = &member.classic {
        ctx.timers.start(Timer::Session(member.id.clone()), ctx.now, classic.session_timeout_ms);
    }
}
