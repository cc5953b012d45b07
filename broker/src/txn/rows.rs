//! What the log keeps of transactional ids. That a transaction is open follows from the partitions' own rows.

use serde::{Deserialize, Serialize};

use super::state::{Ended, Producer, Txn};
use crate::group::{Offset, OffsetChange, offset_key, split_key, split_offset_key};
use crate::log::{PartitionId, Write, tables};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    producer: (i64, i16),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<(i64, i16)>,
    timeout_ms: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    committed: Option<bool>,
    used_ms: i64,
    /// Of an open transaction: what a client has announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) open: Option<OpenRow>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OpenRow {
    pub(super) since_ms: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) partitions: Vec<PartitionId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) groups: Vec<String>,
}

impl Row {
    pub(super) fn of(txn: &Txn) -> Self {
        let pair = |producer: Producer| (producer.id, producer.epoch);
        Row {
            producer: pair(txn.producer),
            previous: txn.previous.map(pair),
            timeout_ms: txn.timeout_ms,
            committed: match txn.ended {
                Ended::Never => None,
                ended => Some(ended == Ended::Committed),
            },
            used_ms: txn.used_ms,
            open: txn.open.as_ref().map(|open| OpenRow {
                since_ms: open.since_ms,
                partitions: open.added(),
                groups: open.groups.iter().cloned().collect(),
            }),
        }
    }

    pub(super) fn read(value: &[u8]) -> Option<(Txn, Option<OpenRow>)> {
        let row: Row = serde_json::from_slice(value).ok()?;
        let producer = |(id, epoch)| Producer { id, epoch };
        let txn = Txn {
            previous: row.previous.map(producer),
            ended: row.committed.map_or(Ended::Never, Ended::of),
            ..Txn::new(producer(row.producer), row.timeout_ms, row.used_ms)
        };
        Some((txn, row.open))
    }
}

/// Writes an id down as it is.
pub(super) fn put(id: &str, txn: &Txn) -> Write {
    put_row(id, &Row::of(txn))
}

/// Writes an id down as it will be: with this producer, nothing open.
pub(super) fn put_next(id: &str, txn: &Txn, producer: Producer, previous: Option<Producer>, ended: Ended) -> Write {
    let pair = |producer: Producer| (producer.id, producer.epoch);
    let committed = match ended {
        Ended::Never => None,
        ended => Some(ended == Ended::Committed),
    };
    let previous = previous.map(pair);
    put_row(id, &Row { producer: pair(producer), previous, committed, open: None, ..Row::of(txn) })
}

fn put_row(id: &str, row: &Row) -> Write {
    let value = serde_json::to_vec(row).expect("plain data");
    Write::Put { table: tables::TXNS, key: id.as_bytes().to_vec(), value }
}

pub(super) fn delete(id: &str) -> Write {
    Write::Delete { table: tables::TXNS, key: id.as_bytes().to_vec() }
}

fn key_of(producer_id: i64, group: &str, change: &OffsetChange) -> Vec<u8> {
    [&producer_id.to_be_bytes()[..], &offset_key(group, &change.topic, change.partition)].concat()
}

pub(super) fn put_offset(producer_id: i64, group: &str, change: &OffsetChange) -> Write {
    let value = change.offset.as_ref().map(Offset::encode).unwrap_or_default();
    Write::Put { table: tables::TXN_OFFSETS, key: key_of(producer_id, group, change), value }
}

pub(super) fn delete_offset(producer_id: i64, group: &str, change: &OffsetChange) -> Write {
    Write::Delete { table: tables::TXN_OFFSETS, key: key_of(producer_id, group, change) }
}

/// Producer id, group and offset of a row.
pub(super) fn read_offset(key: &[u8], value: &[u8]) -> Option<(i64, String, OffsetChange)> {
    let (producer_id, rest) = key.split_first_chunk()?;
    let (group, rest) = split_key(rest)?;
    let (topic, partition) = split_offset_key(rest)?;
    let change = OffsetChange { topic: topic.to_owned(), partition, offset: Some(Offset::decode(value)?) };
    Some((i64::from_be_bytes(*producer_id), group.to_owned(), change))
}

/// A transactional id's text, from a key.
pub(super) fn read_id(key: &[u8]) -> Option<String> {
    String::from_utf8(key.to_vec()).ok()
}
