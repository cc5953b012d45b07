//! A filter as it is given: a tag expression or SQL.

use thiserror::Error;

use crate::sql::Sql;
use crate::tag::Tags;

/// Longest filter text, bytes.
pub const MAX_LEN: usize = 64 * 1024;

/// Why a filter is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("column {column}: {message}")]
pub struct FilterError {
    /// Where, counted in characters from 1.
    pub column: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

/// What a filter can ask of a record.
pub trait Fields {
    /// Value of the last header of this name; `None` when there is none or its value is null.
    fn header(&self, name: &str) -> Option<&[u8]>;
    /// The record's key.
    fn key(&self) -> Option<&[u8]>;
    /// The record's timestamp, ms.
    fn timestamp(&self) -> i64;
    /// Bytes of key, value and headers.
    fn size(&self) -> usize;
}

/// A parsed filter.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// `*`, or `paid || refunded`.
    Tags(Tags),
    /// SQL92 with RocketMQ's rules.
    Sql(Sql),
}

impl Expression {
    /// Reads a filter. Text made only of words and `||` is a tag expression; anything else is SQL.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > MAX_LEN {
            let message = format!("the filter has {} bytes; at most {MAX_LEN} are read", text.len());
            return Err(FilterError { column: 1, message });
        }
        match Tags::parse(text) {
            Some(tags) => Ok(Expression::Tags(tags)),
            None => Sql::parse(text).map(Expression::Sql),
        }
    }

    /// True for a record that the filter lets through. SQL's NULL is not a match.
    pub fn matches(&self, record: &impl Fields) -> bool {
        match self {
            Expression::Tags(tags) => tags.matches(record.header("TAGS")),
            Expression::Sql(sql) => sql.matches(record),
        }
    }
}
