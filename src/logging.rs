//! Structured logs on stderr, with levels that can be changed while krocket runs.

use std::io::IsTerminal;

use krocket_broker::config::logger::Loggers;
use krocket_config::Config;
use krocket_config::schema::LogFormat;
use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::traces::{self, Traces};

/// The logger that others take their level from.
const ROOT: &str = "root";
/// Loggers that are listed though nothing was set for them.
const LOGGERS: &[&str] = &["krocket", "krocket_broker", "krocket_proxy", "krocket_store"];

/// The levels in force; Kafka clients change them as configs of the resource BROKER_LOGGER.
pub struct Levels {
    targets: Mutex<Targets>,
    handle: Handle<Targets, Registry>,
}

/// Starts logging, and traces where there is a collector for them; a panic is a log line too. `RUST_LOG`, where it is set
/// and valid, replaces the configured filter.
pub fn start(config: &Config) -> Result<(Levels, Option<Traces>), String> {
    let logging = &config.logging;
    let environment = std::env::var("RUST_LOG").ok().and_then(|filter| filter.parse().ok());
    let targets: Targets = environment
        .or_else(|| logging.filter.parse().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let (filter, handle) = reload::Layer::new(targets.clone());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match logging.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let (spans, traces) = traces::start(config)?.unzip();
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).init();
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(thread = thread.name().unwrap_or("unnamed"), place, "panic: {message}");
    }));
    Ok((Levels { targets: Mutex::new(targets), handle }, traces))
}

impl Loggers for Levels {
    fn levels(&self) -> Vec<(String, String)> {
        list(&self.targets.lock())
    }

    fn set(&self, logger: &str, level: Option<&str>) {
        let mut targets = self.targets.lock();
        *targets = with_level(&targets, logger, level.and_then(|level| level.parse().ok()));
        if let Err(error) = self.handle.reload(targets.clone()) {
            tracing::error!(%error, "cannot change log levels");
        }
    }
}

fn list(targets: &Targets) -> Vec<(String, String)> {
    let root = targets.default_level().unwrap_or(LevelFilter::OFF);
    let own = |logger: &str| targets.iter().find(|(target, _)| *target == logger).map(|(_, level)| level);
    let mut names: Vec<&str> = targets.iter().map(|(target, _)| target).chain(LOGGERS.iter().copied()).collect();
    names.sort_unstable();
    names.dedup();
    let loggers = names.into_iter().map(|name| (name.to_owned(), own(name).unwrap_or(root)));
    std::iter::once((ROOT.to_owned(), root))
        .chain(loggers)
        .map(|(name, level)| (name, level.to_string().to_uppercase()))
        .collect()
}

fn with_level(targets: &Targets, logger: &str, level: Option<LevelFilter>) -> Targets {
    let root = if logger == ROOT { level } else { targets.default_level() };
    let others =
        targets.iter().filter(|(target, _)| *target != logger).map(|(target, level)| (target.to_owned(), level));
    let own = level.filter(|_| logger != ROOT).map(|level| (logger.to_owned(), level));
    Targets::new().with_targets(others.chain(own)).with_default(root.unwrap_or(LevelFilter::OFF))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(targets: &Targets, logger: &str) -> String {
        list(targets).into_iter().find(|(name, _)| name == logger).map(|(_, level)| level).unwrap_or_default()
    }

    #[test]
    fn loggers_follow_the_root_until_they_are_set() {
        let targets: Targets = "info,krocket_store=warn".parse().expect("a filter");
        assert_eq!((level(&targets, "root"), level(&targets, "krocket_proxy")), ("INFO".into(), "INFO".into()));
        assert_eq!(level(&targets, "krocket_store"), "WARN");

        let targets = with_level(&targets, "krocket_proxy", Some(LevelFilter::DEBUG));
        let targets = with_level(&targets, "root", Some(LevelFilter::ERROR));
        let targets = with_level(&targets, "krocket_store", None);

        assert_eq!(level(&targets, "krocket_proxy"), "DEBUG");
        assert_eq!(level(&targets, "krocket_broker"), "ERROR");
        assert_eq!(level(&targets, "krocket_store"), "ERROR");
        assert!(targets.would_enable("krocket_proxy::listener", &tracing::Level::DEBUG));
        assert!(!targets.would_enable("krocket_broker", &tracing::Level::WARN));
    }
}
