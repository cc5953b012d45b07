//! The 61-byte header of a record batch, read and patched in place.

use thiserror::Error;

use super::compression::Codec;

/// Length of the header; records follow.
pub const HEADER_LEN: usize = 61;
/// Bytes that the length field does not count: base offset and the length itself.
pub const LENGTH_OVERHEAD: usize = 12;
/// Where the CRC's range begins (attributes).
pub const CRC_START: usize = 21;

/// Attribute bits of the compression codec.
pub const ATTRIBUTE_COMPRESSION: i16 = 0x07;
/// Attribute bit of LogAppendTime.
pub const ATTRIBUTE_TIMESTAMP_TYPE: i16 = 0x08;
/// Attribute bit of a batch inside a transaction.
pub const ATTRIBUTE_TRANSACTIONAL: i16 = 0x10;
/// Attribute bit of control records.
pub const ATTRIBUTE_CONTROL: i16 = 0x20;
/// Timestamp of a record that has none.
pub const NO_TIMESTAMP: i64 = -1;

/// Why bytes are not a batch.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    /// Shorter than a header or than its own length field.
    #[error("batch of {length} bytes is cut off at {available}")]
    Short {
        /// What the length field (or the smallest header) asks for.
        length: usize,
        /// What is there.
        available: usize,
    },
    /// Another magic than 2.
    #[error("magic {0} is not served: only 2 is")]
    Magic(i8),
    /// The CRC-32C does not match.
    #[error("crc is {found:#010x}, the header says {expected:#010x}")]
    Crc {
        /// In the header.
        expected: u32,
        /// Of the bytes.
        found: u32,
    },
    /// A field that contradicts another.
    #[error("{0}")]
    Invalid(&'static str),
}

/// The fields of a batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the batch, patched by the broker.
    pub base_offset: i64,
    /// Length of the whole batch in bytes, header and length field included.
    pub len: usize,
    /// Patched by the broker.
    pub leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Compression, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record (even if compacted away) less `base_offset`.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas start from, ms.
    pub base_timestamp: i64,
    /// Highest timestamp, ms.
    pub max_timestamp: i64,
    /// -1 for none.
    pub producer_id: i64,
    /// -1 for none.
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 for none.
    pub base_sequence: i32,
    /// Number of records.
    pub count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`; checks the length and the magic, not the CRC.
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::read_alone(bytes)?;
        if bytes.len() < header.len {
            return Err(BatchError::Short { length: header.len, available: bytes.len() });
        }
        Ok(header)
    }

    /// Reads a header; the rest of the batch may be elsewhere.
    pub fn read_alone(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::Short { length: HEADER_LEN, available: bytes.len() });
        };
        let magic = header[16] as i8;
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let length = i32::from_be_bytes(field(header, 8));
        if length < (HEADER_LEN - LENGTH_OVERHEAD) as i32 {
            return Err(BatchError::Invalid("the batch's length is shorter than its header"));
        }
        let len = length as usize + LENGTH_OVERHEAD;
        Ok(BatchHeader {
            base_offset: i64::from_be_bytes(field(header, 0)),
            len,
            leader_epoch: i32::from_be_bytes(field(header, 12)),
            crc: u32::from_be_bytes(field(header, 17)),
            attributes: i16::from_be_bytes(field(header, 21)),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: i64::from_be_bytes(field(header, 27)),
            max_timestamp: i64::from_be_bytes(field(header, 35)),
            producer_id: i64::from_be_bytes(field(header, 43)),
            producer_epoch: i16::from_be_bytes(field(header, 51)),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            count: i32::from_be_bytes(field(header, 57)),
        })
    }

    /// Checks the CRC of the batch that this header was read from.
    pub fn check_crc(&self, batch: &[u8]) -> Result<(), BatchError> {
        let found = crc32c::crc32c(&batch[CRC_START..self.len]);
        if found == self.crc { Ok(()) } else { Err(BatchError::Crc { expected: self.crc, found }) }
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.wrapping_add(self.last_offset_delta.into())
    }

    /// Compression codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn compression(&self) -> i16 {
        self.attributes & ATTRIBUTE_COMPRESSION
    }

    /// The codec; `None` where the id is not defined.
    pub fn codec(&self) -> Option<Codec> {
        Codec::from_attributes(self.attributes)
    }

    /// Timestamp of a record with this delta: the batch's own where that is LogAppendTime.
    pub fn timestamp_of(&self, delta: i64) -> i64 {
        if self.is_log_append_time() { self.max_timestamp } else { self.base_timestamp.wrapping_add(delta) }
    }

    /// True for LogAppendTime.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & ATTRIBUTE_TIMESTAMP_TYPE != 0
    }

    /// True for a batch inside a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & ATTRIBUTE_TRANSACTIONAL != 0
    }

    /// True for a batch of control records, such as transaction markers.
    pub fn is_control(&self) -> bool {
        self.attributes & ATTRIBUTE_CONTROL != 0
    }

    /// True when an idempotent producer numbered the batch.
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence of the last record; sequences wrap to 0 after `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        add_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// Sequence arithmetic of KIP-98: after `i32::MAX` comes 0.
pub fn add_sequence(sequence: i32, increment: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(increment);
    if sum > i32::MAX.into() { (sum - (1 << 31)) as i32 } else { sum as i32 }
}

/// Writes base offset and leader epoch; both lie outside the CRC.
pub fn patch(header: &mut [u8], base_offset: i64, leader_epoch: i32) {
    header[0..8].copy_from_slice(&base_offset.to_be_bytes());
    header[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Turns a batch into one of LogAppendTime: attribute, highest timestamp and a new CRC.
pub fn stamp_log_append_time(batch: &mut [u8], now_ms: i64) {
    let attributes = i16::from_be_bytes(field(batch, 21)) | ATTRIBUTE_TIMESTAMP_TYPE;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    set_max_timestamp(batch, now_ms);
}

/// Corrects the highest timestamp, and with it the CRC.
pub fn set_max_timestamp(batch: &mut [u8], max_timestamp: i64) {
    batch[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    write_crc(batch);
}

/// Writes the CRC of the batch that fills `batch`.
pub fn write_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
