//! One heartbeat of a member: joining, going on, leaving.

use std::collections::BTreeMap;
use std::sync::Arc;

use krocket_protocol::ErrorCode;
use krocket_protocol::streams_group_heartbeat::{
    Endpoint, EndpointToPartitions, Status, StatusCode, StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse,
    TopicPartitions,
};

use super::configure::{Configured, configure};
use super::member::{LEFT_STATIC, Member, Owned, Task, Tasks, task_ids, tasks};
use super::reconcile::Reconcile;
use super::topology::{InternalTopic, Topology};
use super::{NOT_READY, StreamsGroup};
use crate::group::consumer::member::MemberState;
use crate::group::context::{Client, Ctx, text};
use crate::group::error::Refusal;
use crate::group::metrics::METRICS;
use crate::group::persist;
use crate::group::timers::Timer;
use crate::group::topics::metadata_hash;

/// How often members tell how far their changelogs are, ms. Kafka's default.
const TASK_OFFSET_INTERVAL_MS: i32 = 60_000;

/// What came of a heartbeat.
#[derive(Debug)]
pub(in crate::group) struct Beaten {
    pub(in crate::group) response: StreamsGroupHeartbeatResponse,
    /// Topics that have to be made, with their partitions.
    pub(in crate::group) missing: BTreeMap<String, InternalTopic>,
}

/// What a request builds on.
enum Base {
    New,
    Same(Member),
    /// A static member under another id.
    Replaced(Member),
}

impl StreamsGroup {
    /// A member joins (epoch 0) or goes on.
    pub(in crate::group) fn heartbeat(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &StreamsGroupHeartbeatRequest,
    ) -> Result<Beaten, Refusal> {
        let joins = request.member_epoch == 0;
        let owned = owned(request);
        let base = self.base(ctx, request, owned.as_ref())?;
        let is_first = self.members.is_empty();
        let new_topology = self.new_topology(request, &base)?;
        let topology = new_topology.as_ref().unwrap_or(&self.topology);
        let version = ctx.topics.version();
        let stale = new_topology.is_some() || self.configured.is_none() || self.topics_version != Some(version);
        let configured = if stale { Some(configure(topology, ctx.topics)?) } else { None };
        let hash = match &configured {
            Some(_) => metadata_hash(ctx.topics, topology.required_topics()),
            None => self.metadata_hash,
        };
        check_owned(configured.as_ref().or(self.configured.as_ref()), owned.as_ref())?;

        // From here on nothing is refused.
        let mut bump = hash != self.metadata_hash || self.standby_replicas != ctx.config.streams_num_standby_replicas;
        if let Some(topology) = new_topology {
            tracing::info!(group = %ctx.group, epoch = topology.epoch, "new topology");
            self.topology = topology;
            ctx.writes.push(persist::put_topology(&ctx.group, &self.topology));
            bump = true;
        }
        if let Some(configured) = configured {
            let validated = if configured.is_ready() { self.topology.epoch } else { NOT_READY };
            bump |= validated != self.validated_epoch;
            self.validated_epoch = validated;
            self.configured = Some(configured);
            self.topics_version = Some(version);
        }
        self.metadata_hash = hash;
        self.standby_replicas = ctx.config.streams_num_standby_replicas;

        let replaced = matches!(base, Base::Replaced(_));
        let (id, before, after, is_new) = self.enter(ctx, client, request, base);
        bump |= is_new || after.assigns_differently(&before);
        let mut changed = is_new || replaced || persist::streams_member_differs(&after, &before);
        let endpoint_changed = after.endpoint != before.endpoint;
        self.members.insert(id.clone(), after);
        if bump {
            self.bump_epoch(ctx);
        }
        if is_first {
            let delay_ms = ctx.config.streams_initial_rebalance_delay_ms;
            if delay_ms > 0 {
                ctx.timers.start_if_absent(Timer::InitialRebalance, ctx.now, delay_ms);
            }
        }
        let delayed = ctx.timers.is_running(&Timer::InitialRebalance);
        if !delayed {
            self.update_target(ctx);
        }
        changed |= self.reconcile(ctx, &id, owned.as_ref());
        if changed {
            self.persist_member(ctx, &id);
        }
        ctx.timers.start(Timer::Session(id.clone()), ctx.now, ctx.config.streams_session_timeout_ms);
        if request.shutdown_application {
            self.shut_down(ctx, &id);
        }
        self.answer(ctx, request, &id, &Answered { joins, before, endpoint_changed, delayed })
    }

