//! A client without manners: frames as given, or messages at any version.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use krocket_protocol::ApiKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::soon;

/// One connection. Panics, as a test should, when something does not happen.
pub struct Client<S = TcpStream> {
    /// The socket.
    pub stream: S,
    next_correlation_id: i32,
}

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = soon("connecting", TcpStream::connect(address)).await.expect("connects");
        stream.set_nodelay(true).expect("a socket option");
        Client::over(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Talks over a connection that is there, for example an encrypted one.
    pub fn over(stream: S) -> Self {
        Client { stream, next_correlation_id: 1 }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        let send = async {
            self.stream.write_all(bytes).await?;
            // What is encrypted may wait for room in the socket.
            self.stream.flush().await
        };
        soon("sending", send).await.expect("sends");
    }

    /// Sends a frame: the length, then these bytes.
    pub async fn send_frame(&mut self, frame: &[u8]) {
        let mut bytes = BytesMut::with_capacity(frame.len() + 4);
        bytes.put_i32(frame.len() as i32);
        bytes.put_slice(frame);
        self.send(&bytes).await;
    }

    /// Sends a request and gives its correlation id.
    pub async fn send_request<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        self.send_frame(&request_frame(version, correlation_id, request)).await;
        correlation_id
    }

    /// Sends a request and waits for its answer.
    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let correlation_id = self.send_request(version, request).await;
        self.receive_answer::<R>(version, correlation_id).await
    }

    /// Waits for the answer to a request; it must be the next frame.
    pub async fn receive_answer<R: Request>(&mut self, version: i16, correlation_id: i32) -> R::Response {
        let mut frame = self.receive().await.expect("a response, not the end of the connection");
        let api = ApiKey::try_from(R::KEY).expect("the message's own key");
        let header = ResponseHeader::decode(&mut frame, api.response_header_version(version)).expect("a header");
        assert_eq!(header.correlation_id, correlation_id, "responses come in the order of the requests");
        let response = R::Response::decode(&mut frame, version).expect("a body that decodes");
        assert!(!frame.has_remaining(), "{} bytes after the response's end", frame.remaining());
        response
    }

    /// The next frame without its length; `None` when the server closed.
    pub async fn receive(&mut self) -> Option<Bytes> {
        let read = async {
            let length = self.stream.read_i32().await?;
            let mut frame = vec![0; length as usize];
            self.stream.read_exact(&mut frame).await?;
            Ok::<_, io::Error>(Bytes::from(frame))
        };
        match soon("a response", read).await {
            Ok(frame) => Some(frame),
            Err(error) if is_end(&error) => None,
            Err(error) => panic!("receiving: {error}"),
        }
    }

    /// Waits for the server to close. Whatever it still sends is an error.
    pub async fn expect_close(&mut self) {
        let mut byte = [0];
        match soon("the server's close", self.stream.read(&mut byte)).await {
            Ok(0) => {}
            Ok(_) => panic!("the server answered instead of closing"),
            Err(error) if is_end(&error) => {}
            Err(error) => panic!("waiting for the close: {error}"),
        }
    }
}

/// A request as it goes into a frame.
pub fn request_frame<R: Request>(version: i16, correlation_id: i32, request: &R) -> Bytes {
    let api = ApiKey::try_from(R::KEY).expect("the message's own key");
    let mut frame = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("testkit")))
        .encode(&mut frame, api.request_header_version(version))
        .expect("a header encodes");
    request.encode(&mut frame, version).expect("the request has no field that its version cannot carry");
    frame.freeze()
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}
