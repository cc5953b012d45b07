//! What one client, and all clients together, may use.

use std::time::Duration;

/// Limits of a listener and its connections. Kafka's broker configs of the same meaning are named.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections; one more is closed at once (max.connections).
    pub connections: usize,
    /// Bytes in one request, its length prefix not counted (socket.request.max.bytes).
    pub request_bytes: usize,
    /// Bytes of all requests that are being read or answered (queued.max.request.bytes). Reading pauses beyond it.
    pub queued_request_bytes: usize,
    /// Produce requests of one connection that may be answered at the same time.
    pub pipelined_produces: usize,
    /// A connection without any request for this long is closed (connections.max.idle.ms).
    pub idle: Duration,
    /// A frame that has begun must gain 64 KiB, or end, within this time.
    pub receive_timeout: Duration,
    /// A client must take some bytes of a waiting response within this time.
    pub send_timeout: Duration,
}

impl Limits {
    /// Connections that may be in their TLS handshake or before the end of SASL at the same time: half-open ones must
    /// not take the places of clients that are known.
    pub(crate) fn strangers(&self) -> usize {
        (self.connections / 4).max(1)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 10_000,
            request_bytes: 100 << 20,
            queued_request_bytes: 256 << 20,
            pipelined_produces: 16,
            idle: Duration::from_secs(600),
            receive_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_secs(30),
        }
    }
}
