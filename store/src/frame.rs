//! A frame: the unit that is in the log whole or not at all.
//!
//! ```text
//! magic u32 | crc u32 | len u32 | ops u32 | position u64 | synced u64 | op ... | zeros up to a multiple of 8
//! ```
//! Little-endian; `len` counts everything; `synced` is the position up to which the log was durable when the frame was
//! written: what is missing before it was lost by the disk, what is missing behind every such position by a crash. A frame
//! without ops ends a log that was closed. The CRC-32C is taken over the ops, then the header from `len` on, then the log's
//! id; it leaves out batch bodies (from attributes on), which the batch's own CRC covers. So every byte is checked, and the
//! append path need not read a body at all.

use std::io::IoSlice;

use bytes::Bytes;
use krocket_protocol::records::batch::{self, CRC_START, HEADER_LEN};
use smallvec::SmallVec;
use thiserror::Error;

use crate::op::{self, Op, Ops, Position};

/// "KRKT" on disk.
pub(crate) const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"KRKT");
/// Bytes before the first op.
pub(crate) const FRAME_HEADER_LEN: usize = 32;
/// A frame is smaller than this.
pub(crate) const MAX_FRAME_LEN: usize = 1 << 30;
/// Bodies up to this size are cheaper copied than handed to the kernel one by one.
const COPIED_BODY_LEN: usize = 256;

/// Why a frame cannot be built.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// Keys have a 16-bit length.
    #[error("a key of {0} bytes: the most is 65535")]
    KeyTooLong(usize),
    /// Beyond a gigabyte.
    #[error("a frame of {0} bytes is too large")]
    TooLarge(usize),
    /// Shorter than a header, or its length field says otherwise.
    #[error("not a whole record batch")]
    NotABatch,
}

/// A record batch to append.
#[derive(Clone, Debug)]
pub struct NewBatch<'a> {
    /// The partition it belongs to.
    pub partition: u32,
    /// Written into the batch header.
    pub base_offset: i64,
    /// Written into the batch header.
    pub leader_epoch: i32,
    /// [`op::REPLACEMENT`] or the caller's own bits.
    pub flags: u8,
    /// Highest timestamp of the partition up to and with this batch, ms.
    pub running_max_timestamp: i64,
    /// Bytes ever appended to the partition up to and with this batch.
    pub cumulative_bytes: u64,
    /// Opaque to the store.
    pub marks: &'a [u8],
    /// The batch, its CRC already checked.
    pub batch: Bytes,
}

/// Collects the ops of one frame.
#[derive(Debug)]
pub struct FrameBuilder {
    frame: Frame,
    /// Where in `own` the part begins that the CRC has not seen.
    unsummed: usize,
    error: Option<FrameError>,
}

/// Ops that become durable together.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Header and everything but the large bodies.
    own: Vec<u8>,
    /// A body and the place in `own` that it goes before.
    bodies: SmallVec<[(usize, Bytes); 1]>,
    /// Place in the frame and length of each batch.
    batches: SmallVec<[(u32, u32); 1]>,
    len: usize,
    ops: u32,
    /// Over the ops.
    crc: u32,
}

impl Default for FrameBuilder {
    fn default() -> Self {
        FrameBuilder::new()
    }
}

impl FrameBuilder {
    /// An empty frame.
    pub fn new() -> Self {
        FrameBuilder { frame: Frame::empty(), unsummed: FRAME_HEADER_LEN, error: None }
    }

