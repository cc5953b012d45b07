//! Rows of the index of matches: which records of a source's batch a view shows, and where their bytes lie.

use krocket_protocol::records::batch::{ATTRIBUTE_COMPRESSION, NO_TIMESTAMP};
use krocket_protocol::records::{BatchHeader, Codec, varint};
use krocket_stack::ledger::PartitionId;

const VERSION: u8 = 1;
/// Every visible record matches: the batch can be shown as it is.
const ALL: u8 = 1;

/// One matching record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    /// Its offset.
    pub(crate) offset: i64,
    /// Its bytes in the batch, length first; nothing where the batch is compressed.
    pub(crate) start: u32,
    /// See `start`.
    pub(crate) len: u32,
}

/// The matching records of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Matches {
    /// Bases, attributes and leader epoch of the batch; the rest of a header is not kept.
    pub(crate) header: BatchHeader,
    /// Every visible record of the batch.
    pub(crate) all: bool,
    /// Highest timestamp of a match, ms.
    pub(crate) max_timestamp: i64,
    /// Ascending.
    pub(crate) records: Vec<Match>,
}

impl Matches {
    /// True when some of the batch's records are to be read, and can be one by one.
    pub(crate) fn is_in_place(&self) -> bool {
        self.readable_in_place() && !self.all
    }

    /// True when the records can be read one by one.
    fn readable_in_place(&self) -> bool {
        self.header.codec() == Some(Codec::None)
    }

    /// Offset of the last match.
    pub(crate) fn last_offset(&self) -> i64 {
        self.records.last().map_or(self.header.base_offset, |last| last.offset)
    }

    /// The value of the row.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let header = &self.header;
        let mut out = Vec::with_capacity(40 + self.records.len() * 6);
        out.push(VERSION);
        out.push(if self.all { ALL } else { 0 });
        out.extend_from_slice(&header.attributes.to_be_bytes());
        out.extend_from_slice(&header.leader_epoch.to_be_bytes());
        out.extend_from_slice(&header.base_offset.to_be_bytes());
        out.extend_from_slice(&header.base_timestamp.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.to_be_bytes());
        out.extend_from_slice(&(header.len as u32).to_be_bytes());
        let in_place = self.readable_in_place();
        let (mut offset, mut end) = (header.base_offset, 0);
        for record in &self.records {
            varint::write_i64(&mut out, record.offset - offset);
            offset = record.offset;
            if in_place {
                varint::write_i64(&mut out, i64::from(record.start) - i64::from(end));
                varint::write_i64(&mut out, record.len.into());
                end = record.start + record.len;
            }
        }
        out
    }

    /// Reads a row; `None` where it is none.
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let (&[version, flags], rest) = value.split_first_chunk()?;
        let (attributes, rest) = rest.split_first_chunk()?;
        let (leader_epoch, rest) = rest.split_first_chunk()?;
        let (base_offset, rest) = rest.split_first_chunk()?;
        let (base_timestamp, rest) = rest.split_first_chunk()?;
        let (max_timestamp, rest) = rest.split_first_chunk()?;
        let (len, mut rest) = rest.split_first_chunk()?;
        if version != VERSION {
            return None;
        }
        let max_timestamp = i64::from_be_bytes(*max_timestamp);
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(*base_offset),
            len: u32::from_be_bytes(*len) as usize,
            leader_epoch: i32::from_be_bytes(*leader_epoch),
            crc: 0,
            attributes: i16::from_be_bytes(*attributes),
            last_offset_delta: 0,
            base_timestamp: i64::from_be_bytes(*base_timestamp),
            max_timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
        };
        let in_place = header.attributes & ATTRIBUTE_COMPRESSION == 0;
        let (mut offset, mut end) = (header.base_offset, 0_i64);
        let mut records = Vec::new();
        while !rest.is_empty() {
            offset = offset.checked_add(varint::read_i64(&mut rest)?)?;
            let (mut start, mut len) = (0, 0);
            if in_place {
                start = end.checked_add(varint::read_i64(&mut rest)?)?;
                len = varint::read_i64(&mut rest)?;
                end = start.checked_add(len)?;
            }
            records.push(Match { offset, start: start.try_into().ok()?, len: len.try_into().ok()? });
        }
        Some(Matches { header, all: flags & ALL != 0, max_timestamp, records })
    }
}

