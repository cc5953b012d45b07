//! One group on a clock of its own, driven step by step: no runtime, no log, no waiting.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use krocket_protocol::ErrorCode;
use tokio::sync::oneshot::{self, Receiver};

use super::classic::ClassicGroup;
use super::commit::{Commit, CommitPartition};
use super::consumer::ConsumerGroup;
use super::context::{Client, Ctx, text};
use super::embedded;
use super::error::Refusal;
use super::handle::borrow;
use super::journal::{Journal, memory::Memory};
use super::persist::{self, Restored};
use super::settings::GroupSettings;
use super::share::ShareGroup;
use super::state::{GroupState, Kind};
use super::timers::Timers;
use super::topics::fixed::{Fixed, id_of};
use crate::log::tables::GROUPS;

pub(super) const GROUP: &str = "g";

pub(super) struct Harness {
    pub(super) state: GroupState,
    pub(super) timers: Timers,
    pub(super) now: Instant,
    pub(super) now_ms: i64,
    pub(super) settings: GroupSettings,
    pub(super) topics: Fixed,
    pub(super) journal: Memory,
    /// How many rows were written or deleted so far.
    pub(super) rows_written: usize,
    commits: u64,
}

impl Harness {
    pub(super) fn new(topics: &[(&str, i32)]) -> Self {
        Harness {
            state: GroupState::new(0),
            timers: Timers::default(),
            now: Instant::now(),
            now_ms: 1_000_000,
            settings: GroupSettings { initial_rebalance_delay_ms: 0, ..GroupSettings::default() },
            topics: Fixed::of(topics),
            journal: Memory::default(),
            rows_written: 0,
            commits: 0,
        }
    }

