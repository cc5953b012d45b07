//! Client quotas: what clients use is measured, and who uses too much is held up (KIP-13, KIP-124, KIP-219, KIP-612).
//!
//! The rules are those of Kafka's ClientQuotaManager. The answer goes out at once and says how long; for that time nothing
//! more is read from the connection. A Fetch that is over its quota is answered without records.

mod known;
mod meter;
mod metrics;
mod mute;
mod place;
mod rate;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use krocket_protocol::ApiKey;
use krocket_stack::Head;
use krocket_stack::security::{Limit, QuotaKey, Quotas, Sharers, Windows};

use known::{Admitted, Known};
pub(crate) use meter::Meter;
use metrics::Muted;
pub(crate) use mute::Mute;
pub(crate) use place::throttled_since;

/// Holds clients to the quotas as they are at each request.
pub struct Enforcer {
    quotas: Arc<Quotas>,
    windows: Windows,
    begun: Instant,
    produced: Known<Sharers>,
    fetched: Known<Sharers>,
    time: Known<Sharers>,
    connections: Known<IpAddr>,
}

/// How long a connection is held up, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Throttle {
    pub(crate) delay: Duration,
    pub(crate) quota: QuotaKey,
}

impl Throttle {
    fn new(quota: QuotaKey, delay: Duration) -> Self {
        Throttle { delay, quota }
    }

    /// What the client is told; rounded up, so that a client that waits so long is not too early.
    fn millis(&self) -> i32 {
        i32::try_from(self.delay.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    }

    /// Counts the connection as held up.
    pub(crate) fn mute(&self) -> Muted {
        metrics::of(self.quota).mute()
    }
}

impl Enforcer {
    /// Measures over these windows.
    pub fn new(quotas: Arc<Quotas>, windows: Windows) -> Self {
        // They are there, at zero, before the first client is.
        metrics::of(QuotaKey::ProducerByteRate);
        Enforcer {
            quotas,
            windows,
            begun: Instant::now(),
            produced: Known::new(windows),
            fetched: Known::new(windows),
            time: Known::new(windows),
            connections: Known::new(windows),
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// What measures a request; nothing when nobody has a quota that it could be over.
    pub(crate) fn meter(self: &Arc<Self>, head: &Head, size: usize) -> Option<Meter> {
        let own = match head.api {
            // They have no place for a throttle time, and who is asking is not known yet.
            ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => return None,
            ApiKey::Produce => QuotaKey::ProducerByteRate,
            ApiKey::Fetch | ApiKey::ShareFetch => QuotaKey::ConsumerByteRate,
            ApiKey::CreateTopics | ApiKey::CreatePartitions | ApiKey::DeleteTopics => QuotaKey::ControllerMutationRate,
            _ => QuotaKey::RequestPercentage,
        };
        let measured = self.quotas.in_force(&[own, QuotaKey::RequestPercentage]);
        measured.then(|| Meter::new(self.clone(), head, size))
    }

    /// How long a new connection is kept waiting before it is closed, where there are too many from its address.
    pub(crate) fn refuse_connection(&self, address: IpAddr) -> Option<Throttle> {
        if !self.quotas.in_force(&[QuotaKey::ConnectionCreationRate]) {
            return None;
        }
        let address = address.to_canonical();
        let limit = self.quotas.get().connection_rate(address)?;
        match self.connections.admit(address, limit, 1.0, self.now()) {
            Admitted::Yes(_) => None,
            Admitted::No(delay) => {
                // At most one window, as in Kafka.
                let throttle = Throttle::new(QuotaKey::ConnectionCreationRate, delay.min(self.windows.size));
                metrics::of(throttle.quota).throttled(throttle.delay);
                tracing::debug!(%address, delay = ?throttle.delay, "too many new connections from this address");
                Some(throttle)
            }
        }
    }

    fn limit(&self, key: QuotaKey, user: &str, client_id: &str) -> Option<Limit> {
        self.quotas.in_force(&[key]).then(|| self.quotas.get().limit(key, user, client_id)).flatten()
    }
}
