//! One connection's SASL: which mechanism, how far it is, when it must be done again (KIP-368).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use krocket_config::security::Mechanism;
use krocket_protocol::{ApiKey, ErrorCode, StrBytes};
use krocket_stack::{Connection, Error, Principal, Request, Response};
use parking_lot::Mutex;

use super::{AuthError, Exchange, Proved, Sasl, Step};

/// How late a refusal is sent (Kafka's connection.failed.authentication.delay.ms): guessing is to be slow.
const REFUSAL_DELAY: Duration = Duration::from_millis(100);
/// For a session without an end.
const NEVER: u64 = u64::MAX;

/// A connection's conversation. Its requests come one after the other.
pub(crate) struct Session {
    sasl: Arc<Sasl>,
    state: Mutex<State>,
    /// When the session ends, epoch ms.
    ends_ms: AtomicU64,
}

#[derive(Default)]
struct State {
    /// What was agreed on.
    mechanism: Option<Mechanism>,
    /// What the connection proved itself with first; it cannot change.
    first: Option<Mechanism>,
    /// Between a handshake and its end; nothing while a token is being looked at.
    exchange: Option<Exchange>,
    /// Tokens come without a Kafka request round them (a handshake of version 0).
    raw: bool,
}

/// An answer, and why the connection ends with it.
pub(crate) struct Outcome {
    pub(crate) response: Response,
    pub(crate) refused: Option<AuthError>,
}

impl Outcome {
    fn good(response: Response) -> Self {
        Outcome { response, refused: None }
    }
}

/// The answer where SASL has no place: the listener has none.
pub(crate) fn not_here(request: Request) -> Result<Response, Error> {
    let code = ErrorCode::IllegalSaslState.code();
    match request.head.api {
        ApiKey::SaslHandshake => {
            request.into_message::<SaslHandshakeRequest>()?;
            Ok(Response::new(SaslHandshakeResponse::default().with_error_code(code)))
        }
        _ => {
            request.into_message::<SaslAuthenticateRequest>()?;
            Ok(Response::new(SaslAuthenticateResponse::default().with_error_code(code)))
        }
    }
}

impl Session {
    pub(crate) fn new(sasl: Arc<Sasl>) -> Self {
        Session { sasl, state: Mutex::default(), ends_ms: AtomicU64::new(NEVER) }
    }

    /// True when the client has to prove itself again before it may do anything else.
    pub(crate) fn has_expired(&self) -> bool {
        let ends = self.ends_ms.load(Ordering::Relaxed);
        ends != NEVER && now_ms() > ends
    }

    /// True when the next frame is a token and not a request.
    pub(super) fn is_raw(&self) -> bool {
        let state = self.state.lock();
        state.raw && state.exchange.is_some()
    }

    /// Answers SaslHandshake or SaslAuthenticate.
    pub(crate) async fn answer(&self, request: Request) -> Result<Outcome, Error> {
        match request.head.api {
            ApiKey::SaslHandshake => self.handshake(request).await,
            _ => self.authenticate(request).await,
        }
    }

    async fn handshake(&self, request: Request) -> Result<Outcome, Error> {
        let (head, request) = request.into_message::<SaslHandshakeRequest>()?;
        let names = self.sasl.mechanisms.iter().map(|it| StrBytes::from_static_str(it.name())).collect();
        let response = SaslHandshakeResponse::default().with_mechanisms(names);
        let wanted = self.sasl.mechanisms.iter().find(|it| it.name() == request.mechanism.as_str());
        let Some(mechanism) = wanted.copied() else {
            let reason = format!("mechanism {:?} is not among the listener's", request.mechanism.as_str());
            self.say(&head.connection, None, &AuthError::hidden(reason.clone()));
            tokio::time::sleep(REFUSAL_DELAY).await;
            let response = response.with_error_code(ErrorCode::UnsupportedSaslMechanism.code());
            return Ok(Outcome { response: Response::new(response), refused: Some(AuthError::hidden(reason)) });
        };
        let mut state = self.state.lock();
        state.mechanism = Some(mechanism);
        state.exchange = Some(Exchange::begin(mechanism));
        state.raw = head.version == 0;
        Ok(Outcome::good(Response::new(response)))
    }