    pub(super) fn step<R>(&mut self, step: impl FnOnce(&mut GroupState, &mut Ctx<'_>) -> R) -> R {
        let mut ctx = Ctx {
            group: GROUP.into(),
            now: self.now,
            now_ms: self.now_ms,
            config: &self.settings,
            topics: &self.topics,
            timers: &mut self.timers,
            writes: Vec::new(),
            offsets: Vec::new(),
            answers: Vec::new(),
        };
        let result = step(&mut self.state, &mut ctx);
        let Ctx { mut writes, offsets, answers, .. } = ctx;
        writes.extend(offsets.iter().map(|change| change.write(GROUP)));
        self.rows_written += writes.len();
        if !writes.is_empty() {
            self.journal.apply(writes);
        }
        self.commits += 1;
        self.state.offsets.expect(self.commits, offsets);
        self.state.offsets.settle(self.commits);
        answers.into_iter().for_each(|answer| answer.send());
        result
    }

    /// Lets time pass; what runs out on the way does so at its own time.
    pub(super) fn advance(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while let Some(next) = self.timers.next().filter(|next| *next <= end) {
            let next = next.max(self.now);
            self.now_ms += (next - self.now).as_millis() as i64;
            self.now = next;
            if let Some(timer) = self.timers.pop_due(next) {
                self.step(|state, ctx| state.on_timer(ctx, &timer));
            }
        }
        self.now_ms += (end - self.now).as_millis() as i64;
        self.now = end;
    }

    /// Forgets everything that is not in the journal.
    pub(super) fn restart(&mut self) {
        let prefix = persist::prefix(GROUP);
        let rows = self.journal.scan(GROUPS, &prefix).expect("scans");
        let rows: Vec<_> = rows.into_iter().map(|(key, value)| (key[prefix.len()..].to_vec(), value)).collect();
        self.state.kind = match persist::restore(GROUP, &borrow(&rows)) {
            Some(Restored::Classic(group)) => Kind::Classic(group),
            Some(Restored::Consumer(group)) => Kind::Consumer(group),
            Some(Restored::Share(group)) => Kind::Share(group),
            Some(Restored::Streams(group)) => Kind::Streams(group),
            None => GroupState::new(self.now_ms).kind,
        };
        self.timers.clear();
        self.step(|state, ctx| state.resume(ctx));
    }

    pub(super) fn classic(&self) -> &ClassicGroup {
        match &self.state.kind {
            Kind::Classic(group) => group,
            Kind::Consumer(_) | Kind::Share(_) | Kind::Streams(_) => panic!("not a classic group"),
        }
    }

    pub(super) fn consumer(&self) -> &ConsumerGroup {
        match &self.state.kind {
            Kind::Consumer(group) => group,
            Kind::Classic(_) | Kind::Share(_) | Kind::Streams(_) => panic!("not a consumer group"),
        }
    }

    pub(super) fn share(&self) -> &ShareGroup {
        match &self.state.kind {
            Kind::Share(group) => group,
            Kind::Classic(_) | Kind::Consumer(_) | Kind::Streams(_) => panic!("not a share group"),
        }
    }

    // ---- classic ----

    pub(super) fn join(&mut self, join: &Join) -> Receiver<JoinGroupResponse> {
        let (reply, answer) = oneshot::channel();
        let request = join.request();
        let client = Client { id: join.client.to_owned(), host: "/h".to_owned(), version: join.version };
        self.step(|state, ctx| state.join(ctx, &client, &request, reply));
        answer
    }

    /// Joins as a client of KIP-394 does: with the id that it is given first.
    pub(super) fn join_twice(&mut self, join: &Join) -> (String, Receiver<JoinGroupResponse>) {
        let first = now(self.join(join));
        assert_eq!(first.error_code, ErrorCode::MemberIdRequired.code());
        let id = first.member_id.to_string();
        let answer = self.join(&Join { id: id.clone(), ..join.clone() });
        (id, answer)
    }

    /// A member alone in a new generation, stable.
    pub(super) fn join_and_sync(&mut self, join: &Join) -> (String, i32) {
        let (id, answer) = self.join_twice(join);
        self.advance(self.settings.initial_rebalance_delay_ms as u64);
        let joined = now(answer);
        assert_eq!(joined.error_code, 0);
        assert_eq!(now(self.sync(&id, joined.generation_id, &[(&id, b"all")])).error_code, 0);
        (id, joined.generation_id)
    }

    pub(super) fn sync(
        &mut self,
        id: &str,
        generation: i32,
        assignments: &[(&str, &'static [u8])],
    ) -> Receiver<SyncGroupResponse> {
        let assignment = |(id, bytes): &(&str, &'static [u8])| {
            SyncGroupRequestAssignment::default().with_member_id(text(id)).with_assignment(Bytes::from_static(bytes))
        };
        let request = SyncGroupRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(id))
            .with_generation_id(generation)
            .with_assignments(assignments.iter().map(assignment).collect());
        self.sync_with(&request)
    }

    pub(super) fn sync_with(&mut self, request: &SyncGroupRequest) -> Receiver<SyncGroupResponse> {
        let (reply, answer) = oneshot::channel();
        self.step(|state, ctx| state.sync(ctx, request, reply));
        answer
    }

    pub(super) fn heartbeat(&mut self, id: &str, generation: i32) -> Result<(), ErrorCode> {
        self.step(|state, ctx| state.heartbeat(ctx, id, None, generation))
    }

    pub(super) fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<Result<(), ErrorCode>> {
        let identity = |(id, instance): &(&str, Option<&str>)| {
            MemberIdentity::default().with_member_id(text(id)).with_group_instance_id(instance.map(text))
        };
        let members: Vec<_> = members.iter().map(identity).collect();
        self.step(|state, ctx| state.leave(ctx, &members))
    }

    // ---- consumer ----

    pub(super) fn beat(&mut self, beat: &Beat) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let client = Client { id: "c".to_owned(), host: "/h".to_owned(), version: 1 };
        let request = beat.request();
        self.step(|state, ctx| state.consumer_heartbeat(ctx, &client, &request))
    }

    // ---- offsets ----

    pub(super) fn commit(&mut self, member: &str, epoch: i32, version: i16) -> Result<(), ErrorCode> {
        self.commit_to(member, epoch, version, "t", 0)
    }

    pub(super) fn commit_to(
        &mut self,
        member: &str,
        epoch: i32,
        version: i16,
        topic: &str,
        partition: i32,
    ) -> Result<(), ErrorCode> {
        let commit = Commit {
            member_id: member.to_owned(),
            instance_id: None,
            epoch,
            version,
            retention_ms: -1,
            transactional: false,
            partitions: vec![CommitPartition {
                topic: topic.to_owned(),
                topic_id: id_of(topic),
                partition,
                offset: 5,
                leader_epoch: 0,
                metadata: String::new(),
            }],
        };
        let results = self.step(|state, ctx| state.commit(ctx, commit))?;
        results.into_iter().collect()
    }
}

/// The answer, which must be there by now.
pub(super) fn now<T>(mut answer: Receiver<T>) -> T {
    answer.try_recv().expect("an answer")
}

/// True when there is no answer yet.
pub(super) fn waits<T>(answer: &mut Receiver<T>) -> bool {
    matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}

/// A JoinGroup.
#[derive(Clone)]
pub(super) struct Join {
    pub(super) id: String,
    pub(super) instance: Option<&'static str>,
    pub(super) client: &'static str,
    pub(super) version: i16,
    pub(super) session_ms: i32,
    pub(super) rebalance_ms: i32,
    pub(super) protocol_type: &'static str,
    pub(super) protocols: Vec<(&'static str, Bytes)>,
}

impl Default for Join {
    fn default() -> Self {
        Join {
            id: String::new(),
            instance: None,
            client: "client",
            version: 9,
            session_ms: 10_000,
            rebalance_ms: 60_000,
            protocol_type: "consumer",
            protocols: vec![("range", embedded::tests::encode(1, &["t"], &[]))],
        }
    }
}

impl Join {
    fn request(&self) -> JoinGroupRequest {
        let protocol = |(name, metadata): &(&'static str, Bytes)| {
            JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata.clone())
        };
        JoinGroupRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.map(text))
            .with_session_timeout_ms(self.session_ms)
            .with_rebalance_timeout_ms(self.rebalance_ms)
            .with_protocol_type(text(self.protocol_type))
            .with_protocols(self.protocols.iter().map(protocol).collect())
    }
}

