//! Batches of a read, one by one, without copying them.

use bytes::BytesMut;
use krocket_protocol::chunk::{Chunk, FileSlice};
use krocket_protocol::records::batch::HEADER_LEN;
use krocket_protocol::records::{BatchHeader, Records};

use crate::log::{MAX_DECOMPRESSED, StorageError};

/// A batch: its header, and its bytes where they lie.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) header: BatchHeader,
    pub(super) chunks: Vec<Chunk>,
}

impl Piece {
    pub(super) fn base(&self) -> i64 {
        self.header.base_offset
    }

    pub(super) fn last(&self) -> i64 {
        self.header.last_offset()
    }

    /// True where every offset has its record.
    pub(super) fn is_dense(&self) -> bool {
        i64::from(self.header.count) == self.last() - self.base() + 1
    }

    /// Its records. Copies the batch, unless it lies in memory in one piece.
    pub(super) fn records(&self) -> Result<Records, StorageError> {
        let batch = match &self.chunks[..] {
            [chunk] => chunk.read().map_err(StorageError::unreadable)?,
            chunks => {
                let mut bytes = BytesMut::with_capacity(self.header.len);
                for chunk in chunks {
                    bytes.extend_from_slice(&chunk.read().map_err(StorageError::unreadable)?);
                }
                bytes.freeze()
            }
        };
        Records::open(&batch, &self.header, MAX_DECOMPRESSED).map_err(StorageError::unreadable)
    }
}

/// Takes what was read apart into batches.
pub(super) fn pieces(chunks: Vec<Chunk>) -> Result<Vec<Piece>, StorageError> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut missing = 0;
    for mut chunk in chunks {
        while !chunk.is_empty() {
            if missing == 0 {
                let header = read_header(&chunk)?;
                missing = header.len;
                pieces.push(Piece { header, chunks: Vec::new() });
            }
            let part = take(&mut chunk, missing);
            missing -= part.len();
            if let Some(piece) = pieces.last_mut() {
                piece.chunks.push(part);
            }
        }
    }
    Ok(pieces)
}

fn read_header(chunk: &Chunk) -> Result<BatchHeader, StorageError> {
    let bytes = match chunk {
        Chunk::Bytes(bytes) => bytes.clone(),
        Chunk::File(slice) => {
            let head = FileSlice { len: HEADER_LEN.min(slice.len), ..slice.clone() };
            head.read().map_err(StorageError::unreadable)?
        }
    };
    // The body may be in the next chunk.
    BatchHeader::read_alone(&bytes).map_err(StorageError::unreadable)
}

/// Takes up to `len` bytes off the front.
fn take(chunk: &mut Chunk, len: usize) -> Chunk {
    let len = len.min(chunk.len());
    match chunk {
        Chunk::Bytes(bytes) => Chunk::Bytes(bytes.split_to(len)),
        Chunk::File(slice) => {
            let front = FileSlice { len, ..slice.clone() };
            slice.offset += len as u64;
            slice.len -= len;
            Chunk::File(front)
        }
    }
}
