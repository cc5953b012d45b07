//! Evaluation with three-valued logic: `None` is NULL.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::value::Value;
use super::{Field, Like, Node, Order, Search};
use crate::expression::Fields;

/// A condition's truth.
pub(super) fn truth(node: &Node, record: &impl Fields) -> Option<bool> {
    match node {
        Node::And(all) => fold(all, record, false),
        Node::Or(any) => fold(any, record, true),
        Node::Not(inner) => truth(inner, record).map(|truth| !truth),
        Node::Equal(left, right) => value(left, record).equals(&value(right, record)),
        Node::Order(order, left, right) => {
            let ordering = value(left, record).compare(&value(right, record))?;
            Some(match order {
                Order::Less => ordering == Ordering::Less,
                Order::LessOrEqual => ordering != Ordering::Greater,
                Order::Greater => ordering == Ordering::Greater,
                Order::GreaterOrEqual => ordering != Ordering::Less,
            })
        }
        Node::IsNull(inner) => Some(value(inner, record) == Value::Null),
        Node::In(name, list) => {
            let found = field(name, record);
            if found == Value::Null {
                return None;
            }
            Some(list.iter().any(|listed| found.equals(listed) == Some(true)))
        }
        Node::Search { field: name, search, text, negated } => {
            let Value::Text(found) = field(name, record) else { return Some(false) };
            let hit = match search {
                Search::Contains => found.contains(text.as_str()),
                Search::StartsWith => found.starts_with(text.as_str()),
                Search::EndsWith => found.ends_with(text.as_str()),
            };
            // RocketMQ: an empty text is in nothing, and is not outside of anything.
            Some(!text.is_empty() && hit != *negated)
        }
        Node::Like(name, pattern) => match field(name, record) {
            Value::Null => None,
            Value::Text(found) => Some(like(pattern, &found)),
            _ => Some(false),
        },
        Node::Constant(_) | Node::Field(_) | Node::Negate(_) => match value(node, record) {
            Value::Bool(flag) => Some(flag),
            Value::Null => None,
            _ => Some(false),
        },
    }
}

/// AND stops at FALSE, OR at TRUE; a NULL beside anything else makes the whole NULL.
fn fold(nodes: &[Node], record: &impl Fields, stop: bool) -> Option<bool> {
    let mut all = Some(!stop);
    for node in nodes {
        match truth(node, record) {
            Some(truth) if truth == stop => return Some(stop),
            Some(_) => {}
            None => all = None,
        }
    }
    all
}

fn value<'a>(node: &'a Node, record: &'a impl Fields) -> Value<'a> {
    match node {
        Node::Constant(constant) => constant.clone(),
        Node::Field(name) => field(name, record),
        Node::Negate(inner) => match value(inner, record).number() {
            Some(Value::Integer(n)) => n.checked_neg().map_or(Value::Null, Value::Integer),
            Some(Value::Float(n)) => Value::Float(-n),
            _ => Value::Null,
        },
        condition => truth(condition, record).map_or(Value::Null, Value::Bool),
    }
}

fn field<'a>(field: &Field, record: &'a impl Fields) -> Value<'a> {
    match field {
        Field::Header(name) => text(record.header(name)),
        Field::Key => text(record.key()),
        Field::Timestamp => Value::Integer(record.timestamp()),
        Field::Size => Value::Integer(record.size() as i64),
    }
}

/// Bytes that are not UTF-8 have no value that SQL could compare: NULL.
fn text(bytes: Option<&[u8]>) -> Value<'_> {
    bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).map_or(Value::Null, |text| Value::Text(Cow::Borrowed(text)))
}

/// Matches greedily with one step back to the last `%`: linear for one, never exponential.
fn like(pattern: &[Like], text: &str) -> bool {
    let (mut at, mut rest) = (0, text.chars());
    let mut last_any: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        match pattern.get(at) {
            Some(Like::Any) => {
                last_any = Some((at + 1, rest.clone()));
                at += 1;
                continue;
            }
            Some(piece) => {
                let mut ahead = rest.clone();
                let hit = match (piece, ahead.next()) {
                    (Like::One, Some(_)) => true,
                    (Like::Char(c), Some(found)) => *c == found,
                    _ => false,
                };
                if hit {
                    (at, rest) = (at + 1, ahead);
                    continue;
                }
            }
            None if rest.as_str().is_empty() => return true,
            None => {}
        }
        let Some((after, from)) = &mut last_any else { return false };
        if from.next().is_none() {
            return false;
        }
        (at, rest) = (*after, from.clone());
    }
}
