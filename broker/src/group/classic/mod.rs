//! The classic protocol: clients elect a leader, and the leader assigns. Kafka's `ClassicGroup`.

mod join;
mod members;
mod rebalance;
#[cfg(test)]
mod static_tests;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use krocket_protocol::ErrorCode;

use super::context::{Answer, Ctx, Reply, maybe_text, text};
use super::embedded;

/// The protocol type of consumers, whose metadata the broker understands.
pub(super) const CONSUMER: &str = "consumer";

/// Where a group stands. Kafka's Dead has no counterpart: a group that is gone is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// A protocol that a member speaks, with its metadata: opaque, unless the protocol type is `consumer`.
pub(super) type Protocol = (String, Bytes);

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: Arc<str>,
    pub(super) instance_id: Option<Arc<str>>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// It waits for the generation to begin.
    pub(super) joining: Option<Reply<JoinGroupResponse>>,
    /// It waits for its assignment.
    pub(super) syncing: Option<Reply<SyncGroupResponse>>,
    /// It has not yet heard its member id.
    pub(super) is_new: bool,
}

impl Member {
    pub(super) fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, metadata)| metadata)
    }

    fn speaks(&self, protocol: &str) -> bool {
        self.metadata(protocol).is_some()
    }

    /// A member that waits for its group need not heartbeat. A new one is watched all the same: nobody else would
    /// notice that its client has gone.
    fn has_satisfied_heartbeat(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }
}

#[derive(Debug, Default)]
pub(super) struct ClassicGroup {
    pub(super) state: State,
    previous: State,
    /// Epoch ms of the last change of state; the retention of an empty group's offsets starts here.
    pub(super) state_since_ms: i64,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol_name: Option<String>,
    pub(super) leader: Option<Arc<str>>,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    static_members: HashMap<Arc<str>, Arc<str>>,
    /// Ids handed out with MEMBER_ID_REQUIRED that have not come back yet.
    pending_joins: BTreeSet<Arc<str>>,
    pending_syncs: BTreeSet<Arc<str>>,
    /// Somebody joined during the initial delay.
    new_member_added: bool,
    /// What is left of the initial delay's extensions, ms.
    initial_delay_left_ms: i32,
    /// Topics of a consumer group's members, once a generation began.
    subscribed: Option<BTreeSet<String>>,
    /// The members that have rows in the log.
    pub(super) rows: BTreeSet<Arc<str>>,
}

impl ClassicGroup {
    /// A group without members that continues another's numbers: generations never go back.
    pub(super) fn empty(generation: i32, now_ms: i64) -> Self {
        ClassicGroup { generation, state_since_ms: now_ms, ..ClassicGroup::default() }
    }

    /// A group as it was written. `settled` is false when its last generation began but got no assignment.
    pub(super) fn restored(
        generation: i32,
        protocol_type: Option<String>,
        protocol_name: Option<String>,
        leader: Option<Arc<str>>,
        members: Vec<Member>,
        state_since_ms: i64,
        settled: bool,
    ) -> Self {
        let state = match (members.is_empty(), settled) {
            (true, _) => State::Empty,
            (false, true) => State::Stable,
            (false, false) => State::PreparingRebalance,
        };
        let mut group = ClassicGroup {
            state,
            previous: State::Stable,
            state_since_ms,
            generation,
            protocol_type,
            protocol_name,
            leader,
            ..ClassicGroup::default()
        };
        for member in members {
            if let Some(instance) = &member.instance_id {
                group.static_members.insert(instance.clone(), member.id.clone());
            }
            group.members.insert(member.id.clone(), member);
        }
        group.subscribed = group.compute_subscribed();
        group
    }

    /// Chooses the protocol of members that came from elsewhere.
    pub(super) fn settle_protocol(&mut self) {
        self.protocol_name = self.select_protocol();
        self.subscribed = self.compute_subscribed();
    }

    /// False for a group that was never joined: it exists only as long as it has offsets.
    pub(super) fn is_known(&self) -> bool {
        self.protocol_type.is_some() || !self.pending_joins.is_empty()
    }

    pub(super) fn has_pending_joins(&self) -> bool {
        !self.pending_joins.is_empty()
    }

    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    pub(super) fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    /// True when a member reads the topic; also for consumers whose topics cannot be told.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    /// True when the topics of its consumers are known.
    pub(super) fn knows_subscriptions(&self) -> bool {
        self.subscribed.is_some()
    }

