//! SASL on a listener, as Kafka frames it (KIP-43, KIP-152, KIP-368).
//!
//! - `session` is one connection's conversation: handshake, tokens, and when it must be had again.
//! - `plain`, `scram` and `bearer` are the mechanisms; [`users`] and [`tokens`] are what they check against.
//! - [`basic`] checks the same users' passwords over HTTP.
//! - `enter` is the time before a client is known, in which it may do nothing else.

pub mod basic;
pub mod tokens;
pub mod users;

mod bearer;
mod enter;
mod fetch;
mod plain;
mod scram;
mod session;

use std::sync::Arc;
use std::time::Duration;

use krocket_config::security::Mechanism;
use krocket_stack::security::ScramMechanism;
use thiserror::Error;

use crate::metrics;
use crate::quiet::Quiet;

pub use basic::{Basic, NotLetIn};
pub(crate) use enter::enter;
pub(crate) use session::{Session, not_here};
pub use tokens::Tokens;
pub use users::{FileUsers, Users};

/// How the clients of a listener prove who they are.
pub struct Sasl {
    listener: String,
    mechanisms: Vec<Mechanism>,
    users: Users,
    tokens: Option<Arc<Tokens>>,
    max_reauth: Option<Duration>,
    failures: Quiet,
}

/// Why a client is not who it says.
#[derive(Debug, Error)]
#[error("{reason}")]
pub(crate) struct AuthError {
    /// What the client is told; nothing for what is told to nobody.
    pub(crate) told: Option<String>,
    /// For the log.
    pub(crate) reason: String,
    /// Who it said to be, if that far.
    pub(crate) user: Option<String>,
}

impl AuthError {
    /// What may be told to the client.
    fn told(message: impl Into<String>) -> Self {
        let message = message.into();
        AuthError { told: Some(message.clone()), reason: message, user: None }
    }

    /// What is for the log only: the client learns no more than that it failed.
    fn hidden(reason: impl Into<String>) -> Self {
        AuthError { told: None, reason: reason.into(), user: None }
    }

    fn of(self, user: &str) -> Self {
        AuthError { user: Some(user.chars().take(64).collect()), ..self }
    }
}

/// What a token led to.
enum Step {
    /// The client is to answer this.
    Challenge(Exchange, Vec<u8>),
    /// The client is who it says.
    Done(Proved),
}

/// Who was proved.
struct Proved {
    name: String,
    /// The server's last word.
    token: Vec<u8>,
    /// When the proof ends, epoch ms.
    until_ms: Option<u64>,
}

/// A conversation between two tokens.
enum Exchange {
    Plain,
    Scram(ScramMechanism),
    ScramFinal(Box<scram::Final>),
    Bearer,
    /// The client acknowledges that it failed, and then it has.
    BearerFailed {
        error: String,
        reason: String,
    },
}

impl Exchange {
    fn begin(mechanism: Mechanism) -> Self {
        match mechanism {
            Mechanism::Plain => Exchange::Plain,
            Mechanism::ScramSha256 => Exchange::Scram(ScramMechanism::Sha256),
            Mechanism::ScramSha512 => Exchange::Scram(ScramMechanism::Sha512),
            Mechanism::OauthBearer => Exchange::Bearer,
        }
    }

    async fn step(self, sasl: &Sasl, token: &[u8]) -> Result<Step, AuthError> {
        match self {
            Exchange::Plain => plain::check(&sasl.users, token).await.map(Step::Done),
            Exchange::Scram(mechanism) => scram::first(&sasl.users, mechanism, token),
            Exchange::ScramFinal(last) => last.check(token).map(Step::Done),
            Exchange::Bearer => match &sasl.tokens {
                Some(tokens) => bearer::check(tokens, token).await,
                None => Err(AuthError::hidden("no provider of tokens is configured")),
            },
            Exchange::BearerFailed { error, reason } => Err(AuthError { told: Some(error), reason, user: None }),
        }
    }
}

impl Sasl {
    /// With these mechanisms, in the order in which clients are told them.
    pub fn new(
        listener: &str,
        mechanisms: &[Mechanism],
        users: Users,
        tokens: Option<Arc<Tokens>>,
        max_reauth: Option<Duration>,
    ) -> Self {
        for mechanism in mechanisms {
            for result in ["ok", "failed"] {
                metrics::get().authentications.with_label_values(&[listener, mechanism.name(), result]);
            }
        }
        let (listener, mechanisms) = (listener.to_owned(), mechanisms.to_vec());
        Sasl { listener, mechanisms, users, tokens, max_reauth, failures: Quiet::default() }
    }

    fn count(&self, mechanism: Mechanism, result: &str) {
        metrics::get().authentications.with_label_values(&[self.listener.as_str(), mechanism.name(), result]).inc();
    }
}
