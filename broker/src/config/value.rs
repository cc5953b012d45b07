//! Config values: text on the wire and on disk, typed in between.

use std::fmt;

use super::InvalidConfig;
use super::share::{Backoff, OffsetReset};
use crate::topics::name;

/// A config's type and range, as Kafka's ConfigDef has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// 32 bits, from, to.
    Int(i32, i32),
    /// 64 bits, from, to.
    Long(i64, i64),
    /// From, to.
    Double(f64, f64),
    /// One of these; anything when there are none.
    String(&'static [&'static str]),
    /// Comma-separated, each one of these; anything when there are none.
    List(&'static [&'static str]),
    /// `*` or a list of `partition:broker`.
    ThrottledReplicas,
    /// `latest`, `earliest` or `by_duration:` and an ISO 8601 duration.
    OffsetReset,
    /// Nothing, a list of waits, or `exponential`: see [`Backoff`].
    Backoff,
    /// A topic name, or nothing.
    TopicName,
}

/// A parsed value. `Display` gives the form that is stored and shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of [`Kind::Boolean`].
    Boolean(bool),
    /// Of [`Kind::Int`] and [`Kind::Long`].
    Number(i64),
    /// Of [`Kind::Double`].
    Double(f64),
    /// Of [`Kind::String`] and the other kinds of text.
    Text(String),
    /// Of the list kinds.
    List(Vec<String>),
}

impl Kind {
    /// The type's number in DescribeConfigs v3+.
    pub fn wire(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String(_) | Kind::OffsetReset | Kind::Backoff | Kind::TopicName => 2,
            Kind::Int(..) => 3,
            Kind::Long(..) => 5,
            Kind::Double(..) => 6,
            Kind::List(_) | Kind::ThrottledReplicas => 7,
        }
    }

    /// True when IncrementalAlterConfigs may append and subtract.
    pub fn is_list(self) -> bool {
        matches!(self, Kind::List(_) | Kind::ThrottledReplicas)
    }

    /// Reads a value; the sentences are Kafka's (ConfigDef.parseType and its validators).
    pub fn parse(self, name: &str, text: &str) -> Result<Value, InvalidConfig> {
        let text = text.trim();
        let invalid = |why: String| InvalidConfig(format!("Invalid value {text} for configuration {name}: {why}"));
        match self {
            Kind::Boolean if text.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
            Kind::Boolean if text.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
            Kind::Boolean => Err(invalid("Expected value to be either true or false".to_owned())),
            Kind::Int(min, max) => {
                let number: i32 = text.parse().map_err(|_| invalid("Not a number of type INT".to_owned()))?;
                within(number, min, max).map_err(invalid)?;
                Ok(Value::Number(number.into()))
            }
            Kind::Long(min, max) => {
                let number: i64 = text.parse().map_err(|_| invalid("Not a number of type LONG".to_owned()))?;
                within(number, min, max).map_err(invalid)?;
                Ok(Value::Number(number))
            }
            Kind::Double(min, max) => {
                let number = text.parse().ok().filter(|number: &f64| number.is_finite());
                let number = number.ok_or_else(|| invalid("Not a number of type DOUBLE".to_owned()))?;
                within(number, min, max).map_err(invalid)?;
                Ok(Value::Double(number))
            }
            Kind::String(allowed) if allowed.is_empty() || allowed.contains(&text) => Ok(Value::Text(text.to_owned())),
            Kind::String(allowed) => Err(invalid(format!("String must be one of: {}", allowed.join(", ")))),
            Kind::List(allowed) => {
                let items = items(text);
                if let Some(wrong) = items.iter().find(|item| !allowed.is_empty() && !allowed.contains(&item.as_str()))
                {
                    return Err(InvalidConfig(format!(
                        "Invalid value {wrong} for configuration {name}: String must be one of: {}",
                        allowed.join(", ")
                    )));
                }
                let duplicate = (1..items.len()).find(|&i| items[..i].contains(&items[i]));
                if duplicate.is_some() {
                    return Err(invalid("List contains duplicate values".to_owned()));
                }
                Ok(Value::List(items))
            }
            Kind::ThrottledReplicas => {
                let items = items(text);
                let pair = |item: &String| {
                    let (partition, broker) = item.split_once(':')?;
                    Some((partition.parse::<u32>().ok()?, broker.parse::<u32>().ok()?))
                };
                if text != "*" && !items.iter().all(|item| pair(item).is_some()) {
                    return Err(invalid(
                        "it must be the literal '*' or a list of replicas in the following format: \
                         [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                            .to_owned(),
                    ));
                }
                Ok(Value::List(items))
            }
            Kind::OffsetReset => OffsetReset::parse(text).map(|_| Value::Text(text.to_owned())).map_err(invalid),
            Kind::Backoff => Backoff::parse(text).map(|_| Value::Text(text.to_owned())).map_err(invalid),
            Kind::TopicName if text.is_empty() => Ok(Value::Text(String::new())),
            Kind::TopicName => name::check(text).map(|()| Value::Text(text.to_owned())).map_err(invalid),
        }
    }
}

