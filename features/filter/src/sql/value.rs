//! Values and how they compare. Headers are text; a comparison with a number or a boolean converts them.

use std::borrow::Cow;
use std::cmp::Ordering;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
}

impl Value<'_> {
    /// A number, if this is one or text that reads as one.
    pub(super) fn number(&self) -> Option<Value<'static>> {
        match self {
            Value::Integer(n) => Some(Value::Integer(*n)),
            Value::Float(n) => Some(Value::Float(*n)),
            Value::Text(text) => {
                let text = text.trim();
                let integer = text.parse().map(Value::Integer).ok();
                integer.or_else(|| text.parse().map(Value::Float).ok())
            }
            Value::Null | Value::Bool(_) => None,
        }
    }

    /// SQL's `=`. RocketMQ: NULL on the left gives NULL, NULL on the right FALSE, two of them TRUE; what cannot be converted
    /// gives NULL here, where RocketMQ drops the message with an error.
    pub(super) fn equals(&self, other: &Value<'_>) -> Option<bool> {
        match (self, other) {
            (Value::Null, Value::Null) => Some(true),
            (Value::Null, _) => None,
            (_, Value::Null) => Some(false),
            (Value::Text(a), Value::Text(b)) => Some(a == b),
            (Value::Bool(a), Value::Bool(b)) => Some(a == b),
            (Value::Bool(flag), Value::Text(text)) | (Value::Text(text), Value::Bool(flag)) => {
                Some(text.eq_ignore_ascii_case("true") == *flag)
            }
            (Value::Bool(_), _) | (_, Value::Bool(_)) => Some(false),
            (a, b) => a.compare(b).map(|ordering| ordering == Ordering::Equal),
        }
    }

    /// Order as numbers; `None` where one side is NULL or no number.
    pub(super) fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self.number()?, other.number()?) {
            (Value::Integer(a), Value::Integer(b)) => Some(a.cmp(&b)),
            (a, b) => a.float()?.partial_cmp(&b.float()?),
        }
    }

    fn float(&self) -> Option<f64> {
        match self {
            Value::Integer(n) => Some(*n as f64),
            Value::Float(n) => Some(*n),
            _ => None,
        }
    }
}
