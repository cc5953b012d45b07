//! Writes a batch: new ones for tools and workers, and old ones again without some of their records.

use bytes::Bytes;

use super::batch::{self, BatchHeader, HEADER_LEN, LENGTH_OVERHEAD};
use super::compression::Codec;
use super::record::{Header, Record, RecordFault, RecordsError};
use super::varint;

/// What the last offset of a rebuilt batch is, when its last records went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastOffset {
    /// As before: compaction, which must not lose an idempotent producer's last sequence.
    Keep,
    /// The last record's. Fetch responses: sarama, kafka-go and kafkajs advance by records, not by headers.
    Trim,
}

/// Builds one batch, records in the order of their offsets.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Of the finished batch; length, CRC, count and maximum are filled in at the end.
    header: BatchHeader,
    codec: Codec,
    section: Vec<u8>,
    scratch: Vec<u8>,
    last_delta: i32,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An uncompressed batch of CreateTime, without a producer.
    pub fn new(base_offset: i64, base_timestamp: i64) -> Self {
        BatchBuilder::like(&BatchHeader {
            base_offset,
            len: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp,
            max_timestamp: batch::NO_TIMESTAMP,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
        })
    }

    /// A batch with everything but the records of another: bases, producer, timestamp type, codec. A codec that is
    /// unknown becomes none.
    pub fn like(header: &BatchHeader) -> Self {
        let codec = header.codec().unwrap_or(Codec::None);
        BatchBuilder {
            header: BatchHeader { count: 0, ..*header },
            codec,
            section: Vec::new(),
            scratch: Vec::new(),
            last_delta: -1,
            max_timestamp: batch::NO_TIMESTAMP,
        }
    }

    /// Compresses with this codec.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Numbers the batch as an idempotent producer does.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Forgets the producer: for batches that leave the broker with records missing.
    pub fn without_producer(self) -> Self {
        self.producer(-1, -1, -1)
    }

    /// Sets or clears an attribute bit, such as [`batch::ATTRIBUTE_TRANSACTIONAL`].
    pub fn attribute(mut self, bit: i16, on: bool) -> Self {
        if on {
            self.header.attributes |= bit;
        } else {
            self.header.attributes &= !bit;
        }
        self
    }

    /// Records so far.
    pub fn count(&self) -> i32 {
        self.header.count
    }

    /// Bytes of records so far, uncompressed.
    pub fn section_len(&self) -> usize {
        self.section.len()
    }

    /// Adds a record. Its offset has to be above the last one's and within `i32::MAX` of the base.
    pub fn push(
        &mut self,
        offset: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) {
        let delta = self.delta(offset);
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        body.push(0);
        varint::write_i64(&mut body, timestamp.wrapping_sub(self.header.base_timestamp));
        varint::write_i32(&mut body, delta);
        put_nullable(&mut body, key);
        put_nullable(&mut body, value);
        varint::write_i32(&mut body, headers.len() as i32);
        for header in headers {
            put_nullable(&mut body, Some(header.key));
            put_nullable(&mut body, header.value);
        }
        varint::write_i32(&mut self.section, body.len() as i32);
        self.section.extend_from_slice(&body);
        self.scratch = body;
        self.added(delta, timestamp);
    }

    /// Adds a record of the batch that this one is [like](Self::like), as it is.
    pub fn push_record(&mut self, record: &Record<'_>) {
        let delta = self.delta(record.offset);
        self.section.extend_from_slice(record.raw());
        self.added(delta, record.timestamp);
    }

    /// Adds a record of a batch whose timestamps count from `base_timestamp`: `raw` is the record's own bytes. Key, value
    /// and headers are copied as they are.
    pub fn push_raw(&mut self, offset: i64, base_timestamp: i64, raw: &[u8]) -> Result<(), RecordFault> {
        let mut rest = raw;
        let length = varint::read_i32(&mut rest).ok_or(RecordFault::Short)?;
        if usize::try_from(length) != Ok(rest.len()) {
            return Err(RecordFault::Length { field: "record", length });
        }
        let (attributes, mut rest) = rest.split_first().ok_or(RecordFault::Short)?;
        let timestamp_delta = varint::read_i64(&mut rest).ok_or(RecordFault::Varint("timestamp delta"))?;
        varint::read_i32(&mut rest).ok_or(RecordFault::Varint("offset delta"))?;
        let delta = self.delta(offset);
        let timestamp = base_timestamp.wrapping_add(timestamp_delta);
        let mut head = std::mem::take(&mut self.scratch);
        head.clear();
        head.push(*attributes);
        varint::write_i64(&mut head, timestamp.wrapping_sub(self.header.base_timestamp));
        varint::write_i32(&mut head, delta);
        varint::write_i32(&mut self.section, (head.len() + rest.len()) as i32);
        self.section.extend_from_slice(&head);
        self.section.extend_from_slice(rest);
        self.scratch = head;
        self.added(delta, timestamp);
        Ok(())
    }

    fn delta(&self, offset: i64) -> i32 {
        let delta = i32::try_from(offset - self.header.base_offset).expect("offset within i32::MAX of the base");
        assert!(delta > self.last_delta, "offsets ascend: delta {delta} after {}", self.last_delta);
        delta
    }

    fn added(&mut self, delta: i32, timestamp: i64) {
        self.header.count += 1;
        self.last_delta = delta;
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    /// The batch, or `None` where no record was added: clients do not cope with empty batches.
    pub fn finish(self, last_offset: LastOffset) -> Result<Option<Bytes>, RecordsError> {
        if self.header.count == 0 {
            return Ok(None);
        }
        let mut header = self.header;
        header.attributes = header.attributes & !batch::ATTRIBUTE_COMPRESSION | self.codec.id();
        if !header.is_log_append_time() {
            header.max_timestamp = self.max_timestamp;
        }
        header.last_offset_delta = match last_offset {
            LastOffset::Keep => header.last_offset_delta.max(self.last_delta),
            LastOffset::Trim => self.last_delta,
        };
        let mut out = Vec::with_capacity(HEADER_LEN + self.section.len());
        out.resize(HEADER_LEN, 0);
        self.codec.compress(&self.section, &mut out)?;
        if i32::try_from(out.len()).is_err() {
            return Err(RecordsError::TooLarge { limit: i32::MAX as usize });
        }
        header.len = out.len();
        header.write(&mut out);
        Ok(Some(out.into()))
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::write_i32(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
        None => varint::write_i32(out, -1),
    }
}

impl BatchHeader {
    /// Writes the header over the first bytes of a whole batch, with the CRC that the batch has then.
    fn write(&self, batch: &mut [u8]) {
        let length = (self.len - LENGTH_OVERHEAD) as i32;
        batch[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        batch[16] = 2;
        batch[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        batch[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        batch[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        batch[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        batch[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        batch[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        batch[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        batch[57..61].copy_from_slice(&self.count.to_be_bytes());
        batch::write_crc(batch);
    }
}

#[cfg(test)]
mod tests;
