//! ShareGroupHeartbeat: join, stay, leave.

use std::sync::Arc;

use kafka_protocol::messages::share_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};
use krocket_protocol::ErrorCode;
use uuid::Uuid;

use super::{Member, ShareGroup};
use crate::group::consumer::member::Partitions;
use crate::group::context::{Client, Ctx, text};
use crate::group::error::Refusal;
use crate::group::metrics::METRICS;
use crate::group::timers::Timer;

/// What a heartbeat comes to.
#[derive(Debug)]
pub(in crate::group) struct Beaten {
    pub(in crate::group) response: ShareGroupHeartbeatResponse,
    /// The topics that the group reads, where that may have changed.
    pub(in crate::group) subscribed: Option<Vec<Uuid>>,
}

impl ShareGroup {
    /// A member joins (epoch 0) or goes on.
    pub(in crate::group) fn heartbeat(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &ShareGroupHeartbeatRequest,
    ) -> Result<Beaten, Refusal> {
        self.check_room(&request.member_id, ctx.config.share_max_size)?;
        let epoch = request.member_epoch;
        let old = match self.members.get(&*request.member_id) {
            Some(member) => {
                check_epoch(member, epoch)?;
                Some(member.clone())
            }
            None if epoch == 0 => None,
            None => {
                return Err(self.member(&request.member_id).err().unwrap_or_else(|| ErrorCode::UnknownMemberId.into()));
            }
        };
        let id: Arc<str> = old.as_ref().map_or_else(|| (*request.member_id).into(), |old| old.id.clone());
        let is_new = old.is_none();
        let old = old.unwrap_or_else(|| Member::new(id.clone()));
        let mut member = old.clone();
        member.rack_id = request.rack_id.as_deref().map(str::to_owned).or(member.rack_id);
        if let Some(names) = &request.subscribed_topic_names {
            member.topics = names.iter().map(|name| name.to_string()).collect();
        }
        member.client_id.clone_from(&client.id);
        member.client_host.clone_from(&client.host);
        if is_new {
            tracing::info!(group = %ctx.group, member = %id, "joins with the share protocol");
        }
        let resubscribed = is_new || member.topics != old.topics;
        let mut changed = is_new || member != old;
        self.members.insert(id.clone(), member);
        let refreshed = self.refresh_metadata(ctx, resubscribed);
        if refreshed || resubscribed {
            self.bump_epoch(ctx);
        }
        self.update_target(ctx);
        changed |= self.reconcile(ctx, &id, resubscribed);
        if changed {
            self.persist_member(ctx, &id);
        }
        ctx.timers.start(Timer::Session(id.clone()), ctx.now, ctx.config.share_session_timeout_ms);

        let member = self.member(&id)?;
        let mut response = ShareGroupHeartbeatResponse::default()
            .with_member_id(Some(text(&id)))
            .with_member_epoch(member.epoch)
            .with_heartbeat_interval_ms(ctx.config.share_heartbeat_interval_ms);
        // Who names its topics is not sure of what it has.
        if request.subscribed_topic_names.is_some() || member.assigned != old.assigned {
            response.assignment = Some(assignment(&member.assigned));
        }
        let subscribed = (refreshed || resubscribed).then(|| self.subscribed(ctx).into_iter().collect());
        Ok(Beaten { response, subscribed })
    }

    /// A member goes (epoch -1).
    pub(in crate::group) fn leave(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &ShareGroupHeartbeatRequest,
    ) -> Result<Beaten, Refusal> {
        let id = self.member(&request.member_id)?.id.clone();
        tracing::info!(group = %ctx.group, member = %id, "left");
        METRICS.removed_members.with_label_values(&["left"]).inc();
        self.expel(ctx, &id);
        let response = ShareGroupHeartbeatResponse::default()
            .with_member_id(Some(request.member_id.clone()))
            .with_member_epoch(request.member_epoch);
        Ok(Beaten { response, subscribed: None })
    }

    /// group.share.max.size. Members that are there already always fit.
    fn check_room(&self, id: &str, max: usize) -> Result<(), Refusal> {
        if self.members.contains_key(id) || self.members.len() < max {
            return Ok(());
        }
        let message = format!("The share group has reached its maximum capacity of {max} members.");
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message))
    }

    /// Takes the member to the target at once: partitions are shared, so nobody has to give one up first. True when that
    /// changed anything.
    fn reconcile(&mut self, ctx: &Ctx<'_>, id: &Arc<str>, resubscribed: bool) -> bool {
        let epoch = self.assignment_epoch;
        let Some(member) = self.members.get_mut(id) else { return false };
        if member.epoch == epoch && !resubscribed {
            return false;
        }
        let before = (member.epoch, member.assigned.clone());
        if member.epoch != epoch {
            member.previous_epoch = member.epoch;
            member.epoch = epoch;
        }
        member.assigned.clone_from(&member.target);
        // The target may be older than the subscription.
        let topics = &member.topics;
        member.assigned.retain(|topic, _| ctx.topics.name(*topic).is_some_and(|name| topics.contains(&name)));
        before != (member.epoch, member.assigned.clone())
    }
}

/// A client may be one epoch behind when its last answer got lost.
fn check_epoch(member: &Member, epoch: i32) -> Result<(), Refusal> {
    let fenced = |than: &str| {
        Err(Refusal::new(
            ErrorCode::FencedMemberEpoch,
            format!(
                "The share group member has a {than} member epoch ({epoch}) than the one known by the group coordinator \
                 ({}). The member must abandon all its partitions and rejoin.",
                member.epoch
            ),
        ))
    };
    match epoch {
        // It starts over.
        0 => Ok(()),
        epoch if epoch > member.epoch => fenced("greater"),
        epoch if epoch < member.epoch && epoch != member.previous_epoch => fenced("smaller"),
        _ => Ok(()),
    }
}

fn assignment(assigned: &Partitions) -> Assignment {
    let topic = |(id, partitions): (&Uuid, &std::collections::BTreeSet<i32>)| {
        TopicPartitions::default().with_topic_id(*id).with_partitions(partitions.iter().copied().collect())
    };
    Assignment::default().with_topic_partitions(assigned.iter().map(topic).collect())
}
