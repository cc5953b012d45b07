//! ConsumerGroupHeartbeat: join, stay, leave for a while.

use std::sync::Arc;

use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use krocket_protocol::ErrorCode;

use super::member::{Owned, Partitions};
use super::reconcile::Reconcile;
use super::{ConsumerGroup, LEFT_STATIC, Member, MemberState, not_fenced, regex, unknown_instance};
use crate::group::context::{Client, Ctx, text};
use crate::group::error::Refusal;
use crate::group::persist;
use crate::group::timers::Timer;

/// Which member a request continues.
pub(super) enum Base {
    /// None: it is new.
    New,
    /// This one.
    Same(Member),
    /// A static member that left, or whose classic client was replaced: the new id takes its place.
    Replaced(Member),
}

/// A member's new state on its way into the group.
pub(super) struct Update {
    pub(super) base: Base,
    pub(super) member: Member,
    pub(super) owned: Option<Partitions>,
    /// The client may not know of its last answer.
    pub(super) unsure: bool,
}

impl ConsumerGroup {
    pub(in crate::group) fn heartbeat(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        id: &Arc<str>,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let instance = request.instance_id.as_deref();
        self.check_room(id, instance, ctx.config.consumer_max_size)?;
        let owned = request.topic_partitions.as_ref().map(|topics| {
            let pairs = topics.iter().map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect()));
            pairs.collect::<Partitions>()
        });
        // A full request is what a client sends when it is not sure of what it has.
        let full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && request.topic_partitions.is_some();
        let base = self.base(id, instance, request.member_epoch, owned.as_ref())?;
        let mut member = base.member(id);
        if let Some(owned) = &owned {
            member.report(owned);
        }
        let old = member.clone();
        member.instance_id = instance.map(Arc::from).or(member.instance_id);
        member.rack_id = request.rack_id.as_deref().map(str::to_owned).or(member.rack_id);
        if request.rebalance_timeout_ms >= 0 {
            member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        }
        if let Some(names) = &request.subscribed_topic_names {
            member.topics = names.iter().map(|name| name.to_string()).collect();
        }
        if let Some(expression) = request.subscribed_topic_regex.as_deref() {
            if !expression.is_empty() && member.regex.as_deref() != Some(expression) {
                regex::compile(expression)?;
            }
            member.regex = Some(expression.to_owned());
        }
        member.assignor = request.server_assignor.as_deref().map(str::to_owned).or(member.assignor);
        member.client_id.clone_from(&client.id);
        member.client_host.clone_from(&client.host);
        member.classic = None;
        // From here on the request stands.
        if matches!(base, Base::New) {
            tracing::info!(group = %ctx.group, member = %id, instance, "joins with the consumer protocol");
        }
        self.admit(ctx, Update { base, member, owned, unsure: full });
        ctx.timers.start(Timer::Session(id.clone()), ctx.now, ctx.config.consumer_session_timeout_ms);

        let member = self.member(id)?;
        let mut response = ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(id)))
            .with_member_epoch(member.epoch)
            .with_heartbeat_interval_ms(ctx.config.consumer_heartbeat_interval_ms);
        if request.member_epoch == 0 || full || !same_partitions(&member.assigned, &old.assigned) {
            response.assignment = Some(assignment(&member.assigned));
        }
        Ok(response)
    }

    /// group.consumer.max.size. Members that are there already, and static ones that come back, always fit.
    pub(super) fn check_room(&self, id: &str, instance: Option<&str>, max: usize) -> Result<(), Refusal> {
        let known = self.members.contains_key(id) || instance.is_some_and(|i| self.static_members.contains_key(i));
        if known || self.members.len() < max {
            return Ok(());
        }
        let message = format!("The consumer group has reached its maximum capacity of {max} members.");
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message))
    }

    fn base(
        &self,
        id: &Arc<str>,
        instance: Option<&str>,
        epoch: i32,
        owned: Option<&Partitions>,
    ) -> Result<Base, Refusal> {
        let Some(instance) = instance else {
            return match self.members.get(id) {
                Some(member) => check_epoch(member, epoch, owned).map(|()| Base::Same(member.clone())),
                None if epoch == 0 => Ok(Base::New),
                None => Err(self.member(id).err().unwrap_or_else(|| ErrorCode::UnknownMemberId.into())),
            };
        };
        match self.static_member(instance) {
            None if epoch == 0 => Ok(Base::New),
            None => Err(unknown_instance(instance)),
            Some(member) if epoch == 0 => {
                if *member.id == **id && member.epoch != LEFT_STATIC && member.classic.is_none() {
                    // The same client starts over, as it does when it was fenced.
                    return Ok(Base::Same(member.clone()));
                }
                if member.classic.is_none() && member.epoch != LEFT_STATIC {
                    return Err(Refusal::new(
                        ErrorCode::UnreleasedInstanceId,
                        format!(
                            "Static member {id} with instance id {instance} cannot join the group because the \
                             instance id is owned by {} member.",
                            member.id
                        ),
                    ));
                }
                Ok(Base::Replaced(member.clone()))
            }
            Some(member) => {
                not_fenced(member, id, instance)?;
                check_epoch(member, epoch, owned).map(|()| Base::Same(member.clone()))
            }
        }
    }

    /// Puts the member's new state into the group, gives the group a new epoch and target if that calls for it, and
    /// lets the member take its next step.
    pub(super) fn admit(&mut self, ctx: &mut Ctx<'_>, update: Update) {
        let Update { base, member, owned, unsure } = update;
        let id = member.id.clone();
        let old = base.member(&id);
        let is_new = matches!(base, Base::New);
        let default_assignor = ctx.config.default_assignor();
        let assignor_before = self.assignor(default_assignor);
        if let Base::Replaced(replaced) = &base {
            self.remove(&replaced.id);
            ctx.timers.cancel_member(&replaced.id);
            if replaced.id != id {
                ctx.writes.push(persist::delete_member(&ctx.group, &replaced.id));
            }
        }
        let subscription_changed = member.topics != old.topics || member.regex() != old.regex();
        let mut changed = matches!(base, Base::Replaced(_)) || is_new || member != old;
        self.insert(member);
        let bump = self.refresh_metadata(ctx, subscription_changed || is_new)
            || subscription_changed
            || is_new
            || self.assignor(default_assignor) != assignor_before;
        if bump {
            self.bump_epoch(ctx);
        }
        self.update_target(ctx);
        changed |= self.reconcile(ctx, &id, subscription_changed, owned.as_ref(), unsure);
        if changed {
            self.persist_member(ctx, &id);
        }
    }

    /// The member's next step. True when it changed anything.
    fn reconcile(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: &Arc<str>,
        subscription_changed: bool,
        owned: Option<&Partitions>,
        unsure: bool,
    ) -> bool {
        let Some(before) = self.members.get(id) else { return false };
        if !subscription_changed && before.is_reconciled_to(self.assignment_epoch) {
            return false;
        }
        let subscribed = self.topic_ids(ctx, before);
        let mut after = before.clone();
        // Nobody can get a partition of a topic that is gone.
        after.untaken.retain(|(topic, _)| ctx.topics.name(*topic).is_some());
        let step = Reconcile {
            target_epoch: self.assignment_epoch,
            subscribed: &subscribed,
            subscription_changed,
            owned,
            unsure,
            held_by_other: &|topic, partition| self.held_by_other(id, topic, partition),
        };
        step.apply(&mut after);
        if after == *before {
            return false;
        }
        // A classic member has its join and sync timers instead.
        if after.classic.is_none() {
            let timer = Timer::Revocation(id.clone());
            if after.state == MemberState::Unrevoked {
                ctx.timers.start(timer, ctx.now, after.rebalance_timeout_ms);
            } else {
                ctx.timers.cancel(&timer);
            }
        }
        self.insert(after);
        true
    }

    /// A static member goes, and is expected back within its session (epoch -2).
    pub(in crate::group) fn leave_static(
        &mut self,
        ctx: &mut Ctx<'_>,
        id: &str,
        instance: &str,
    ) -> Result<(), Refusal> {
        let mut member = self.validate_member(id, Some(instance))?.clone();
        tracing::info!(group = %ctx.group, member = id, instance, "leaves for a while");
        member.epoch = LEFT_STATIC;
        member.revoking = Owned::new();
        // Whoever comes back owns the partitions from the beginning.
        member.assigned.values_mut().flat_map(|partitions| partitions.values_mut()).for_each(|epoch| *epoch = 0);
        ctx.timers.cancel(&Timer::Revocation(member.id.clone()));
        self.insert(member);
        self.persist_member(ctx, id);
        Ok(())
    }

    /// The member that a leave for good names.
    pub(in crate::group) fn leaving(&self, id: &str, instance: Option<&str>) -> Result<Arc<str>, Refusal> {
        self.validate_member(id, instance).map(|member| member.id.clone())
    }

    /// True when the member still has not given up what it had to: it is to be fenced.
    pub(in crate::group) fn failed_to_revoke(&self, id: &str) -> bool {
        self.members.get(id).is_some_and(|member| member.state == MemberState::Unrevoked)
    }

    /// Gives every member a whole session: what a restart owes them.
    pub(in crate::group) fn resume(&mut self, ctx: &mut Ctx<'_>) {
        self.resolve(ctx, true);
        for member in self.members.values() {
            let timeout = member.classic.as_ref().map(|classic| classic.session_timeout_ms);
            let timeout = timeout.unwrap_or(ctx.config.consumer_session_timeout_ms);
            ctx.timers.start(Timer::Session(member.id.clone()), ctx.now, timeout);
            if member.classic.is_none() && member.state == MemberState::Unrevoked {
                ctx.timers.start(Timer::Revocation(member.id.clone()), ctx.now, member.rebalance_timeout_ms);
            }
        }
    }
}

