//! The operations inside a frame, as they are read back.
//!
//! ```text
//! batch   1 | flags u8 | 0 u16 | partition u32 | running max timestamp i64 | cumulative bytes u64
//!           | marks len u32 | batch len u32 | marks | batch
//! put     2 | table u8 | key len u16 | value len u32 | key | value
//! delete  3 | table u8 | key len u16 | key
//! drop    4 | 0 u24 | partition u32 | first offset i64 | last offset i64
//! ```
//! All little-endian. The batch keeps Kafka's layout.

use std::ops::Range;

use krocket_protocol::records::BatchHeader;
use krocket_protocol::records::batch::CRC_START;

/// Where a batch's bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Id of the segment file.
    pub file: u32,
    /// First byte in the file.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
}

/// A logical place in the log, in bytes. Grows for ever; a frame keeps its position when it is moved.
pub type Position = u64;

/// Flag of a batch op that takes the place of a batch with the same offsets (compaction).
pub const REPLACEMENT: u8 = 0x80;

/// One operation of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op<'a> {
    /// A record batch was appended.
    Batch(BatchOp<'a>),
    /// A key of a table got a value.
    Put {
        /// Which table, below 128.
        table: u8,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// A key of a table was deleted.
    Delete {
        /// Which table, below 128.
        table: u8,
        /// The key.
        key: &'a [u8],
    },
    /// The batches of a partition that lie inside this range of offsets are gone.
    Drop {
        /// Of which partition.
        partition: u32,
        /// First offset.
        first_offset: i64,
        /// Last offset, inclusive.
        last_offset: i64,
    },
}

/// A record batch in the log, with all that its index row needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchOp<'a> {
    /// The partition it belongs to.
    pub partition: u32,
    /// [`REPLACEMENT`] or the caller's own bits.
    pub flags: u8,
    /// Highest timestamp of the partition up to and with this batch, ms.
    pub running_max_timestamp: i64,
    /// Bytes ever appended to the partition up to and with this batch.
    pub cumulative_bytes: u64,
    /// Opaque to the store.
    pub marks: &'a [u8],
    /// The batch's header.
    pub header: BatchHeader,
    /// Where the batch is.
    pub location: Location,
    /// The whole batch.
    pub bytes: &'a [u8],
}

pub(crate) const BATCH: u8 = 1;
pub(crate) const PUT: u8 = 2;
pub(crate) const DELETE: u8 = 3;
pub(crate) const DROP: u8 = 4;

/// Fixed part of a batch op.
pub(crate) const BATCH_OP_LEN: usize = 32;

/// An op, and the range of its batch body that the frame's CRC leaves out.
type Walked<'a> = (Op<'a>, Option<Range<usize>>);

/// Walks the ops of a frame. Never panics, whatever the bytes are.
pub(crate) struct Ops<'a> {
    frame: &'a [u8],
    at: usize,
    left: u32,
    file: u32,
    offset: u32,
}

impl<'a> Ops<'a> {
    /// `frame` with its header; `file` and `offset` say where it lies.
    pub(crate) fn new(frame: &'a [u8], header_len: usize, count: u32, file: u32, offset: u32) -> Self {
        Ops { frame, at: header_len, left: count, file, offset }
    }

    /// The next op.
    pub(crate) fn step(&mut self) -> Result<Option<Walked<'a>>, &'static str> {
        if self.left == 0 {
            // Padding up to the next multiple of 8.
            return if self.frame.len() - self.at < 8 { Ok(None) } else { Err("bytes after the last op") };
        }
        self.left -= 1;
        match self.u8()? {
            BATCH => {
                let flags = self.u8()?;
                self.take(2)?;
                let partition = self.u32()?;
                let running_max_timestamp = self.u64()? as i64;
                let cumulative_bytes = self.u64()?;
                let marks_len = self.u32()? as usize;
                let len = self.u32()?;
                let marks = self.take(marks_len)?;
                let start = self.at;
                let bytes = self.take(len as usize)?;
                let header = BatchHeader::read(bytes).map_err(|_| "a batch header that is none")?;
                if header.len != bytes.len() {
                    return Err("a batch length that contradicts its header");
                }
                let location = Location { file: self.file, offset: self.offset + start as u32, len };
                let op = BatchOp {
                    partition,
                    flags,
                    running_max_timestamp,
                    cumulative_bytes,
                    marks,
                    header,
                    location,
                    bytes,
                };
                Ok(Some((Op::Batch(op), Some(start + CRC_START..start + bytes.len()))))
            }
            PUT => {
                let table = self.u8()?;
                let key_len = self.u16()? as usize;
                let value_len = self.u32()? as usize;
                let key = self.take(key_len)?;
                let value = self.take(value_len)?;
                Ok(Some((Op::Put { table, key, value }, None)))
            }
            DELETE => {
                let table = self.u8()?;
                let key_len = self.u16()? as usize;
                Ok(Some((Op::Delete { table, key: self.take(key_len)? }, None)))
            }
            DROP => {
                self.take(3)?;
                let partition = self.u32()?;
                let (first_offset, last_offset) = (self.u64()? as i64, self.u64()? as i64);
                Ok(Some((Op::Drop { partition, first_offset, last_offset }, None)))
            }
            _ => Err("an unknown op"),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let frame = self.frame;
        let end = self.at.checked_add(len).filter(|end| *end <= frame.len()).ok_or("an op that is cut off")?;
        let bytes = &frame[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, &'static str> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}
