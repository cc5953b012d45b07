use bytes::Bytes;

use super::*;
use crate::records::Names;
use crate::records::batch::{self, ATTRIBUTE_CONTROL, ATTRIBUTE_TIMESTAMP_TYPE, HEADER_LEN};
use crate::records::builder::{BatchBuilder, LastOffset};
use crate::records::compression::Codec;
use crate::records::record::Header;
use crate::records::varint;

const ANY: Rules = Rules {
    key_required: false,
    timestamps: Timestamps::Create { earliest: i64::MIN, latest: i64::MAX },
    max_decompressed: 1 << 20,
};

fn batch(codec: Codec, values: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(0, 1000).codec(codec);
    for (offset, value) in values.iter().enumerate() {
        let header = Header { key: b"TAGS", value: Some(b"paid") };
        builder.push(offset as i64, 1000 + offset as i64, Some(b"key"), Some(value), &[header]);
    }
    builder.finish(LastOffset::Trim).expect("builds").expect("not empty").to_vec()
}

/// Overwrites header bytes and makes the CRC right again.
fn patched(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    batch::write_crc(&mut batch);
    batch
}

/// A batch of one record with these bytes after its length.
fn of_record(body: &[u8]) -> Vec<u8> {
    let mut batch = batch(Codec::None, &[b""]);
    batch.truncate(HEADER_LEN);
    varint::write_i32(&mut batch, body.len() as i32);
    batch.extend_from_slice(body);
    resized(batch)
}

fn resized(mut batch: Vec<u8>) -> Vec<u8> {
    let length = (batch.len() - batch::LENGTH_OVERHEAD) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch::write_crc(&mut batch);
    batch
}

/// Why a batch is refused: the same whether somebody walked over it before or not.
fn refused(batch: &[u8], rules: &Rules) -> Rejection {
    let batch = Bytes::copy_from_slice(batch);
    let refused = validate(&batch, rules).expect_err("refused");
    let walked = Names::default().walk(&batch, rules.max_decompressed);
    let again = validate_walked(&batch, rules, Some(&walked)).expect_err("refused");
    assert_eq!((refused.code, &refused.message, &refused.records), (again.code, &again.message, &again.records));
    refused
}

#[test]
fn a_walk_counts_for_the_bytes_that_it_was_over() {
    let sound = Bytes::from(batch(Codec::Lz4, &[b"a", b"b"]));
    let walked = Names::default().walk(&sound, ANY.max_decompressed);
    assert!(walked.is_of(&sound) && !walked.is_of(&sound[1..]) && !walked.is_of(&Bytes::copy_from_slice(&sound)));
    let again = validate_walked(&sound, &ANY, Some(&walked)).expect("sound");
    assert_eq!(again, validate(&sound, &ANY).expect("sound"));
    // Of another batch it says nothing, and under a tighter limit it is not enough.
    let keyed = Rules { key_required: true, ..ANY };
    validate_walked(&sound, &keyed, Some(&walked)).expect("they have keys");
    validate_walked(&of_record(&[0, 0, 0, 1, 1, 0]), &keyed, Some(&walked)).expect_err("no key");
    let tight = Rules { max_decompressed: 1, ..ANY };
    let error = validate_walked(&sound, &tight, Some(&walked)).expect_err("too large");
    assert_eq!(error.code, ErrorCode::MessageTooLarge);
}

#[test]
fn sound_batches_pass_in_every_codec() {
    let long = vec![7; 200_000];
    for codec in Codec::ALL {
        let batch = batch(codec, &[b"a", &long, b""]);
        let valid = validate(&batch, &ANY).expect("sound");
        assert_eq!((valid.max_timestamp, valid.max_timestamp_delta), (1002, 2));
        assert_eq!(valid.header.count, 3);
    }
}

#[test]
fn a_batch_that_decompresses_past_the_limit_is_too_large() {
    let zeros = vec![0; 8 << 20];
    for codec in &Codec::ALL[1..] {
        assert_eq!(refused(&batch(*codec, &[&zeros]), &ANY).code, ErrorCode::MessageTooLarge, "{}", codec.name());
    }
}

#[test]
fn every_cut_and_every_flipped_bit_is_refused() {
    for codec in Codec::ALL {
        let whole = batch(codec, &[b"some value", b"another"]);
        for len in 0..whole.len() {
            refused(&whole[..len], &ANY);
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let outside_crc = bit / 8 < 8 || (12..16).contains(&(bit / 8));
            assert_eq!(validate(&flipped, &ANY).is_ok(), outside_crc, "{} bit {bit}", codec.name());
        }
    }
}

