//! What the index knows of hidden records, a batch at a time.
//!
//! A batch in which some records are hidden carries marks: the partition's visible end as of this batch, and which
//! records those are. Nearly no batch does: a flag tells.

use krocket_protocol::records::{BatchBuilder, BatchHeader, LastOffset, Records, RecordsError};
use krocket_stack::Notes;
use krocket_store::BatchRow;

use bytes::Bytes;

/// Some records of the batch are hidden.
pub(super) const HIDDEN: u8 = 0x01;
/// All records of the batch are.
pub(super) const HIDDEN_ALL: u8 = 0x02;
/// The batch is to be noted as work for indexers.
pub(super) const INDEXED: u8 = 0x04;

/// Flags and marks of a batch, and where its partition's visible records end with it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Marked {
    pub(super) flags: u8,
    pub(super) marks: Vec<u8>,
    pub(super) visible_end: i64,
}

impl Marked {
    /// For a batch at this offset in a partition whose visible records ended at `before`.
    pub(super) fn new(notes: &Notes, header: &BatchHeader, base_offset: i64, before: i64) -> Self {
        let indexed = if notes.indexed { INDEXED } else { 0 };
        let end = base_offset + i64::from(header.last_offset_delta) + 1;
        if notes.hidden.is_empty() {
            return Marked { flags: indexed, marks: Vec::new(), visible_end: end };
        }
        let last_visible = (0..header.count).rev().find(|record| !notes.hides(*record));
        let visible_end = last_visible.map_or(before, |record| base_offset + i64::from(record) + 1);
        let mut marks = visible_end.to_le_bytes().to_vec();
        let all = if last_visible.is_none() { HIDDEN_ALL } else { 0 };
        if all == 0 {
            notes.hidden.iter().for_each(|record| marks.extend_from_slice(&record.to_le_bytes()));
        }
        Marked { flags: indexed | HIDDEN | all, marks, visible_end }
    }
}

/// What of a batch can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Visible {
    All,
    None,
    /// All but the records at these places, ascending.
    Except(Box<[i32]>),
}

impl Visible {
    pub(super) fn of(row: &BatchRow) -> Self {
        if row.flags & HIDDEN == 0 {
            return Visible::All;
        }
        if row.flags & HIDDEN_ALL != 0 {
            return Visible::None;
        }
        let places = row.marks.get(8..).unwrap_or_default().chunks_exact(4);
        Visible::Except(places.map(|place| i32::from_le_bytes(place.try_into().expect("4 bytes"))).collect())
    }

    /// True for a record that nobody is to see.
    pub(super) fn hides(&self, place: i64) -> bool {
        match self {
            Visible::All => false,
            Visible::None => true,
            Visible::Except(places) => i32::try_from(place).is_ok_and(|place| places.binary_search(&place).is_ok()),
        }
    }
}

/// Where a partition's visible records end, by its last batch.
pub(super) fn visible_end(row: &BatchRow) -> i64 {
    match row.marks.first_chunk() {
        Some(end) if row.flags & HIDDEN != 0 => i64::from_le_bytes(*end),
        _ => row.last_offset + 1,
    }
}

/// The batch without its hidden records; `None` when no visible one is at `from` or after it: clients do not cope with
/// empty batches, nor with batches that end before what they asked for.
pub(super) fn without_hidden(records: &Records, visible: &Visible, from: i64) -> Result<Option<Bytes>, RecordsError> {
    let base = records.header().base_offset;
    let mut builder = BatchBuilder::like(records.header()).without_producer();
    let mut last = -1;
    for record in records {
        let record = record?;
        if !visible.hides(record.offset - base) {
            last = record.offset;
            builder.push_record(&record);
        }
    }
    if last < from { Ok(None) } else { builder.finish(LastOffset::Trim) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use krocket_store::Location;

    fn header(count: i32) -> BatchHeader {
        let mut builder = BatchBuilder::new(0, 0);
        (0..count).for_each(|n| builder.push(n.into(), 0, None, Some(b"v"), &[]));
        BatchHeader::read(&builder.finish(LastOffset::Trim).expect("builds").expect("records")).expect("a header")
    }

    fn row(marked: &Marked, base_offset: i64, count: i32) -> BatchRow {
        let header = BatchHeader { base_offset, ..header(count) };
        BatchRow::new(&header, Location { file: 0, offset: 0, len: 1 }, 0, 0, marked.flags, &marked.marks)
    }

    #[test]
    fn marks_say_what_is_hidden_and_where_the_visible_ends() {
        for (hidden, end) in [(vec![], 14), (vec![1], 14), (vec![2, 3], 12), (vec![0, 1, 2, 3], 7)] {
            let notes = Notes { hidden: hidden.clone(), indexed: true, ..Notes::default() };
            let marked = Marked::new(&notes, &header(4), 10, 7);
            assert_eq!((marked.visible_end, marked.flags & INDEXED), (end, INDEXED), "{hidden:?}");
            let row = row(&marked, 10, 4);
            assert_eq!(visible_end(&row), end);
            let visible = Visible::of(&row);
            assert_eq!((0..4).filter(|place| visible.hides((*place).into())).collect::<Vec<_>>(), hidden);
        }
    }
}
