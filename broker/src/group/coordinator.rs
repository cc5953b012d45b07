//! All groups, and what clients may ask of them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use dashmap::DashMap;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use krocket_protocol::ErrorCode;
use tokio::sync::oneshot;

use super::commit::Commit;
use super::consumer::assign::Assignor;
use super::context::{Client, Ctx, text};
use super::error::Refusal;
use super::handle::{Durable, Env, Group, borrow};
use super::journal::{Journal, JournalError};
use super::metrics::METRICS;
use super::offsets::{Offset, OffsetChange};
use super::persist;
use super::settings::GroupSettings;
use super::share::ShareState;
use super::state::GroupState;
use super::topics::TopicImage;
use crate::log::tables::{GROUPS, OFFSETS};

/// All groups of this broker.
pub struct Coordinator {
    groups: DashMap<String, Arc<Group>>,
    env: Arc<Env>,
    pub(super) share_state: OnceLock<Arc<dyn ShareState>>,
}

/// The longest group, member or instance id, in bytes: they are parts of keys in the log.
pub(super) const MAX_ID: usize = 16 * 1024;

/// Committed offsets by topic, then partition.
pub type CommittedOffsets = Vec<(String, Vec<(i32, Option<Offset>)>)>;

impl Coordinator {
    /// Loads every group from the log; members get a whole session to be heard of again. Must be called on a Tokio
    /// runtime: timers run there.
    pub fn open(
        journal: Arc<dyn Journal>,
        topics: Arc<dyn TopicImage>,
        settings: impl Fn(&str) -> GroupSettings + Send + Sync + 'static,
    ) -> Result<Arc<Self>, JournalError> {
        let rows = journal.scan(GROUPS, &[])?;
        let offsets = journal.scan(OFFSETS, &[])?;
        let env = Arc::new(Env { journal, topics, settings: Box::new(settings) });
        let coordinator = Arc::new(Coordinator { groups: DashMap::new(), env, share_state: OnceLock::new() });

        type Rows<'a> = Vec<(&'a [u8], &'a [u8])>;
        let mut by_group: HashMap<&str, (Rows<'_>, Rows<'_>)> = HashMap::new();
        for (key, value) in borrow(&rows) {
            match persist::split_key(key) {
                Some((group, rest)) => by_group.entry(group).or_default().0.push((rest, value)),
                None => tracing::error!("unreadable key of a group: left out"),
            }
        }
        for (key, value) in borrow(&offsets) {
            match persist::split_key(key) {
                Some((group, rest)) => by_group.entry(group).or_default().1.push((rest, value)),
                None => tracing::error!("unreadable key of a committed offset: left out"),
            }
        }
        for (id, (rows, offsets)) in by_group {
            let group = Group::new(id, coordinator.env.clone());
            group.restore(&rows, &offsets);
            coordinator.groups.insert(id.to_owned(), group);
        }
        METRICS.groups.set(coordinator.groups.len() as i64);
        tracing::info!(groups = coordinator.groups.len(), "groups loaded");
        Ok(coordinator)
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Group>> {
        self.groups.get(id).map(|group| group.clone())
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.groups.iter().map(|entry| entry.key().clone()).collect()
    }

    pub(super) fn settings(&self, group: &str) -> GroupSettings {
        (self.env.settings)(group)
    }

    pub(super) fn topics(&self) -> &dyn TopicImage {
        &*self.env.topics
    }

    /// One step of a group, which comes into being if it has to.
    pub(super) fn run<R>(&self, id: &str, step: impl FnOnce(&mut GroupState, &mut Ctx<'_>) -> R) -> (R, Durable) {
        let mut step = Some(step);
        loop {
            let group = self.find(id).unwrap_or_else(|| {
                METRICS.groups.inc();
                self.groups.entry(id.to_owned()).or_insert_with(|| Group::new(id, self.env.clone())).clone()
            });
            let ran = group.run(|state, ctx| step.take().map(|step| step(state, ctx)));
            match ran {
                Some((Some(result), durable)) => return (result, durable),
                // It is being taken out at this moment.
                _ => self.groups.remove_if(id, |_, found| Arc::ptr_eq(found, &group)),
            };
        }
    }

    /// One step of a group that is there.
    pub(super) fn run_existing<R>(
        &self,
        id: &str,
        step: impl FnOnce(&mut GroupState, &mut Ctx<'_>) -> R,
    ) -> Option<(R, Durable)> {
        let group = self.find(id)?;
        if !group.read(GroupState::exists) {
            return None;
        }
        group.run(step)
    }

    /// JoinGroup. Waits until the generation begins.
    pub async fn join_group(&self, client: Client, request: JoinGroupRequest) -> JoinGroupResponse {
        let refuse = |code: ErrorCode| {
            JoinGroupResponse::default()
                .with_error_code(code.code())
                .with_generation_id(-1)
                .with_member_id(request.member_id.clone())
        };
        let settings = self.settings(&request.group_id);
        if let Err(code) = check_group_id(&request.group_id) {
            return refuse(code);
        }
        if request.member_id.len().max(request.group_instance_id.as_deref().map_or(0, str::len)) > MAX_ID {
            return refuse(ErrorCode::InvalidRequest);
        }
        if !(settings.min_session_timeout_ms..=settings.max_session_timeout_ms).contains(&request.session_timeout_ms) {
            return refuse(ErrorCode::InvalidSessionTimeout);
        }
        let (reply, answer) = oneshot::channel();
        let ((), durable) = self.run(&request.group_id, |state, ctx| state.join(ctx, &client, &request, reply));
        drop(durable);
        answer.await.unwrap_or_else(|_| refuse(ErrorCode::CoordinatorNotAvailable))
    }

    /// SyncGroup. A follower waits for its leader.
    pub async fn sync_group(&self, request: SyncGroupRequest) -> SyncGroupResponse {
        let refuse = |code: ErrorCode| SyncGroupResponse::default().with_error_code(code.code());
        if let Err(code) = check_group_id(&request.group_id) {
            return refuse(code);
        }
        let (reply, answer) = oneshot::channel();
        match self.run_existing(&request.group_id, |state, ctx| state.sync(ctx, &request, reply)) {
            None => refuse(ErrorCode::UnknownMemberId),
            Some(_) => answer.await.unwrap_or_else(|_| refuse(ErrorCode::CoordinatorNotAvailable)),
        }
    }

    /// Heartbeat.
    pub async fn heartbeat(&self, request: HeartbeatRequest) -> Result<(), ErrorCode> {
        check_group_id(&request.group_id)?;
        let instance = request.group_instance_id.as_deref();
        let ran = self.run_existing(&request.group_id, |state, ctx| {
            state.heartbeat(ctx, &request.member_id, instance, request.generation_id)
        });
        let (result, durable) = ran.ok_or(ErrorCode::UnknownMemberId)?;
        durable.wait().await?;
        result
    }

    /// LeaveGroup: one result per member, in order.
    pub async fn leave_group(
        &self,
        group: &str,
        members: &[MemberIdentity],
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        check_group_id(group)?;
        match self.run_existing(group, |state, ctx| state.leave(ctx, members)) {
            None => Ok(vec![Err(ErrorCode::UnknownMemberId); members.len()]),
            Some((results, durable)) => {
                durable.wait().await?;
                Ok(results)
            }
        }
    }

    /// ConsumerGroupHeartbeat.
    pub async fn consumer_group_heartbeat(
        &self,
        client: Client,
        request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let refuse = |refusal: Refusal| {
            ConsumerGroupHeartbeatResponse::default()
                .with_error_code(refusal.code.code())
                .with_error_message(Some(text(&refusal.message)))
        };
        if let Err(refusal) = check_heartbeat(&request, client.version, &self.settings(&request.group_id)) {
            return refuse(refusal);
        }
        // Only a member that joins brings its group into being.
        let ran = if request.member_epoch == 0 {
            Some(self.run(&request.group_id, |state, ctx| state.consumer_heartbeat(ctx, &client, &request)))
        } else {
            self.run_existing(&request.group_id, |state, ctx| state.consumer_heartbeat(ctx, &client, &request))
        };
        let Some((result, durable)) = ran else {
            let message = format!("Group {} not found.", &*request.group_id);
            return refuse(Refusal::new(ErrorCode::GroupIdNotFound, message));
        };
        match durable.wait().await.map_err(Refusal::from).and(result) {
            Ok(response) => response,
            Err(refusal) => refuse(refusal),
        }
    }

    /// OffsetCommit: one result per partition, in order, once the offsets are durable.
    pub async fn commit_offsets(&self, group: &str, commit: Commit) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        // The empty id is allowed here, as it always was.
        if group.len() > MAX_ID {
            return Err(ErrorCode::InvalidGroupId);
        }
        if commit.epoch >= 0 && self.find(group).is_none() {
            // Not worth a group: let the rule for groups that don't exist decide.
            let code = if commit.version >= 9 { ErrorCode::GroupIdNotFound } else { ErrorCode::IllegalGeneration };
            return Err(code);
        }
        let (member, epoch) = (commit.member_id.clone(), commit.epoch);
        let (result, durable) = self.run(group, |state, ctx| state.commit(ctx, commit));
        let results =
            result.inspect_err(|code| tracing::debug!(group, member, epoch, ?code, "offset commit refused"))?;
        durable.wait().await?;
        Ok(results)
    }

    /// TxnOffsetCommit: checks as for a commit, and gives what is to be committed with the transaction.
    pub(crate) async fn stage_offsets(
        &self,
        group: &str,
        commit: Commit,
    ) -> Result<(Vec<Result<(), ErrorCode>>, Vec<OffsetChange>), ErrorCode> {
        check_group_id(group)?;
        if commit.epoch >= 0 && self.find(group).is_none() {
            return Err(ErrorCode::IllegalGeneration);
        }
        let (staged, durable) = self.run(group, |state, ctx| {
            let results = state.commit(ctx, commit)?;
            Ok((results, std::mem::take(&mut ctx.offsets)))
        });
        durable.wait().await?;
        staged
    }

    /// Shows offsets that a transaction has just committed: they are in the log already.
    pub(crate) fn adopt_offsets(&self, group: &str, changes: Vec<OffsetChange>) {
        let ((), _) = self.run(group, |state, _| changes.into_iter().for_each(|change| state.offsets.apply(change)));
    }

    /// OffsetFetch of these partitions, or of all that the group has. An offset that isn't there is None.
    pub fn fetch_offsets(
        &self,
        group: &str,
        member: Option<&str>,
        epoch: i32,
        wanted: Option<Vec<(String, Vec<i32>)>>,
    ) -> Result<CommittedOffsets, ErrorCode> {
        let found = self.find(group);
        let fetch = |state: Option<&GroupState>| match wanted {
            Some(topics) => {
                let get = |topic: &str, partition| state.and_then(|s| s.offsets.get(topic, partition)).cloned();
                let topic = |(topic, partitions): (String, Vec<i32>)| {
                    let offsets = partitions.into_iter().map(|p| (p, get(&topic, p))).collect();
                    (topic, offsets)
                };
                topics.into_iter().map(topic).collect()
            }
            None => {
                let topic = |(topic, offsets): (&str, &std::collections::BTreeMap<i32, Offset>)| {
                    (topic.to_owned(), offsets.iter().map(|(p, offset)| (*p, Some(offset.clone()))).collect())
                };
                state.into_iter().flat_map(|state| state.offsets.iter().map(topic)).collect()
            }
        };
        match found {
            None => Ok(fetch(None)),
            Some(group) => group.read(|state| {
                state.validate_fetch(member, epoch)?;
                Ok(fetch(Some(state)))
            }),
        }
    }

    /// OffsetDelete: one result per partition, in order.
    pub async fn delete_offsets(
        &self,
        group: &str,
        partitions: &[(String, i32)],
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        let ran = self.run_existing(group, |state, ctx| state.delete_offsets(ctx, partitions));
        let (result, durable) = ran.ok_or(ErrorCode::GroupIdNotFound)?;
        let results = result?;
        durable.wait().await?;
        Ok(results)
    }

    /// DeleteGroups, one group.
    pub async fn delete_group(&self, group: &str) -> Result<(), ErrorCode> {
        self.delete_share_state(group).await?;
        let ran = self.run_existing(group, |state, ctx| state.delete(ctx));
        let (result, durable) = ran.ok_or(ErrorCode::GroupIdNotFound)?;
        result?;
        durable.wait().await
    }

    /// Removes offsets that have expired and groups of which nothing is left.
    pub fn expire(&self) {
        for id in self.ids() {
            if let Some(group) = self.find(&id) {
                group.run(|state, ctx| state.expire(ctx));
                self.groups.remove_if(&id, |_, group| group.retire());
            }
        }
        METRICS.groups.set(self.groups.len() as i64);
    }

    /// Removes every group's offsets of a topic that is gone, and comes back when that is durable.
    pub async fn forget_topic(&self, topic: &str) {
        for id in self.ids() {
            let ran = self.find(&id).and_then(|group| group.run(|state, ctx| state.forget_topic(ctx, topic)));
            if let Some(((), durable)) = ran
                && let Err(code) = durable.wait().await
            {
                tracing::error!(group = id, topic, ?code, "the offsets of a deleted topic are still there");
            }
        }
    }
}

pub(super) fn check_group_id(id: &str) -> Result<(), ErrorCode> {
    if id.is_empty() || id.len() > MAX_ID { Err(ErrorCode::InvalidGroupId) } else { Ok(()) }
}

/// What is wrong with a heartbeat whatever the group (Kafka's `throwIfConsumerGroupHeartbeatRequestIsInvalid`).
fn check_heartbeat(
    request: &ConsumerGroupHeartbeatRequest,
    version: i16,
    settings: &GroupSettings,
) -> Result<(), Refusal> {
    if !settings.consumer_groups {
        return Err(ErrorCode::UnsupportedVersion.into());
    }
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let blank = |value: &str| value.trim().is_empty();
    let epoch = request.member_epoch;
    // From version 1 on clients choose their ids themselves (KIP-1082).
    if (version >= 1 || epoch > 0 || epoch == -1) && blank(&request.member_id) {
        return invalid("MemberId can't be empty.");
    }
    if blank(&request.group_id) {
        return invalid("GroupId can't be empty.");
    }
    let longest = request.instance_id.as_deref().map_or(0, str::len);
    if longest.max(request.member_id.len()).max(request.group_id.len()) > MAX_ID {
        return invalid("GroupId, MemberId or InstanceId is too long.");
    }
    if request.instance_id.as_deref().is_some_and(blank) {
        return invalid("InstanceId can't be empty.");
    }
    if request.rack_id.as_deref().is_some_and(blank) {
        return invalid("RackId can't be empty.");
    }
    if epoch == 0 {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
    } else if epoch == -2 && request.instance_id.is_none() {
        return invalid("InstanceId can't be null.");
    } else if epoch < -2 {
        return invalid("MemberEpoch is invalid.");
    }
    match request.server_assignor.as_deref() {
        Some(name) if Assignor::by_name(name).is_none_or(|known| !settings.assignors.contains(&known)) => {
            let supported: Vec<_> = settings.assignors.iter().map(|assignor| assignor.name()).collect();
            let message =
                format!("ServerAssignor {name} is not supported. Supported assignors: {}.", supported.join(", "));
            Err(Refusal::new(ErrorCode::UnsupportedAssignor, message))
        }
        _ => Ok(()),
    }
}
