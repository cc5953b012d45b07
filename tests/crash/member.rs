//! Members of one classic consumer group that fetch, commit, leave and come back.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable};
use krocket_protocol::StrBytes;
use krocket_testkit::history::{History, Partition, What};
use krocket_testkit::session::Session;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::reader;
use crate::world::{PARTITIONS, World, by_topic};

const JOIN: i16 = 7;
const SYNC: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE: i16 = 4;
const COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 7;

const HEARTBEAT_EVERY: Duration = Duration::from_millis(150);
const SESSION_TIMEOUT_MS: i32 = 6_000;
/// Short, so that a member lost in a crash delays the others by less than most rounds.
const REBALANCE_TIMEOUT_MS: i32 = 700;

const COORDINATOR_LOADING: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;

fn group() -> GroupId {
    GroupId(StrBytes::from_static_str("readers"))
}

/// Why a member has to join again.
enum Stop {
    Rejoin,
    RejoinAsNew,
}

pub(crate) struct Member {
    rng: StdRng,
    history: Arc<History>,
    id: StrBytes,
    generation: i32,
}

impl Member {
    pub(crate) fn new(seed: u64, history: Arc<History>) -> Self {
        Member { rng: StdRng::seed_from_u64(seed), history, id: StrBytes::default(), generation: -1 }
    }

    /// Consumes until the world ends, reconnecting whenever the server comes back.
    pub(crate) async fn run(mut self, mut world: World) {
        while let Some(address) = world.server().await {
            if let Ok(mut session) = Session::connect(address).await {
                while !world.has_ended() && self.generation_of_work(&mut session, &world).await.is_ok() {}
            }
            world.server_gone(address).await;
        }
    }

    /// Joins, consumes until a rebalance.
    async fn generation_of_work(&mut self, session: &mut Session, world: &World) -> io::Result<()> {
        let Some(owned) = self.join(session).await? else { return Ok(()) };
        let member = self.id.to_string();
        let what = What::Owns { generation: self.generation, member, partitions: owned.clone() };
        self.history.complete(self.history.invoke(), what);
        let mut positions = Vec::new();
        for partition in owned {
            let Some(offset) = committed(session, &self.history, partition).await? else { return Ok(()) };
            positions.push((partition, offset.max(0)));
        }
        match self.consume(session, world, positions).await? {
            Stop::Rejoin => {}
            Stop::RejoinAsNew => self.id = StrBytes::default(),
        }
        Ok(())
    }

    /// The partitions that this member owns now; `None` to try again.
    async fn join(&mut self, session: &mut Session) -> io::Result<Option<Vec<Partition>>> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str("range"))
            .with_metadata(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
        let request = JoinGroupRequest::default()
            .with_group_id(group())
            .with_session_timeout_ms(SESSION_TIMEOUT_MS)
            .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
            .with_member_id(self.id.clone())
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol]);
        let joined = session.call(JOIN, &request).await?;
        if joined.error_code == MEMBER_ID_REQUIRED {
            self.id = joined.member_id;
            return Ok(None);
        }
        if self.must_retry("JoinGroup", joined.error_code).await {
            return Ok(None);
        }
        self.id = joined.member_id.clone();
        self.generation = joined.generation_id;
        let request = SyncGroupRequest::default()
            .with_group_id(group())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
            .with_protocol_name(Some(StrBytes::from_static_str("range")))
            .with_assignments(assignments(&joined));
        let synced = session.call(SYNC, &request).await?;
        if self.must_retry("SyncGroup", synced.error_code).await {
            return Ok(None);
        }
        Ok(Some(owned(synced.assignment)))
    }

    async fn consume(
        &mut self,
        session: &mut Session,
        world: &World,
        mut positions: Vec<(Partition, i64)>,
    ) -> io::Result<Stop> {
        let mut heartbeat = Instant::now();
        while !world.has_ended() {
            if heartbeat.elapsed() > HEARTBEAT_EVERY {
                heartbeat = Instant::now();
                let request = HeartbeatRequest::default()
                    .with_group_id(group())
                    .with_generation_id(self.generation)
                    .with_member_id(self.id.clone());
                let code = session.call(HEARTBEAT, &request).await?.error_code;
                if let Some(stop) = self.stop_for("Heartbeat", code) {
                    return Ok(stop);
                }
            }
            let invoked = self.history.invoke();
            for (at, (partition, fetched)) in reader::fetch(session, &positions, 20).await?.into_iter().enumerate() {
                if fetched.error_code == reader::OFFSET_OUT_OF_RANGE {
                    positions[at].1 = reader::earliest(session, partition).await?;
                    continue;
                }
                assert_eq!(fetched.error_code, 0, "fetching {partition:?}");
                let (records, position) = (fetched.records, fetched.position);
                let (high_watermark, log_start) = (fetched.high_watermark, fetched.log_start);
                self.history.complete(invoked, What::Read { partition, records, high_watermark, log_start });
                positions[at].1 = position;
            }
            if positions.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            } else if self.rng.random_range(0..3) == 0
                && let Some(stop) = self.commit(session, &positions).await?
            {
                return Ok(stop);
            }
            if self.rng.random_range(0..150) == 0 {
                let identity = MemberIdentity::default().with_member_id(self.id.clone());
                let request = LeaveGroupRequest::default().with_group_id(group()).with_members(vec![identity]);
                session.call(LEAVE, &request).await?;
                return Ok(Stop::RejoinAsNew);
            }
        }
        Ok(Stop::Rejoin)
    }

    async fn commit(&mut self, session: &mut Session, positions: &[(Partition, i64)]) -> io::Result<Option<Stop>> {
        let topics = by_topic(positions).into_iter().map(|(topic, partitions)| {
            let partition = |(index, position): (i32, i64)| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(position)
                    .with_committed_metadata(Some(StrBytes::from_static_str("crash test")))
            };
            OffsetCommitRequestTopic::default()
                .with_name(TopicName(StrBytes::from_static_str(topic)))
                .with_partitions(partitions.into_iter().map(partition).collect())
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(group())
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.id.clone())
            .with_topics(topics.collect());
        let invoked = self.history.invoke();
        let answer = session.call(COMMIT, &request).await;
        let mut stop = None;
        for (partition, offset) in positions {
            let what = What::Commit { partition: *partition, offset: *offset };
            match &answer {
                Err(_) => self.history.unanswered(invoked, what),
                Ok(response) => match commit_code(response, *partition) {
                    0 => self.history.complete(invoked, what),
                    code => stop = self.stop_for("OffsetCommit", code),
                },
            }
        }
        answer.map(|_| stop)
    }

    fn stop_for(&self, api: &str, code: i16) -> Option<Stop> {
        match code {
            0 => None,
            REBALANCE_IN_PROGRESS | ILLEGAL_GENERATION => Some(Stop::Rejoin),
            COORDINATOR_LOADING | COORDINATOR_NOT_AVAILABLE | NOT_COORDINATOR => Some(Stop::Rejoin),
            UNKNOWN_MEMBER_ID => Some(Stop::RejoinAsNew),
            code => panic!("{api} answered {code}"),
        }
    }

    async fn must_retry(&mut self, api: &str, code: i16) -> bool {
        match self.stop_for(api, code) {
            None => return false,
            Some(Stop::Rejoin) => {}
            Some(Stop::RejoinAsNew) => self.id = StrBytes::default(),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        true
    }
}

