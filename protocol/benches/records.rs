//! Validation and iteration speed of batches of 1 KB records: `cargo bench --workspace --bench records`.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use krocket_protocol::records::{
    BatchBuilder, BatchHeader, Codec, LastOffset, Names, Records, Rules, Timestamps, validate,
};

const RECORDS: i64 = 1000;
const RULES: Rules = Rules {
    key_required: true,
    timestamps: Timestamps::Create { earliest: 0, latest: i64::MAX },
    max_decompressed: 1 << 30,
};

fn batch(codec: Codec, value_len: usize) -> Bytes {
    let mut builder = BatchBuilder::new(0, 0).codec(codec);
    for offset in 0..RECORDS {
        let value: Vec<u8> = (0..value_len as i64).map(|at| (at * (offset + 7) % 61) as u8).collect();
        builder.push(offset, offset, Some(b"order-4711"), Some(&value), &[]);
    }
    builder.finish(LastOffset::Trim).expect("builds").expect("records")
}

/// Bytes per second of `len` bytes treated by `work`, in GB.
fn speed(len: usize, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut rounds = 0u32;
    while start.elapsed() < Duration::from_millis(300) {
        work();
        rounds += 1;
    }
    len as f64 * f64::from(rounds) / start.elapsed().as_secs_f64() / 1e9
}

fn main() {
    for (value_len, codec) in [(1024, Codec::None), (100, Codec::None), (1024, Codec::Lz4), (1024, Codec::Zstd)] {
        let batch = batch(codec, value_len);
        let header = BatchHeader::read(&batch).expect("header");
        let plain = Records::open(&batch, &header, 1 << 30).expect("opens").section().len();
        let crc = speed(batch.len(), || header.check_crc(black_box(&batch)).expect("crc"));
        let validated = speed(plain, || {
            black_box(validate(black_box(&batch), &RULES).expect("valid"));
        });
        let iterated = speed(plain, || {
            let records = Records::open(black_box(&batch), &header, 1 << 30).expect("opens");
            black_box(records.iter().map(|record| record.expect("sound").value.map_or(0, <[u8]>::len)).sum::<usize>());
        });
        let names = Names::new(&["TAGS", "KEYS", "TIMER_DELAY_MS", "TRAN_MSG"]);
        let scanned = speed(plain, || {
            assert!(names.walk(black_box(&batch), 1 << 30).is_sound());
        });
        let name = codec.name();
        println!(
            "{name} {value_len} B: crc {crc:.1} GB/s, validation with crc {validated:.1}, iteration {iterated:.1}, header names {scanned:.1}"
        );
    }
}
