//! Record batches (magic 2, no compression), encoded once and sent as the same bytes ever after.

use bytes::{Buf, Bytes};
use rand::{RngCore, SeedableRng, rngs::SmallRng};

/// Bytes of a batch before its first record.
pub(crate) const HEADER: usize = 61;

/// A batch ready to be sent.
pub(crate) struct Batch {
    pub(crate) bytes: Bytes,
    pub(crate) records: u32,
}

/// Fills a batch with as many records of `value_len` random bytes as `batch_bytes` holds, as the Java producer's
/// `batch.size` does; always at least one.
pub(crate) fn fill(value_len: usize, batch_bytes: usize, timestamp_ms: i64) -> Batch {
    // The seed is fixed: every server gets the same bytes.
    let mut random = SmallRng::seed_from_u64(value_len as u64);
    let mut value = vec![0; value_len];
    let mut records = Vec::with_capacity(batch_bytes);
    let mut count = 0u32;
    loop {
        random.fill_bytes(&mut value);
        let before = records.len();
        push_record(&mut records, count, &value);
        if count > 0 && HEADER + records.len() > batch_bytes {
            records.truncate(before);
            break;
        }
        count += 1;
        if HEADER + records.len() >= batch_bytes {
            break;
        }
    }
    Batch { bytes: seal(&records, count, timestamp_ms), records: count }
}

/// The same batch as the first of a transaction in its partition.
pub(crate) fn transactional(batch: &Batch, producer_id: i64, epoch: i16) -> Bytes {
    let mut out = batch.bytes.to_vec();
    out[21..23].copy_from_slice(&0x10i16.to_be_bytes());
    out[43..51].copy_from_slice(&producer_id.to_be_bytes());
    out[51..53].copy_from_slice(&epoch.to_be_bytes());
    out[53..57].copy_from_slice(&0i32.to_be_bytes());
    let crc = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.into()
}

/// A batch of these records, a value and headers each.
pub(crate) fn with_headers(records: &[(&[u8], &[(&str, &str)])], timestamp_ms: i64) -> Batch {
    let mut out = Vec::new();
    for (index, (value, headers)) in records.iter().enumerate() {
        let mut body = vec![0];
        for number in [0, index as i64, -1, value.len() as i64] {
            varint(&mut body, number);
        }
        body.extend_from_slice(value);
        varint(&mut body, headers.len() as i64);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            varint(&mut body, text.len() as i64);
            body.extend_from_slice(text.as_bytes());
        }
        varint(&mut out, body.len() as i64);
        out.extend_from_slice(&body);
    }
    let count = records.len() as u32;
    Batch { bytes: seal(&out, count, timestamp_ms), records: count }
}

/// The first value of each record of a fetched set, and the header of this name where it has one.
pub(crate) fn each_header(set: &Bytes, wanted: &[u8], mut visit: impl FnMut(Option<&[u8]>)) {
    let mut set = &set[..];
    while set.len() >= HEADER {
        let length = i32::from_be_bytes([set[8], set[9], set[10], set[11]]) as usize + 12;
        if set.len() < length {
            return;
        }
        let count = i32::from_be_bytes([set[57], set[58], set[59], set[60]]);
        let mut at = HEADER;
        for _ in 0..count {
            let end = read_varint(set, &mut at) as usize + at;
            at += 1;
            read_varint(set, &mut at);
            read_varint(set, &mut at);
            for _ in 0..2 {
                at += read_varint(set, &mut at).max(0) as usize;
            }
            let mut found = None;
            for _ in 0..read_varint(set, &mut at) {
                let name = read_varint(set, &mut at) as usize;
                let name = &set[at..at + name];
                at += name.len();
                let value = read_varint(set, &mut at).max(0) as usize;
                let value = &set[at..at + value];
                at += value.len();
                if name == wanted {
                    found = Some(value);
                }
            }
            visit(found);
            at = end;
        }
        set = &set[length..];
    }
}

fn read_varint(bytes: &[u8], at: &mut usize) -> i64 {
    let (mut zigzag, mut shift) = (0u64, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        }
        shift += 7;
    }
}

fn push_record(out: &mut Vec<u8>, index: u32, value: &[u8]) {
    let mut body = vec![0]; // attributes
    varint(&mut body, 0); // timestamp delta
    varint(&mut body, i64::from(index)); // offset delta
    varint(&mut body, -1); // no key
    varint(&mut body, value.len() as i64);
    body.extend_from_slice(value);
    varint(&mut body, 0); // headers
    varint(out, body.len() as i64);
    out.extend_from_slice(&body);
}