fn commit_code(response: &OffsetCommitResponse, (topic, index): Partition) -> i16 {
    let answered = response.topics.iter().filter(|answer| answer.name.as_str() == topic);
    let mut partitions = answered.flat_map(|answer| &answer.partitions);
    partitions.find(|answer| answer.partition_index == index).expect("every partition committed is answered").error_code
}

/// What the leader decides: partitions dealt out like cards. Nothing for those who are not the leader.
fn assignments(joined: &JoinGroupResponse) -> Vec<SyncGroupRequestAssignment> {
    if joined.leader != joined.member_id {
        return Vec::new();
    }
    let assign = |(at, member): (usize, &kafka_protocol::messages::join_group_response::JoinGroupResponseMember)| {
        let dealt = PARTITIONS.iter().skip(at).step_by(joined.members.len()).map(|(topic, index)| {
            TopicPartition::default()
                .with_topic(TopicName(StrBytes::from_static_str(topic)))
                .with_partitions(vec![*index])
        });
        let mut bytes = BytesMut::new();
        bytes.put_i16(0);
        let assignment = ConsumerProtocolAssignment::default().with_assigned_partitions(dealt.collect());
        assignment.encode(&mut bytes, 0).expect("encodes");
        SyncGroupRequestAssignment::default().with_member_id(member.member_id.clone()).with_assignment(bytes.freeze())
    };
    joined.members.iter().enumerate().map(assign).collect()
}

fn owned(mut assignment: Bytes) -> Vec<Partition> {
    if assignment.is_empty() {
        return Vec::new();
    }
    let version = bytes::Buf::get_i16(&mut assignment);
    let assignment = ConsumerProtocolAssignment::decode(&mut assignment, version).expect("as the leader sent it");
    let partitions = assignment.assigned_partitions.iter();
    let known = |topic: &str, index: i32| PARTITIONS.iter().copied().find(|partition| *partition == (topic, index));
    partitions
        .flat_map(|topic| topic.partitions.iter().map(|index| known(topic.topic.as_str(), *index).expect("known")))
        .collect()
}

/// Reads the group's committed offset, -1 for none; `None` while the group is not there.
pub(crate) async fn committed(
    session: &mut Session,
    history: &History,
    partition: Partition,
) -> io::Result<Option<i64>> {
    let topic = OffsetFetchRequestTopic::default()
        .with_name(TopicName(StrBytes::from_static_str(partition.0)))
        .with_partition_indexes(vec![partition.1]);
    let request = OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]));
    let invoked = history.invoke();
    let response = session.call(OFFSET_FETCH, &request).await?;
    if response.error_code != 0 {
        assert!([COORDINATOR_LOADING, COORDINATOR_NOT_AVAILABLE].contains(&response.error_code), "OffsetFetch");
        return Ok(None);
    }
    let answer = &response.topics[0].partitions[0];
    assert_eq!(answer.error_code, 0, "OffsetFetch of {partition:?}");
    let offset = answer.committed_offset;
    history.complete(invoked, What::Committed { partition, offset });
    Ok(Some(offset))
}