#[test]
fn header_fields_that_contradict_are_refused() {
    let sound = || batch(Codec::None, &[b"a", b"b"]);
    let code = |batch: &[u8]| refused(batch, &ANY).code;
    assert_eq!(code(&[sound(), sound()].concat()), ErrorCode::InvalidRecord, "two batches");
    assert_eq!(code(&patched(sound(), 16, &[1])), ErrorCode::InvalidRecord, "magic 1");
    for count in [0, -1, i32::MIN, 1, 3, i32::MAX] {
        assert_eq!(code(&patched(sound(), 57, &i32::to_be_bytes(count))), ErrorCode::InvalidRecord, "count {count}");
        let both = patched(sound(), 23, &i32::to_be_bytes(count.wrapping_sub(1)));
        assert_eq!(code(&patched(both, 57, &i32::to_be_bytes(count))), ErrorCode::InvalidRecord, "both {count}");
    }
    assert_eq!(code(&patched(sound(), 21, &ATTRIBUTE_CONTROL.to_be_bytes())), ErrorCode::InvalidRecord);
    assert_eq!(code(&patched(sound(), 21, &ATTRIBUTE_TIMESTAMP_TYPE.to_be_bytes())), ErrorCode::InvalidTimestamp);
    for codec in 5..8i16 {
        assert_eq!(code(&patched(sound(), 21, &codec.to_be_bytes())), ErrorCode::UnsupportedCompressionType);
    }
    assert_eq!(code(&patched(sound(), 43, &7i64.to_be_bytes())), ErrorCode::InvalidRecord, "no sequence");
    let mut wrong_crc = sound();
    wrong_crc[18] ^= 1;
    assert_eq!(code(&wrong_crc), ErrorCode::CorruptMessage);
}

#[test]
fn records_at_fault_are_named() {
    let mut builder = BatchBuilder::new(0, 0);
    builder.push(0, 50, Some(b"k"), None, &[]);
    builder.push(1, 10, None, None, &[]);
    builder.push(2, NO_TIMESTAMP, Some(b"k"), None, &[]);
    builder.push(3, 99, None, None, &[]);
    let batch = builder.finish(LastOffset::Trim).expect("builds").expect("not empty");
    let named = |rules: &Rules| {
        let rejection = refused(&batch, rules);
        (rejection.code, rejection.records.iter().map(|(index, _)| *index).collect::<Vec<_>>())
    };
    assert_eq!(named(&Rules { key_required: true, ..ANY }), (ErrorCode::InvalidRecord, vec![1, 3]));
    let timestamps = Timestamps::Create { earliest: 20, latest: 60 };
    assert_eq!(named(&Rules { timestamps, ..ANY }), (ErrorCode::InvalidTimestamp, vec![1, 3]));
    validate(&batch, &Rules { timestamps: Timestamps::LogAppend, ..ANY }).expect("the broker's clock counts");
}

#[test]
fn offset_deltas_have_to_be_contiguous() {
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new(0, 0).codec(codec);
        builder.push(0, 0, None, None, &[]);
        builder.push(2, 0, None, None, &[]);
        let batch = builder.finish(LastOffset::Trim).expect("builds").expect("not empty").to_vec();
        let batch = patched(batch, 23, &1i32.to_be_bytes());
        assert_eq!(refused(&batch, &ANY).records[0].0, 1);
    }
}

#[test]
fn malformed_records_are_refused() {
    // attributes, timestamp delta, offset delta, key, value, header count, headers (zigzag: 2 is 1, 1 is -1)
    validate(&of_record(&[0, 0, 0, 1, 1, 0]), &ANY).expect("the smallest record");
    validate(&of_record(&[0, 0, 0, 1, 1, 2, 2, b'h', 1]), &ANY).expect("a header without a value");
    let faults: &[(&str, &[u8])] = &[
        ("no field", &[]),
        ("cut off", &[0, 0, 0, 1, 1]),
        ("key of length -2", &[0, 0, 0, 3, 1, 0]),
        ("key past the record", &[0, 0, 0, 100, 1, 0]),
        ("value of length -2", &[0, 0, 0, 1, 3, 0]),
        ("value past the record", &[0, 0, 0, 1, 100, 0]),
        ("header count -1", &[0, 0, 0, 1, 1, 1]),
        ("header count past the record", &[0, 0, 0, 1, 1, 100]),
        ("header without a key", &[0, 0, 0, 1, 1, 2, 1, 1]),
        ("header key past the record", &[0, 0, 0, 1, 1, 2, 100, 1]),
        ("header value past the record", &[0, 0, 0, 1, 1, 2, 2, b'h', 100]),
        ("bytes after the headers", &[0, 0, 0, 1, 1, 0, 0]),
        ("endless varint", &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1, 1, 0]),
        ("record length -1", &[]),
    ];
    for (what, body) in faults {
        let mut batch = of_record(body);
        if *what == "record length -1" {
            batch[HEADER_LEN] = 1;
            batch::write_crc(&mut batch);
        }
        let rejection = refused(&batch, &ANY);
        assert_eq!(rejection.code, ErrorCode::InvalidRecord, "{what}");
        assert_eq!(rejection.records.first().map(|record| record.0), Some(0), "{what}: {rejection}");
    }
    let mut trailing = batch(Codec::None, &[b"a"]);
    trailing.push(0);
    assert_eq!(refused(&resized(trailing), &ANY).code, ErrorCode::InvalidRecord);
}
