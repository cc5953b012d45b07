//! One request against the quotas of who sent it.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::FetchRequest;
use krocket_protocol::chunk::Chunks;
use krocket_protocol::fetch::FetchResponse;
use krocket_protocol::share_fetch::ShareFetchRequest;
use krocket_protocol::{ApiKey, StrBytes};
use krocket_stack::security::{Limit, QuotaKey};
use krocket_stack::{Body, Connection, Error, Head, Request, Response};

use super::known::Admitted;
use super::{Enforcer, Throttle, metrics, place};

/// Measures one request.
pub(crate) struct Meter {
    enforcer: Arc<Enforcer>,
    connection: Arc<Connection>,
    client_id: Option<StrBytes>,
    api: ApiKey,
    version: i16,
    size: usize,
    /// The longest of what quotas ask for.
    throttle: Option<Throttle>,
}

impl Meter {
    pub(super) fn new(enforcer: Arc<Enforcer>, head: &Head, size: usize) -> Self {
        Meter {
            enforcer,
            connection: head.connection.clone(),
            client_id: head.client_id.clone(),
            api: head.api,
            version: head.version,
            size,
            throttle: None,
        }
    }

    fn limit(&self, key: QuotaKey) -> Option<Limit> {
        let client_id = self.client_id.as_deref().unwrap_or_default();
        self.enforcer.limit(key, &self.connection.principal().name, client_id)
    }

    /// Has no more read from the log than the quota has room for: the rest would be thrown away.
    pub(crate) fn prepare(&self, request: Request) -> Result<Request, Error> {
        if !matches!(self.api, ApiKey::Fetch | ApiKey::ShareFetch) {
            return Ok(request);
        }
        let Some(limit) = self.limit(QuotaKey::ConsumerByteRate) else { return Ok(request) };
        let room = self.enforcer.fetched.room(limit.sharers, limit.value, self.enforcer.now());
        // At least the first batch is read in any case.
        let room = room.clamp(1.0, f64::from(i32::MAX)) as i32;
        if self.api == ApiKey::ShareFetch {
            let (head, mut message) = request.into_message::<ShareFetchRequest>()?;
            message.max_bytes = message.max_bytes.min(room);
            message.min_bytes = message.min_bytes.min(message.max_bytes);
            return Ok(Request::new(head, message));
        }
        let (head, message) = request.into_message::<FetchRequest>()?;
        let max_bytes = message.max_bytes.min(room);
        let min_bytes = message.min_bytes.min(max_bytes);
        Ok(Request::new(head, message.with_max_bytes(max_bytes).with_min_bytes(min_bytes)))
    }

    /// Counts what the request used and tells the client when that was too much.
    pub(crate) fn settle(&mut self, response: &mut Response, spent: Duration) {
        match self.api {
            ApiKey::Produce => self.charge(QuotaKey::ProducerByteRate, self.size as f64),
            ApiKey::Fetch | ApiKey::ShareFetch => self.fetched(response),
            _ => {}
        }
        self.charge(QuotaKey::RequestPercentage, spent.as_secs_f64() * 100.0);
        if let (Some(throttle), Response::Body(body)) = (&self.throttle, response) {
            place::set(body, throttle.millis());
        }
    }

    fn charge(&mut self, key: QuotaKey, amount: f64) {
        let Some(limit) = self.limit(key) else { return };
        let enforcer = &self.enforcer;
        let rates = match key {
            QuotaKey::ProducerByteRate => &enforcer.produced,
            QuotaKey::ConsumerByteRate => &enforcer.fetched,
            _ => &enforcer.time,
        };
        let Some(delay) = rates.charge(limit.sharers, limit.value, amount, enforcer.now()) else { return };
        // Time is taken back sooner than bytes: nobody is shut out for long because one request was hard work.
        let time = key == QuotaKey::RequestPercentage;
        self.hold_up(key, if time { delay.min(enforcer.windows.size) } else { delay });
    }

    fn fetched(&mut self, response: &mut Response) {
        match response {
            Response::Body(Body::Fetch(response)) => {
                let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                let bytes: usize = partitions.map(|partition| partition.records_len()).sum();
                let Some(limit) = self.limit(QuotaKey::ConsumerByteRate).filter(|_| bytes > 0) else { return };
                let now = self.enforcer.now();
                match self.enforcer.fetched.admit(limit.sharers, limit.value, bytes as f64, now) {
                    Admitted::Yes(None) => {}
                    Admitted::Yes(Some(delay)) => self.hold_up(QuotaKey::ConsumerByteRate, delay),
                    Admitted::No(delay) => {
                        without_records(response);
                        self.hold_up(QuotaKey::ConsumerByteRate, delay);
                    }
                }
            }
            // Its records are the member's already, which would miss them until their locks run out.
            Response::Body(Body::ShareFetch(response)) => {
                let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                let bytes: usize = partitions.map(|partition| partition.records_len()).sum();
                if bytes > 0 {
                    self.charge(QuotaKey::ConsumerByteRate, bytes as f64);
                }
            }
            _ => {}
        }
    }

    fn hold_up(&mut self, quota: QuotaKey, delay: Duration) {
        let throttle = Throttle::new(quota, delay);
        if self.throttle.is_none_or(|longest| longest.delay < delay) {
            self.throttle = Some(throttle);
        }
    }

    /// How long the connection is held up; `body` is the encoded answer, which says so.
    pub(crate) fn finish(self, body: Option<&mut Chunks>) -> Option<Throttle> {
        let told = self.throttle.map_or(0, |throttle| throttle.millis());
        let said = body.map_or(told, |body| place::raise(self.api, self.version, body, told));
        // More than asked for here: the backend's own quota.
        let throttle = match said > told {
            true => Some(Throttle::new(
                QuotaKey::ControllerMutationRate,
                Duration::from_millis(u64::from(said.unsigned_abs())),
            )),
            false => self.throttle,
        }?;
        metrics::of(throttle.quota).throttled(throttle.delay);
        tracing::debug!(
            peer = %self.connection.peer,
            user = %self.connection.principal(),
            client_id = self.client_id.as_deref(),
            api = ?self.api,
            quota = throttle.quota.name(),
            delay = ?throttle.delay,
            "over its quota"
        );
        Some(throttle)
    }
}

/// What a client must know, but no records: it asks for them again.
fn without_records(response: &mut FetchResponse) {
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.records.clear();
        if let Some(aborted) = &mut partition.aborted {
            aborted.clear();
        }
    }
}
