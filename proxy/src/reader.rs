//! Bytes to frames: length checked before anything is allocated, memory reserved from the common budget, timeouts.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::time::timeout_at;

use crate::Limits;
use crate::budget::{Budget, FIRST_BYTES, Reservation};
use crate::stream::Source;

/// What one read may bring beyond the frame that is being read.
const READ_AHEAD: usize = 32 << 10;
/// The same when the last read brought [`READ_AHEAD`]: several of a producer's requests are in flight.
const READ_MORE: usize = 64 << 10;
/// Most bytes of a TLS record.
const TLS_RECORD: usize = 16 << 10;
/// Frames from this length on share a buffer that is mostly full: what is kept of one keeps the buffer.
const SHARED: usize = 8 << 10;
/// What a frame must gain within [`Limits::receive_timeout`]; a byte now and then does not keep a connection.
const PROGRESS: usize = 64 << 10;

/// One request as it came, without its length prefix.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Header and body.
    pub(crate) bytes: Bytes,
    /// The memory it counts for; to be held until the request is answered.
    pub(crate) reservation: Reservation,
    /// When its last byte was there.
    pub(crate) received: Instant,
}

/// Why no further frame can be read.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    /// The length prefix is impossible or above the limit.
    #[error("a request of {length} bytes (at most {max} are accepted)")]
    Length { length: i32, max: usize },
    /// The peer closed within a frame.
    #[error("the connection ended within a request, {received} bytes after its begin")]
    Truncated { received: usize },
    /// The frame did not go on.
    #[error("a half-sent request did not go on")]
    Stalled,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the frames of one connection. Idle, it holds no buffer.
pub(crate) struct Reader {
    stream: Source,
    limits: Arc<Limits>,
    budget: Arc<Budget>,
    ahead: BytesMut,
    /// The last read brought [`READ_AHEAD`] or more, and so at least half of what it might have.
    full: bool,
    /// The largest frame.
    most: usize,
}

impl Reader {
    pub(crate) fn new(stream: Source, limits: Arc<Limits>, budget: Arc<Budget>) -> Self {
        Reader { stream, most: limits.request_bytes, limits, budget, ahead: BytesMut::new(), full: false }
    }

    /// Changes the largest frame, and gives what it was.
    pub(crate) fn limit(&mut self, most: usize) -> usize {
        std::mem::replace(&mut self.most, most.min(self.limits.request_bytes))
    }

    /// The next frame, `None` when the peer closed after a whole one. Not to be dropped halfway and called again.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        let Some(length) = self.length().await? else { return Ok(None) };
        let mut reservation = self.budget.begin(length).await;
        if self.full && (SHARED..=self.ahead.len()).contains(&length) {
            let bytes = self.ahead.split_to(length).freeze();
            return Ok(Some(Frame { bytes, reservation, received: Instant::now() }));
        }
        let mut body = BytesMut::with_capacity(length.min(FIRST_BYTES));
        let buffered = self.ahead.len().min(length);
        body.put_slice(&self.ahead[..buffered]);
        self.ahead.advance(buffered);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }

        self.fill(&mut body, length.min(FIRST_BYTES)).await?;
        if body.len() < length {
            self.budget.extend(&mut reservation, length).await;
            // A larger frame has proved that it sends; one more allocation, then, and a copy of the first part.
            let mut whole = BytesMut::with_capacity(length);
            whole.put_slice(&body);
            body = whole;
            self.fill(&mut body, length).await?;
        }
        Ok(Some(Frame { bytes: body.freeze(), reservation, received: Instant::now() }))
    }

    /// Reads on until the client closes its side, whatever it sends.
    pub(crate) async fn discard(&mut self) {
        let mut buffer = vec![0; 4096];
        loop {
            let read = match &mut self.stream {
                Source::Plain(stream) => match stream.readable().await {
                    Ok(()) => stream.try_read(&mut buffer),
                    Err(_) => return,
                },
                Source::Tls(stream) => stream.read(&mut buffer).await,
            };
            match read {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }

    /// The length prefix. Waits without a deadline until its first byte is there.
    async fn length(&mut self) -> Result<Option<usize>, ReadError> {
        let mut deadline = None;
        while self.ahead.len() < 4 {
            let most = if self.full { READ_MORE } else { READ_AHEAD };
            if self.ahead.is_empty() {
                // Nothing of it is held while the client is silent.
                self.ahead = BytesMut::new();
            }
            if !self.ahead.is_empty() && deadline.is_none() {
                deadline = Some(tokio::time::Instant::now() + self.limits.receive_timeout);
            }
            let read = match &mut self.stream {
                Source::Plain(stream) => {
                    within(deadline, stream.readable()).await??;
                    self.ahead.reserve(most);
                    stream.try_read_buf(&mut self.ahead)
                }
                Source::Tls(stream) => {
                    // A record holds no more, and this is held while the client is silent.
                    self.ahead.reserve(TLS_RECORD);
                    let read = within(deadline, stream.read_buf(&mut self.ahead)).await?;
                    // Many clients leave without TLS's good-bye; between requests nothing is lost by that.
                    read.or_else(|error| if error.kind() == io::ErrorKind::UnexpectedEof { Ok(0) } else { Err(error) })
                }
            };
            match read {
                Ok(0) if self.ahead.is_empty() => return Ok(None),
                Ok(0) => return Err(ReadError::Truncated { received: self.ahead.len() }),
                Ok(_) => self.full = self.ahead.len() >= READ_AHEAD,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        let length = self.ahead.get_i32();
        let max = self.most;
        match usize::try_from(length) {
            Ok(valid) if valid > 0 && valid <= max => Ok(Some(valid)),
            _ => Err(ReadError::Length { length, max }),
        }
    }

    /// Reads until `body` is `length` long, straight into its memory.
    async fn fill(&mut self, body: &mut BytesMut, length: usize) -> Result<(), ReadError> {
        let mut goal = 0;
        let mut deadline = tokio::time::Instant::now();
        while body.len() < length {
            let missing = length - body.len();
            if let Source::Plain(stream) = &self.stream {
                match stream.try_read_buf(&mut (&mut *body).limit(missing)) {
                    Ok(0) => return Err(ReadError::Truncated { received: body.len() + 4 }),
                    Ok(_) => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if body.len() >= goal {
                goal = body.len() + PROGRESS;
                deadline = tokio::time::Instant::now() + self.limits.receive_timeout;
            }
            match &mut self.stream {
                Source::Plain(stream) => within(Some(deadline), stream.readable()).await??,
                Source::Tls(stream) => {
                    match within(Some(deadline), stream.read_buf(&mut (&mut *body).limit(missing))).await?? {
                        0 => return Err(ReadError::Truncated { received: body.len() + 4 }),
                        _ => continue,
                    }
                }
            }
        }
        Ok(())
    }
}

/// Waits until the deadline, or for ever.
async fn within<T>(deadline: Option<tokio::time::Instant>, what: impl Future<Output = T>) -> Result<T, ReadError> {
    match deadline {
        None => Ok(what.await),
        Some(at) => timeout_at(at, what).await.map_err(|_| ReadError::Stalled),
    }
}
