//! One row per record batch: where it lies and what look-ups ask about it.

use krocket_protocol::records::BatchHeader;
use smallvec::SmallVec;

use crate::error::IndexError;
use crate::op::{BatchOp, Location};

/// What the index knows of a batch. A pure function of the batch's op.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRow {
    /// First offset.
    pub base_offset: i64,
    /// Last offset.
    pub last_offset: i64,
    /// Where the bytes are.
    pub location: Location,
    /// Leader epoch of the append.
    pub leader_epoch: i32,
    /// Highest timestamp, ms.
    pub max_timestamp: i64,
    /// Highest timestamp of the partition up to and with this batch, ms: grows with the offset.
    pub running_max_timestamp: i64,
    /// Bytes ever appended to the partition up to and with this batch.
    pub cumulative_bytes: u64,
    /// Number of records.
    pub count: u32,
    /// The batch's attributes.
    pub attributes: i16,
    /// -1 for none.
    pub producer_id: i64,
    /// -1 for none.
    pub producer_epoch: i16,
    /// -1 for none.
    pub base_sequence: i32,
    /// As in the op.
    pub flags: u8,
    /// As in the op.
    pub marks: SmallVec<[u8; 16]>,
}

impl BatchRow {
    /// The row of a batch in the log. `header` holds the final base offset and leader epoch.
    pub fn new(
        header: &BatchHeader,
        location: Location,
        running_max_timestamp: i64,
        cumulative_bytes: u64,
        flags: u8,
        marks: &[u8],
    ) -> Self {
        BatchRow {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            location,
            leader_epoch: header.leader_epoch,
            max_timestamp: header.max_timestamp,
            running_max_timestamp,
            cumulative_bytes,
            count: header.count.max(0) as u32,
            attributes: header.attributes,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            flags,
            marks: SmallVec::from_slice(marks),
        }
    }

    /// The row of a batch op.
    pub fn of(op: &BatchOp<'_>) -> Self {
        BatchRow::new(&op.header, op.location, op.running_max_timestamp, op.cumulative_bytes, op.flags, op.marks)
    }

    pub(crate) fn encode(&self) -> SmallVec<[u8; 96]> {
        let mut out = SmallVec::new();
        out.extend_from_slice(&self.base_offset.to_le_bytes());
        out.extend_from_slice(&self.location.file.to_le_bytes());
        out.extend_from_slice(&self.location.offset.to_le_bytes());
        out.extend_from_slice(&self.location.len.to_le_bytes());
        out.extend_from_slice(&self.leader_epoch.to_le_bytes());
        out.extend_from_slice(&self.max_timestamp.to_le_bytes());
        out.extend_from_slice(&self.running_max_timestamp.to_le_bytes());
        out.extend_from_slice(&self.cumulative_bytes.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.attributes.to_le_bytes());
        out.extend_from_slice(&self.producer_id.to_le_bytes());
        out.extend_from_slice(&self.producer_epoch.to_le_bytes());
        out.extend_from_slice(&self.base_sequence.to_le_bytes());
        out.push(self.flags);
        out.extend_from_slice(&self.marks);
        out
    }

    pub(crate) fn decode(last_offset: i64, value: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(value);
        let mut row = || {
            Some(BatchRow {
                last_offset,
                base_offset: i64::from_le_bytes(fields.take()?),
                location: Location {
                    file: u32::from_le_bytes(fields.take()?),
                    offset: u32::from_le_bytes(fields.take()?),
                    len: u32::from_le_bytes(fields.take()?),
                },
                leader_epoch: i32::from_le_bytes(fields.take()?),
                max_timestamp: i64::from_le_bytes(fields.take()?),
                running_max_timestamp: i64::from_le_bytes(fields.take()?),
                cumulative_bytes: u64::from_le_bytes(fields.take()?),
                count: u32::from_le_bytes(fields.take()?),
                attributes: i16::from_le_bytes(fields.take()?),
                producer_id: i64::from_le_bytes(fields.take()?),
                producer_epoch: i16::from_le_bytes(fields.take()?),
                base_sequence: i32::from_le_bytes(fields.take()?),
                flags: u8::from_le_bytes(fields.take()?),
                marks: SmallVec::from_slice(fields.0),
            })
        };
        row().ok_or_else(|| IndexError("a batch row that is cut off".into()))
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }
}

/// Key of a row: the partition, then the last offset, so that a seek finds the batch that holds an offset.
pub(crate) fn batch_key(partition: u32, last_offset: i64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&partition.to_be_bytes());
    key[4..].copy_from_slice(&(last_offset.max(0) as u64).to_be_bytes());
    key
}

pub(crate) fn parse_batch_key(key: &[u8]) -> Option<(u32, i64)> {
    let (partition, offset) = key.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*partition), u64::from_be_bytes(offset.try_into().ok()?) as i64))
}