/// A ConsumerGroupHeartbeat. By default a plain one, that says nothing new.
#[derive(Clone, Default)]
pub(super) struct Beat {
    pub(super) id: String,
    pub(super) epoch: i32,
    pub(super) instance: Option<&'static str>,
    pub(super) topics: Option<Vec<&'static str>>,
    pub(super) regex: Option<&'static str>,
    pub(super) assignor: Option<&'static str>,
    pub(super) owned: Option<Vec<(&'static str, Vec<i32>)>>,
    pub(super) rebalance_ms: Option<i32>,
}

impl Beat {
    /// The first one.
    pub(super) fn join(id: &str, topics: &[&'static str]) -> Self {
        Beat {
            id: id.to_owned(),
            topics: Some(topics.to_vec()),
            owned: Some(vec![]),
            rebalance_ms: Some(30_000),
            ..Beat::default()
        }
    }

    /// A later one.
    pub(super) fn at(id: &str, epoch: i32) -> Self {
        Beat { id: id.to_owned(), epoch, ..Beat::default() }
    }

    pub(super) fn owning(mut self, topic: &'static str, partitions: &[i32]) -> Self {
        self.owned.get_or_insert_default().push((topic, partitions.to_vec()));
        self
    }

    fn request(&self) -> ConsumerGroupHeartbeatRequest {
        let owned = |owned: &Vec<(&str, Vec<i32>)>| {
            let topic = |(topic, partitions): &(&str, Vec<i32>)| {
                TopicPartitions::default().with_topic_id(id_of(topic)).with_partitions(partitions.clone())
            };
            owned.iter().map(topic).collect()
        };
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(&self.id))
            .with_member_epoch(self.epoch)
            .with_instance_id(self.instance.map(text))
            .with_rebalance_timeout_ms(self.rebalance_ms.unwrap_or(-1))
            .with_subscribed_topic_names(self.topics.as_ref().map(|t| t.iter().map(|name| text(name).into()).collect()))
            .with_subscribed_topic_regex(self.regex.map(text))
            .with_server_assignor(self.assignor.map(text))
            .with_topic_partitions(self.owned.as_ref().map(owned))
    }
}

/// Partitions of one topic in an answer; None when the answer has no assignment.
pub(super) fn assigned(response: &ConsumerGroupHeartbeatResponse, topic: &str) -> Option<Vec<i32>> {
    let topics = &response.assignment.as_ref()?.topic_partitions;
    let found = topics.iter().find(|t| t.topic_id == id_of(topic));
    Some(found.map(|t| t.partitions.clone()).unwrap_or_default())
}
