//! `krocket serve`

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use krocket_config::{ConfigError, Override};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Failure;
use crate::logging::{self, Levels};
use crate::reload::{Current, Source};
use crate::server::{Server, raise_open_files};
use crate::settings;

#[derive(Args)]
pub(super) struct Serve {
    /// TOML file; KROCKET__SECTION__KEY variables and flags override it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where Kafka clients connect [default: 127.0.0.1:9092].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// What clients are told to connect to [default: --listen].
    #[arg(long, value_name = "HOST:PORT")]
    advertised: Option<String>,
    /// Where /metrics, /livez and /readyz are served [default: 127.0.0.1:9644].
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// The folder that holds everything [default: ./krocket-data].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// This broker's id [default: 1].
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    /// What is logged, for example info,krocket_proxy=debug [default: info].
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

impl Serve {
    fn source(&self) -> Result<Source, ConfigError> {
        // Not std::env::vars, which panics at a variable that is not Unicode.
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut overrides = Override::environment(variables)?;
        let flags = [
            ("--listen", "server", "listen", &self.listen),
            ("--advertised", "server", "advertised", &self.advertised),
            ("--http", "server", "http", &self.http),
            ("--data-dir", "server", "data_dir", &self.data_dir),
            ("--node-id", "server", "node_id", &self.node_id),
            ("--log", "logging", "filter", &self.log),
        ];
        for (flag, section, key, value) in flags {
            overrides.extend(value.as_ref().map(|value| Override::flag(flag, section, key, value)));
        }
        Ok(Source { file: self.config.clone(), overrides })
    }
}

/// How long tasks may take to end once the log is closed.
const LET_GO: std::time::Duration = std::time::Duration::from_secs(5);

/// Runs the server until a signal.
pub(super) fn run(serve: &Serve) -> Result<(), Failure> {
    let current = Current::load(serve.source()?)?;
    let (loggers, traces) = logging::start(&current.config()).map_err(Failure::Other)?;
    let loggers = Arc::new(loggers);
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("krocket")
        .build()
        .map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
    let result = runtime.block_on(async {
        // Before anything that takes time, so that a signal during recovery ends the process as it should.
        let signals = Signals::new().map_err(|error| Failure::Other(format!("cannot handle signals: {error}")))?;
        until_signalled(current, loggers, signals).await
    });
    // Every task has to let go of RocksDB before the process ends: a database that closes while exit(3) runs the C++
    // destructors takes a mutex that is gone, and aborts. What blocks (a disk that hangs) must not keep us for ever.
    runtime.shutdown_timeout(LET_GO);
    if let Some(traces) = traces {
        traces.end();
    }
    result
}

async fn until_signalled(current: Arc<Current>, loggers: Arc<Levels>, mut signals: Signals) -> Result<(), Failure> {
    let config = current.config();
    let server = tokio::select! {
        server = Server::start_following(current.clone(), Some(loggers)) => server?,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before the data folder was open");
            return Ok(());
        }
    };
    let advertised = config.listeners()[0].advertised.as_ref().map_or(server.kafka.to_string(), ToString::to_string);
    for warning in settings::warnings(&config) {
        tracing::warn!("{warning}");
    }
    for ((name, address), listener) in server.listeners.iter().zip(&config.listeners) {
        let sasl = listener.sasl.iter().map(|mechanism| mechanism.name()).collect::<Vec<_>>().join(",");
        tracing::info!(name, %address, tls = listener.tls.is_some(), sasl, "listening");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        kafka = %server.kafka,
        advertised,
        http = %server.http,
        data_dir = %config.server.data_dir.display(),
        "krocket is ready"
    );
    let name = signals.next_but_reload(&current).await;
    tracing::info!(signal = name, "draining; a second signal exits at once");
    tokio::select! {
        stopped = server.stop() => {
            stopped?;
            tracing::info!("stopped");
        }
        name = signals.next() => {
            tracing::warn!(signal = name, "exiting at once");
            std::process::exit(1);
        }
    }
    Ok(())
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// SIGHUP reads the configuration again.
    async fn next_but_reload(&mut self, current: &Arc<Current>) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    let current = current.clone();
                    tokio::task::spawn_blocking(move || current.reload());
                }
            }
        }
    }
}
