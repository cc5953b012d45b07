//! A client's connection, plain or encrypted, as the two halves that read and write it.

use std::sync::Arc;

use tokio::io::ReadHalf;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::tls::TlsSink;

/// A connection that is ready for requests.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Where requests come from.
pub(crate) enum Source {
    Plain(Arc<TcpStream>),
    Tls(ReadHalf<TlsStream<TcpStream>>),
}

/// Where responses go.
pub(crate) enum Sink {
    Plain(Arc<TcpStream>),
    Tls(TlsSink),
}

impl Stream {
    pub(crate) fn split(self) -> (Source, Sink) {
        match self {
            Stream::Plain(stream) => {
                let stream = Arc::new(stream);
                (Source::Plain(stream.clone()), Sink::Plain(stream))
            }
            Stream::Tls(stream) => {
                let (read, write) = tokio::io::split(*stream);
                (Source::Tls(read), Sink::Tls(TlsSink::new(write)))
            }
        }
    }
}
