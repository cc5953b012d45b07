//! controller_mutation_rate (KIP-599): a bucket of tokens for each client, one token a partition.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use krocket_protocol::ErrorCode;
use krocket_stack::Head;
use krocket_stack::security::{Limit, QuotaKey, Quotas, Sharers};
use parking_lot::Mutex;

use crate::api::reply::ApiError;

/// The buckets of those who created or deleted lately.
pub(crate) struct Mutations {
    quotas: Arc<Quotas>,
    /// A full bucket holds what the quota gives in this time.
    burst: Duration,
    buckets: Mutex<HashMap<Sharers, Bucket>>,
}

struct Bucket {
    tokens: f64,
    /// What it was full at.
    size: f64,
    rate: f64,
    filled: Instant,
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + gained).min(self.size);
        self.filled = now;
    }
}

impl Mutations {
    pub(crate) fn new(quotas: Arc<Quotas>, burst: Duration) -> Self {
        Mutations { quotas, burst, buckets: Mutex::default() }
    }

    /// What the sender of this request may do. From version `strict` on clients know THROTTLING_QUOTA_EXCEEDED and try
    /// again; older ones are only slowed down.
    pub(crate) fn of(&self, head: &Head, strict: i16) -> Allowance<'_> {
        let free = head.connection.is_internal() || !self.quotas.in_force(&[QuotaKey::ControllerMutationRate]);
        let limit = (!free).then(|| {
            let client_id = head.client_id.as_deref().unwrap_or_default();
            self.quotas.get().limit(QuotaKey::ControllerMutationRate, &head.connection.principal().name, client_id)
        });
        Allowance { of: self, limit: limit.flatten(), strict: head.version >= strict, throttle: Duration::ZERO }
    }

    /// Tokens in the bucket after `take` took some; negative when it took more than there were.
    fn take(&self, limit: &Limit, count: f64, strict: bool, now: Instant) -> Result<f64, f64> {
        let size = limit.value * self.burst.as_secs_f64();
        let mut buckets = self.buckets.lock();
        // A full bucket is as good as none.
        buckets.retain(|_, bucket| {
            bucket.fill(now);
            bucket.tokens < bucket.size
        });
        let full = Bucket { tokens: size, size, rate: limit.value, filled: now };
        let bucket = buckets.entry(limit.sharers.clone()).or_insert(full);
        (bucket.size, bucket.rate) = (size, limit.value);
        bucket.tokens = bucket.tokens.min(size);
        if strict && bucket.tokens < 0.0 {
            return Err(bucket.tokens);
        }
        bucket.tokens -= count;
        Ok(bucket.tokens)
    }
}

/// One request's use of the quota.
pub(crate) struct Allowance<'a> {
    of: &'a Mutations,
    limit: Option<Limit>,
    strict: bool,
    throttle: Duration,
}

impl Allowance<'_> {
    /// Takes what creating or deleting so many partitions costs.
    pub(crate) fn take(&mut self, partitions: u32) -> Result<(), ApiError> {
        self.take_at(partitions, Instant::now())
    }

    fn take_at(&mut self, partitions: u32, now: Instant) -> Result<(), ApiError> {
        let Some(limit) = &self.limit else { return Ok(()) };
        let taken = self.of.take(limit, f64::from(partitions), self.strict, now);
        let (Ok(tokens) | Err(tokens)) = taken;
        // A strict client that still got what it asked for is not held up.
        if tokens < 0.0 && (taken.is_err() || !self.strict) {
            // As in Kafka: until the bucket isn't overdrawn. Rounded up, so that the next attempt succeeds.
            let delay = Duration::from_secs_f64((-tokens / limit.value).min(f64::from(i32::MAX) / 1000.0));
            self.throttle = self.throttle.max(delay);
        }
        match taken {
            Ok(_) => Ok(()),
            Err(_) => Err(ApiError::new(ErrorCode::ThrottlingQuotaExceeded, "The throttling quota has been exceeded.")),
        }
    }

    /// For the answer.
    pub(crate) fn throttle_time_ms(&self) -> i32 {
        i32::try_from(self.throttle.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use krocket_protocol::ApiKey;
    use krocket_stack::Connection;
    use krocket_stack::security::{Entity, Name, QuotaSet, Values};

    use super::*;

    fn mutations(rate: f64) -> Mutations {
        let quotas = Arc::new(Quotas::default());
        let entity = Entity { client_id: Some(Name::Default), ..Entity::default() };
        quotas.set(QuotaSet::new(BTreeMap::from([(entity, Values::from([(QuotaKey::ControllerMutationRate, rate)]))])));
        Mutations::new(quotas, Duration::from_secs(10))
    }

    fn head(version: i16) -> Head {
        let connection = Arc::new(Connection { id: 1, ..Connection::internal("test") });
        Head { api: ApiKey::CreateTopics, version, client_id: None, connection }
    }

    #[test]
    fn strict_clients_are_refused_once_the_bucket_is_overdrawn_until_it_is_not() {
        let mutations = mutations(2.0);
        let begin = Instant::now();
        let mut first = mutations.of(&head(6), 6);
        // Twenty are in the bucket; what begins within it ends as well.
        assert!(first.take_at(15, begin).is_ok() && first.take_at(15, begin).is_ok());
        assert_eq!(first.throttle_time_ms(), 0);
        let refused = first.take_at(1, begin).expect_err("overdrawn by 10");
        assert_eq!((refused.code, first.throttle_time_ms()), (ErrorCode::ThrottlingQuotaExceeded, 5000));
        let mut second = mutations.of(&head(6), 6);
        assert!(second.take_at(1, begin + Duration::from_millis(4900)).is_err());
        assert!(second.take_at(1, begin + Duration::from_secs(5)).is_ok());
    }

    #[test]
    fn older_clients_are_slowed_down_and_others_are_not() {
        let mutations = mutations(2.0);
        let begin = Instant::now();
        let mut old = mutations.of(&head(5), 6);
        assert!(old.take_at(30, begin).is_ok());
        assert_eq!(old.throttle_time_ms(), 5000);
        let mut other = mutations.of(&Head { client_id: Some("other".into()), ..head(6) }, 6);
        assert!(other.take_at(1, begin).is_ok());
        let krocket = Head { connection: Arc::new(Connection::internal("own")), ..head(6) };
        let mut own = mutations.of(&krocket, 6);
        assert!(own.take_at(9999, begin).is_ok() && own.take_at(9999, begin).is_ok());
        assert_eq!(mutations.buckets.lock().len(), 2);
        assert!(other.take_at(1, begin + Duration::from_secs(60)).is_ok());
        assert_eq!(mutations.buckets.lock().len(), 1, "full buckets are forgotten");
    }
}
