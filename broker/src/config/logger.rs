//! BROKER_LOGGER: the levels of this process's log, changed while it runs and not stored.

use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use krocket_protocol::ErrorCode;

use super::Source;
use super::alter::Op;
use super::resource::check_node;
use crate::Broker;
use crate::api::reply::{ApiError, text};

/// The loggers' levels. The process that sets up `tracing` provides it.
pub trait Loggers: Send + Sync + 'static {
    /// Every logger with its level; `root` among them.
    fn levels(&self) -> Vec<(String, String)>;

    /// Sets a logger's level, or with `None` lets it go back to the root's.
    fn set(&self, logger: &str, level: Option<&str>);
}

/// The levels that `tracing` has, in Kafka's spelling.
pub(crate) const LEVELS: [&str; 6] = ["OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
/// The logger that all others take their level from.
pub(crate) const ROOT: &str = "root";

/// The loggers as DescribeConfigs tells them.
pub(crate) fn describe(broker: &Broker, id: &str) -> Result<Vec<DescribeConfigsResourceResult>, ApiError> {
    let loggers = loggers(broker, id)?;
    let entries = loggers.levels().into_iter().map(|(name, level)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(&name))
            .with_value(Some(text(&level)))
            .with_config_source(Source::BrokerLogger as i8)
            .with_config_type(2)
    });
    Ok(entries.collect())
}

/// Checks the changes and, unless that is all that was asked for, makes them.
pub(crate) fn alter(broker: &Broker, id: &str, ops: Vec<(String, Op)>, validate_only: bool) -> Result<(), ApiError> {
    let loggers = loggers(broker, id)?;
    let known = loggers.levels();
    let mut levels = Vec::new();
    for (name, op) in ops {
        if !known.iter().any(|(logger, _)| *logger == name) {
            return Err(ApiError::new(ErrorCode::InvalidConfig, format!("Logger {name} does not exist!")));
        }
        levels.push(match op {
            Op::Set(level) if LEVELS.contains(&level.as_str()) => (name, Some(level)),
            Op::Set(level) => {
                let message = format!("Cannot set the log level of {name} to {level}: it must be one of {LEVELS:?}");
                return Err(ApiError::new(ErrorCode::InvalidConfig, message));
            }
            Op::Delete if name == ROOT => {
                let message = format!("Removing the log level of the {ROOT} logger is not allowed");
                return Err(ApiError::new(ErrorCode::InvalidRequest, message));
            }
            Op::Delete => (name, None),
            Op::Append(_) | Op::Subtract(_) => {
                let message = "Loggers' levels can only be set and deleted";
                return Err(ApiError::new(ErrorCode::InvalidRequest, message));
            }
        });
    }
    if !validate_only {
        for (name, level) in levels {
            loggers.set(&name, level.as_deref());
        }
    }
    Ok(())
}

fn loggers<'a>(broker: &'a Broker, id: &str) -> Result<&'a dyn Loggers, ApiError> {
    if id.is_empty() {
        return Err(ApiError::new(ErrorCode::InvalidRequest, "Broker id must not be empty"));
    }
    check_node(broker, id)?;
    broker.settings.loggers.as_deref().ok_or_else(|| {
        ApiError::new(ErrorCode::InvalidRequest, "The log levels of this process cannot be changed while it runs.")
    })
}
