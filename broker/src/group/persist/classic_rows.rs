//! Classic groups: a row for the group and one for each member, so that a static member that comes back costs two small
//! rows however large the group is.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{CLASSIC, CLASSIC_MEMBER, GROUPS, Hex, hex_protocols, key, put};
use crate::group::classic::{ClassicGroup, Member};
use crate::group::journal::Write;

/// What brings the rows in line with the group: with `all` every member is written, else those that have no row yet. `known`
/// are the members with rows, before and afterwards.
pub(in crate::group) fn put_classic(
    group: &str,
    state: &ClassicGroup,
    settled: bool,
    known: &mut BTreeSet<Arc<str>>,
    all: bool,
) -> Vec<Write> {
    let row = ClassicRow {
        generation: state.generation,
        protocol_type: state.protocol_type.clone(),
        protocol_name: state.protocol_name.clone(),
        leader: state.leader.as_deref().map(str::to_owned),
        state_since_ms: state.state_since_ms,
        settled,
    };
    let mut writes = vec![put(key(group, CLASSIC, ""), &row)];
    known.retain(|id| {
        let stays = state.members.contains_key(id);
        if !stays {
            writes.push(delete_member(group, id));
        }
        stays
    });
    for member in state.members.values() {
        if known.insert(member.id.clone()) || all {
            writes.push(put(key(group, CLASSIC_MEMBER, &member.id), &ClassicMemberRow::from(member)));
        }
    }
    writes
}

/// Takes the rows of the group and of these members away.
pub(in crate::group) fn delete_classic(group: &str, known: &BTreeSet<Arc<str>>) -> Vec<Write> {
    let mut writes: Vec<_> = known.iter().map(|id| delete_member(group, id)).collect();
    writes.push(Write::Delete { table: GROUPS, key: key(group, CLASSIC, "") });
    writes
}

fn delete_member(group: &str, id: &str) -> Write {
    Write::Delete { table: GROUPS, key: key(group, CLASSIC_MEMBER, id) }
}

#[derive(Serialize, Deserialize)]
pub(super) struct ClassicRow {
    generation: i32,
    protocol_type: Option<String>,
    protocol_name: Option<String>,
    leader: Option<String>,
    state_since_ms: i64,
    settled: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ClassicMemberRow {
    id: String,
    instance_id: Option<String>,
    client_id: String,
    client_host: String,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
    protocols: Vec<(String, Hex)>,
    assignment: Hex,
}

impl From<&Member> for ClassicMemberRow {
    fn from(member: &Member) -> Self {
        ClassicMemberRow {
            id: member.id.to_string(),
            instance_id: member.instance_id.as_deref().map(str::to_owned),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            protocols: hex_protocols(&member.protocols),
            assignment: Hex(member.assignment.clone()),
        }
    }
}

impl From<ClassicMemberRow> for Member {
    fn from(row: ClassicMemberRow) -> Self {
        Member {
            id: row.id.into(),
            instance_id: row.instance_id.map(Arc::from),
            client_id: row.client_id,
            client_host: row.client_host,
            rebalance_timeout_ms: row.rebalance_timeout_ms,
            session_timeout_ms: row.session_timeout_ms,
            protocols: row.protocols.into_iter().map(|(name, Hex(bytes))| (name, bytes)).collect(),
            assignment: row.assignment.0,
            joining: None,
            syncing: None,
            is_new: false,
        }
    }
}

impl ClassicRow {
    /// The group with its members.
    pub(super) fn with(self, members: Vec<Member>) -> ClassicGroup {
        let rows = members.iter().map(|member| member.id.clone()).collect();
        let mut group = ClassicGroup::restored(
            self.generation,
            self.protocol_type,
            self.protocol_name,
            self.leader.map(Arc::from),
            members,
            self.state_since_ms,
            self.settled,
        );
        group.rows = rows;
        group
    }
}
