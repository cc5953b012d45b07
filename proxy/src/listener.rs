//! Accepts connections, counts them, drains them.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use krocket_stack::{Connection, Handler};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::capacity::Capacity;
use crate::connection::{ConnectionError, Shared, serve};
use crate::metrics;
use crate::quota::Enforcer;
use crate::reader::ReadError;
use crate::requests::RequestLog;
use crate::sasl::Sasl;
use crate::service::CallError;
use crate::stream::Stream;
use crate::tls::Tls;
use crate::writer::WriteError;

/// Connections that the kernel may hold before they are accepted.
const BACKLOG: u32 = 1024;
/// Pause after a failed accept: the usual cause is that no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket. Clients can connect at once; they are served from [`Listener::run`] on.
pub struct Listener {
    socket: TcpListener,
    name: String,
    tls: Option<Arc<Tls>>,
    sasl: Option<Arc<Sasl>>,
    quotas: Option<Arc<Enforcer>>,
    requests: Arc<RequestLog>,
}

impl Listener {
    /// Binds the address.
    pub fn bind(address: SocketAddr, name: &str) -> io::Result<Self> {
        // Metrics are there, at zero, before the first client is.
        metrics::get();
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Connections of an earlier process that linger in TIME_WAIT must not keep us from the port.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Listener {
            socket: socket.listen(BACKLOG)?,
            name: name.to_owned(),
            tls: None,
            sasl: None,
            quotas: None,
            requests: Arc::default(),
        })
    }

    /// Encrypts every connection.
    pub fn with_tls(self, tls: Option<Arc<Tls>>) -> Self {
        Listener { tls, ..self }
    }

    /// Lets in whoever proves who they are.
    pub fn with_sasl(self, sasl: Option<Arc<Sasl>>) -> Self {
        Listener { sasl, ..self }
    }

    /// Holds clients to their quotas.
    pub fn with_quotas(self, quotas: Arc<Enforcer>) -> Self {
        Listener { quotas: Some(quotas), ..self }
    }

    /// Logs the requests that this one wants.
    pub fn with_requests(self, requests: Arc<RequestLog>) -> Self {
        Listener { requests, ..self }
    }

    /// The address, with the port that port 0 became.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves clients until `drain` is cancelled; then accepts none, lets requests in flight finish for at most
    /// `grace`, and closes what is left. True when nothing had to be cut off.
    pub async fn run(
        self,
        handler: Arc<dyn Handler>,
        capacity: impl Into<Capacity>,
        drain: CancellationToken,
        grace: Duration,
    ) -> bool {
        let Capacity { limits, open, strangers, budget } = capacity.into();
        let tls = self.tls.clone();
        let (sasl, quotas, requests) = (self.sasl.clone(), self.quotas.clone(), self.requests.clone());
        let shared =
            Arc::new(Shared { handler, limits, budget, strangers, drain: drain.clone(), sasl, quotas, requests });
        let cut_off = CancellationToken::new();
        let tasks = TaskTracker::new();

        while let Some((stream, peer)) = self.accept(&drain).await {
            metrics::get().accepted.inc();
            let Ok(permit) = open.clone().try_acquire_owned() else {
                metrics::get().refused.inc();
                tracing::warn!(%peer, limit = shared.limits.connections, "too many connections, closing this one");
                continue;
            };
            if let Some(throttle) = self.quotas.as_ref().and_then(|quotas| quotas.refuse_connection(peer.ip())) {
                let cut_off = cut_off.clone();
                tasks.spawn(async move {
                    let _held = (permit, stream, Open::new(), throttle.mute());
                    cut_off.run_until_cancelled(tokio::time::sleep(throttle.delay)).await;
                });
                continue;
            }
            tasks.spawn(client(permit, stream, self.connection(peer), tls.clone(), shared.clone(), cut_off.clone()));
        }
        drop(self);
        tasks.close();
        let drained = tokio::time::timeout(grace, tasks.wait()).await.is_ok();
        cut_off.cancel();
        tasks.wait().await;
        drained
    }

    async fn accept(&self, drain: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
        loop {
            match drain.run_until_cancelled(self.socket.accept()).await? {
                Ok((stream, peer)) => {
                    // Responses are whole when they are written: nothing is gained by holding packets back.
                    match stream.set_nodelay(true) {
                        Ok(()) => return Some((stream, peer)),
                        Err(error) => tracing::debug!(%peer, %error, "connection is gone"),
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn connection(&self, peer: SocketAddr) -> Connection {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Connection {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            peer,
            listener: self.name.clone(),
            software: Default::default(),
            authenticated: Default::default(),
        }
    }
}

/// One client, until it leaves or is cut off. Its future is the memory that an idle connection takes: what takes much of it
/// and is soon over is boxed, and nothing large is handed on by value, since the compiler then keeps room for it twice.
async fn client(
    place: OwnedSemaphorePermit,
    stream: TcpStream,
    connection: Connection,
    tls: Option<Arc<Tls>>,
    shared: Arc<Shared>,
    cut_off: CancellationToken,
) {
    let _open = (place, Open::new());
    let connection = Arc::new(connection);
    let mut served = pin!(async {
        let Some(stream) = enter(tls, stream, &connection, &shared).await else { return Ok(()) };
        serve(stream, connection.clone(), &shared).await
    });
    if let Some(Err(error)) = cut_off.run_until_cancelled(served.as_mut()).await {
        report(&connection, &error);
    }
}

/// Shakes hands where the listener has TLS. Nothing when the client may not come in, which the log then says.
async fn enter(tls: Option<Arc<Tls>>, stream: TcpStream, connection: &Connection, shared: &Shared) -> Option<Stream> {
    let Some(tls) = tls else { return Some(Stream::Plain(stream)) };
    let Ok(_stranger) = shared.strangers.try_acquire() else {
        tls.refuse(connection.peer, &"too many connections are in their handshake");
        return None;
    };
    let hands = Box::pin(timeout(shared.limits.receive_timeout, tls.accept(stream)));
    match shared.drain.run_until_cancelled(hands).await? {
        Ok(Ok((stream, principal))) => {
            // Where there is SASL, it says who the client is, as in Kafka.
            if let Some(principal) = principal.filter(|_| shared.sasl.is_none()) {
                let labels = [connection.listener.as_str(), "TLS", "ok"];
                metrics::get().authentications.with_label_values(&labels).inc();
                let _ = connection.authenticated.set(principal);
            }
            Some(Stream::Tls(Box::new(stream)))
        }
        Ok(Err(error)) => {
            tls.refuse(connection.peer, &error);
            None
        }
        Err(_) => {
            tls.refuse(connection.peer, &"it took too long");
            None
        }
    }
}

/// Counts an open connection while it lives.
struct Open;

impl Open {
    fn new() -> Self {
        metrics::get().connections.inc();
        Open
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::get().connections.dec();
    }
}

fn report(connection: &Connection, error: &ConnectionError) {
    metrics::get().errors.with_label_values(&[error.kind()]).inc();
    let (peer, listener) = (connection.peer, &connection.listener);
    let software = connection.software.get().map(|(name, version)| format!("{name}/{version}"));
    match error {
        ConnectionError::Call(call) if call.is_bug() => {
            tracing::error!(%peer, listener, software, reason = %error, "closed a connection: a bug in krocket");
        }
        // Said where it failed, with a limit on how often.
        ConnectionError::Call(CallError::Refused { .. }) => {
            tracing::debug!(%peer, listener, software, reason = %error, "closed a connection");
        }
        // Clients are killed and networks fail every day.
        ConnectionError::Read(ReadError::Io(_)) | ConnectionError::Write(WriteError::Io(_)) => {
            tracing::debug!(%peer, listener, software, reason = %error, "connection lost");
        }
        _ => tracing::warn!(%peer, listener, software, reason = %error, "closed a connection"),
    }
}

impl ConnectionError {
    /// For metrics.
    fn kind(&self) -> &'static str {
        match self {
            ConnectionError::Call(error) => error.kind(),
            ConnectionError::Read(ReadError::Length { .. }) => "malformed",
            ConnectionError::Read(ReadError::Truncated { .. } | ReadError::Io(_)) => "lost",
            ConnectionError::Read(ReadError::Stalled) | ConnectionError::Write(WriteError::Stalled) => "stalled",
            ConnectionError::Write(WriteError::FileEnded { .. }) => "internal",
            ConnectionError::Write(WriteError::Io(_)) => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Call;

    /// In bytes; the future is what a connection keeps while its client says nothing.
    #[test]
    fn an_idle_connection_takes_less_than_a_page() {
        fn idle<A, B, C, D, E, F, T>(_: impl FnOnce(A, B, C, D, E, F) -> T) -> usize {
            size_of::<T>()
        }
        fn request<A, B, C, D, E, T>(_: impl FnOnce(A, B, C, D, E) -> T) -> usize {
            size_of::<T>()
        }
        let (idle, request) = (idle(client), request(Call::answer));
        assert!(idle <= 4096, "{idle}");
        assert!(request <= 2048, "{request}");
    }
}
