//! What is told of single requests: a line in the log for some, chosen by chance or because they took long, and a trace.
//!
//! Nothing of a request's or an answer's body is ever told, so no password or token can be.

mod error_code;
mod sample;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use krocket_protocol::chunk::Chunks;
use krocket_protocol::{ApiKey, ErrorCode, StrBytes};
use krocket_stack::{Connection, Head, trace};
use tracing::Span;
use tracing::field::Empty;

use self::error_code::error_code;
use self::sample::Sample;

const NEVER: u64 = u64::MAX;

/// Which requests are logged and traced. It can be changed while requests are served.
#[derive(Debug)]
pub struct RequestLog {
    logged: Sample,
    slow_micros: AtomicU64,
    traced: Sample,
}

impl Default for RequestLog {
    fn default() -> Self {
        RequestLog { logged: Sample::default(), slow_micros: AtomicU64::new(NEVER), traced: Sample::default() }
    }
}

impl RequestLog {
    /// From now on `sample` of all requests, from 0 to 1, and every one that takes at least `slow` is logged.
    pub fn log(&self, sample: f64, slow: Option<Duration>) {
        self.logged.set(sample);
        let micros = slow.map_or(NEVER, |slow| u64::try_from(slow.as_micros()).unwrap_or(NEVER));
        self.slow_micros.store(micros, Ordering::Relaxed);
    }

    /// From now on `sample` of all requests, from 0 to 1, is traced.
    pub fn trace(&self, sample: f64) {
        self.traced.set(sample);
    }

    fn is_on(&self) -> bool {
        self.logged.is_on() || self.slow_micros.load(Ordering::Relaxed) != NEVER
    }

    fn is_slow(&self, api: ApiKey, time: Duration) -> bool {
        let micros = self.slow_micros.load(Ordering::Relaxed);
        micros != NEVER && !waits(api) && time.as_micros() >= u128::from(micros)
    }

    /// Remembers who asked, where somebody wants to know.
    pub(crate) fn begin(self: &Arc<Self>, head: &Head, bytes_in: usize) -> Option<Asked> {
        let span = if self.traced.takes() { span(head, bytes_in) } else { Span::none() };
        (self.is_on() || !span.is_disabled()).then(|| Asked {
            log: self.clone(),
            span,
            api: head.api,
            version: head.version,
            client_id: head.client_id.clone(),
            connection: head.connection.clone(),
            bytes_in,
        })
    }
}

/// A trace's root, with the names of OpenTelemetry's semantic conventions where they have one.
fn span(head: &Head, bytes_in: usize) -> Span {
    tracing::trace_span!(
        target: trace::TARGET,
        "request",
        otel.name = ?head.api,
        otel.kind = "server",
        otel.status_code = Empty,
        otel.status_description = Empty,
        error.type = Empty,
        messaging.system = "kafka",
        messaging.client.id = head.client_id.as_deref().unwrap_or_default(),
        network.peer.address = %head.connection.peer.ip(),
        network.peer.port = head.connection.peer.port(),
        user.name = head.connection.principal().to_string(),
        krocket.listener = head.connection.listener,
        krocket.api.version = head.version,
        krocket.request.bytes = bytes_in,
        krocket.response.bytes = Empty,
        krocket.throttle_ms = Empty,
    )
}

/// They take long because that is what they are asked for: to wait for records, or for other members.
fn waits(api: ApiKey) -> bool {
    matches!(api, ApiKey::Fetch | ApiKey::ShareFetch | ApiKey::JoinGroup | ApiKey::SyncGroup)
}

/// A request that may be told of when it is answered.
pub(crate) struct Asked {
    log: Arc<RequestLog>,
    /// Its trace, disabled where it has none.
    pub(crate) span: Span,
    api: ApiKey,
    version: i16,
    client_id: Option<StrBytes>,
    connection: Arc<Connection>,
    bytes_in: usize,
}

impl Asked {
    /// Tells what there is to be told. `body` is the encoded answer, if there is one.
    pub(crate) fn answered(self, body: Option<&Chunks>, time: Duration, throttle: Option<Duration>) {
        let slow = self.log.is_slow(self.api, time);
        let logged = slow || self.log.logged.takes();
        if !logged && self.span.is_disabled() {
            return;
        }
        let code = body.and_then(|body| error_code(self.api, self.version, body)).unwrap_or(0);
        let error = ErrorCode::try_from_code(code).map(|code| format!("{code:?}")).unwrap_or_default();
        let (bytes_out, throttle_ms) = (body.map_or(0, Chunks::len), throttle.unwrap_or_default().as_millis() as u64);
        self.span.record("krocket.response.bytes", bytes_out);
        self.span.record("krocket.throttle_ms", throttle_ms);
        if code != 0 {
            failed(&self.span, &error, "");
        }
        if logged {
            tracing::info!(
                target: "krocket_proxy::requests",
                api = ?self.api,
                version = self.version,
                client_id = self.client_id.as_deref().unwrap_or_default(),
                principal = self.connection.principal().to_string(),
                listener = self.connection.listener,
                peer = %self.connection.peer,
                bytes_in = self.bytes_in,
                bytes_out,
                micros = time.as_micros() as u64,
                throttle_ms,
                error_code = code,
                error,
                slow,
                "request"
            );
        }
    }
}

/// Marks a trace whose request went wrong.
pub(crate) fn failed(span: &Span, kind: &str, description: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", description);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_ones_are_taken_unless_they_are_there_to_wait() {
        let log = RequestLog::default();
        assert!(!log.is_on() && !log.is_slow(ApiKey::Produce, Duration::MAX));
        log.log(0.0, Some(Duration::from_millis(200)));
        assert!(log.is_on());
        let cases = [(ApiKey::Produce, 200, true), (ApiKey::Produce, 199, false), (ApiKey::Fetch, 500, false)];
        for (api, millis, slow) in cases {
            assert_eq!(log.is_slow(api, Duration::from_millis(millis)), slow, "{api:?} {millis} ms");
        }
        log.log(0.0, None);
        assert!(!log.is_on());
    }
}
