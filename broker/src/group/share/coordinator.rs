//! What clients and the share partitions ask of share groups.

use std::sync::Arc;

use kafka_protocol::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};
use krocket_protocol::ErrorCode;
use uuid::Uuid;

use super::{ShareGroup, ShareState};
use crate::group::context::{Client, text};
use crate::group::coordinator::{Coordinator, MAX_ID};
use crate::group::error::Refusal;
use crate::group::state::Kind;

impl Coordinator {
    /// Says where the share partitions are, once. Groups that were there before are told of at once.
    pub fn set_share_state(&self, state: Arc<dyn ShareState>) {
        if self.share_state.set(state.clone()).is_err() {
            tracing::error!("the share partitions were set twice: the second is left out");
            return;
        }
        for id in self.ids() {
            let topics = self.share_subscribed(&id);
            if !topics.is_empty() {
                state.subscribed(&id, &topics);
            }
        }
    }

    pub(super) fn share_state(&self) -> Result<&dyn ShareState, ErrorCode> {
        self.share_state.get().map(|state| &**state).ok_or(ErrorCode::CoordinatorNotAvailable)
    }

    /// Reads a share group; an error for a group that is none.
    pub(super) fn read_share<R>(&self, id: &str, read: impl FnOnce(&ShareGroup) -> R) -> Result<R, Refusal> {
        let found = self.find(id);
        let found = found.as_ref().ok_or(false).and_then(|group| {
            group.read(|state| match &state.kind {
                Kind::Share(group) => Ok(read(group)),
                Kind::Classic(_) | Kind::Consumer(_) | Kind::Streams(_) => Err(state.exists()),
            })
        });
        found.map_err(|exists| {
            let what = if exists { "is not a share group" } else { "not found" };
            Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {id} {what}."))
        })
    }

    /// True for a share group, with members or without.
    pub fn is_share(&self, group: &str) -> bool {
        self.read_share(group, |_| ()).is_ok()
    }

    /// Whether this is a member of a share group: what ShareFetch and ShareAcknowledge ask.
    pub fn share_member(&self, group: &str, member: &str) -> Result<(), ErrorCode> {
        let known = self.read_share(group, |group| group.members.contains_key(member));
        known.map_err(|refusal| refusal.code)?.then_some(()).ok_or(ErrorCode::UnknownMemberId)
    }

    /// The existing topics that members of the group read.
    pub fn share_subscribed(&self, group: &str) -> Vec<Uuid> {
        let names = self.read_share(group, |group| {
            group.members.values().flat_map(|member| &member.topics).cloned().collect::<std::collections::BTreeSet<_>>()
        });
        names.unwrap_or_default().iter().filter_map(|name| self.topics().id(name)).collect()
    }

    /// ShareGroupHeartbeat.
    pub async fn share_group_heartbeat(
        &self,
        client: Client,
        request: ShareGroupHeartbeatRequest,
    ) -> ShareGroupHeartbeatResponse {
        let refuse = |refusal: Refusal| {
            ShareGroupHeartbeatResponse::default()
                .with_error_code(refusal.code.code())
                .with_error_message(Some(text(&refusal.message)))
        };
        if let Err(refusal) = check(&request) {
            return refuse(refusal);
        }
        // Only a member that joins brings its group into being.
        let ran = if request.member_epoch == 0 {
            Some(self.run(&request.group_id, |state, ctx| state.share_heartbeat(ctx, &client, &request)))
        } else {
            self.run_existing(&request.group_id, |state, ctx| state.share_heartbeat(ctx, &client, &request))
        };
        let Some((result, durable)) = ran else {
            let message = format!("Group {} not found.", &*request.group_id);
            return refuse(Refusal::new(ErrorCode::GroupIdNotFound, message));
        };
        match durable.wait().await.map_err(Refusal::from).and(result) {
            Ok(beaten) => {
                if let (Some(topics), Ok(state)) = (beaten.subscribed, self.share_state()) {
                    state.subscribed(&request.group_id, &topics);
                }
                beaten.response
            }
            Err(refusal) => refuse(refusal),
        }
    }
}

/// What is wrong with a heartbeat whatever the group (Kafka's `throwIfShareGroupHeartbeatRequestIsInvalid`).
fn check(request: &ShareGroupHeartbeatRequest) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let blank = |value: &str| value.trim().is_empty();
    if blank(&request.member_id) {
        return invalid("MemberId can't be empty.");
    }
    if blank(&request.group_id) {
        return invalid("GroupId can't be empty.");
    }
    if request.rack_id.as_deref().is_some_and(blank) {
        return invalid("RackId can't be empty.");
    }
    if request.member_id.len().max(request.group_id.len()) > MAX_ID {
        return invalid("GroupId or MemberId is too long.");
    }
    if request.member_epoch == 0 {
        if request.subscribed_topic_names.as_ref().is_none_or(Vec::is_empty) {
            return invalid("SubscribedTopicNames must be set in first request.");
        }
    } else if request.member_epoch < -1 {
        return invalid("MemberEpoch is invalid.");
    }
    Ok(())
}
