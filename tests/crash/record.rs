//! Records whose every byte follows from their identity, so that a reader knows what they have to be.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use krocket_protocol::records::{BatchBuilder, Codec, Header, LastOffset, Record};
use krocket_testkit::history::RecordId;

/// SplitMix64: spreads an identity over 64 bits.
fn spread(id: RecordId, salt: u64) -> u64 {
    let mut z = (u64::from(id.producer) << 40 ^ id.number ^ salt << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn key(id: RecordId) -> Vec<u8> {
    format!("{}-{}", id.producer, id.number).into_bytes()
}

/// Mostly some hundred bytes, now and then 20 KB, sometimes none.
fn value(id: RecordId) -> Vec<u8> {
    let len = match spread(id, 1) % 64 {
        0 => 20_000,
        1 => 0,
        more => more * 12,
    };
    (0..len.div_ceil(8)).flat_map(|at| spread(id, 2 + at).to_be_bytes()).take(len as usize).collect()
}

/// A batch of `count` records from `first` on; its codec follows from the identity as well.
pub(crate) fn batch(first: RecordId, count: u32, producer: Option<(i64, i16, i32)>) -> Bytes {
    let codec = Codec::ALL[(spread(first, 3) % 5) as usize];
    // Not part of the identity: retention would take records of another time.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let mut builder = BatchBuilder::new(0, now).codec(codec);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(id, epoch, sequence);
    }
    for at in 0..u64::from(count) {
        let id = RecordId { number: first.number + at, ..first };
        let number = id.number.to_be_bytes();
        let header = Header { key: b"\xff number", value: Some(&number) };
        builder.push(at as i64, now, Some(&key(id)), Some(&value(id)), &[header]);
    }
    builder.finish(LastOffset::Trim).expect("builds").expect("has records")
}

/// The identity of a record, if all of it is as it was sent.
pub(crate) fn identify(record: &Record<'_>) -> Option<RecordId> {
    let (producer, number) = std::str::from_utf8(record.key?).ok()?.split_once('-')?;
    let id = RecordId { producer: producer.parse().ok()?, number: number.parse().ok()? };
    let header = record.header(b"\xff number").flatten()?;
    let same = record.value? == value(id) && header == id.number.to_be_bytes() && record.headers().count_left() == 1;
    same.then_some(id)
}

#[test]
fn a_record_knows_itself_and_a_changed_one_is_nobody() {
    use krocket_protocol::records::{BatchHeader, Records};
    for number in 0..200 {
        let first = RecordId { producer: 3, number };
        let batch = batch(first, 2, None);
        let header = BatchHeader::read(&batch).expect("header");
        let records = Records::open(&batch, &header, 1 << 20).expect("opens");
        let found: Vec<_> = records.iter().map(|record| identify(&record.expect("sound"))).collect();
        assert_eq!(found, [Some(first), Some(RecordId { number: number + 1, ..first })]);
        let mut changed = records.iter().next().expect("one").expect("sound");
        changed.value = Some(b"changed");
        assert_eq!(identify(&changed), None);
    }
}
