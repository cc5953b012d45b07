//! What the index knows of hidden records, a batch at a time.
//!
//! A batch in which some records are hidden carries marks: the partition's visible end as of this batch, and which
//! records those are. Nearly no batch does: a flag tells.
//!
//! ```text
//! visible end i64 LE | nothing where all are hidden, else: form u8 | runs, or a bitmap
//! ```

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
            put_places(&mut marks, &notes.hidden);
        }
        Marked { flags: indexed | HIDDEN | all, marks, visible_end }
    }
}

const RUNS: u8 = 1;
const BITMAP: u8 = 2;

/// Places, ascending and not none, in the shorter form.
fn put_places(out: &mut Vec<u8>, places: &[i32]) {
    let runs = runs(places);
    let bitmap_len = places.last().map_or(0, |last| *last as usize / 8 + 1);
    if runs.len() <= bitmap_len {
        out.push(RUNS);
        out.extend_from_slice(&runs);
    } else {
        out.push(BITMAP);
        let start = out.len();
        out.resize(start + bitmap_len, 0);
        for place in places {
            out[start + *place as usize / 8] |= 1 << (place % 8);
        }
    }
}

/// `None` for bytes that no version wrote.
fn read_places(bytes: &[u8]) -> Option<Vec<i32>> {
    match bytes.split_first()? {
        (&RUNS, runs) => read_runs(runs),
        (&BITMAP, bits) => {
            let places = 0..i32::try_from(bits.len() * 8).ok()?;
            Some(places.filter(|place| bits[*place as usize / 8] >> (place % 8) & 1 == 1).collect())
        }
        _ => None,
    }
}

/// Pairs of numbers, seven bits a byte: so many visible records, then so many hidden ones.
fn runs(these: &[i32]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut end, mut at) = (0, 0);
    while at < these.len() {
        let first = these[at];
        let mut last = first;
        while these.get(at + 1) == Some(&(last + 1)) {
            at += 1;
            last += 1;
        }
        at += 1;
        put_number(&mut out, (first - end) as u32);
        put_number(&mut out, (last - first + 1) as u32);
        end = last + 1;
    }
    out
}

fn read_runs(mut bytes: &[u8]) -> Option<Vec<i32>> {
    let mut out = Vec::new();
    let mut end = 0_i32;
    while !bytes.is_empty() {
        let first = end.checked_add(take_number(&mut bytes)?)?;
        end = first.checked_add(take_number(&mut bytes)?)?;
        out.extend(first..end);
    }
    Some(out)
}

fn put_number(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<i32> {
    let mut number = 0_u32;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return i32::try_from(number).ok();
        }
    }
    None
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
        // What cannot be read must not come to light.
        row.marks.get(8..).and_then(read_places).map_or(Visible::None, |places| Visible::Except(places.into()))
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

    proptest::proptest! {
        #[test]
        fn places_come_back_from_their_bytes(places in proptest::collection::btree_set(0..3000_i32, 1..400)) {
            let places: Vec<i32> = places.into_iter().collect();
            let mut bytes = Vec::new();
            put_places(&mut bytes, &places);
            assert!(bytes.len() <= 1 + 3000 / 8 + 1);
            assert_eq!(read_places(&bytes), Some(places));
        }
    }

    #[test]
    fn damaged_marks_hide_everything() {
        let marked = Marked { flags: HIDDEN, marks: vec![0; 9], visible_end: 0 };
        assert_eq!(Visible::of(&row(&marked, 10, 4)), Visible::None);
        assert_eq!(read_places(&[RUNS, 0xff]), None);
    }
}
