//! Structured logs on stderr.

use std::io::IsTerminal;

use krocket_config::schema::{LogFormat, Logging};
use tracing_subscriber::EnvFilter;

/// Starts logging; a panic is a log line too. `RUST_LOG`, where set, replaces the configured filter.
pub fn start(logging: &Logging) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&logging.filter));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match logging.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(thread = thread.name().unwrap_or("unnamed"), place, "panic: {message}");
    }));
}