impl Base {
    /// The state that the request builds on, under its own id.
    pub(super) fn member(&self, id: &Arc<str>) -> Member {
        match self {
            Base::New => Member::new(id.clone()),
            Base::Same(member) => member.clone(),
            Base::Replaced(member) => Member { id: id.clone(), epoch: 0, previous_epoch: 0, ..member.clone() },
        }
    }
}

/// A client may be one epoch behind when its last answer got lost, as long as it has nothing that is not its own.
fn check_epoch(member: &Member, epoch: i32, owned: Option<&Partitions>) -> Result<(), Refusal> {
    let fenced = |than: &str| {
        Err(Refusal::new(
            ErrorCode::FencedMemberEpoch,
            format!(
                "The consumer group member has a {than} member epoch ({epoch}) than the one known by the group \
                 coordinator ({}). The member must abandon all its partitions and rejoin.",
                member.epoch
            ),
        ))
    };
    let owns_only_its_own = || {
        owned.is_some_and(|owned| {
            owned.iter().all(|(topic, partitions)| {
                partitions.iter().all(|p| member.assigned.get(topic).is_some_and(|assigned| assigned.contains_key(p)))
            })
        })
    };
    match epoch {
        // It starts over, with nothing.
        0 => Ok(()),
        epoch if epoch > member.epoch => fenced("greater"),
        epoch if epoch < member.epoch && (epoch != member.previous_epoch || !owns_only_its_own()) => fenced("smaller"),
        _ => Ok(()),
    }
}

fn same_partitions(a: &Owned, b: &Owned) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((topic_a, a), (topic_b, b))| topic_a == topic_b && a.keys().eq(b.keys()))
}

fn assignment(assigned: &Owned) -> Assignment {
    let topic = |(id, partitions): (&uuid::Uuid, &std::collections::BTreeMap<i32, i32>)| {
        TopicPartitions::default().with_topic_id(*id).with_partitions(partitions.keys().copied().collect())
    };
    Assignment::default().with_topic_partitions(assigned.iter().map(topic).collect())
}
