//! One frame to one response frame: header, version check, the stack, encoding; a panic ends here.

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use krocket_protocol::chunk::{Chunk, Chunks, response_frame};
use krocket_protocol::frame::{FrameError, RequestHeader};
use krocket_protocol::{ApiKey, api};
use krocket_stack::{Body, Connection, Error, Handler, Head, Request, Response};
use thiserror::Error;
use tracing::{Instrument, Span};

use crate::budget::Reservation;
use crate::metrics;
use crate::quota::{Enforcer, Throttle};
use crate::reader::Frame;
use crate::requests::{self, Asked};
use crate::sasl::{self, AuthError, Session};
use crate::{api_versions, metrics::ApiMetrics};

/// Why a request ends its connection.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    /// Not even the header can be read.
    #[error(transparent)]
    Header(#[from] FrameError),
    /// The API table has no such row, or not with this version.
    #[error("{api:?} version {version} is not served")]
    Unserved { api: ApiKey, version: i16 },
    /// The stack gave no answer.
    #[error("{api:?} version {version}: {source}")]
    Stack { api: ApiKey, version: i16, source: Error },
    /// It has to prove who it is first.
    #[error("{api:?} before the client said who it is")]
    Unauthenticated { api: ApiKey },
    /// The proof has run out (KIP-368).
    #[error("{api:?} after the session's end, without authenticating again")]
    Expired { api: ApiKey },
    /// Too many others have not said who they are.
    #[error("too many connections have not said who they are")]
    Crowded,
    /// It did not say who it is.
    #[error("the client took too long to say who it is")]
    Late,
    /// It is not who it says; `answer` is the last thing that it is told.
    #[error("authentication failed: {reason}")]
    Refused { answer: Vec<Chunk>, reason: AuthError },
    /// A bug, contained.
    #[error("{api:?} version {version}: the handler panicked")]
    Panic { api: ApiKey, version: i16 },
}

/// A request that is known well enough to be started.
pub(crate) struct Call {
    pub(crate) head: Head,
    /// Bytes on the wire.
    pub(crate) size: usize,
    served: bool,
    correlation_id: i32,
    body: Body,
    received: Instant,
    reservation: Reservation,
}

/// What a request comes to.
#[derive(Default)]
pub(crate) struct Answered {
    /// Nothing where the protocol has no response (acks=0).
    pub(crate) frame: Option<Vec<Chunk>>,
    /// How long nothing more is read.
    pub(crate) throttle: Option<Throttle>,
}

impl Call {
    /// Reads the header. A version that is not served is found here too, before the body is looked at.
    pub(crate) fn new(mut frame: Frame, connection: &Arc<Connection>) -> Result<Self, CallError> {
        let size = frame.bytes.len();
        let header = RequestHeader::decode(&mut frame.bytes)?;
        let served = api::served(header.api).is_some_and(|row| row.serves(header.version));
        if !served && header.api != ApiKey::ApiVersions {
            return Err(CallError::Unserved { api: header.api, version: header.version });
        }
        Ok(Call {
            head: Head {
                api: header.api,
                version: header.version,
                client_id: header.client_id,
                connection: connection.clone(),
            },
            size,
            served,
            correlation_id: header.correlation_id,
            body: Body::Raw(frame.bytes),
            received: frame.received,
            reservation: frame.reservation,
        })
    }

    /// Runs the request through the stack, in its trace's span.
    pub(crate) async fn answer(
        self,
        handler: Arc<dyn Handler>,
        session: Option<Arc<Session>>,
        quotas: Option<Arc<Enforcer>>,
        asked: Option<Asked>,
    ) -> Result<Answered, CallError> {
        let span = asked.as_ref().map_or_else(Span::none, |asked| asked.span.clone());
        let answered = self.run(handler, session, quotas, asked).instrument(span.clone()).await;
        if let Err(error) = &answered {
            requests::failed(&span, error.kind(), &error.to_string());
        }
        answered
    }

