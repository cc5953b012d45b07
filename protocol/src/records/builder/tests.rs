use bytes::Bytes;
use kafka_protocol::records::RecordBatchDecoder;
use proptest::prelude::*;

use super::*;
use crate::records::Records;

const LIMIT: usize = 1 << 24;

/// A record as tests keep it: offset delta, timestamp delta, key, value, headers.
type Owned = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

fn nullable(max: usize) -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(bytes(max))
}

/// Records with gaps between their offsets, as compaction leaves them.
pub(crate) fn records() -> impl Strategy<Value = Vec<Owned>> {
    let headers = prop::collection::vec((bytes(4), nullable(8)), 0..4);
    let record = (1..4i64, -5000..5000i64, nullable(40), nullable(300), headers);
    prop::collection::vec(record, 1..40).prop_map(|mut records| {
        let mut offset = -1;
        for record in &mut records {
            offset += record.0;
            record.0 = offset;
        }
        records
    })
}

fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(&Codec::ALL[..])
}

fn push(builder: &mut BatchBuilder, base_offset: i64, record: &Owned) {
    let headers: Vec<_> = record.4.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
    let (key, value) = (record.2.as_deref(), record.3.as_deref());
    builder.push(base_offset + record.0, 1_000_000 + record.1, key, value, &headers);
}

fn build(base_offset: i64, codec: Codec, records: &[Owned]) -> Bytes {
    let mut builder = BatchBuilder::new(base_offset, 1_000_000).codec(codec);
    for record in records {
        push(&mut builder, base_offset, record);
    }
    builder.finish(LastOffset::Trim).expect("builds").expect("not empty")
}

fn read(batch: &Bytes) -> Vec<Owned> {
    let header = BatchHeader::read(batch).expect("header");
    header.check_crc(batch).expect("crc");
    let records = Records::open(batch, &header, LIMIT).expect("opens");
    let owned = |record: Record<'_>| {
        let headers = record.headers().map(|header| header.expect("header"));
        (
            record.offset - header.base_offset,
            record.timestamp - 1_000_000,
            record.key.map(<[u8]>::to_vec),
            record.value.map(<[u8]>::to_vec),
            headers.map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec))).collect(),
        )
    };
    records.iter().map(|record| owned(record.expect("record"))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_come_back_as_they_were_built(records in records(), codec in codec(), base in 0..1i64 << 40) {
        let batch = build(base, codec, &records);
        let header = BatchHeader::read(&batch).expect("header");
        prop_assert_eq!(header.codec(), Some(codec));
        prop_assert_eq!(header.count as usize, records.len());
        prop_assert_eq!(i64::from(header.last_offset_delta), records.last().map_or(0, |record| record.0));
        prop_assert_eq!(header.max_timestamp, 1_000_000 + records.iter().map(|record| record.1).max().unwrap_or(0));
        prop_assert_eq!(read(&batch), records);
    }

    /// The crate's reader knows nothing of ours. It cannot hold duplicate headers, so there are none here.
    #[test]
    fn another_reader_agrees(mut records in records(), codec in codec()) {
        for record in &mut records {
            record.4 = vec![(b"name".to_vec(), Some(b"value".to_vec()))];
        }
        let mut batch = build(7, if codec == Codec::None { codec } else { Codec::None }, &records);
        let decoded = RecordBatchDecoder::decode(&mut batch).expect("decodes").records;
        prop_assert_eq!(decoded.len(), records.len());
        for (theirs, ours) in decoded.iter().zip(&records) {
            prop_assert_eq!(theirs.offset, ours.0 + 7);
            prop_assert_eq!(theirs.timestamp, ours.1 + 1_000_000);
            prop_assert_eq!(theirs.key.as_deref(), ours.2.as_deref());
            prop_assert_eq!(theirs.value.as_deref(), ours.3.as_deref());
            prop_assert_eq!(theirs.headers.len(), 1);
        }
    }

    #[test]
    fn a_batch_rebuilt_without_some_records_keeps_the_rest(records in records(), codec in codec(), keep: [bool; 40]) {
        let batch = build(100, codec, &records);
        let header = BatchHeader::read(&batch).expect("header");
        for last_offset in [LastOffset::Keep, LastOffset::Trim] {
            let opened = Records::open(&batch, &header, LIMIT).expect("opens");
            let mut builder = BatchBuilder::like(&header);
            for (record, _) in opened.iter().zip(keep).filter(|(_, keep)| *keep) {
                builder.push_record(&record.expect("record"));
            }
            let kept: Vec<_> = records.iter().zip(keep).filter(|(_, keep)| *keep).map(|(record, _)| record.clone()).collect();
            let Some(rebuilt) = builder.finish(last_offset).expect("builds") else {
                prop_assert!(kept.is_empty());
                continue;
            };
            let after = BatchHeader::read(&rebuilt).expect("header");
            prop_assert_eq!(after.base_offset, header.base_offset);
            prop_assert_eq!(after.codec(), header.codec());
            let last = if last_offset == LastOffset::Keep { records.last() } else { kept.last() };
            prop_assert_eq!(i64::from(after.last_offset_delta), last.map_or(0, |record| record.0));
            prop_assert_eq!(read(&rebuilt), kept);
        }
    }
}

