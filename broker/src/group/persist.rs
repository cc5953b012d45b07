//! Groups and offsets as rows of the log's tables.
//!
//! A key is the group id with its length, then what it is: `c` a classic group, `k` + member id one of its members; `g` a
//! consumer group's epochs, `m` + member id one of its members; `s` a share group's epochs, `h` + member id one of its
//! members; `t` a streams group's epochs, `p` its topology, `w` + member id one of its members. Values are JSON: fields may be added, and people can read them. Offsets are
//! binary, for there are many (see [`super::offsets::Offset`]).

mod classic_rows;
mod streams_rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::classic::{self, ClassicGroup};
use super::consumer::ConsumerGroup;
use super::consumer::member::{Classic, Member, MemberState, Owned, Partitions};
use super::journal::Write;
use super::share::{self, ShareGroup};
use super::streams::{self, StreamsGroup, Topology};
use crate::log::tables::GROUPS;

use classic_rows::{ClassicMemberRow, ClassicRow};
pub(super) use classic_rows::{delete_classic, put_classic};
use streams_rows::{StreamsMemberRow, StreamsRow};
pub(super) use streams_rows::{
    delete_streams, delete_streams_member, delete_topology, put_streams, put_streams_member, put_topology,
    streams_member_differs,
};

const CLASSIC: u8 = b'c';
const CLASSIC_MEMBER: u8 = b'k';
const CONSUMER: u8 = b'g';
const MEMBER: u8 = b'm';
const SHARE: u8 = b's';
const SHARE_MEMBER: u8 = b'h';
const STREAMS: u8 = b't';
const TOPOLOGY: u8 = b'p';
const STREAMS_MEMBER: u8 = b'w';

/// What every key of a group starts with.
pub(crate) fn prefix(group: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(group.len() + 8);
    key.extend((group.len() as u32).to_be_bytes());
    key.extend(group.as_bytes());
    key
}

fn key(group: &str, kind: u8, rest: &str) -> Vec<u8> {
    let mut key = prefix(group);
    key.push(kind);
    key.extend(rest.as_bytes());
    key
}

pub(crate) fn offset_key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut key = prefix(group);
    key.extend(topic.as_bytes());
    key.extend(partition.to_be_bytes());
    key
}

