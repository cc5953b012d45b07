//! The writing half of an encrypted connection.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;

use krocket_protocol::chunk::{Chunk, FileSlice};
use tokio::io::{AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Buffers encrypted with one call.
const MAX_SLICES: usize = 64;
/// Bytes gathered for one call: several of TLS's largest records.
const GATHER: usize = 64 << 10;
/// Bytes of a file read at a time.
const READ: usize = 256 << 10;

/// Encrypts and sends. The kernel cannot do it from a file, so slices of files are read.
pub(crate) struct TlsSink {
    stream: WriteHalf<TlsStream<TcpStream>>,
    unsent: bool,
}

impl TlsSink {
    pub(crate) fn new(stream: WriteHalf<TlsStream<TcpStream>>) -> Self {
        TlsSink { stream, unsent: false }
    }

    /// True while encrypted bytes may wait to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent
    }

    /// Takes some bytes from the queue's front; the caller takes them off. Nothing is taken when it is dropped.
    pub(crate) async fn write(&mut self, queue: &mut VecDeque<Chunk>) -> io::Result<usize> {
        gather(queue)?;
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(queue.iter()) {
            let Chunk::Bytes(bytes) = chunk else { break };
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        let stream = &mut self.stream;
        let taken = poll_fn(|cx| Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count])).await?;
        self.unsent = true;
        match taken {
            0 => Err(io::ErrorKind::WriteZero.into()),
            taken => Ok(taken),
        }
    }

    /// Sends what is encrypted. May be dropped and called again.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().await?;
        self.unsent = false;
        Ok(())
    }

    /// Tells the client that nothing follows.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}

/// Brings enough of the queue's front into memory.
fn gather(queue: &mut VecDeque<Chunk>) -> io::Result<()> {
    let (mut at, mut total) = (0, 0);
    while at < queue.len().min(MAX_SLICES) && total < GATHER {
        if let Chunk::File(slice) = &mut queue[at] {
            let part = FileSlice { file: slice.file.clone(), offset: slice.offset, len: slice.len.min(READ) };
            let bytes = Chunk::Bytes(part.read()?);
            slice.offset += part.len as u64;
            slice.len -= part.len;
            match slice.len {
                0 => queue[at] = bytes,
                _ => queue.insert(at, bytes),
            }
        }
        total += queue[at].len();
        at += 1;
    }
    Ok(())
}