#[test]
fn duplicate_and_non_utf8_headers_survive_and_the_last_one_counts() {
    let header = |key: &'static [u8], value: &'static [u8]| Header { key, value: Some(value) };
    let mut builder = BatchBuilder::new(0, 0);
    builder.push(0, 0, None, None, &[header(b"TAGS", b"a"), header(b"\xff\xfe", b"raw"), header(b"TAGS", b"b")]);
    let batch = builder.finish(LastOffset::Trim).expect("builds").expect("not empty");
    let batch_header = BatchHeader::read(&batch).expect("header");
    let records = Records::open(&batch, &batch_header, LIMIT).expect("opens");
    let record = records.iter().next().expect("one").expect("sound");
    assert_eq!(record.headers().count(), 3);
    assert_eq!(record.header(b"TAGS"), Some(Some(&b"b"[..])));
    assert_eq!(record.header(b"\xff\xfe"), Some(Some(&b"raw"[..])));
    assert_eq!(record.header(b"KEYS"), None);
    let value = record.header(b"TAGS").flatten().expect("there");
    assert_eq!(records.slice(value).as_ptr(), value.as_ptr(), "a slice, not a copy");
}

#[test]
fn a_batch_of_log_append_time_gives_every_record_its_time() {
    let mut builder = BatchBuilder::new(0, 5);
    builder.push(0, 5, None, Some(b"a"), &[]);
    builder.push(1, 9, None, Some(b"b"), &[]);
    let mut batch = builder.finish(LastOffset::Trim).expect("builds").expect("not empty").to_vec();
    batch::stamp_log_append_time(&mut batch, 77);
    let batch = Bytes::from(batch);
    let header = BatchHeader::read(&batch).expect("header");
    header.check_crc(&batch).expect("crc");
    let records = Records::open(&batch, &header, LIMIT).expect("opens");
    let mut rebuilt = BatchBuilder::like(&header);
    for record in &records {
        let record = record.expect("sound");
        assert_eq!(record.timestamp, 77);
        rebuilt.push_record(&record);
    }
    let rebuilt = rebuilt.finish(LastOffset::Keep).expect("builds").expect("not empty");
    assert_eq!(rebuilt, batch);
}

#[test]
fn a_builder_without_records_builds_nothing() {
    assert!(BatchBuilder::new(0, 0).finish(LastOffset::Keep).expect("no error").is_none());
}