    /// Adds a record batch. Its header is copied and patched, a large body is only referenced.
    pub fn batch(&mut self, new: NewBatch<'_>) -> &mut Self {
        let len = new.batch.len();
        if !batch::BatchHeader::read(&new.batch).is_ok_and(|header| header.len == len) {
            return self.fail(FrameError::NotABatch);
        }
        if self.frame.len.saturating_add(len).saturating_add(new.marks.len()) > MAX_FRAME_LEN {
            return self.fail(FrameError::TooLarge(self.frame.len.saturating_add(len)));
        }
        let frame = &mut self.frame;
        frame.ops += 1;
        let start = frame.own.len();
        frame.own.reserve(op::BATCH_OP_LEN + new.marks.len() + HEADER_LEN + COPIED_BODY_LEN);
        frame.own.extend_from_slice(&[op::BATCH, new.flags, 0, 0]);
        frame.own.extend_from_slice(&new.partition.to_le_bytes());
        frame.own.extend_from_slice(&new.running_max_timestamp.to_le_bytes());
        frame.own.extend_from_slice(&new.cumulative_bytes.to_le_bytes());
        frame.own.extend_from_slice(&(new.marks.len() as u32).to_le_bytes());
        frame.own.extend_from_slice(&(len as u32).to_le_bytes());
        frame.own.extend_from_slice(new.marks);
        let at = frame.own.len();
        frame.batches.push(((frame.len + at - start) as u32, len as u32));
        frame.own.extend_from_slice(&new.batch[..HEADER_LEN]);
        batch::patch(&mut frame.own[at..], new.base_offset, new.leader_epoch);
        frame.crc = crc32c::crc32c_append(frame.crc, &frame.own[self.unsummed..at + CRC_START]);
        if len - HEADER_LEN <= COPIED_BODY_LEN {
            frame.own.extend_from_slice(&new.batch[HEADER_LEN..]);
            frame.len += frame.own.len() - start;
        } else {
            frame.len += frame.own.len() - start + len - HEADER_LEN;
            frame.bodies.push((frame.own.len(), new.batch.slice(HEADER_LEN..)));
        }
        self.unsummed = frame.own.len();
        self
    }

    /// Adds: a key of a table gets a value.
    pub fn put(&mut self, table: u8, key: &[u8], value: &[u8]) -> &mut Self {
        debug_assert!(table < 128, "derived tables are not in the log");
        let Ok(key_len) = u16::try_from(key.len()) else { return self.fail(FrameError::KeyTooLong(key.len())) };
        if value.len() > MAX_FRAME_LEN {
            return self.fail(FrameError::TooLarge(value.len()));
        }
        let [low, high] = key_len.to_le_bytes();
        self.plain(&[&[op::PUT, table, low, high], &(value.len() as u32).to_le_bytes(), key, value])
    }

    /// Adds: a key of a table is deleted.
    pub fn delete(&mut self, table: u8, key: &[u8]) -> &mut Self {
        debug_assert!(table < 128, "derived tables are not in the log");
        let Ok(key_len) = u16::try_from(key.len()) else { return self.fail(FrameError::KeyTooLong(key.len())) };
        let [low, high] = key_len.to_le_bytes();
        self.plain(&[&[op::DELETE, table, low, high], key])
    }

    /// Adds: the batches of a partition inside these offsets (inclusive) are gone.
    pub fn drop_batches(&mut self, partition: u32, first_offset: i64, last_offset: i64) -> &mut Self {
        let head = [op::DROP, 0, 0, 0];
        self.plain(&[&head, &partition.to_le_bytes(), &first_offset.to_le_bytes(), &last_offset.to_le_bytes()])
    }

    /// Adds an op as it was read back, for the cleaner.
    pub(crate) fn copy(&mut self, op: &Op<'_>) -> &mut Self {
        match *op {
            Op::Batch(batch) => self.batch(NewBatch {
                partition: batch.partition,
                base_offset: batch.header.base_offset,
                leader_epoch: batch.header.leader_epoch,
                flags: batch.flags,
                running_max_timestamp: batch.running_max_timestamp,
                cumulative_bytes: batch.cumulative_bytes,
                marks: batch.marks,
                batch: Bytes::copy_from_slice(batch.bytes),
            }),
            Op::Put { table, key, value } => self.put(table, key, value),
            Op::Delete { table, key } => self.delete(table, key),
            Op::Drop { partition, first_offset, last_offset } => {
                self.drop_batches(partition, first_offset, last_offset)
            }
        }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.frame.len
    }

    /// True without any op.
    pub fn is_empty(&self) -> bool {
        self.frame.ops == 0
    }

    /// Closes the frame.
    pub fn build(&mut self) -> Result<Frame, FrameError> {
        let FrameBuilder { mut frame, unsummed, error } = std::mem::take(self);
        if let Some(error) = error {
            return Err(error);
        }
        if frame.len > MAX_FRAME_LEN - 8 {
            return Err(FrameError::TooLarge(frame.len));
        }
        let padding = frame.len.next_multiple_of(8) - frame.len;
        frame.own.extend_from_slice(&[0; 8][..padding]);
        frame.len += padding;
        frame.crc = crc32c::crc32c_append(frame.crc, &frame.own[unsummed..]);
        Ok(frame)
    }

