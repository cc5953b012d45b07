//! What the features' HTTP endpoints share: how an error looks, how a list is paged.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use krocket_stack::LedgerError;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::MessageId;

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

    /// 400: a `next` of another list, or of none.
    pub fn no_token() -> Self {
        Problem::bad_request("`next` is not a token of this list")
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

/// Which part of a list that has nothing else to be asked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
pub struct Paging {
    /// At most so many, 1 to 1000; by default 100.
    pub limit: Option<usize>,
    /// What the last page gave as `next`.
    pub next: Option<String>,
}

impl Paging {
    /// The page of a list that is sorted by name; the token is the last name.
    pub fn page<T>(self, items: Vec<T>, name: impl Fn(&T) -> &str) -> Result<Page<T>, Problem> {
        let limit = limit(self.limit)?;
        let after = |item: &T| self.next.as_deref().is_none_or(|last| name(item) > last);
        let mut items: Vec<T> = items.into_iter().filter(after).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| name(last).to_owned());
        Ok(Page { items, next })
    }
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

/// A page token for a place that numbers tell.
pub fn place<const N: usize>(numbers: [i64; N]) -> String {
    token(numbers.map(i64::to_be_bytes).as_flattened())
}

/// The place that [`place`] was given.
pub fn unplace<const N: usize>(next: Option<&str>) -> Result<Option<[i64; N]>, Problem> {
    let Some(key) = next.map(untoken).transpose()? else { return Ok(None) };
    let (numbers, rest) = key.as_chunks::<8>();
    let numbers: Result<[[u8; 8]; N], _> = numbers.try_into();
    match numbers {
        Ok(numbers) if rest.is_empty() => Ok(Some(numbers.map(i64::from_be_bytes))),
        _ => Err(Problem::no_token()),
    }
}

/// The message id that a request names.
pub fn message_id(text: &str) -> Result<MessageId, Problem> {
    text.parse().map_err(|error| Problem::bad_request(format!("{error}")))
}

/// 404 for a topic.
pub fn no_topic(name: &str) -> Problem {
    Problem::not_found(format!("no topic {name:?}"))
}

/// Answers with what reads the disk, off the threads that serve connections.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<Json<T>, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Problem::unavailable(error.to_string()))?.map(Json)
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
    fn a_place_comes_back_and_no_other_lists_token_passes() {
        assert_eq!(unplace::<2>(None), Ok(None));
        assert_eq!(unplace(Some(&place([7, i64::MAX, -1]))), Ok(Some([7, i64::MAX, -1])));
        for other in [place([1]), place([1, 2, 3]), token(b"orders:0:1"), String::new()] {
            assert_eq!(unplace::<2>(Some(&other)), Err(Problem::no_token()), "{other}");
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
