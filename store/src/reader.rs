//! Reads batches by their location, and checks that they are what was written.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use krocket_protocol::chunk::FileSlice;
use krocket_protocol::records::BatchHeader;
use krocket_protocol::records::batch::{CRC_START, HEADER_LEN};

use crate::error::{LogFailed, ReadError};
use crate::index::BatchRow;
use crate::op::Location;
use crate::segment::SOUND_STEP;
use crate::shared::Shared;

/// Bytes of a large batch that are checked at a time.
const PIECE: usize = 256 << 10;

/// Hands out slices of the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(crate) shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        LogReader { shared }
    }

    /// An error once the log has stopped for good.
    pub fn health(&self) -> Result<(), LogFailed> {
        self.shared.check()
    }

    /// A slice of the file, which stays readable as long as it is held.
    pub fn slice(&self, location: Location) -> Result<FileSlice, ReadError> {
        match self.shared.segments.file(location.file) {
            Ok(Some(file)) => Ok(FileSlice { file, offset: u64::from(location.offset), len: location.len as usize }),
            Ok(None) => Err(ReadError::Gone(location.file)),
            Err(source) => Err(ReadError::Io { file: location.file, source }),
        }
    }

    /// The bytes themselves.
    pub fn read(&self, location: Location) -> Result<Bytes, ReadError> {
        self.slice(location)?.read().map_err(|source| ReadError::Io { file: location.file, source })
    }

    /// The row's batch as a slice, checked: it is what was written there. A large one is checked once in a run, so that
    /// the kernel can send it without its bytes passing through here.
    pub fn sound(&self, row: &BatchRow) -> Result<FileSlice, ReadError> {
        let slice = self.slice(row.location)?;
        if self.is_known(row) {
            return Ok(slice);
        }
        let io = |source| ReadError::Io { file: row.location.file, source };
        let mut buffer = vec![0; slice.len.min(PIECE)];
        let (mut at, mut header, mut crc) = (0, None, 0);
        while at < slice.len {
            let piece = &mut buffer[..(slice.len - at).min(PIECE)];
            match slice.file.read_exact_at(piece, slice.offset + at as u64) {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Err(self.damaged(row, "the file ends within it"));
                }
                read => read.map_err(io)?,
            }
            if at == 0 {
                header = Some(self.header(row, piece)?);
                crc = crc32c::crc32c(&piece[CRC_START..]);
            } else {
                crc = crc32c::crc32c_append(crc, piece);
            }
            at += piece.len();
        }
        if header.is_none_or(|header| header.crc != crc) {
            return Err(self.damaged(row, "its checksum is wrong"));
        }
        self.remember(row);
        Ok(slice)
    }

    /// True when it was checked before in this run. Only large ones are remembered.
    fn is_known(&self, row: &BatchRow) -> bool {
        row.location.len >= SOUND_STEP && self.shared.segments.is_sound(row.location)
    }

    fn remember(&self, row: &BatchRow) {
        if row.location.len >= SOUND_STEP {
            self.shared.segments.set_sound(row.location);
        }
    }

    /// The row's batch, read once and checked.
    pub fn checked(&self, row: &BatchRow) -> Result<Bytes, ReadError> {
        let bytes = match self.slice(row.location)?.read() {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(self.damaged(row, "the file ends within it"));
            }
            read => read.map_err(|source| ReadError::Io { file: row.location.file, source })?,
        };
        self.check(row, &bytes)?;
        Ok(bytes)
    }

    /// Checks bytes that were read from the row's location.
    pub fn check(&self, row: &BatchRow, bytes: &[u8]) -> Result<(), ReadError> {
        match self.header(row, bytes)?.check_crc(bytes) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.damaged(row, "its checksum is wrong")),
        }
    }

    /// As [`check`](Self::check), and remembers that a large one is sound.
    pub fn check_and_remember(&self, row: &BatchRow, bytes: &[u8]) -> Result<(), ReadError> {
        self.check(row, bytes)?;
        self.remember(row);
        Ok(())
    }

    /// The batch's header, which holds what the CRC does not cover.
    fn header(&self, row: &BatchRow, bytes: &[u8]) -> Result<BatchHeader, ReadError> {
        let header = BatchHeader::read_alone(bytes).map_err(|_| self.damaged(row, "it does not begin as a batch"))?;
        let len = row.location.len as usize;
        let sound = (header.base_offset, header.leader_epoch, header.len) == (row.base_offset, row.leader_epoch, len);
        if sound && len >= HEADER_LEN { Ok(header) } else { Err(self.damaged(row, "it is another batch")) }
    }

    /// An error that says where.
    fn damaged(&self, row: &BatchRow, reason: &str) -> ReadError {
        let Location { file, offset, .. } = row.location;
        let segments = &self.shared.segments;
        match segments.get(file) {
            Some(segment) => {
                let reason = format!("the batch of offset {}: {reason}", row.base_offset);
                ReadError::Damaged { path: segments.path(&segment), offset: offset.into(), reason }
            }
            None => ReadError::Gone(file),
        }
    }
}
