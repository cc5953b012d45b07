//! Kafka's own API, for what has no other: one connection, one request at a time.

mod sasl;

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use clap::Args;
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use krocket_protocol::ApiKey;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::password;
use crate::exit::Failure;

/// For connecting, and for each answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer.
const MAX_ANSWER: usize = 64 << 20;

/// Which listener, and who connects.
#[derive(Args, Clone, Debug)]
pub(super) struct Bootstrap {
    /// Where Kafka clients connect.
    #[arg(long, global = true, value_name = "HOST:PORT", env = "KROCKET_BOOTSTRAP", default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// The listener has TLS.
    #[arg(long, global = true)]
    tls: bool,
    /// PEM file of the authorities to trust instead of the system's; means TLS.
    #[arg(long, global = true, value_name = "FILE", env = "KROCKET_BOOTSTRAP_CA")]
    ca: Option<PathBuf>,
    /// Who connects, where the listener has SASL; the password is in KROCKET_PASSWORD or asked for.
    #[arg(long, global = true, value_name = "NAME", env = "KROCKET_USER")]
    user: Option<String>,
    /// A file with that user's password.
    #[arg(long, global = true, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// A connection that may ask.
pub(super) struct Kafka {
    stream: Box<dyn Stream>,
    correlation_id: i32,
    address: String,
}

impl Bootstrap {
    /// Connects, and proves who connects.
    pub(super) fn connect(&self) -> Result<Kafka, Failure> {
        let Some(user) = &self.user else { return self.open().map(|(kafka, _)| kafka) };
        let password = password::existing(user, self.password_file.as_deref())?;
        sasl::login(&|| self.open(), user, &password)
    }

    /// A new connection; true where nobody between can read what is sent.
    fn open(&self) -> Result<(Kafka, bool), Failure> {
        let cannot = |why: &dyn std::fmt::Display| {
            let at = &self.bootstrap;
            Failure::Other(format!(
                "krocket cannot be reached at {at}: {why} (--bootstrap or KROCKET_BOOTSTRAP say where)"
            ))
        };
        let addresses = self.bootstrap.to_socket_addrs().map_err(|error| cannot(&error))?;
        let mut outcome = Err(cannot(&"the name has no address"));
        for address in addresses {
            outcome = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| cannot(&error));
            if outcome.is_ok() {
                break;
            }
        }
        let stream = outcome?;
        let peer: IpAddr = stream.peer_addr().map_err(|error| cannot(&error))?.ip();
        let limits = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        limits.and_then(|()| stream.set_nodelay(true)).map_err(|error| cannot(&error))?;
        let secure = self.tls || self.ca.is_some();
        let stream: Box<dyn Stream> = match secure {
            true => Box::new(self.encrypt(stream).map_err(|why| cannot(&why))?),
            false => Box::new(stream),
        };
        let kafka = Kafka { stream, correlation_id: 0, address: self.bootstrap.clone() };
        Ok((kafka, secure || peer.is_loopback()))
    }

    fn encrypt(&self, stream: TcpStream) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
        let host = self.bootstrap.rsplit_once(':').map_or(self.bootstrap.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let config = krocket_proxy::tls::client(self.ca.as_deref())?;
        let session = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(session, stream);
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) => Ok(stream),
            Err(error) => Err(format!("the TLS handshake failed: {error}")),
        }
    }
}

impl Kafka {
    /// Asks, and waits for the answer.
    pub(super) fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Failure> {
        let api = ApiKey::try_from(R::KEY).map_err(|_| Failure::Other(format!("no API has the key {}", R::KEY)))?;
        let frame = self.frame(api, version, request).map_err(|error| Failure::Other(error.to_string()))?;
        let mut answer = self.exchange(&frame).map_err(|error| self.lost(api, &error))?;
        let odd = |_| Failure::Other(format!("{} answers, but not as krocket does", self.address));
        ResponseHeader::decode(&mut answer, api.response_header_version(version)).map_err(odd)?;
        R::Response::decode(&mut answer, version).map_err(odd)
    }

    fn frame<R: Request>(&mut self, api: ApiKey, version: i16, request: &R) -> anyhow::Result<Bytes> {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("krocket")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header.encode(&mut frame, api.request_header_version(version))?;
        request.encode(&mut frame, version)?;
        let length = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok(frame.freeze())
    }

    fn exchange(&mut self, frame: &[u8]) -> io::Result<Bytes> {
        self.stream.write_all(frame)?;
        self.stream.flush()?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "that is no Kafka listener"));
        }
        let mut answer = Vec::new();
        (&mut self.stream).take(length as u64).read_to_end(&mut answer)?;
        match answer.len() == length {
            true => Ok(answer.into()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn lost(&self, api: ApiKey, error: &io::Error) -> Failure {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        let at = &self.address;
        Failure::Other(match error.kind() {
            UnexpectedEof | ConnectionReset | BrokenPipe => format!(
                "{at} closed the connection at {api:?}: does the listener want TLS (--tls, --ca) or a user (--user)?"
            ),
            _ => format!("{at} does not answer {api:?}: {error}"),
        })
    }
}