    /// The member that the request is of, if it may speak.
    fn base(
        &self,
        ctx: &Ctx<'_>,
        request: &StreamsGroupHeartbeatRequest,
        owned: Option<&Tasks>,
    ) -> Result<Base, Refusal> {
        let (id, epoch) = (&*request.member_id, request.member_epoch);
        let joins = epoch == 0;
        let Some(instance) = request.instance_id.as_deref() else {
            return match self.members.get(id) {
                Some(member) => {
                    check_epoch(member, epoch, owned)?;
                    Ok(Base::Same(member.clone()))
                }
                None if joins => {
                    self.check_room(ctx)?;
                    Ok(Base::New)
                }
                None => Err(self.member(id).err().unwrap_or_else(|| ErrorCode::UnknownMemberId.into())),
            };
        };
        match self.static_member(instance) {
            None if joins => {
                self.check_room(ctx)?;
                Ok(Base::New)
            }
            None => Err(unknown_instance(instance)),
            Some(member) if joins && *member.id == *id => Ok(Base::Same(member.clone())),
            Some(member) if joins && member.epoch != LEFT_STATIC => Err(Refusal::new(
                ErrorCode::UnreleasedInstanceId,
                format!(
                    "Static member {id} with instance id {instance} cannot join the group because the instance id is \
                     owned by member {}.",
                    member.id
                ),
            )),
            Some(member) if joins => Ok(Base::Replaced(member.clone())),
            Some(member) => {
                not_fenced(member, id, instance)?;
                check_epoch(member, epoch, owned)?;
                Ok(Base::Same(member.clone()))
            }
        }
    }

