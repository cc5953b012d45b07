//! Rows of streams groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{STREAMS, STREAMS_MEMBER, TOPOLOGY, key, put};
use crate::group::consumer::member::MemberState;
use crate::group::journal::Write;
use crate::group::streams::{Member, Owned, StreamsGroup, Task, Tasks, Topology};
use crate::log::tables::GROUPS;

pub(in crate::group) fn put_streams(group: &str, state: &StreamsGroup) -> Write {
    let row = StreamsRow {
        epoch: state.epoch,
        assignment_epoch: state.assignment_epoch,
        metadata_hash: state.metadata_hash,
        validated_epoch: state.validated_epoch,
        standby_replicas: state.standby_replicas,
    };
    put(key(group, STREAMS, ""), &row)
}

pub(in crate::group) fn delete_streams(group: &str) -> Write {
    Write::Delete { table: GROUPS, key: key(group, STREAMS, "") }
}

pub(in crate::group) fn put_topology(group: &str, topology: &Topology) -> Write {
    put(key(group, TOPOLOGY, ""), topology)
}

pub(in crate::group) fn delete_topology(group: &str) -> Write {
    Write::Delete { table: GROUPS, key: key(group, TOPOLOGY, "") }
}

pub(in crate::group) fn put_streams_member(group: &str, member: &Member) -> Write {
    put(key(group, STREAMS_MEMBER, &member.id), &StreamsMemberRow::from(member))
}

pub(in crate::group) fn delete_streams_member(group: &str, id: &str) -> Write {
    Write::Delete { table: GROUPS, key: key(group, STREAMS_MEMBER, id) }
}

/// True when the members' rows differ.
pub(in crate::group) fn streams_member_differs(a: &Member, b: &Member) -> bool {
    StreamsMemberRow::from(a) != StreamsMemberRow::from(b)
}

/// A streams group without its topology and members.
#[derive(Serialize, Deserialize)]
pub(super) struct StreamsRow {
    epoch: i32,
    assignment_epoch: i32,
    metadata_hash: u64,
    validated_epoch: i32,
    standby_replicas: i32,
}

impl StreamsRow {
    pub(super) fn with(self, topology: Topology, members: Vec<Member>) -> StreamsGroup {
        let mut group = StreamsGroup::empty(self.epoch);
        group.assignment_epoch = self.assignment_epoch;
        group.metadata_hash = self.metadata_hash;
        group.validated_epoch = self.validated_epoch;
        group.standby_replicas = self.standby_replicas;
        group.topology = topology;
        group.members = members.into_iter().map(|member| (member.id.clone(), member)).collect();
        group
    }
}

#[derive(PartialEq, Serialize, Deserialize)]
pub(super) struct StreamsMemberRow {
    id: String,
    instance_id: Option<String>,
    rack_id: Option<String>,
    client_id: String,
    client_host: String,
    rebalance_timeout_ms: i32,
    topology_epoch: i32,
    process_id: String,
    endpoint: Option<(String, u16)>,
    client_tags: BTreeMap<String, String>,
    epoch: i32,
    previous_epoch: i32,
    state: String,
    assigned: OwnedRow,
    revoking: OwnedRow,
    target: Tasks,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct OwnedRow {
    /// With the epochs in which the member got them.
    active: Vec<(Task, i32)>,
    standby: Vec<Task>,
}

impl From<&Owned> for OwnedRow {
    fn from(owned: &Owned) -> Self {
        OwnedRow {
            active: owned.active.iter().map(|(task, epoch)| (task.clone(), *epoch)).collect(),
            standby: owned.standby.iter().cloned().collect(),
        }
    }
}

impl From<OwnedRow> for Owned {
    fn from(row: OwnedRow) -> Self {
        Owned { active: row.active.into_iter().collect(), standby: row.standby.into_iter().collect() }
    }
}

impl From<&Member> for StreamsMemberRow {
    fn from(member: &Member) -> Self {
        StreamsMemberRow {
            id: member.id.to_string(),
            instance_id: member.instance_id.as_deref().map(str::to_owned),
            rack_id: member.rack_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            topology_epoch: member.topology_epoch,
            process_id: member.process_id.clone(),
            endpoint: member.endpoint.clone(),
            client_tags: member.client_tags.clone(),
            epoch: member.epoch,
            previous_epoch: member.previous_epoch,
            state: member.state.name().to_owned(),
            assigned: (&member.assigned).into(),
            revoking: (&member.revoking).into(),
            target: member.target.clone(),
        }
    }
}

impl From<StreamsMemberRow> for Member {
    fn from(row: StreamsMemberRow) -> Self {
        Member {
            instance_id: row.instance_id.map(Into::into),
            rack_id: row.rack_id,
            client_id: row.client_id,
            client_host: row.client_host,
            rebalance_timeout_ms: row.rebalance_timeout_ms,
            topology_epoch: row.topology_epoch,
            process_id: row.process_id,
            endpoint: row.endpoint,
            client_tags: row.client_tags,
            epoch: row.epoch,
            previous_epoch: row.previous_epoch,
            state: MemberState::by_name(&row.state),
            assigned: row.assigned.into(),
            revoking: row.revoking.into(),
            target: row.target,
            ..Member::new(row.id.into())
        }
    }
}