/// Where a row is: the view's partition and the offset of the batch's last match.
pub(crate) fn key(view: PartitionId, last_match: i64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&view.to_be_bytes());
    key[4..].copy_from_slice(&last_match.max(0).to_be_bytes());
    key
}

/// The offset in a key; `None` for another partition's.
pub(crate) fn offset_in(key: &[u8], view: PartitionId) -> Option<i64> {
    let (id, offset) = key.split_first_chunk::<4>()?;
    (u32::from_be_bytes(*id) == view).then(|| offset.try_into().ok().map(i64::from_be_bytes)).flatten()
}

/// How far a view's partition is: a row of its own, written with the matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The source's partition that was read.
    pub(crate) source: PartitionId,
    /// First offset that is not evaluated yet.
    pub(crate) next: i64,
    /// Offset of the last match plus one.
    pub(crate) end: i64,
    /// Matches that were found.
    pub(crate) matched: u64,
    /// Highest timestamp of a match, ms.
    pub(crate) max_timestamp: i64,
}

impl Progress {
    /// Nothing was read yet.
    pub(crate) fn start(source: PartitionId) -> Self {
        Progress { source, next: 0, end: 0, matched: 0, max_timestamp: NO_TIMESTAMP }
    }

    /// The row's value for a view with this filter.
    pub(crate) fn encode(&self, filter: &str) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.source.to_be_bytes());
        out.extend_from_slice(&self.next.to_be_bytes());
        out.extend_from_slice(&self.end.to_be_bytes());
        out.extend_from_slice(&self.matched.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.to_be_bytes());
        out.extend_from_slice(filter.as_bytes());
        out
    }

    /// Reads a row: the progress and the filter that it is of.
    pub(crate) fn decode(value: &[u8]) -> Option<(Self, &[u8])> {
        let (version, rest) = value.split_first()?;
        let (source, rest) = rest.split_first_chunk()?;
        let (next, rest) = rest.split_first_chunk()?;
        let (end, rest) = rest.split_first_chunk()?;
        let (matched, rest) = rest.split_first_chunk()?;
        let (max_timestamp, filter) = rest.split_first_chunk()?;
        let progress = Progress {
            source: u32::from_be_bytes(*source),
            next: i64::from_be_bytes(*next),
            end: i64::from_be_bytes(*end),
            matched: u64::from_be_bytes(*matched),
            max_timestamp: i64::from_be_bytes(*max_timestamp),
        };
        (*version == VERSION).then_some((progress, filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(attributes: i16) -> Matches {
        let header = BatchHeader {
            base_offset: 1000,
            len: 70_000,
            leader_epoch: 0,
            crc: 0,
            attributes,
            last_offset_delta: 0,
            base_timestamp: 1_700_000_000_000,
            max_timestamp: 1_700_000_000_500,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
        };
        let record = |offset, start, len| {
            if attributes & 7 == 0 { Match { offset, start, len } } else { Match { offset, start: 0, len: 0 } }
        };
        Matches {
            header,
            all: false,
            max_timestamp: 1_700_000_000_500,
            records: vec![record(1000, 61, 300), record(1007, 5000, 20), record(1999, 69_000, 1000)],
        }
    }

    #[test]
    fn a_row_comes_back_whole_and_cut_rows_do_not_panic() {
        for attributes in [0, 8, 1, 4] {
            let row = matches(attributes);
            let value = row.encode();
            assert_eq!(Matches::decode(&value), Some(row.clone()));
            assert_eq!(row.last_offset(), 1999);
            for cut in 0..value.len() {
                let _ = Matches::decode(&value[..cut]);
            }
        }
    }

    #[test]
    fn keys_order_by_partition_then_offset() {
        assert!(key(1, 300) < key(2, 0) && key(1, 255) < key(1, 256));
        assert_eq!(offset_in(&key(7, 300), 7), Some(300));
        assert_eq!(offset_in(&key(7, 300), 8), None);
        assert_eq!(offset_in(b"short", 8), None);
    }

    #[test]
    fn progress_remembers_its_filter() {
        let progress = Progress { source: 3, next: 10, end: 7, matched: 2, max_timestamp: 99 };
        assert_eq!(Progress::decode(&progress.encode("paid")), Some((progress, &b"paid"[..])));
        assert_eq!(Progress::decode(b"\x01"), None);
    }
}