    async fn run(
        self,
        handler: Arc<dyn Handler>,
        session: Option<Arc<Session>>,
        quotas: Option<Arc<Enforcer>>,
        asked: Option<Asked>,
    ) -> Result<Answered, CallError> {
        let Call { head, size, served, correlation_id, body, received, reservation } = self;
        let (api, mut version) = (head.api, head.version);
        let metrics = metrics::get().api(api);
        metrics.requests.inc();
        metrics.request_bytes.inc_by(size as u64 + 4);

        let of_sasl = matches!(api, ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
        if !of_sasl && session.as_ref().is_some_and(|session| session.has_expired()) {
            return Err(CallError::Expired { api });
        }
        let mut refused = None;
        let mut meter = quotas.and_then(|quotas| quotas.meter(&head, size));
        let answer = async {
            match api {
                ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => match session {
                    Some(session) => {
                        let outcome = Box::pin(session.answer(Request { head, body })).await?;
                        refused = outcome.refused;
                        Ok(outcome.response)
                    }
                    None => sasl::not_here(Request { head, body }),
                },
                ApiKey::ApiVersions if !served => {
                    version = 0;
                    Ok(Response::new(api_versions::unsupported()))
                }
                ApiKey::ApiVersions => api_versions::handle(Request { head, body }),
                _ => {
                    let request = Request { head, body };
                    let request = match &meter {
                        Some(meter) => meter.prepare(request)?,
                        None => request,
                    };
                    handler.call(request).await
                }
            }
        };
        let answer = AssertUnwindSafe(answer).catch_unwind();
        let (result, spent) = timed(pin!(answer), meter.is_some()).await;
        let Ok(result) = result else {
            metrics::get().panics.inc();
            return Err(CallError::Panic { api, version });
        };
        drop(reservation);
        let result = result.map(|mut response| {
            if let Some(meter) = &mut meter {
                meter.settle(&mut response, spent);
            }
            response
        });
        let encoded = match result {
            Ok(Response::None) => Ok(None),
            Ok(Response::Body(body)) => body.encode(version).map(Some),
            Err(source) => Err(source),
        };
        let mut body = encoded.map_err(|source| CallError::Stack { api, version, source })?;
        let throttle = meter.and_then(|meter| meter.finish(body.as_mut()));
        let time = received.elapsed();
        metrics.seconds.observe(time.as_secs_f64());
        if let Some(asked) = asked {
            asked.answered(body.as_ref(), time, throttle.as_ref().map(|throttle| throttle.delay));
        }
        let frame = body.map(|body| framed(metrics, api, version, correlation_id, body));
        match refused {
            Some(reason) => Err(CallError::Refused { answer: frame.unwrap_or_default(), reason }),
            None => Ok(Answered { frame, throttle }),
        }
    }
}

/// The outcome, and how long a thread was busy with it if that is to be known.
async fn timed<T>(mut work: Pin<&mut impl Future<Output = T>>, measure: bool) -> (T, Duration) {
    if !measure {
        return (work.await, Duration::ZERO);
    }
    let mut spent = Duration::ZERO;
    let outcome = poll_fn(|context| {
        let begun = Instant::now();
        let polled = work.as_mut().poll(context);
        spent += begun.elapsed();
        polled
    });
    (outcome.await, spent)
}

fn framed(metrics: &ApiMetrics, api: ApiKey, version: i16, correlation_id: i32, body: Chunks) -> Vec<Chunk> {
    let flexible = api.response_header_version(version) >= 1;
    metrics.response_bytes.inc_by(body.len() as u64 + if flexible { 9 } else { 8 });
    response_frame(correlation_id, flexible, body)
}

impl CallError {
    /// For metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            CallError::Header(_) => "malformed",
            CallError::Unserved { .. } => "unsupported",
            CallError::Unauthenticated { .. } | CallError::Refused { .. } | CallError::Late | CallError::Crowded => {
                "unauthenticated"
            }
            CallError::Expired { .. } => "expired",
            CallError::Panic { .. } => "panic",
            CallError::Stack { source, .. } => match source {
                Error::Shape(_) | Error::Malformed { .. } | Error::TrailingBytes { .. } => "malformed",
                Error::UnsupportedVersion { .. } => "unsupported",
                Error::Encode { .. } | Error::WrongType { .. } => "internal",
                Error::Close(_) => "refused",
            },
        }
    }

    /// True for our mistakes.
    pub(crate) fn is_bug(&self) -> bool {
        matches!(self.kind(), "panic" | "internal")
    }
}