    fn plain(&mut self, parts: &[&[u8]]) -> &mut Self {
        let frame = &mut self.frame;
        let start = frame.own.len();
        for part in parts {
            frame.own.extend_from_slice(part);
        }
        frame.len += frame.own.len() - start;
        frame.ops += 1;
        self
    }

    fn fail(&mut self, error: FrameError) -> &mut Self {
        self.error.get_or_insert(error);
        self
    }
}

impl Frame {
    /// A frame that does nothing: it only says how far the log is durable.
    pub(crate) fn empty() -> Self {
        Frame { own: vec![0; FRAME_HEADER_LEN], len: FRAME_HEADER_LEN, ..Frame::default() }
    }

    /// Length on disk.
    pub fn disk_len(&self) -> usize {
        self.len
    }

    /// Place in the frame and length of each batch.
    pub(crate) fn batches(&self) -> &[(u32, u32)] {
        &self.batches
    }

    /// Fills the header in.
    pub(crate) fn place(&mut self, position: Position, synced: Position, log_id: u64) {
        self.own[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        self.own[8..12].copy_from_slice(&(self.len as u32).to_le_bytes());
        self.own[12..16].copy_from_slice(&self.ops.to_le_bytes());
        self.own[16..24].copy_from_slice(&position.to_le_bytes());
        self.own[24..32].copy_from_slice(&synced.to_le_bytes());
        let crc = seal(self.crc, &self.own[8..FRAME_HEADER_LEN], log_id);
        self.own[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Adds the frame's pieces in order.
    pub(crate) fn slices<'a>(&'a self, out: &mut Vec<IoSlice<'a>>) {
        let mut from = 0;
        for (at, body) in &self.bodies {
            out.push(IoSlice::new(&self.own[from..*at]));
            out.push(IoSlice::new(body));
            from = *at;
        }
        if from < self.own.len() {
            out.push(IoSlice::new(&self.own[from..]));
        }
    }
}

fn seal(crc: u32, header: &[u8], log_id: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc, header), &log_id.to_le_bytes())
}

/// The fixed part of a frame, not yet known to be right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHeader {
    pub(crate) crc: u32,
    pub(crate) len: usize,
    pub(crate) ops: u32,
    pub(crate) position: Position,
    pub(crate) synced: Position,
}

impl FrameHeader {
    /// `None` when these bytes begin no frame.
    pub(crate) fn read(bytes: &[u8; FRAME_HEADER_LEN]) -> Option<Self> {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let len = u32_at(8) as usize;
        if u32_at(0) != FRAME_MAGIC || !len.is_multiple_of(8) || !(FRAME_HEADER_LEN..=MAX_FRAME_LEN).contains(&len) {
            return None;
        }
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        Some(FrameHeader { crc: u32_at(4), len, ops: u32_at(12), position: u64_at(16), synced: u64_at(24) })
    }
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing in it can be trusted, its length included.
    Frame(&'static str),
    /// All but a batch body is right.
    Body,
}

/// Checks a whole frame.
pub(crate) fn check(frame: &[u8], header: FrameHeader, log_id: u64) -> Result<(), Fault> {
    let mut ops = Ops::new(frame, FRAME_HEADER_LEN, header.ops, 0, 0);
    let (mut crc, mut from, mut body_wrong) = (0, FRAME_HEADER_LEN, false);
    while let Some((op, body)) = ops.step().map_err(Fault::Frame)? {
        if let (Op::Batch(batch), Some(body)) = (op, body) {
            crc = crc32c::crc32c_append(crc, &frame[from..body.start]);
            from = body.end;
            body_wrong |= batch.header.check_crc(batch.bytes).is_err();
        }
    }
    crc = crc32c::crc32c_append(crc, &frame[from..]);
    if seal(crc, &frame[8..FRAME_HEADER_LEN], log_id) != header.crc {
        return Err(Fault::Frame("its CRC-32C does not match"));
    }
    if body_wrong { Err(Fault::Body) } else { Ok(()) }
}
