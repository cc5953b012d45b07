//! A connection that may break at any time: errors instead of panics.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Decodable, Request};
use krocket_protocol::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::request_frame;

/// How long an answer may take before the connection is given up, unless told otherwise.
const ANSWER: Duration = Duration::from_secs(15);

/// One connection to a server that may be killed.
pub struct Session {
    stream: TcpStream,
    next_correlation_id: i32,
    patience: Duration,
}

impl Session {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Session { stream, next_correlation_id: 1, patience: ANSWER })
    }

    /// Waits this long for answers.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Session { patience, ..self }
    }

    /// The server's address.
    ///
    /// # Panics
    /// When the connection has none: it was closed.
    pub fn peer(&self) -> SocketAddr {
        self.stream.peer_addr().expect("connected")
    }

    /// Sends a request; its answer has to be taken before that of a later one.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> io::Result<i32> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let frame = request_frame(version, correlation_id, request);
        let mut bytes = BytesMut::with_capacity(frame.len() + 4);
        bytes.put_i32(frame.len() as i32);
        bytes.put_slice(&frame);
        self.stream.write_all(&bytes).await?;
        Ok(correlation_id)
    }

    /// Takes the answer to the oldest request that has none yet.
    pub async fn receive<R: Request>(&mut self, version: i16, correlation_id: i32) -> io::Result<R::Response> {
        let read = async {
            let length = self.stream.read_i32().await?;
            let mut frame = vec![0; length as usize];
            self.stream.read_exact(&mut frame).await?;
            Ok::<_, io::Error>(Bytes::from(frame))
        };
        let mut frame = tokio::time::timeout(self.patience, read).await??;
        let api = ApiKey::try_from(R::KEY).expect("the message's own key");
        let header = ResponseHeader::decode(&mut frame, api.response_header_version(version)).expect("a header");
        assert_eq!(header.correlation_id, correlation_id, "responses come in the order of the requests");
        Ok(R::Response::decode(&mut frame, version).expect("a body that decodes"))
    }

    /// Sends a request and waits for its answer.
    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        let correlation_id = self.send(version, request).await?;
        self.receive::<R>(version, correlation_id).await
    }
}
