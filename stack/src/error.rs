//! Why a request got no answer. A client's mistake that Kafka has a code for is not here: that is an answer.

use krocket_protocol::guard::GuardError;
use thiserror::Error;

/// A failure that ends the connection: there is no response to put it in.
#[derive(Debug, Error)]
pub enum Error {
    /// The body's bytes do not have the shape of the request.
    #[error("malformed request: {0}")]
    Shape(#[from] GuardError),
    /// The body does not decode at its version.
    #[error("malformed request: {source}")]
    Malformed {
        /// What the decoder said.
        source: anyhow::Error,
    },
    /// The body goes on after its last field.
    #[error("malformed request: {count} bytes after its end")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A version this API is not served at.
    #[error("{api:?} version {version} is not served")]
    UnsupportedVersion {
        /// The API.
        api: krocket_protocol::ApiKey,
        /// The version asked for.
        version: i16,
    },
    /// A response has a field that its version cannot carry: our mistake.
    #[error("cannot encode the message: {source}")]
    Encode {
        /// What the encoder said.
        source: anyhow::Error,
    },
    /// A layer asked for another message than the one that is there: our mistake.
    #[error("expected a {expected}")]
    WrongType {
        /// The type asked for.
        expected: &'static str,
    },
    /// The client said something after which the connection cannot go on.
    #[error("{0}")]
    Close(String),
}