    async fn authenticate(&self, request: Request) -> Result<Outcome, Error> {
        let (head, request) = request.into_message::<SaslAuthenticateRequest>()?;
        let failed = |code: ErrorCode, message: String, error: AuthError| {
            let response = SaslAuthenticateResponse::default()
                .with_error_code(code.code())
                .with_error_message(Some(StrBytes::from_string(message)));
            Outcome { response: Response::new(response), refused: Some(error) }
        };
        if self.state.lock().exchange.is_none() {
            let message = "SaslAuthenticate request received without a SaslHandshake before it";
            return Ok(failed(ErrorCode::IllegalSaslState, message.to_owned(), AuthError::hidden(message)));
        }
        match self.token(&head.connection, &request.auth_bytes).await {
            Ok((token, lifetime_ms)) => {
                let response = SaslAuthenticateResponse::default()
                    .with_auth_bytes(token)
                    .with_session_lifetime_ms(if head.version >= 1 { lifetime_ms } else { 0 });
                Ok(Outcome::good(Response::new(response)))
            }
            Err((told, error)) => Ok(failed(ErrorCode::SaslAuthenticationFailed, told, error)),
        }
    }

    /// One token from the client: the answer with the session's lifetime (0 without an end, or before it begins), or
    /// what the client is told, which is late, and why.
    pub(super) async fn token(
        &self,
        connection: &Connection,
        token: &[u8],
    ) -> Result<(Bytes, i64), (String, AuthError)> {
        let (exchange, mechanism) = {
            let mut state = self.state.lock();
            (state.exchange.take(), state.mechanism)
        };
        let (Some(exchange), Some(mechanism)) = (exchange, mechanism) else {
            return Err(("no exchange".to_owned(), AuthError::hidden("a token without a handshake before it")));
        };
        let again = connection.authenticated.get();
        let first = self.state.lock().first;
        let step = match first {
            Some(first) if first != mechanism => Err(AuthError::told(format!(
                "SASL mechanism '{mechanism}' requested by client is not supported for re-authentication of mechanism '{first}'"
            ))),
            _ => exchange.step(&self.sasl, token).await,
        };
        let proved = match step {
            Ok(Step::Challenge(exchange, token)) => {
                self.state.lock().exchange = Some(exchange);
                return Ok((token.into(), 0));
            }
            Ok(Step::Done(proved)) => same_principal(again, proved),
            Err(error) => Err(error),
        };
        match proved {
            Ok(proved) => {
                self.sasl.count(mechanism, "ok");
                let lifetime_ms = self.begin(&proved);
                self.state.lock().first = Some(mechanism);
                let _ = connection.authenticated.set(Principal::user(proved.name));
                Ok((proved.token.into(), lifetime_ms))
            }
            Err(error) => {
                self.sasl.count(mechanism, "failed");
                self.say(connection, Some(mechanism), &error);
                let what = if again.is_some() { "re-authentication" } else { "authentication" };
                let told = error.told.clone().unwrap_or_else(|| {
                    format!(
                        "Authentication failed during {what} due to invalid credentials with SASL mechanism {mechanism}"
                    )
                });
                tokio::time::sleep(REFUSAL_DELAY).await;
                Err((told, error))
            }
        }
    }

    /// Notes when the session ends and gives its length in ms; 0 for one that does not end.
    fn begin(&self, proved: &Proved) -> i64 {
        let now = now_ms();
        let of_proof = proved.until_ms.map(|until| until.saturating_sub(now));
        let of_listener = self.sasl.max_reauth.map(|most| most.as_millis() as u64);
        match [of_proof, of_listener].into_iter().flatten().min() {
            Some(lifetime) => {
                self.ends_ms.store(now.saturating_add(lifetime), Ordering::Relaxed);
                // Zero would mean that it never ends.
                i64::try_from(lifetime).unwrap_or(i64::MAX).max(1)
            }
            None => {
                self.ends_ms.store(NEVER, Ordering::Relaxed);
                0
            }
        }
    }

    fn say(&self, connection: &Connection, mechanism: Option<Mechanism>, error: &AuthError) {
        if let Some(unsaid) = self.sasl.failures.admit() {
            let (peer, listener, user) = (connection.peer, &connection.listener, &error.user);
            let mechanism = mechanism.map(Mechanism::name);
            tracing::warn!(%peer, listener, mechanism, ?user, reason = error.reason, unsaid, "authentication failed");
        }
    }
}

fn same_principal(before: Option<&Principal>, proved: Proved) -> Result<Proved, AuthError> {
    match before {
        Some(before) if *before.name != *proved.name => {
            let now = Principal::user(proved.name.as_str());
            let message = format!("Cannot change principals during re-authentication from {before} to {now}");
            Err(AuthError::told(message).of(&proved.name))
        }
        _ => Ok(proved),
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