#[test]
fn producer_and_attributes_are_kept_or_forgotten() {
    let mut builder = BatchBuilder::new(3, 0).producer(9, 2, 40).attribute(batch::ATTRIBUTE_TRANSACTIONAL, true);
    builder.push(3, 0, None, None, &[]);
    let batch = builder.finish(LastOffset::Trim).expect("builds").expect("not empty");
    let header = BatchHeader::read(&batch).expect("header");
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 2, 40));
    assert!(header.is_transactional());
    let mut again = BatchBuilder::like(&header).without_producer();
    again.push(3, 0, None, None, &[]);
    let again = again.finish(LastOffset::Trim).expect("builds").expect("not empty");
    assert!(!BatchHeader::read(&again).expect("header").has_producer());
}

proptest! {
    #[test]
    fn a_header_that_was_written_is_read_back(
        base_offset: i64, leader_epoch: i32, attributes: i16, last_offset_delta: i32, base_timestamp: i64,
        max_timestamp: i64, producer_id: i64, producer_epoch: i16, base_sequence: i32, count: i32, extra in 0..40usize,
    ) {
        let mut batch = vec![7; HEADER_LEN + extra];
        let mut header = BatchHeader {
            base_offset, len: batch.len(), leader_epoch, crc: 0, attributes, last_offset_delta, base_timestamp,
            max_timestamp, producer_id, producer_epoch, base_sequence, count,
        };
        header.write(&mut batch);
        let read = BatchHeader::read(&batch).expect("reads");
        header.crc = read.crc;
        prop_assert_eq!(read, header);
        prop_assert_eq!(read.check_crc(&batch), Ok(()));
        batch::patch(&mut batch, 42, 3);
        let patched = BatchHeader::read(&batch).expect("reads");
        prop_assert_eq!(patched, BatchHeader { base_offset: 42, leader_epoch: 3, ..header });
        prop_assert_eq!(patched.check_crc(&batch), Ok(()), "both lie outside the CRC");
        for at in batch::CRC_START..batch.len() {
            let mut flipped = batch.clone();
            flipped[at] ^= 1;
            prop_assert!(patched.check_crc(&flipped).is_err());
        }
    }

    #[test]
    fn any_bytes_are_a_header_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(header) = BatchHeader::read(&bytes) {
            prop_assert!(header.len >= HEADER_LEN && header.len <= bytes.len());
            let _ = (header.check_crc(&bytes), header.last_offset(), header.last_sequence());
        }
    }
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(batch::add_sequence(5, 3), 8);
    assert_eq!(batch::add_sequence(i32::MAX, 1), 0);
    assert_eq!(batch::add_sequence(i32::MAX - 1, 3), 1);
}

#[test]
fn a_raw_record_of_another_batch_keeps_all_but_its_deltas() {
    let headers = [Header { key: b"TAGS", value: Some(b"paid") }, Header { key: b"", value: None }];
    let mut source = BatchBuilder::new(100, 5_000);
    source.push(100, 5_000, None, None, &[]);
    source.push(107, 4_990, Some(b"key"), Some(b"value"), &headers);
    let batch = source.finish(LastOffset::Trim).expect("builds").expect("records");
    let header = BatchHeader::read(&batch).expect("a header");
    let records = Records::open(&batch, &header, 1 << 20).expect("opens");
    let record = records.iter().nth(1).expect("two records").expect("a record");

    let mut moved = BatchBuilder::new(90, 1_000);
    moved.push_raw(107, header.base_timestamp, record.raw()).expect("a whole record");
    assert!(moved.push_raw(108, 0, &record.raw()[..5]).is_err());
    let batch = moved.finish(LastOffset::Trim).expect("builds").expect("records");
    let header = BatchHeader::read(&batch).expect("a header");
    assert_eq!((header.base_offset, header.last_offset(), header.count), (90, 107, 1));
    let records = Records::open(&batch, &header, 1 << 20).expect("opens");
    let found = records.iter().next().expect("one record").expect("a record");
    assert_eq!((found.offset, found.timestamp, found.key, found.value), (107, 4_990, record.key, record.value));
    assert!(found.headers().eq(record.headers()));
}