    fn validate_member(&self, member: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(owner) if &**owner != member => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// True when a member of this type and these protocols fits in.
    fn supports(&self, protocol_type: &str, protocols: &[JoinGroupRequestProtocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.members.values().all(|member| member.speaks(&protocol.name)))
    }

    /// The protocol that all speak and most put first. None without members.
    pub(super) fn select_protocol(&self) -> Option<String> {
        // What all speak, the first does: looked for once, for a group may have thousands of members.
        let first = self.members.values().next()?;
        let names = first.protocols.iter().map(|(name, _)| name);
        let common: Vec<&String> =
            names.filter(|name| self.members.values().all(|member| member.speaks(name))).collect();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common.contains(&name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned())
    }

    fn has_all_joined(&self) -> bool {
        self.pending_joins.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    /// The longest that any member asks for.
    pub(super) fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    fn transition(&mut self, ctx: &Ctx<'_>, state: State) {
        self.previous = std::mem::replace(&mut self.state, state);
        self.state_since_ms = ctx.now_ms;
    }

    fn insert(&mut self, member: Member, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), member.id.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.pending_joins.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    fn remove(&mut self, id: &str) {
        if let Some(Member { instance_id: Some(instance), .. }) = self.members.remove(id) {
            self.static_members.remove(&instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_joins.remove(id);
        self.pending_syncs.remove(id);
    }

    /// The topics that the members' consumer protocol names; None where that cannot be told.
    fn compute_subscribed(&self) -> Option<BTreeSet<String>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        let Some(protocol) = &self.protocol_name else {
            return self.members.is_empty().then(BTreeSet::new);
        };
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(embedded::subscription(member.metadata(protocol)?).ok()?.topics);
        }
        Some(topics)
    }

    /// What the leader hears of the members.
    fn members_for_leader(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let member = |member: &Member| {
            JoinGroupResponseMember::default()
                .with_member_id(text(&member.id))
                .with_group_instance_id(maybe_text(member.instance_id.as_deref()))
                .with_metadata(member.metadata(protocol).cloned().unwrap_or_default())
        };
        self.members.values().map(member).collect()
    }

    /// The answer to a member that has joined the current generation.
    fn joined(&self, member: &str) -> JoinGroupResponse {
        let members = if self.is_leader(member) { self.members_for_leader() } else { Vec::new() };
        JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(maybe_text(self.protocol_type.as_deref()))
            .with_protocol_name(maybe_text(self.protocol_name.as_deref()))
            .with_leader(text(self.leader.as_deref().unwrap_or_default()))
            .with_member_id(text(member))
            .with_members(members)
    }

    /// Tells everybody who waits that the group goes on in another way.
    pub(super) fn answer_all(&mut self, ctx: &mut Ctx<'_>, code: ErrorCode) {
        for member in self.members.values_mut() {
            if let Some(reply) = member.joining.take() {
                ctx.join_error(reply, &member.id, code);
            }
            if let Some(reply) = member.syncing.take() {
                ctx.sync_error(reply, code);
            }
        }
    }

    fn answer_join(&mut self, ctx: &mut Ctx<'_>, id: &str, response: JoinGroupResponse) {
        if let Some(reply) = self.members.get_mut(id).and_then(|member| member.joining.take()) {
            ctx.answers.push(Answer::Join(reply, response));
        }
    }

    /// True when a new rebalance can begin: the last one is past waiting for joins.
    fn can_rebalance(&self) -> bool {
        self.state != State::PreparingRebalance
    }
}

/// Copies what a member sends: a slice would keep its whole request alive.
fn own_protocols(protocols: &[JoinGroupRequestProtocol]) -> Vec<Protocol> {
    protocols.iter().map(|p| (p.name.to_string(), Bytes::copy_from_slice(&p.metadata))).collect()
}

fn same_protocols(member: &Member, protocols: &[JoinGroupRequestProtocol]) -> bool {
    member.protocols.len() == protocols.len()
        && member
            .protocols
            .iter()
            .zip(protocols)
            .all(|((name, metadata), p)| *p.name == **name && p.metadata == *metadata)
}
