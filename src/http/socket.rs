//! Connections of the HTTP API, encrypted where it has a certificate.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use krocket_proxy::tls::Tls;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

/// Most handshakes at a time; further connections wait to be accepted.
const MAX_HANDSHAKES: usize = 256;
/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What axum takes connections from.
pub struct Socket {
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    handshakes: JoinSet<Option<Accepted>>,
}

type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;
type Accepted = (Stream, SocketAddr);

impl Socket {
    /// With this certificate, where there is one.
    pub fn new(listener: TcpListener, tls: Option<Arc<Tls>>) -> Self {
        Socket { listener, tls, handshakes: JoinSet::new() }
    }
}

impl Listener for Socket {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Accepted {
        loop {
            tokio::select! {
                (stream, peer) = Listener::accept(&mut self.listener), if self.handshakes.len() < MAX_HANDSHAKES => {
                    let Some(tls) = self.tls.clone() else { return (Either::Left(stream), peer) };
                    // One that is slow keeps nobody else out.
                    self.handshakes.spawn(shake_hands(tls, stream, peer));
                }
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(accepted)) = done {
                        return accepted;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn shake_hands(tls: Arc<Tls>, stream: TcpStream, peer: SocketAddr) -> Option<Accepted> {
    match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
        Ok(Ok((stream, _))) => Some((Either::Right(Box::new(stream)), peer)),
        Ok(Err(error)) => {
            tls.refuse(peer, &error);
            None
        }
        Err(_) => {
            tls.refuse(peer, &"it took too long");
            None
        }
    }
}
