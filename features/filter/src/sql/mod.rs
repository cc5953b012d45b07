//! SQL92 conditions over record headers: RocketMQ's grammar and NULL rules, and what it lacks.

mod eval;
mod parse;
mod token;
mod value;

#[cfg(test)]
mod rocketmq;
#[cfg(test)]
mod tests;

use crate::expression::{Fields, FilterError};
use value::Value;

/// A parsed condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sql {
    root: Node,
}

impl Sql {
    /// Reads a condition.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse::parse(text).map(|root| Sql { root })
    }

    /// True when the condition is TRUE for this record; FALSE and NULL are both no.
    pub fn matches(&self, record: &impl Fields) -> bool {
        eval::truth(&self.root, record) == Some(true)
    }
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
enum Field {
    Header(String),
    Key,
    Timestamp,
    Size,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How a string is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    Contains,
    StartsWith,
    EndsWith,
}

/// A piece of a LIKE pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Like {
    Any,
    One,
    Char(char),
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Constant(Value<'static>),
    Field(Field),
    Negate(Box<Node>),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Equal(Box<Node>, Box<Node>),
    Order(Order, Box<Node>, Box<Node>),
    IsNull(Box<Node>),
    In(Field, Vec<Value<'static>>),
    Search { field: Field, search: Search, text: String, negated: bool },
    Like(Field, Vec<Like>),
}