fn items(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn within<T: PartialOrd + fmt::Display>(number: T, min: T, max: T) -> Result<(), String> {
    if number < min {
        Err(format!("Value must be at least {min}"))
    } else if number > max {
        Err(format!("Value must be no more than {max}"))
    } else {
        Ok(())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Boolean(value) => write!(f, "{value}"),
            Value::Number(value) => write!(f, "{value}"),
            // As Java prints them: 1.0, not 1.
            Value::Double(value) => write!(f, "{value:?}"),
            Value::Text(value) => f.write_str(value),
            Value::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// Typed reads of a value whose kind the table fixes.
impl Value {
    /// Of a boolean config.
    pub fn boolean(&self) -> bool {
        matches!(self, Value::Boolean(true))
    }

    /// Of a number config.
    pub fn long(&self) -> i64 {
        match self {
            Value::Number(number) => *number,
            other => unreachable!("{other:?} is no number"),
        }
    }

    /// Of a 32-bit number config.
    pub fn int(&self) -> i32 {
        i32::try_from(self.long()).expect("Kind::Int checked it")
    }

    /// Of a double config.
    pub fn double(&self) -> f64 {
        match self {
            Value::Double(number) => *number,
            other => unreachable!("{other:?} is no double"),
        }
    }

    /// Of a list config.
    pub fn items(&self) -> Vec<String> {
        match self {
            Value::List(items) => items.clone(),
            other => unreachable!("{other:?} is no list"),
        }
    }

    /// True for a text that equals this or a list that has it.
    pub fn has(&self, item: &str) -> bool {
        match self {
            Value::Text(text) => text == item,
            Value::List(items) => items.iter().any(|each| each == item),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_kafka_reads_them() {
        let policy = Kind::List(&["compact", "delete"]);
        let accepted: &[(Kind, &str, &str)] = &[
            (Kind::Boolean, " TRUE ", "true"),
            (Kind::Int(1, i32::MAX), "2147483647", "2147483647"),
            (Kind::Long(-1, i64::MAX), "-1", "-1"),
            (Kind::Double(0.0, 1.0), "1", "1.0"),
            (policy, "compact , delete", "compact,delete"),
            (policy, "", ""),
            (Kind::ThrottledReplicas, "*", "*"),
            (Kind::ThrottledReplicas, "0:1,1:1", "0:1,1:1"),
            (Kind::OffsetReset, "by_duration:PT1H", "by_duration:PT1H"),
            (Kind::Backoff, "1s 5s", "1s 5s"),
            (Kind::TopicName, "", ""),
            (Kind::TopicName, "dead.letters", "dead.letters"),
        ];
        for (kind, text, shown) in accepted {
            assert_eq!(kind.parse("x", text).map(|value| value.to_string()).as_deref(), Ok(*shown), "{text}");
        }
        let refused: &[(Kind, &str, &str)] = &[
            (Kind::Boolean, "yes", "Expected value to be either true or false"),
            (Kind::Int(1, i32::MAX), "2147483648", "Not a number of type INT"),
            (Kind::Int(1, i32::MAX), "0", "Value must be at least 1"),
            (Kind::Long(-1, i64::MAX), "1e3", "Not a number of type LONG"),
            (Kind::Double(0.0, 1.0), "1.5", "Value must be no more than 1"),
            (Kind::Double(0.0, 1.0), "NaN", "Not a number of type DOUBLE"),
            (Kind::String(&["a", "b"]), "c", "String must be one of: a, b"),
            (policy, "compact,keep", "String must be one of: compact, delete"),
            (policy, "delete,delete", "List contains duplicate values"),
            (Kind::ThrottledReplicas, "0:x", "it must be the literal '*'"),
            (Kind::OffsetReset, "by_duration:1h", "it must be 'latest', 'earliest'"),
            (Kind::Backoff, "soon", "'soon' is no wait"),
            (Kind::TopicName, "dead letters", "other than ASCII alphanumerics"),
        ];
        for (kind, text, why) in refused {
            let error = kind.parse("x", text).expect_err(text).to_string();
            assert!(error.contains(why) && error.contains("for configuration x"), "{error}");
        }
    }
}
