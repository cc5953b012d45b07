//! What the features' HTTP endpoints share: how an error looks, how a list is paged.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use krocket_stack::LedgerError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Items of a list when the request does not say how many.
pub const DEFAULT_LIMIT: usize = 100;
/// Most items of one page.
pub const MAX_LIMIT: usize = 1000;

/// Why a request is not answered: a status and a sentence. Handlers return `Result<_, Problem>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// For the operator: what is wrong and what would be right.
    pub message: String,
}

impl Problem {
    /// With this status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Problem { status, message: message.into() }
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, message)
    }

    /// 404: there is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::NOT_FOUND, message)
    }

    /// 409: the thing is not in a state in which this can be done.
    pub fn conflict(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::CONFLICT, message)
    }

    /// 503: krocket cannot do it now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        Problem::unavailable(error.to_string())
    }
}

impl From<krocket_stack::Error> for Problem {
    fn from(error: krocket_stack::Error) -> Self {
        Problem::unavailable(error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorBody { error: self.message })).into_response()
    }
}

/// The body of every error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What is wrong.
    pub error: String,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Page<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// Given back as `next`, the list goes on; absent at its end. Opaque.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How many items were asked for: from 1 to [`MAX_LIMIT`].
pub fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        limit => Err(Problem::bad_request(format!("`limit` is {limit}; it must be from 1 to {MAX_LIMIT}"))),
    }
}

/// An opaque page token: a key of the list as hexadecimal digits.
pub fn token(key: &[u8]) -> String {
    use std::fmt::Write;
    key.iter().fold(String::with_capacity(key.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The key that [`token`] was made of.
pub fn untoken(token: &str) -> Result<Vec<u8>, Problem> {
    let digit = |at: usize| token.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..token.len()).step_by(2).map(digit).collect();
    bytes.ok_or_else(|| Problem::bad_request("`next` is not a token that krocket gave out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_and_nothing_else_passes() {
        for key in [&b""[..], b"\x00\xff", b"orders:3:4711"] {
            assert_eq!(untoken(&token(key)).as_deref(), Ok(key));
        }
        for text in ["0", "0g", "é"] {
            assert!(untoken(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_out_of_range_is_refused() {
        assert_eq!(limit(None), Ok(DEFAULT_LIMIT));
        assert_eq!(limit(Some(1)), Ok(1));
        for asked in [0, MAX_LIMIT + 1] {
            assert_eq!(limit(Some(asked)).map_err(|problem| problem.status), Err(StatusCode::BAD_REQUEST), "{asked}");
        }
    }
}
