//! Responses to bytes: chunks in memory by vectored writes, file slices by sendfile.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::Buf;
use krocket_protocol::chunk::{Chunk, FileSlice};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown, sockopt};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::stream::Sink;

/// Buffers handed to one system call.
const MAX_SLICES: usize = 64;
/// Bytes sent before other connections get a turn.
const TURN: usize = 1 << 20;
/// File slices up to this length are read and sent with their neighbours: measured on loopback, sendfile costs less CPU
/// from about 3 KiB on, and half as much at 64 KiB.
const SMALL_SLICE: usize = 2048;
/// How long TLS's good-bye may take.
const CLOSE: Duration = Duration::from_millis(500);
/// Queued bytes beyond which no further response is accepted.
const FULL: usize = 256 << 10;

/// Why a response cannot be sent.
#[derive(Debug, Error)]
pub(crate) enum WriteError {
    /// The peer takes nothing.
    #[error("the client did not read its responses")]
    Stalled,
    /// The log segment is shorter than the response says.
    #[error("a log file ended {missing} bytes too early")]
    FileEnded { missing: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Sends responses in the order they were pushed.
pub(crate) struct Writer {
    sink: Sink,
    timeout: Duration,
    queue: VecDeque<Chunk>,
    queued: usize,
    sendfile: bool,
}

impl Writer {
    pub(crate) fn new(sink: Sink, timeout: Duration) -> Self {
        Writer { sink, timeout, queue: VecDeque::new(), queued: 0, sendfile: true }
    }

    /// Queues one response frame.
    pub(crate) fn push(&mut self, frame: Vec<Chunk>) {
        for chunk in frame.into_iter().filter(|chunk| !chunk.is_empty()) {
            self.queued += chunk.len();
            self.queue.push_back(chunk);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && !matches!(&self.sink, Sink::Tls(sink) if sink.has_unsent())
    }

    /// True when another response has to wait: a client that does not read holds one response, not many.
    pub(crate) fn is_full(&self) -> bool {
        self.queued >= FULL
    }

    /// Sends everything that is queued. May be dropped at any wait and called again.
    pub(crate) async fn flush(&mut self) -> Result<(), WriteError> {
        match &self.sink {
            Sink::Plain(stream) => {
                let stream = stream.clone();
                self.flush_plain(&stream).await
            }
            Sink::Tls(_) => self.flush_tls().await,
        }
    }

    async fn flush_tls(&mut self) -> Result<(), WriteError> {
        let mut turn = 0;
        while let Sink::Tls(sink) = &mut self.sink {
            if self.queue.is_empty() {
                timeout(self.timeout, sink.flush()).await.map_err(|_| WriteError::Stalled)??;
                break;
            }
            let taken = timeout(self.timeout, sink.write(&mut self.queue)).await.map_err(|_| WriteError::Stalled)??;
            self.sent(taken);
            turn += taken;
            if turn >= TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Says that nothing follows.
    pub(crate) async fn close(&mut self) {
        match &mut self.sink {
            Sink::Plain(stream) => drop(rustix::net::shutdown(&**stream, Shutdown::Write)),
            Sink::Tls(sink) => drop(timeout(CLOSE, sink.close()).await),
        }
    }

    async fn flush_plain(&mut self, stream: &TcpStream) -> Result<(), WriteError> {
        let _cork = Cork::of(stream, &self.queue);
        let mut turn = 0;
        while !self.queue.is_empty() {
            match self.send_some(stream) {
                Ok(sent) => turn += sent,
                Err(WriteError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    timeout(self.timeout, stream.writable()).await.map_err(|_| WriteError::Stalled)??;
                }
                Err(WriteError::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if turn >= TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    fn send_some(&mut self, stream: &TcpStream) -> Result<usize, WriteError> {
        self.read_small()?;
        match self.queue.front_mut() {
            None => Ok(0),
            Some(Chunk::Bytes(_)) => self.send_bytes(stream),
            Some(Chunk::File(slice)) if self.sendfile => match send_file(stream, slice) {
                Ok(0) => Err(WriteError::FileEnded { missing: slice.len }),
                Ok(sent) => {
                    self.sent(sent);
                    Ok(sent)
                }
                // Some file systems cannot: read the bytes instead.
                Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INVAL | Errno::NOSYS)) => {
                    self.sendfile = false;
                    Ok(0)
                }
                Err(error) => Err(error.into()),
            },
            Some(Chunk::File(slice)) => {
                let part = FileSlice { file: slice.file.clone(), offset: slice.offset, len: slice.len.min(FULL) };
                let bytes = part.read()?;
                slice.offset += part.len as u64;
                slice.len -= part.len;
                if slice.len == 0 {
                    self.queue.pop_front();
                }
                self.queue.push_front(Chunk::Bytes(bytes));
                Ok(0)
            }
        }
    }

    /// Reads the leading small slices: no more than one call sends, for all of a response may be many.
    fn read_small(&mut self) -> io::Result<()> {
        for chunk in self.queue.iter_mut().take(MAX_SLICES) {
            match chunk {
                Chunk::Bytes(_) => {}
                Chunk::File(slice) if slice.len <= SMALL_SLICE => *chunk = Chunk::Bytes(slice.read()?),
                Chunk::File(_) => break,
            }
        }
        Ok(())
    }

    /// Sends the leading chunks that are in memory; tells the kernel when file bytes follow, to fill whole packets.
    fn send_bytes(&mut self, stream: &TcpStream) -> Result<usize, WriteError> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        let mut flags = SendFlags::NOSIGNAL;
        for chunk in &self.queue {
            match chunk {
                Chunk::Bytes(bytes) if count < MAX_SLICES => {
                    slices[count] = IoSlice::new(bytes);
                    count += 1;
                }
                _ => {
                    flags |= SendFlags::MORE;
                    break;
                }
            }
        }
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut control = SendAncillaryBuffer::default();
            Ok(rustix::net::sendmsg(stream, &slices[..count], &mut control, flags)?)
        })?;
        self.sent(sent);
        Ok(sent)
    }

    fn sent(&mut self, mut count: usize) {
        self.queued -= count;
        while count > 0 {
            let chunk = self.queue.front_mut().expect("what was sent was queued");
            let part = count.min(chunk.len());
            match chunk {
                Chunk::Bytes(bytes) => bytes.advance(part),
                Chunk::File(slice) => {
                    slice.offset += part as u64;
                    slice.len -= part;
                }
            }
            if chunk.is_empty() {
                self.queue.pop_front();
            }
            count -= part;
        }
    }
}

/// Keeps the kernel from sending a packet for each slice: several leave in one, which costs a third less CPU where
/// batches lie scattered. Dropped, it sends what is left.
struct Cork<'a>(Option<&'a TcpStream>);

impl<'a> Cork<'a> {
    fn of(stream: &'a TcpStream, queue: &VecDeque<Chunk>) -> Self {
        let mut slices = queue.iter().filter(|chunk| matches!(chunk, Chunk::File(_)));
        // One slice fills its packets by itself.
        let several = slices.nth(1).is_some();
        // A socket that cannot is as slow as it was.
        Cork((several && sockopt::set_tcp_cork(stream, true).is_ok()).then_some(stream))
    }
}

impl Drop for Cork<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.0 {
            // Fails only when the connection is gone.
            let _ = sockopt::set_tcp_cork(stream, false);
        }
    }
}

fn send_file(stream: &TcpStream, slice: &FileSlice) -> io::Result<usize> {
    let mut offset = slice.offset;
    let count = slice.len.min(TURN);
    stream.try_io(Interest::WRITABLE, || Ok(rustix::fs::sendfile(stream, &*slice.file, Some(&mut offset), count)?))
}
