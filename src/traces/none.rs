//! A krocket without the cargo feature `otlp`: there are no traces, and who asks for them is told.

use krocket_config::Config;
use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;

use super::BoxLayer;

/// Nothing that had to be ended.
pub struct Traces;

impl Traces {
    /// Does nothing.
    pub fn end(self) {}
}

/// Refuses every collector.
pub fn check(_: &str) -> Result<(), String> {
    Err("this krocket was built without traces (the cargo feature `otlp`)".to_owned())
}

/// Starts nothing.
pub fn start<S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync>(
    _: &Config,
) -> Result<Option<(BoxLayer<S>, Traces)>, String> {
    Ok(None)
}
