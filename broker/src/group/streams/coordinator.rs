//! What clients ask of streams groups.

use krocket_protocol::ErrorCode;
use krocket_protocol::streams_group_heartbeat::{
    StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse, TopicInfo,
};

use super::member::LEFT_STATIC;
use super::topology::topic_info;
use super::{Beaten, StreamsGroup};
use crate::group::context::{Client, text};
use crate::group::coordinator::{Coordinator, MAX_ID};
use crate::group::error::Refusal;
use crate::group::state::Kind;

/// Topics that an application needs and that are not there.
pub type MissingTopics = Vec<TopicInfo>;

impl Coordinator {
    /// StreamsGroupHeartbeat: the answer, and the topics that have to be made for the group.
    pub async fn streams_group_heartbeat(
        &self,
        client: Client,
        request: StreamsGroupHeartbeatRequest,
    ) -> (StreamsGroupHeartbeatResponse, MissingTopics) {
        match self.streams_beat(client, &request).await {
            Ok(Beaten { response, missing }) => {
                (response, missing.iter().map(|(name, topic)| topic_info(name, topic)).collect())
            }
            Err(refusal) => {
                let response = StreamsGroupHeartbeatResponse {
                    error_code: refusal.code.code(),
                    error_message: Some(text(&refusal.message)),
                    ..StreamsGroupHeartbeatResponse::default()
                };
                (response, MissingTopics::new())
            }
        }
    }

    async fn streams_beat(&self, client: Client, request: &StreamsGroupHeartbeatRequest) -> Result<Beaten, Refusal> {
        if !self.settings(&request.group_id).streams_groups {
            return Err(ErrorCode::UnsupportedVersion.into());
        }
        check(request)?;
        // Only a member that joins brings its group into being.
        let ran = if request.member_epoch == 0 {
            Some(self.run(&request.group_id, |state, ctx| state.streams_heartbeat(ctx, &client, request)))
        } else {
            self.run_existing(&request.group_id, |state, ctx| state.streams_heartbeat(ctx, &client, request))
        };
        let Some((result, durable)) = ran else {
            let message = format!("Group {} not found.", &*request.group_id);
            return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
        };
        durable.wait().await?;
        result
    }

    /// Reads a streams group; an error for a group that is none.
    pub(super) fn read_streams<R>(&self, id: &str, read: impl FnOnce(&StreamsGroup) -> R) -> Result<R, Refusal> {
        let found = self.find(id);
        let found = found.as_ref().ok_or(false).and_then(|group| {
            group.read(|state| match &state.kind {
                Kind::Streams(group) => Ok(read(group)),
                Kind::Classic(_) | Kind::Consumer(_) | Kind::Share(_) => Err(state.exists()),
            })
        });
        found.map_err(|exists| {
            let what = if exists { "is not a streams group" } else { "not found" };
            Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {id} {what}."))
        })
    }
}

/// What is wrong with a heartbeat whatever the group (Kafka's `throwIfStreamsGroupHeartbeatRequestIsInvalid`).
fn check(request: &StreamsGroupHeartbeatRequest) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let blank = |value: &str| value.trim().is_empty();
    if blank(&request.member_id) {
        return invalid("MemberId can't be empty.");
    }
    if blank(&request.group_id) {
        return invalid("GroupId can't be empty.");
    }
    if request.instance_id.as_deref().is_some_and(blank) {
        return invalid("InstanceId can't be empty.");
    }
    if request.rack_id.as_deref().is_some_and(blank) {
        return invalid("RackId can't be empty.");
    }
    let instance = request.instance_id.as_deref().map_or(0, str::len);
    if request.member_id.len().max(request.group_id.len()).max(instance) > MAX_ID {
        return invalid("GroupId, MemberId or InstanceId is too long.");
    }
    let lists = [&request.active_tasks, &request.standby_tasks, &request.warmup_tasks];
    match request.member_epoch {
        0 => {
            if request.rebalance_timeout_ms == -1 {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            let names = ["ActiveTasks", "StandbyTasks", "WarmupTasks"];
            if let Some((name, _)) =
                names.iter().zip(lists).find(|(_, tasks)| tasks.as_ref().is_some_and(|tasks| !tasks.is_empty()))
            {
                return invalid(&format!("{name} must be empty when (re-)joining."));
            }
            if request.topology.is_none() {
                return invalid("Topology must be non-null when (re-)joining.");
            }
        }
        LEFT_STATIC if request.instance_id.is_none() => return invalid("InstanceId can't be null."),
        epoch if epoch < LEFT_STATIC => {
            return invalid(&format!("MemberEpoch is {epoch}, but must be greater than or equal to -2."));
        }
        _ if request.topology.is_some() => return invalid("Topology can only be provided when (re-)joining."),
        _ => {}
    }
    if lists.iter().any(|tasks| tasks.is_some()) && lists.iter().any(|tasks| tasks.is_none()) {
        return invalid("If one task-type is non-null, all must be non-null.");
    }
    Ok(())
}
