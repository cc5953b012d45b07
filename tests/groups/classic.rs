//! A member of the classic protocol, eager or cooperative, as well-behaved clients are.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Assigned;
use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition as Owned;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio::sync::oneshot;

use crate::reader::Reader;
use crate::{End, text, topic};

const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;
/// Of the consumer protocol inside JoinGroup and SyncGroup.
const VERSION: i16 = 3;

struct Classic {
    reader: Reader,
    cooperative: bool,
    id: String,
    instance: Option<String>,
    generation: i32,
}

pub(crate) async fn run(reader: Reader, cooperative: bool, instance: Option<String>, mut end: oneshot::Receiver<End>) {
    let interval = reader.world.interval;
    let mut classic = Classic { reader, cooperative, id: String::new(), instance, generation: -1 };
    classic.join().await;
    loop {
        tokio::select! {
            how = &mut end => return classic.end(how.expect("the test tells")).await,
            () = tokio::time::sleep(interval) => {}
        }
        let mut code = classic.beat().await;
        if code == 0 {
            let (id, instance) = (classic.id.clone(), classic.instance.clone());
            code = classic.reader.read(&id, instance.as_deref(), classic.generation).await.err().unwrap_or(0);
        }
        if code != 0 {
            classic.behind(code);
            classic.join().await;
        }
    }
}

impl Classic {
    /// What an error says about the membership.
    fn behind(&mut self, code: i16) {
        match code {
            REBALANCE_IN_PROGRESS => {}
            ILLEGAL_GENERATION => {
                self.generation = -1;
                self.reader.give_all();
            }
            UNKNOWN_MEMBER_ID => {
                self.generation = -1;
                self.id.clear();
                self.reader.give_all();
            }
            code => panic!("member {}: {code}", self.reader.number),
        }
    }

    async fn beat(&mut self) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(text(&self.reader.world.group).into())
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_generation_id(self.generation);
        self.reader.call(4, &request).await.error_code
    }

    /// Until it is a member with an assignment that it follows.
    async fn join(&mut self) {
        loop {
            if !self.cooperative {
                self.reader.give_all();
            }
            let request = self.join_request();
            let joined = self.reader.call(9, &request).await;
            match joined.error_code {
                0 => {}
                MEMBER_ID_REQUIRED => {
                    self.id = joined.member_id.to_string();
                    continue;
                }
                code => {
                    self.behind(code);
                    continue;
                }
            }
            self.id = joined.member_id.to_string();
            self.generation = joined.generation_id;
            match self.sync(&joined).await {
                Ok(target) => {
                    let held: BTreeSet<i32> = self.reader.held.keys().copied().collect();
                    let revoked: BTreeSet<i32> = held.difference(&target).copied().collect();
                    self.reader.give(&revoked);
                    self.reader.take(&target.difference(&held).copied().collect()).await;
                    if revoked.is_empty() {
                        return;
                    }
                }
                Err(code) => self.behind(code),
            }
        }
    }

    fn join_request(&self) -> JoinGroupRequest {
        let owned = self.reader.held.keys().copied().collect();
        let subscription = ConsumerProtocolSubscription::default()
            .with_topics(vec![topic().0])
            .with_owned_partitions(vec![Owned::default().with_topic(topic()).with_partitions(owned)])
            .with_generation_id(self.generation);
        let name = if self.cooperative { "cooperative-sticky" } else { "range" };
        let protocol = JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(encode(&subscription));
        JoinGroupRequest::default()
            .with_group_id(text(&self.reader.world.group).into())
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_session_timeout_ms(self.reader.world.session.as_millis() as i32)
            .with_rebalance_timeout_ms(60_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    }

    async fn sync(&mut self, joined: &JoinGroupResponse) -> Result<BTreeSet<i32>, i16> {
        let assignments =
            if joined.leader == joined.member_id && !joined.skip_assignment { self.assign(joined) } else { vec![] };
        let request = SyncGroupRequest::default()
            .with_group_id(text(&self.reader.world.group).into())
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_generation_id(self.generation)
            .with_protocol_type(joined.protocol_type.clone())
            .with_protocol_name(joined.protocol_name.clone())
            .with_assignments(assignments);
        let mut synced = self.reader.call(5, &request).await;
        if synced.error_code != 0 {
            return Err(synced.error_code);
        }
        if synced.assignment.is_empty() {
            return Ok(BTreeSet::new());
        }
        let version = synced.assignment.get_i16();
        let assignment = ConsumerProtocolAssignment::decode(&mut synced.assignment, version).expect("an assignment");
        Ok(assignment.assigned_partitions.iter().flat_map(|topic| topic.partitions.iter().copied()).collect())
    }

    /// The leader's work: everyone keeps what it has up to its share; what changes hands is nobody's for a generation.
    fn assign(&self, joined: &JoinGroupResponse) -> Vec<SyncGroupRequestAssignment> {
        let mut shares: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
        let mut free: BTreeSet<i32> = (0..self.reader.world.partitions).collect();
        let mut claims: BTreeMap<i32, (i32, &str)> = BTreeMap::new();
        for member in &joined.members {
            shares.insert(&member.member_id, BTreeSet::new());
            let mut metadata = member.metadata.clone();
            let version = metadata.get_i16();
            let said = ConsumerProtocolSubscription::decode(&mut metadata, version).expect("a subscription");
            for partition in said.owned_partitions.iter().flat_map(|topic| topic.partitions.iter().copied()) {
                // The younger of two claims holds.
                let claim = (said.generation_id, &*member.member_id);
                let best = claims.entry(partition).or_insert(claim);
                *best = (*best).max(claim);
            }
        }
        let members = shares.len();
        let (least, mut larger) = (free.len() / members, free.len() % members);
        for (partition, (_, member)) in &claims {
            let share = shares.get_mut(member).expect("a member");
            if share.len() < least || share.len() == least && larger > 0 {
                larger -= usize::from(share.len() == least);
                share.insert(*partition);
                free.remove(partition);
            }
        }
        free.retain(|partition| !claims.contains_key(partition));
        for room in [least, least + 1] {
            for share in shares.values_mut() {
                while share.len() < room && (room == least || larger > 0) {
                    let Some(partition) = free.pop_first() else { break };
                    larger -= usize::from(share.len() == least);
                    share.insert(partition);
                }
            }
        }
        let assignment = |(member, share): (&str, BTreeSet<i32>)| {
            let partitions = Assigned::default().with_topic(topic()).with_partitions(share.into_iter().collect());
            let assignment = ConsumerProtocolAssignment::default().with_assigned_partitions(vec![partitions]);
            SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(encode(&assignment))
        };
        shares.into_iter().map(assignment).collect()
    }

    async fn end(mut self, how: End) {
        let held = std::mem::take(&mut self.reader.held);
        self.reader.world.ledger.ends(self.reader.number, held.into_keys());
        if how == End::Leave {
            let who = MemberIdentity::default()
                .with_member_id(text(&self.id))
                .with_group_instance_id(self.instance.as_deref().map(text));
            let request = LeaveGroupRequest::default()
                .with_group_id(text(&self.reader.world.group).into())
                .with_members(vec![who]);
            let response = self.reader.call(5, &request).await;
            let code = response.members.first().map_or(response.error_code, |member| member.error_code);
            assert!([0, UNKNOWN_MEMBER_ID].contains(&code), "leaving: {code}");
        }
    }
}

fn encode(message: &impl Encodable) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(VERSION);
    message.encode(&mut bytes, VERSION).expect("encodes");
    bytes.freeze()
}
