//! A response as a list of byte chunks, some of which still lie in a file.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

/// A range of an open file. Holding one keeps the file readable after it was unlinked.
#[derive(Clone, Debug)]
pub struct FileSlice {
    /// The open file.
    pub file: Arc<File>,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub len: usize,
}

impl FileSlice {
    /// Reads the whole range: the one copy in user space that a fetch may cost.
    pub fn read(&self) -> io::Result<Bytes> {
        // Not zeroed first, as `read_exact_at` would ask for.
        let mut buffer = Vec::with_capacity(self.len);
        while buffer.len() < self.len {
            let at = self.offset + buffer.len() as u64;
            match rustix::io::pread(&*self.file, rustix::buffer::spare_capacity(&mut buffer), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        buffer.truncate(self.len);
        Ok(buffer.into())
    }
}

/// A piece of a response.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes in a file, sent by the kernel where the connection allows it.
    File(FileSlice),
}

impl Chunk {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Chunk::Bytes(bytes) => bytes.len(),
            Chunk::File(slice) => slice.len,
        }
    }

    /// True for a chunk of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, read from the file if need be.
    pub fn read(&self) -> io::Result<Bytes> {
        match self {
            Chunk::Bytes(bytes) => Ok(bytes.clone()),
            Chunk::File(slice) => slice.read(),
        }
    }
}

/// Collects encoded fields and record chunks in wire order.
#[derive(Debug, Default)]
pub struct Chunks {
    done: Vec<Chunk>,
    done_len: usize,
    /// The tail that fields are encoded into.
    pub buffer: BytesMut,
}

impl Chunks {
    /// Appends a chunk after what was encoded so far. Neighbouring slices of one file are joined.
    pub fn push(&mut self, chunk: Chunk) {
        if chunk.is_empty() {
            return;
        }
        self.seal();
        self.done_len += chunk.len();
        if let (Some(Chunk::File(last)), Chunk::File(next)) = (self.done.last_mut(), &chunk)
            && Arc::ptr_eq(&last.file, &next.file)
            && last.offset + last.len as u64 == next.offset
        {
            last.len += next.len;
            return;
        }
        self.done.push(chunk);
    }

    /// Total length in bytes.
    pub fn len(&self) -> usize {
        self.done_len + self.buffer.len()
    }

    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The chunks in order.
    pub fn finish(mut self) -> Vec<Chunk> {
        self.seal();
        self.done
    }

    fn seal(&mut self) {
        if !self.buffer.is_empty() {
            self.done_len += self.buffer.len();
            self.done.push(Chunk::Bytes(self.buffer.split().freeze()));
        }
    }
}

impl From<Bytes> for Chunks {
    fn from(bytes: Bytes) -> Self {
        let mut chunks = Chunks::default();
        chunks.push(Chunk::Bytes(bytes));
        chunks
    }
}

/// Writes the length prefix and the response header before a body.
///
/// `flexible` is true for response header version 1 (KIP-482), which carries a tag section.
pub fn response_frame(correlation_id: i32, flexible: bool, body: Chunks) -> Vec<Chunk> {
    let header_len = if flexible { 5 } else { 4 };
    let mut head = BytesMut::with_capacity(4 + header_len);
    head.put_i32((header_len + body.len()) as i32);
    head.put_i32(correlation_id);
    if flexible {
        head.put_u8(0);
    }
    let mut frame = vec![Chunk::Bytes(head.freeze())];
    frame.extend(body.finish());
    frame
}
