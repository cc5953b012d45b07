//! Message ids: where a message is, as text.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// `topic:partition:offset`, for example `orders:3:4711`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    /// The topic's name; topic names have no colons.
    pub topic: String,
    /// Index of the partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}:{}:{}", self.topic, self.partition, self.offset)
    }
}

/// Text that is no message id.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a message id: expected topic:partition:offset, for example orders:3:4711")]
pub struct NotAMessageId(pub String);

impl FromStr for MessageId {
    type Err = NotAMessageId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.split(':');
            let topic = parts.next().filter(|topic| !topic.is_empty())?;
            let partition = number(parts.next()?)?;
            let offset = number(parts.next()?)?;
            parts.next().is_none().then(|| MessageId { topic: topic.to_owned(), partition, offset })
        };
        parse().ok_or_else(|| NotAMessageId(text.to_owned()))
    }
}

/// Digits only: `+1` and the like parse elsewhere, but would be second spellings of one id.
fn number<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let id = MessageId { topic: "orders.eu".into(), partition: 3, offset: 4711 };
        assert_eq!(id.to_string(), "orders.eu:3:4711");
        assert_eq!("orders.eu:3:4711".parse(), Ok(id));
    }

    #[test]
    fn refuses_anything_else() {
        for text in [
            "",
            "orders",
            "orders:3",
            ":3:4",
            "orders:3:4:5",
            "orders:-1:4",
            "orders:3:+4",
            "a:3:9223372036854775808",
            "a: 3:4",
        ] {
            assert_eq!(text.parse::<MessageId>(), Err(NotAMessageId(text.to_owned())), "{text}");
        }
    }
}