/// The group of a key and what follows it.
pub(crate) fn split_key(key: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    let (group, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((std::str::from_utf8(group).ok()?, rest))
}

/// The topic and partition in an offset's key, without its group.
pub(crate) fn split_offset_key(rest: &[u8]) -> Option<(&str, i32)> {
    let (topic, partition) = rest.split_last_chunk::<4>()?;
    Some((std::str::from_utf8(topic).ok()?, i32::from_be_bytes(*partition)))
}

fn put<T: Serialize>(key: Vec<u8>, row: &T) -> Write {
    let value = serde_json::to_vec(row).expect("rows are maps with string keys");
    Write::Put { table: GROUPS, key, value }
}

pub(super) fn put_consumer(group: &str, state: &ConsumerGroup) -> Write {
    let row =
        EpochRow { epoch: state.epoch, assignment_epoch: state.assignment_epoch, metadata_hash: state.metadata_hash };
    put(key(group, CONSUMER, ""), &row)
}

pub(super) fn delete_consumer(group: &str) -> Write {
    Write::Delete { table: GROUPS, key: key(group, CONSUMER, "") }
}

pub(super) fn put_member(group: &str, member: &Member) -> Write {
    put(key(group, MEMBER, &member.id), &MemberRow::from(member))
}

pub(super) fn delete_member(group: &str, id: &str) -> Write {
    Write::Delete { table: GROUPS, key: key(group, MEMBER, id) }
}

pub(super) fn put_share(group: &str, state: &ShareGroup) -> Write {
    let row =
        EpochRow { epoch: state.epoch, assignment_epoch: state.assignment_epoch, metadata_hash: state.metadata_hash };
    put(key(group, SHARE, ""), &row)
}

pub(super) fn delete_share(group: &str) -> Write {
    Write::Delete { table: GROUPS, key: key(group, SHARE, "") }
}

pub(super) fn put_share_member(group: &str, member: &share::Member) -> Write {
    put(key(group, SHARE_MEMBER, &member.id), &ShareMemberRow::from(member))
}

pub(super) fn delete_share_member(group: &str, id: &str) -> Write {
    Write::Delete { table: GROUPS, key: key(group, SHARE_MEMBER, id) }
}

/// What a group's rows say.
#[derive(Debug)]
pub(super) enum Restored {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
    Share(ShareGroup),
    Streams(StreamsGroup),
}

/// Puts a group together from its rows, each without the group's part of the key. An unreadable row is left out and
/// reported: its member rejoins.
pub(super) fn restore(group: &str, rows: &[(&[u8], &[u8])]) -> Option<Restored> {
    let mut epochs: Option<EpochRow> = None;
    let mut members: Vec<Member> = Vec::new();
    let mut classic: Option<ClassicRow> = None;
    let mut classic_members: Vec<classic::Member> = Vec::new();
    let mut share: Option<EpochRow> = None;
    let mut share_members: Vec<share::Member> = Vec::new();
    let mut streams: Option<StreamsRow> = None;
    let mut topology = Topology::default();
    let mut streams_members: Vec<streams::Member> = Vec::new();
    for (rest, value) in rows {
        let read = match rest.first() {
            Some(&CLASSIC) => serde_json::from_slice(value).map(|row: ClassicRow| classic = Some(row)),
            Some(&CLASSIC_MEMBER) => {
                serde_json::from_slice(value).map(|row: ClassicMemberRow| classic_members.push(row.into()))
            }
            Some(&CONSUMER) => serde_json::from_slice(value).map(|row| epochs = Some(row)),
            Some(&MEMBER) => serde_json::from_slice(value).map(|row: MemberRow| members.push(row.into())),
            Some(&SHARE) => serde_json::from_slice(value).map(|row| share = Some(row)),
            Some(&SHARE_MEMBER) => {
                serde_json::from_slice(value).map(|row: ShareMemberRow| share_members.push(row.into()))
            }
            Some(&STREAMS) => serde_json::from_slice(value).map(|row| streams = Some(row)),
            Some(&TOPOLOGY) => serde_json::from_slice(value).map(|row| topology = row),
            Some(&STREAMS_MEMBER) => {
                serde_json::from_slice(value).map(|row: StreamsMemberRow| streams_members.push(row.into()))
            }
            _ => Ok(()),
        };
        if let Err(error) = read {
            tracing::error!(group, row = %String::from_utf8_lossy(rest), %error, "unreadable row of a group: left out");
        }
    }
    if let Some(row) = share {
        let group = ShareGroup::restored(row.epoch, row.assignment_epoch, row.metadata_hash, share_members);
        return Some(Restored::Share(group));
    }
    if let Some(row) = streams {
        return Some(Restored::Streams(row.with(topology, streams_members)));
    }
    match (epochs, classic) {
        (Some(row), _) => {
            let group = ConsumerGroup::restored(row.epoch, row.assignment_epoch, row.metadata_hash, members);
            Some(Restored::Consumer(group))
        }
        (None, Some(row)) => Some(Restored::Classic(row.with(classic_members))),
        (None, None) => None,
    }
}

/// The epochs of a consumer or share group.
#[derive(Serialize, Deserialize)]
struct EpochRow {
    epoch: i32,
    assignment_epoch: i32,
    metadata_hash: u64,
}

#[derive(Serialize, Deserialize)]
struct MemberRow {
    id: String,
    instance_id: Option<String>,
    rack_id: Option<String>,
    client_id: String,
    client_host: String,
    rebalance_timeout_ms: i32,
    topics: BTreeSet<String>,
    regex: Option<String>,
    assignor: Option<String>,
    epoch: i32,
    previous_epoch: i32,
    state: String,
    /// Topic id -> (partition, epoch).
    assigned: BTreeMap<String, Vec<(i32, i32)>>,
    revoking: BTreeMap<String, Vec<(i32, i32)>>,
    target: PartitionRows,
    classic: Option<(i32, Vec<(String, Hex)>)>,
}

impl From<&Member> for MemberRow {
    fn from(member: &Member) -> Self {
        let owned = |owned: &Owned| {
            let row = |(id, partitions): (&Uuid, &BTreeMap<i32, i32>)| {
                (id.to_string(), partitions.iter().map(|(p, e)| (*p, *e)).collect())
            };
            owned.iter().map(row).collect()
        };
        MemberRow {
            id: member.id.to_string(),
            instance_id: member.instance_id.as_deref().map(str::to_owned),
            rack_id: member.rack_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            topics: member.topics.clone(),
            regex: member.regex.clone(),
            assignor: member.assignor.clone(),
            epoch: member.epoch,
            previous_epoch: member.previous_epoch,
            state: member.state.name().to_owned(),
            assigned: owned(&member.assigned),
            revoking: owned(&member.revoking),
            target: partition_rows(&member.target),
            classic: member.classic.as_ref().map(|c| (c.session_timeout_ms, hex_protocols(&c.protocols))),
        }
    }
}

impl From<MemberRow> for Member {
    fn from(row: MemberRow) -> Self {
        let owned = |rows: BTreeMap<String, Vec<(i32, i32)>>| -> Owned {
            rows.into_iter().filter_map(|(id, set)| Some((id.parse().ok()?, set.into_iter().collect()))).collect()
        };
        let (assigned, revoking) = (owned(row.assigned), owned(row.revoking));
        let pairs = |(topic, set): (&Uuid, &BTreeMap<i32, i32>)| {
            let topic = *topic;
            set.keys().map(move |partition| (topic, *partition)).collect::<Vec<_>>()
        };
        Member {
            id: row.id.into(),
            instance_id: row.instance_id.map(Arc::from),
            rack_id: row.rack_id,
            client_id: row.client_id,
            client_host: row.client_host,
            rebalance_timeout_ms: row.rebalance_timeout_ms,
            topics: row.topics,
            regex: row.regex,
            assignor: row.assignor,
            epoch: row.epoch,
            previous_epoch: row.previous_epoch,
            state: MemberState::by_name(&row.state),
            untaken: assigned.iter().chain(&revoking).flat_map(pairs).collect(),
            assigned,
            revoking,
            target: partitions(row.target),
            classic: row.classic.map(|(session_timeout_ms, protocols)| Classic {
                session_timeout_ms,
                protocols: protocols.into_iter().map(|(name, Hex(bytes))| (name, bytes)).collect(),
            }),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct ShareMemberRow {
    id: String,
    rack_id: Option<String>,
    client_id: String,
    client_host: String,
    topics: BTreeSet<String>,
    epoch: i32,
    previous_epoch: i32,
    assigned: PartitionRows,
    target: PartitionRows,
}

/// Topic id -> partitions.
type PartitionRows = BTreeMap<String, Vec<i32>>;

fn partition_rows(partitions: &Partitions) -> PartitionRows {
    partitions.iter().map(|(id, set)| (id.to_string(), set.iter().copied().collect())).collect()
}

fn partitions(rows: PartitionRows) -> Partitions {
    rows.into_iter().filter_map(|(id, set)| Some((id.parse().ok()?, set.into_iter().collect()))).collect()
}

impl From<&share::Member> for ShareMemberRow {
    fn from(member: &share::Member) -> Self {
        ShareMemberRow {
            id: member.id.to_string(),
            rack_id: member.rack_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topics: member.topics.clone(),
            epoch: member.epoch,
            previous_epoch: member.previous_epoch,
            assigned: partition_rows(&member.assigned),
            target: partition_rows(&member.target),
        }
    }
}

impl From<ShareMemberRow> for share::Member {
    fn from(row: ShareMemberRow) -> Self {
        share::Member {
            id: row.id.into(),
            rack_id: row.rack_id,
            client_id: row.client_id,
            client_host: row.client_host,
            topics: row.topics,
            epoch: row.epoch,
            previous_epoch: row.previous_epoch,
            assigned: partitions(row.assigned),
            target: partitions(row.target),
        }
    }
}

fn hex_protocols(protocols: &[classic::Protocol]) -> Vec<(String, Hex)> {
    protocols.iter().map(|(name, metadata)| (name.clone(), Hex(metadata.clone()))).collect()
}

/// Bytes as hexadecimal text.
struct Hex(Bytes);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        let text: String = self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |c: u8| char::from(c).to_digit(16);
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some((digit(*high)? * 16 + digit(*low)?) as u8),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.map(|bytes| Hex(bytes.into())).ok_or_else(|| serde::de::Error::custom("not hexadecimal"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_groups_apart() {
        for group in ["", "g", "näht", "g\0m"] {
            let key = offset_key(group, "a.topic", 7);
            let (found, rest) = split_key(&key).expect("splits");
            assert_eq!((found, split_offset_key(rest)), (group, Some(("a.topic", 7))));
        }
        assert!(!key("ab", MEMBER, "x").starts_with(&prefix("a")));
        assert_eq!(split_key(&[0, 0, 0, 9, 1]), None);
    }

    #[test]
    fn a_consumer_group_comes_back_as_it_was() {
        let topic = Uuid::from_u128(9);
        let mut member = Member::new("m1".into());
        member.instance_id = Some("i".into());
        member.rack_id = Some("r".to_owned());
        member.topics = ["a".to_owned()].into();
        member.regex = Some("b.*".to_owned());
        member.state = MemberState::Unrevoked;
        member.epoch = 7;
        member.assigned = [(topic, [(0, 3), (1, 7)].into())].into();
        member.revoking = [(topic, [(2, 3)].into())].into();
        // After a restart nobody knows what the member has taken up.
        member.untaken = [(topic, 0), (topic, 1), (topic, 2)].into();
        member.target = [(topic, [0, 5].into())].into();
        member.classic = Some(Classic {
            session_timeout_ms: 9,
            protocols: vec![("range".to_owned(), Bytes::from_static(&[0, 255]))],
        });
        let group = ConsumerGroup::restored(8, 7, 42, vec![member.clone()]);
        let writes = [put_consumer("g", &group), put_member("g", &member)];
        let rows: Vec<_> = writes
            .iter()
            .map(|write| match write {
                Write::Put { key, value, .. } => (split_key(key).expect("splits").1, value.as_slice()),
                _ => panic!("{write:?}"),
            })
            .collect();
        let Some(Restored::Consumer(restored)) = restore("g", &rows) else { panic!("not a consumer group") };
        assert_eq!((restored.epoch, restored.assignment_epoch, restored.metadata_hash), (8, 7, 42));
        assert_eq!(restored.members.values().collect::<Vec<_>>(), [&member]);
    }

    #[test]
    fn an_unreadable_row_costs_a_member_not_the_group() {
        let group = ConsumerGroup::restored(8, 7, 42, vec![]);
        let Write::Put { value, .. } = put_consumer("g", &group) else { panic!("a put") };
        let rows: [(&[u8], &[u8]); 2] = [(b"g", &value), (b"mx", b"{")];
        let Some(Restored::Consumer(restored)) = restore("g", &rows) else { panic!("not a consumer group") };
        assert!(restored.members.is_empty());
        assert!(restore("g", &[(b"mx", b"{")]).is_none());
    }
}
