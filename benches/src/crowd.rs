//! Many clients that do next to nothing: connections, and members of groups that heartbeat.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiVersionsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, SyncGroupRequest,
};

use crate::server::check_interrupted;
use crate::transactions::again;
use crate::wire::{Connection, check, name};

/// The Java consumer's `heartbeat.interval.ms`.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// The last versions before a first answer that only names the member.
const JOIN_GROUP: i16 = 3;
const SYNC_GROUP: i16 = 2;
const HEARTBEATS: i16 = 2;

/// A member of a group of its own.
struct Member {
    connection: Connection,
    group: GroupId,
    id: kafka_protocol::protocol::StrBytes,
    generation: i32,
}

/// All of them.
pub(crate) struct Crowd {
    members: Vec<Member>,
    _idle: Vec<Connection>,
}

impl Crowd {
    /// Opens `count` connections, of which `groups` become members; each has asked for the server's versions, as
    /// clients do.
    pub(crate) fn open(address: SocketAddr, count: usize, groups: usize) -> Result<Self> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            let mut connection = Connection::open(address)?;
            connection.call(0, &ApiVersionsRequest::default())?;
            connections.push(connection);
        }
        check_interrupted()?;
        let mut idle = connections.split_off(groups.min(count));
        let asker = idle.first_mut().context("more connections than groups")?;
        let asked = FindCoordinatorRequest::default().with_coordinator_keys(vec![name("crowd-0")]);
        again("FindCoordinator", || Ok(asker.call(4, &asked)?.coordinators[0].error_code))?;
        // Servers let a new group wait for more members, so all join at once.
        let members = thread::scope(|scope| {
            let threads: Vec<_> = connections
                .into_iter()
                .enumerate()
                .map(|(number, connection)| scope.spawn(move || Member::join(number, connection)))
                .collect();
            let join = |thread: thread::ScopedJoinHandle<'_, Result<Member>>| {
                thread.join().map_err(|_| anyhow::anyhow!("a member panicked"))?
            };
            threads.into_iter().map(join).collect::<Result<Vec<_>>>()
        })?;
        Ok(Self { members, _idle: idle })
    }

    /// Heartbeats for so long, evenly spread.
    pub(crate) fn stay(&mut self, time: Duration) -> Result<()> {
        let start = Instant::now();
        let gap = HEARTBEAT / self.members.len().max(1) as u32;
        for turn in 0u32.. {
            let due = start + gap * turn;
            if due > start + time {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            check_interrupted()?;
            let index = turn as usize % self.members.len();
            self.members[index].heartbeat()?;
        }
        Ok(())
    }
}

impl Member {
    fn join(number: usize, mut connection: Connection) -> Result<Self> {
        let group = GroupId(name(&format!("crowd-{number}")));
        let protocol = JoinGroupRequestProtocol::default().with_name(name("range")).with_metadata(Bytes::new());
        let request = JoinGroupRequest::default()
            .with_group_id(group.clone())
            .with_session_timeout_ms(300_000)
            .with_rebalance_timeout_ms(60_000)
            .with_protocol_type(name("consumer"))
            .with_protocols(vec![protocol]);
        let (mut id, mut generation) = Default::default();
        // Kafka loads its coordinators one by one when the first of them is asked for.
        again("JoinGroup", || {
            let joined = connection.call(JOIN_GROUP, &request)?;
            (id, generation) = (joined.member_id, joined.generation_id);
            Ok(joined.error_code)
        })?;
        let assignment = SyncGroupRequestAssignment::default().with_member_id(id.clone());
        let request = SyncGroupRequest::default()
            .with_group_id(group.clone())
            .with_generation_id(generation)
            .with_member_id(id.clone())
            .with_assignments(vec![assignment]);
        check(connection.call(SYNC_GROUP, &request)?.error_code, "SyncGroup")?;
        Ok(Self { connection, group, id, generation })
    }

    fn heartbeat(&mut self) -> Result<()> {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        check(self.connection.call(HEARTBEATS, &request)?.error_code, "Heartbeat")
    }
}