    /// group.streams.max.size. Members that are there already always fit.
    fn check_room(&self, ctx: &Ctx<'_>) -> Result<(), Refusal> {
        let max = ctx.config.streams_max_size;
        if self.members.len() < max {
            return Ok(());
        }
        let message = format!("The streams group has reached its maximum capacity of {max} members.");
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message))
    }

    /// The topology that replaces the group's, if the request brings one. While others run the application it stays as
    /// it is.
    fn new_topology(&self, request: &StreamsGroupHeartbeatRequest, base: &Base) -> Result<Option<Topology>, Refusal> {
        let Some(brought) = &request.topology else { return Ok(None) };
        let brought = Topology::from_wire(brought)?;
        let alone = match base {
            Base::New => self.members.is_empty(),
            Base::Same(member) | Base::Replaced(member) => self.members.keys().all(|id| *id == member.id),
        };
        if alone {
            return Ok((brought != self.topology).then_some(brought));
        }
        if brought.epoch < self.topology.epoch || brought == self.topology {
            return Ok(None);
        }
        Err(Refusal::new(ErrorCode::InvalidRequest, "Topology updates are not supported yet."))
    }

    /// The member as it was and as the request makes it; under its new id if it has one.
    fn enter(
        &mut self,
        ctx: &mut Ctx<'_>,
        client: &Client,
        request: &StreamsGroupHeartbeatRequest,
        base: Base,
    ) -> (Arc<str>, Member, Member, bool) {
        let id: Arc<str> = (*request.member_id).into();
        let (before, is_new) = match base {
            Base::New => {
                tracing::info!(group = %ctx.group, member = %id, "joins with the streams protocol");
                (Member::new(id.clone()), true)
            }
            Base::Same(member) => (member, false),
            Base::Replaced(member) => {
                self.members.remove(&member.id);
                ctx.timers.cancel_member(&member.id);
                ctx.writes.push(persist::delete_streams_member(&ctx.group, &member.id));
                (Member { id: id.clone(), epoch: 0, previous_epoch: 0, ..member }, false)
            }
        };
        let mut after = before.clone();
        after.client_id.clone_from(&client.id);
        after.client_host.clone_from(&client.host);
        if let Some(instance) = &request.instance_id {
            after.instance_id = Some((**instance).into());
        }
        if let Some(rack) = &request.rack_id {
            after.rack_id = Some(rack.to_string());
        }
        if request.rebalance_timeout_ms >= 0 {
            after.rebalance_timeout_ms = request.rebalance_timeout_ms;
        }
        if let Some(topology) = &request.topology {
            after.topology_epoch = topology.epoch;
        }
        if let Some(process) = &request.process_id {
            after.process_id = process.to_string();
        }
        if request.user_endpoint.is_some() || request.member_epoch == 0 {
            after.endpoint = request.user_endpoint.as_ref().map(|at| (at.host.to_string(), at.port));
        }
        if let Some(tags) = &request.client_tags {
            after.client_tags = tags.iter().map(|tag| (tag.key.to_string(), tag.value.to_string())).collect();
        }
        if let Some(offsets) = &request.task_offsets {
            after.offsets.clone_from(offsets);
        }
        if let Some(offsets) = &request.task_end_offsets {
            after.end_offsets.clone_from(offsets);
        }
        (id, before, after, is_new)
    }

    /// The member's next step. True when it changed anything.
    fn reconcile(&mut self, ctx: &mut Ctx<'_>, id: &Arc<str>, owned: Option<&Tasks>) -> bool {
        let Some(before) = self.members.get(id) else { return false };
        if before.is_reconciled_to(self.assignment_epoch) {
            return false;
        }
        let mut after = before.clone();
        let (active, in_process) = self.held_by_others(id, &before.process_id);
        let step = Reconcile {
            target_epoch: self.assignment_epoch,
            owned,
            active_elsewhere: &|task| active.contains(task),
            in_process: &|task| in_process.contains(task),
        };
        step.apply(&mut after);
        if after == *before {
            return false;
        }
        let timer = Timer::Revocation(id.clone());
        if after.state == MemberState::Unrevoked {
            ctx.timers.start(timer, ctx.now, after.rebalance_timeout_ms);
        } else {
            ctx.timers.cancel(&timer);
        }
        self.members.insert(id.clone(), after);
        true
    }

    fn shut_down(&mut self, ctx: &Ctx<'_>, id: &Arc<str>) {
        if self.shutdown_by.is_none() {
            tracing::info!(group = %ctx.group, member = %id, "asks all members to shut down");
            self.shutdown_by = Some(id.clone());
        }
    }

    fn answer(
        &mut self,
        ctx: &Ctx<'_>,
        request: &StreamsGroupHeartbeatRequest,
        id: &Arc<str>,
        answered: &Answered,
    ) -> Result<Beaten, Refusal> {
        let member = self.member(id)?;
        let reassigned = !member.assigned.same_tasks(&answered.before.assigned);
        let mut response = StreamsGroupHeartbeatResponse {
            member_id: text(id),
            member_epoch: member.epoch,
            heartbeat_interval_ms: ctx.config.streams_heartbeat_interval_ms,
            task_offset_interval_ms: TASK_OFFSET_INTERVAL_MS,
            ..StreamsGroupHeartbeatResponse::default()
        };
        if answered.joins || reassigned {
            response.active_tasks = Some(task_ids(member.assigned.active.keys()));
            response.standby_tasks = Some(task_ids(&member.assigned.standby));
            response.warmup_tasks = Some(Vec::new());
        }
        let mut missing = BTreeMap::new();
        let mut status = Vec::new();
        if member.topology_epoch < self.topology.epoch {
            status.push(told(
                StatusCode::StaleTopology,
                &format!(
                    "The member's topology epoch {} is behind the group's topology epoch {}.",
                    member.topology_epoch, self.topology.epoch
                ),
            ));
        }
        if answered.delayed {
            let detail = "Assignment delayed due to the configured initial rebalance delay.";
            status.push(told(StatusCode::AssignmentDelayed, detail));
        }
        if let Some(configured) = &self.configured
            && let Some(problem) = &configured.problem
        {
            status.push(told(problem.status, &problem.detail));
            missing.clone_from(&configured.missing);
        }
        if let Some(by) = &self.shutdown_by {
            status.push(told(
                StatusCode::ShutdownApplication,
                &format!(
                    "Streams group member {by} encountered a fatal error and requested a shutdown for the entire \
                     application."
                ),
            ));
        }
        response.status = Some(status);
        self.endpoint_epoch += i32::from(answered.endpoint_changed || reassigned && member.endpoint.is_some());
        response.endpoint_information_epoch = self.endpoint_epoch;
        if self.endpoint_epoch != request.endpoint_information_epoch {
            response.partitions_by_user_endpoint = Some(self.endpoints(ctx));
        }
        Ok(Beaten { response, missing })
    }

    /// Which process answers for which partitions.
    fn endpoints(&self, ctx: &Ctx<'_>) -> Vec<EndpointToPartitions> {
        let endpoint = |member: &Member| {
            let (host, port) = member.endpoint.as_ref()?;
            Some(EndpointToPartitions {
                user_endpoint: Endpoint { host: text(host), port: *port },
                active_partitions: self.partitions_of(ctx, member.assigned.active.keys()),
                standby_partitions: self.partitions_of(ctx, &member.assigned.standby),
            })
        };
        self.members.values().filter_map(endpoint).collect()
    }

    /// What tasks read. A topic with fewer partitions than its subtopology has tasks has none for the last of them.
    fn partitions_of<'a>(&self, ctx: &Ctx<'_>, tasks: impl IntoIterator<Item = &'a Task>) -> Vec<TopicPartitions> {
        let mut partitions: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (id, partition) in tasks {
            for topic in self.topology.subtopologies.get(id).into_iter().flat_map(|part| part.reads()) {
                let count = ctx.topics.id(topic).and_then(|id| ctx.topics.partitions(id)).unwrap_or(0);
                if *partition < count {
                    partitions.entry(topic).or_default().push(*partition);
                }
            }
        }
        let topic = |(topic, partitions): (&str, Vec<i32>)| TopicPartitions { topic: text(topic), partitions };
        partitions.into_iter().map(topic).collect()
    }

    /// A member goes: for good (epoch -1), or for a while (-2).
    pub(in crate::group) fn leave(
        &mut self,
        ctx: &mut Ctx<'_>,
        request: &StreamsGroupHeartbeatRequest,
    ) -> Result<Beaten, Refusal> {
        let member = match request.instance_id.as_deref() {
            None => self.member(&request.member_id)?,
            Some(instance) => {
                let member = self.static_member(instance).ok_or_else(|| unknown_instance(instance))?;
                not_fenced(member, &request.member_id, instance)?;
                member
            }
        };
        let id = member.id.clone();
        if request.shutdown_application {
            self.shut_down(ctx, &id);
        }
        if request.member_epoch == LEFT_STATIC {
            tracing::info!(group = %ctx.group, member = %id, "leaves for a while");
            ctx.timers.cancel(&Timer::Revocation(id.clone()));
            if let Some(member) = self.members.get_mut(&id) {
                member.epoch = LEFT_STATIC;
                member.revoking = Owned::default();
                // Whoever comes back owns its tasks from the beginning.
                member.assigned.active.values_mut().for_each(|epoch| *epoch = 0);
            }
            self.persist_member(ctx, &id);
        } else {
            tracing::info!(group = %ctx.group, member = %id, "left");
            METRICS.removed_members.with_label_values(&["left"]).inc();
            self.expel(ctx, &id);
        }
        let response = StreamsGroupHeartbeatResponse {
            member_id: request.member_id.clone(),
            member_epoch: request.member_epoch,
            status: Some(Vec::new()),
            ..StreamsGroupHeartbeatResponse::default()
        };
        Ok(Beaten { response, missing: BTreeMap::new() })
    }
}

