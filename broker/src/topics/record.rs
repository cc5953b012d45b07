//! A topic as it is stored: JSON, so that `format` can grow without a migration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::log::PartitionId;

/// The layout written by this version.
const FORMAT: u32 = 1;

/// Runs of partition ids in index order: (first, count). A topic gets one when it is created and one each time it grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Runs(Vec<(PartitionId, u32)>);

impl Runs {
    fn new(partitions: &[PartitionId]) -> Self {
        let mut runs: Vec<(PartitionId, u32)> = Vec::new();
        for &id in partitions {
            match runs.last_mut() {
                Some((first, count)) if first.checked_add(*count) == Some(id) => *count += 1,
                _ => runs.push((id, 1)),
            }
        }
        Runs(runs)
    }

    fn iter(&self) -> impl Iterator<Item = PartitionId> {
        self.0.iter().flat_map(|&(first, count)| first..first.saturating_add(count))
    }
}

/// The value of a row of [`TOPICS`](crate::log::tables::TOPICS); the key is the topic's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TopicRecord {
    format: u32,
    pub(super) id: Uuid,
    partitions: Runs,
    pub(super) configs: BTreeMap<String, String>,
}

/// Says that a deleted topic's partitions and offsets are to be let go of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Deletion {
    format: u32,
    pub(super) name: String,
    partitions: Runs,
}

/// Why a stored row cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not what any version wrote.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Written by a later version.
    #[error("its format is {0}, this version of krocket reads {FORMAT}")]
    Format(u32),
}

/// The partitions of a stored topic, in index order; nothing where the row is none that this version reads.
pub fn partitions_of(row: &[u8]) -> Vec<PartitionId> {
    TopicRecord::decode(row).map(|record| record.partitions().collect()).unwrap_or_default()
}

fn check_format(format: u32) -> Result<(), RecordError> {
    if format == FORMAT { Ok(()) } else { Err(RecordError::Format(format)) }
}

impl TopicRecord {
    pub(super) fn new(id: Uuid, partitions: &[PartitionId], configs: BTreeMap<String, String>) -> Self {
        TopicRecord { format: FORMAT, id, partitions: Runs::new(partitions), configs }
    }

    /// The partitions' ids in index order.
    pub(super) fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.partitions.iter()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are JSON")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let record: TopicRecord = serde_json::from_slice(bytes)?;
        check_format(record.format)?;
        Ok(record)
    }
}

impl Deletion {
    pub(super) fn new(name: String, partitions: &[PartitionId]) -> Self {
        Deletion { format: FORMAT, name, partitions: Runs::new(partitions) }
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.partitions.iter()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are JSON")
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let deletion: Deletion = serde_json::from_slice(bytes)?;
        check_format(deletion.format)?;
        Ok(deletion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_stays_readable() {
        let configs = BTreeMap::from([("retention.ms".to_owned(), "1".to_owned())]);
        let record = TopicRecord::new(Uuid::from_u128(7), &[4, 5, 6, 9], configs);
        let bytes = record.encode();
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            r#"{"format":1,"id":"00000000-0000-0000-0000-000000000007","partitions":[[4,3],[9,1]],"configs":{"retention.ms":"1"}}"#
        );
        let read = TopicRecord::decode(&bytes).expect("its own bytes");
        assert_eq!(read, record);
        assert_eq!(read.partitions().collect::<Vec<_>>(), [4, 5, 6, 9]);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let later = r#"{"format":2,"id":"00000000-0000-0000-0000-000000000007","partitions":[],"configs":{}}"#;
        let error = TopicRecord::decode(later.as_bytes()).expect_err("a later format").to_string();
        assert!(error.contains("format is 2"), "{error}");
        TopicRecord::decode(b"{").expect_err("cut off");
    }
}
