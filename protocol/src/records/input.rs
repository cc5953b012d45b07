//! Bytes to be walked once: all there, or coming out of a decompressor through a small window.

use std::io::Read;

use super::record::{RecordFault, RecordsError};

/// What a walk over records needs.
pub(super) trait Input {
    /// At least `want` bytes, fewer only at the end.
    fn window(&mut self, want: usize) -> Result<&[u8], RecordsError>;
    /// Steps over bytes that a window showed.
    fn consume(&mut self, count: usize);
    /// Steps over `count` bytes; [`RecordFault::Short`] inside the error where there are fewer.
    fn skip(&mut self, count: usize) -> Result<Result<(), RecordFault>, RecordsError>;
}

impl Input for &[u8] {
    #[inline]
    fn window(&mut self, _want: usize) -> Result<&[u8], RecordsError> {
        Ok(self)
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        *self = &self[count..];
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Result<Result<(), RecordFault>, RecordsError> {
        let Some(rest) = self.get(count..) else { return Ok(Err(RecordFault::Short)) };
        *self = rest;
        Ok(Ok(()))
    }
}

/// Bytes that one decompressor holds at a time.
const WINDOW_LEN: usize = 64 * 1024;

/// A window over a decompressor, with a limit on the sum of what passes through it.
pub(super) struct Window<R> {
    reader: R,
    codec: &'static str,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    total: usize,
    limit: usize,
}

impl<R: Read> Window<R> {
    pub(super) fn new(reader: R, codec: &'static str, limit: usize) -> Self {
        Window { reader, codec, buffer: vec![0; WINDOW_LEN].into(), start: 0, end: 0, total: 0, limit }
    }

    /// False at the end.
    fn fill(&mut self) -> Result<bool, RecordsError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let count = self
            .reader
            .read(&mut self.buffer[self.end..])
            .map_err(|source| RecordsError::Compression { codec: self.codec, source })?;
        self.end += count;
        self.total += count;
        if self.total > self.limit { Err(RecordsError::TooLarge { limit: self.limit }) } else { Ok(count > 0) }
    }
}

impl<R: Read> Input for Window<R> {
    #[inline]
    fn window(&mut self, want: usize) -> Result<&[u8], RecordsError> {
        while self.end - self.start < want && self.fill()? {}
        Ok(&self.buffer[self.start..self.end])
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        self.start += count;
    }

    fn skip(&mut self, mut count: usize) -> Result<Result<(), RecordFault>, RecordsError> {
        loop {
            let step = count.min(self.end - self.start);
            self.start += step;
            count -= step;
            if count == 0 {
                return Ok(Ok(()));
            }
            if !self.fill()? {
                return Ok(Err(RecordFault::Short));
            }
        }
    }
}
