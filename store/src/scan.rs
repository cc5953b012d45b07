//! Reads the frames of a segment file in order, whatever state it is in.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::frame::{self, FRAME_HEADER_LEN, FRAME_MAGIC, Fault, FrameHeader};
use crate::op::{Op, Ops, Position};
use crate::segment::{SEGMENT_HEADER_LEN, Segment};

/// Bytes read at once.
const WINDOW: usize = 1 << 20;

/// A walk over one file.
pub(crate) struct Scanner<'f> {
    file: &'f File,
    segment: Segment,
    /// Whether `segment.cleaned_end` can be believed: else a position only has to grow.
    header_known: bool,
    log_id: u64,
    /// End of the file when the walk began.
    file_len: u64,
    at: u64,
    /// No frame may begin before this position.
    floor: Position,
    window: Vec<u8>,
    window_at: u64,
}

/// What the walk came to.
#[derive(Debug)]
pub(crate) enum Step {
    /// A whole frame; its ops are in [`Scanner::ops`].
    Frame { offset: u64, len: usize, position: Position, synced: Position },
    /// Bytes that are no frame; whole frames may follow.
    Damage { offset: u64, len: u64, reason: &'static str },
    /// Nothing more.
    End,
}

impl<'f> Scanner<'f> {
    pub(crate) fn new(file: &'f File, segment: Segment, header_known: bool, log_id: u64) -> io::Result<Self> {
        let file_len = file.metadata()?.len();
        Ok(Scanner {
            file,
            segment,
            header_known,
            log_id,
            file_len,
            at: SEGMENT_HEADER_LEN,
            floor: segment.base,
            window: Vec::new(),
            window_at: 0,
        })
    }

    /// Starts at the frame with this position instead of the first. False when that place cannot be known or holds
    /// no frame; the walk then starts at the front.
    pub(crate) fn seek(&mut self, position: Position) -> io::Result<bool> {
        if self.segment.cleaned_end.is_some() || !self.header_known || position < self.segment.base {
            return Ok(false);
        }
        let at = position - self.segment.base + SEGMENT_HEADER_LEN;
        if at > self.file_len {
            return Ok(false);
        }
        self.at = at;
        self.floor = position;
        if at == self.file_len || self.frame_at(at)?.is_ok() {
            return Ok(true);
        }
        self.at = SEGMENT_HEADER_LEN;
        self.floor = self.segment.base;
        Ok(false)
    }

    /// Goes on at a place that a damage ended at.
    pub(crate) fn skip_to(&mut self, offset: u64) {
        self.at = offset;
    }

    /// The next frame or damage.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let offset = self.at;
        if offset >= self.file_len {
            return Ok(Step::End);
        }
        match self.frame_at(offset)? {
            Ok(header) => {
                self.at += header.len as u64;
                self.floor = header.position + header.len as u64;
                let FrameHeader { len, position, synced, .. } = header;
                Ok(Step::Frame { offset, len, position, synced })
            }
            Err((Fault::Body, len)) => {
                self.at += len;
                self.floor += len;
                Ok(Step::Damage { offset, len, reason: "a record batch whose CRC-32C does not match" })
            }
            Err((Fault::Frame(reason), _)) => {
                self.at = self.resync(offset)?;
                Ok(Step::Damage { offset, len: self.at - offset, reason })
            }
        }
    }

    /// The ops of the frame that [`step`](Self::step) just returned.
    pub(crate) fn ops(&self, offset: u64, len: usize) -> Vec<Op<'_>> {
        let frame = self.bytes(offset, len);
        let Some(header) = frame.first_chunk().and_then(FrameHeader::read) else { return Vec::new() };
        let mut ops = Ops::new(frame, FRAME_HEADER_LEN, header.ops, self.segment.id, offset as u32);
        let mut out = Vec::with_capacity(header.ops.min(1 << 16) as usize);
        while let Ok(Some((op, _))) = ops.step() {
            out.push(op);
        }
        out
    }

    /// The bytes of the frame that [`step`](Self::step) just returned.
    pub(crate) fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        let start = (offset - self.window_at) as usize;
        &self.window[start..start + len]
    }

    /// The next place after a damaged one where a whole frame begins, or the end of the file.
    fn resync(&mut self, damaged: u64) -> io::Result<u64> {
        let mut at = damaged + 8;
        while at + FRAME_HEADER_LEN as u64 <= self.file_len {
            self.load(at, FRAME_HEADER_LEN)?;
            let window = &self.window[(at - self.window_at) as usize..];
            let hit = window.chunks_exact(8).position(|word| word[..4] == FRAME_MAGIC.to_le_bytes());
            let Some(hit) = hit else {
                at += (window.len() / 8 * 8) as u64;
                continue;
            };
            at += hit as u64 * 8;
            match self.frame_at(at)? {
                Err((Fault::Frame(_), _)) => at += 8,
                Ok(_) | Err((Fault::Body, _)) => return Ok(at),
            }
        }
        Ok(self.file_len)
    }

    /// Checks the frame at a place. A wrong one comes with its length as far as it is known.
    fn frame_at(&mut self, at: u64) -> io::Result<Result<FrameHeader, (Fault, u64)>> {
        let fault = |reason| Ok(Err((Fault::Frame(reason), 0)));
        if at + FRAME_HEADER_LEN as u64 > self.file_len {
            return fault("a frame header that is cut off");
        }
        self.load(at, FRAME_HEADER_LEN)?;
        let start = (at - self.window_at) as usize;
        let Some(header) = self.window[start..].first_chunk().and_then(FrameHeader::read) else {
            return fault("no frame header");
        };
        if at + header.len as u64 > self.file_len {
            return fault("a frame that is cut off");
        }
        if !self.position_fits(at, header) {
            return fault("a frame out of place");
        }
        self.load(at, header.len)?;
        let start = (at - self.window_at) as usize;
        match frame::check(&self.window[start..start + header.len], header, self.log_id) {
            Ok(()) => Ok(Ok(header)),
            Err(error) => Ok(Err((error, header.len as u64))),
        }
    }

    fn position_fits(&self, at: u64, header: FrameHeader) -> bool {
        let end = header.position.saturating_add(header.len as u64);
        match (self.header_known, self.segment.cleaned_end) {
            (true, None) => header.position == self.segment.base + at - SEGMENT_HEADER_LEN,
            (true, Some(cleaned_end)) => header.position >= self.floor && end <= cleaned_end,
            (false, _) => header.position >= self.floor && end < u64::MAX,
        }
    }

    /// Makes sure that the window holds `len` bytes from `at`, which lie inside the file.
    fn load(&mut self, at: u64, len: usize) -> io::Result<()> {
        let window_end = self.window_at + self.window.len() as u64;
        if at >= self.window_at && at + len as u64 <= window_end {
            return Ok(());
        }
        let want = (len.max(WINDOW) as u64).min(self.file_len - at) as usize;
        self.window.clear();
        self.window.resize(want, 0);
        self.window.shrink_to(WINDOW.max(want));
        self.window_at = at;
        self.file.read_exact_at(&mut self.window, at)
    }
}