fn seal(records: &[u8], count: u32, timestamp_ms: i64) -> Bytes {
    let mut tail = Vec::with_capacity(HEADER + records.len());
    tail.extend_from_slice(&0i16.to_be_bytes()); // attributes: uncompressed, create time
    tail.extend_from_slice(&(count as i32 - 1).to_be_bytes()); // last offset delta
    tail.extend_from_slice(&timestamp_ms.to_be_bytes()); // base timestamp
    tail.extend_from_slice(&timestamp_ms.to_be_bytes()); // max timestamp
    tail.extend_from_slice(&(-1i64).to_be_bytes()); // producer id
    tail.extend_from_slice(&(-1i16).to_be_bytes()); // producer epoch
    tail.extend_from_slice(&(-1i32).to_be_bytes()); // base sequence
    tail.extend_from_slice(&(count as i32).to_be_bytes());
    tail.extend_from_slice(records);
    let mut out = Vec::with_capacity(HEADER + records.len());
    out.extend_from_slice(&0i64.to_be_bytes()); // base offset
    out.extend_from_slice(&(tail.len() as i32 + 9).to_be_bytes()); // length, from the leader epoch on
    out.extend_from_slice(&(-1i32).to_be_bytes()); // partition leader epoch
    out.push(2); // magic
    out.extend_from_slice(&crc32c::crc32c(&tail).to_be_bytes());
    out.extend_from_slice(&tail);
    out.into()
}

/// Makes a batch that of an idempotent producer; the CRC covers these fields.
pub(crate) fn stamp(batch: &mut [u8], producer: i64, epoch: i16, sequence: i32) {
    batch[43..51].copy_from_slice(&producer.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// What a fetched record set holds: whole batches only, since the last may be cut off at the byte limit.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Fetched {
    pub(crate) first_offset: Option<i64>,
    pub(crate) next_offset: i64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// Counts by batch header alone, so that the generator stays cheap.
pub(crate) fn count(mut set: Bytes) -> Fetched {
    let mut fetched = Fetched::default();
    while set.len() >= HEADER {
        let mut header = &set[..HEADER];
        let base = header.get_i64();
        let size = header.get_i32() as usize + 12;
        if set.len() < size {
            break;
        }
        let last_delta = i32::from_be_bytes([set[23], set[24], set[25], set[26]]);
        let records = i32::from_be_bytes([set[57], set[58], set[59], set[60]]);
        fetched.first_offset.get_or_insert(base);
        fetched.next_offset = base + i64::from(last_delta) + 1;
        fetched.records += records as u64;
        fetched.bytes += size as u64;
        set.advance(size);
    }
    fetched
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::records::RecordBatchDecoder;

    #[test]
    fn fills_as_many_as_fit() {
        let ordinary = fill(1000, 16384, 1);
        assert!(ordinary.bytes.len() <= 16384 && ordinary.bytes.len() + 1010 > 16384);
        assert_eq!(fill(100, 1, 1).records, 1);
    }

    #[test]
    fn another_decoder_reads_it() {
        let batch = fill(100, 16384, 1_700_000_000_000);
        let set = RecordBatchDecoder::decode(&mut batch.bytes.clone()).expect("decodes, CRC included");
        assert_eq!(set.records.len(), batch.records as usize);
        assert!(set.records.iter().all(|r| r.value.as_ref().is_some_and(|v| v.len() == 100) && r.key.is_none()));
        assert_eq!(set.records[3].offset, 3);
    }

    #[test]
    fn a_stamped_batch_is_read_by_another_decoder() {
        let mut batch = fill(100, 1000, 1).bytes.to_vec();
        stamp(&mut batch, 77, 3, 1234);
        let set = RecordBatchDecoder::decode(&mut Bytes::from(batch)).expect("decodes, CRC included");
        let last = &set.records[2];
        assert_eq!((last.producer_id, last.producer_epoch, last.sequence), (77, 3, 1236));
    }

    #[test]
    fn counts_whole_batches_only() {
        let batch = fill(1000, 16384, 1);
        let mut two = batch.bytes.to_vec();
        two[..8].copy_from_slice(&40i64.to_be_bytes());
        two.extend_from_slice(&batch.bytes[..batch.bytes.len() - 1]);
        let expected = Fetched {
            first_offset: Some(40),
            next_offset: 40 + i64::from(batch.records),
            records: u64::from(batch.records),
            bytes: batch.bytes.len() as u64,
        };
        assert_eq!(count(two.into()), expected);
        assert_eq!(count(Bytes::new()), Fetched::default());
    }
}