/// What an answer depends on besides the group.
struct Answered {
    joins: bool,
    before: Member,
    endpoint_changed: bool,
    delayed: bool,
}

fn told(code: StatusCode, detail: &str) -> Status {
    Status { status_code: code as i8, status_detail: text(detail) }
}

/// What the client says it has, if it says anything: all kinds of tasks or none.
fn owned(request: &StreamsGroupHeartbeatRequest) -> Option<Tasks> {
    let active = request.active_tasks.as_deref()?;
    let standby = request.standby_tasks.as_deref().unwrap_or_default();
    Some(Tasks { active: tasks(active), standby: tasks(standby) })
}

fn check_owned(configured: Option<&Configured>, owned: Option<&Tasks>) -> Result<(), Refusal> {
    let ready = configured.filter(|configured| configured.is_ready()).and_then(|configured| configured.tasks.as_ref());
    let (Some(counts), Some(owned)) = (ready, owned) else { return Ok(()) };
    for (id, partition) in owned.active.iter().chain(&owned.standby) {
        let why = match counts.get(id) {
            None => format!("Subtopology {id} does not exist in the topology."),
            Some(count) if !(0..*count).contains(partition) => {
                format!(
                    "Task {partition} for subtopology {id} is invalid. Number of tasks for this subtopology: {count}"
                )
            }
            Some(_) => continue,
        };
        return Err(Refusal::new(ErrorCode::InvalidRequest, why));
    }
    Ok(())
}

/// A client may be one epoch behind when its last answer got lost, as long as it has nothing that is not its own.
fn check_epoch(member: &Member, epoch: i32, owned: Option<&Tasks>) -> Result<(), Refusal> {
    let fenced = |than: &str| {
        Err(Refusal::new(
            ErrorCode::FencedMemberEpoch,
            format!(
                "The streams group member has a {than} member epoch ({epoch}) than the one known by the group \
                 coordinator ({}). The member must abandon all its partitions and rejoin.",
                member.epoch
            ),
        ))
    };
    let owns_only_its_own = || {
        owned.is_some_and(|owned| {
            owned.active.iter().all(|task| member.assigned.active.contains_key(task))
                && owned.standby.is_subset(&member.assigned.standby)
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

fn unknown_instance(instance: &str) -> Refusal {
    Refusal::new(ErrorCode::UnknownMemberId, format!("Instance id {instance} is unknown."))
}

fn not_fenced(member: &Member, id: &str, instance: &str) -> Result<(), Refusal> {
    if *member.id == *id {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::FencedInstanceId,
        format!("Static member {id} with instance id {instance} was fenced by member {}.", member.id),
    ))
}
