//! A running krocket: sockets first, then the data, then clients; the other way round at the end.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use krocket_broker::config::logger::Loggers;
use krocket_broker::{Broker, Settings};
use krocket_config::Config;
use krocket_config::schema::HostPort;
use krocket_proxy::quota::Enforcer;
use krocket_proxy::sasl::Basic;
use krocket_proxy::{Capacity, Listener};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;
use crate::http::Gate;
use crate::http::auth::tokens::Tokens;
use crate::http::kafka::Kafka;
use crate::reload::{self, Current};
use crate::settings::Doors;
use crate::stack::Features;
use crate::{http, settings};

/// A krocket that serves clients.
pub struct Server {
    /// Where Kafka clients connect: the first listener.
    pub kafka: SocketAddr,
    /// All listeners, by name.
    pub listeners: Vec<(String, SocketAddr)>,
    /// Where HTTP is served.
    pub http: SocketAddr,
    broker: Arc<Broker>,
    features: Features,
    drain: CancellationToken,
    stop_http: CancellationToken,
    clients: Vec<JoinHandle<bool>>,
    operators: JoinHandle<std::io::Result<()>>,
    /// For what is in flight when everything ends.
    grace: Duration,
}

impl Server {
    /// Starts from a checked configuration. A port that is taken is found before the data folder is touched.
    /// `loggers` are the log levels that clients may change.
    pub async fn start(config: &Config, loggers: Option<Arc<dyn Loggers>>) -> Result<Server, Failure> {
        let current = Current::fixed(config).map_err(|fault| Failure::Other(fault.to_string()))?;
        Server::start_following(current, loggers).await
    }

    /// Starts with a configuration whose rules may change while krocket runs.
    pub async fn start_following(current: Arc<Current>, loggers: Option<Arc<dyn Loggers>>) -> Result<Server, Failure> {
        Server::start_tuned(current, loggers, Box::new(|_| {})).await
    }

    /// Starts with settings changed that no configuration has: the file system and the clock.
    // Boxed: the whole server would be compiled once more with every test that starts one.
    pub fn start_tuned<'a>(
        current: Arc<Current>,
        loggers: Option<Arc<dyn Loggers>>,
        tune: Box<dyn FnOnce(&mut Settings) + Send + 'a>,
    ) -> BoxFuture<'a, Result<Server, Failure>> {
        Box::pin(Server::begin(current, loggers, tune))
    }

    async fn begin(
        current: Arc<Current>,
        loggers: Option<Arc<dyn Loggers>>,
        tune: Box<dyn FnOnce(&mut Settings) + Send + '_>,
    ) -> Result<Server, Failure> {
        let config = &*current.config();
        let doors = Doors::open(config)?;
        let bound = bind(config).await?;
        let listeners: Vec<_> = bound.iter().map(|(name, address, _)| (name.clone(), *address)).collect();
        let ports: Vec<u16> = listeners.iter().map(|(_, address)| address.port()).collect();
        let address = resolve(&config.server.http).await?;
        let http_socket = TcpListener::bind(address).await.map_err(|error| cannot_listen("HTTP", address, &error))?;
        let http = http_socket.local_addr().map_err(|error| cannot_listen("HTTP", address, &error))?;

        let opened: Arc<OnceLock<Arc<Broker>>> = Arc::default();
        let (drain, stop_http) = (CancellationToken::new(), CancellationToken::new());
        let readiness = readiness(opened.clone(), drain.clone());
        let (v1, exporter) = (http::Late::default(), http::LateExporter::default());
        let operators = tokio::spawn(http::serve(
            doors.http(http_socket),
            readiness,
            v1.clone(),
            exporter.clone(),
            stop_http.clone(),
        ));

        let mut settings = settings::broker(config, &ports, loggers);
        tune(&mut settings);
        let broker = open(config, settings).await?;
        let _ = opened.set(broker.clone());
        let quotas = Arc::new(Enforcer::new(broker.quotas(), broker.configs.broker().quota_windows));
        let (capacity, grace) = (Capacity::from(settings::limits(config)), config.server.shutdown_grace);
        let mut features = Features::start(broker.clone(), broker.clone(), current.rules.clone());
        let endpoints = std::mem::take(&mut features.routes).merge(http::snapshots::routes(&broker));
        let _ = exporter.set((Kafka::new(features.handler.clone()), settings::exported(config)));
        let authorizer = match config.security.authorizer {
            true => {
                let policy = settings::policy(config).map_err(Failure::Other)?;
                Some(features.authorize(&broker, current.rules.clone(), policy))
            }
            false => {
                if !config.security.super_users.is_empty() {
                    tracing::warn!("super_users mean nothing without `authorizer = true`: everybody may do everything");
                }
                None
            }
        };
        let (routes, _) = http::openapi::routes(Kafka::new(features.handler.clone()), current.clone(), endpoints);
        let gate = match authorizer.is_some() || config.http.tokens_file.is_some() {
            true => {
                let tokens = Arc::new(tokens(&current)?);
                tokio::spawn(tokens.clone().follow(drain.clone()));
                Some(Gate::new(authorizer, tokens, Basic::new(doors.users(&broker)), current.rules.clone()))
            }
            false => None,
        };
        let _ = v1.set(http::v1(routes, gate));
        let requests = current.requests.clone();
        tokio::spawn(reload::follow(current, drain.clone()));
        doors.follow(&drain);
        let run = |((_, _, socket), listener): ((_, _, Listener), _)| {
            let socket = socket.with_quotas(quotas.clone()).with_requests(requests.clone());
            let guarded = doors.guard(socket, &listener, &broker);
            tokio::spawn(guarded.run(features.handler.clone(), capacity.clone(), drain.clone(), grace))
        };
        let clients = bound.into_iter().zip(config.listeners()).map(run).collect();
        Ok(Server {
            kafka: listeners[0].1,
            listeners,
            http,
            broker,
            features,
            drain,
            stop_http,
            clients,
            operators,
            grace,
        })
    }

    /// Accepts nobody new, finishes what is in flight, closes the log. A log that cannot be closed cleanly is recovered
    /// at the next start, as after a crash.
    pub async fn stop(self) -> Result<(), Failure> {
        self.drain.cancel();
        for clients in self.clients {
            match clients.await {
                Ok(true) => {}
                Ok(false) => tracing::warn!("some requests did not finish in time and were cut off"),
                Err(error) => tracing::error!(%error, "a listener ended early"),
            }
        }
        self.features.stop(self.grace).await;
        let broker = self.broker;
        let closed = tokio::task::spawn_blocking(move || broker.log.close()).await;
        self.stop_http.cancel();
        if let Ok(Err(error)) = self.operators.await {
            tracing::warn!(%error, "the HTTP server ended with an error");
        }
        match closed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::Other(format!("the log could not be closed: {error}"))),
            Err(error) => Err(Failure::Other(format!("the log could not be closed: {error}"))),
        }
    }
}

/// Binds every listener, in the order of the configuration: there is at least one.
async fn bind(config: &Config) -> Result<Vec<(String, SocketAddr, Listener)>, Failure> {
    let mut bound = Vec::new();
    for listener in config.listeners() {
        let address = resolve(&listener.listen).await?;
        let cannot = |error| cannot_listen("Kafka", address, &error);
        let socket = Listener::bind(address, &listener.name).map_err(cannot)?;
        let address = socket.local_addr().map_err(cannot)?;
        bound.push((listener.name.clone(), address, socket));
    }
    Ok(bound)
}

async fn open(config: &Config, settings: Settings) -> Result<Arc<Broker>, Failure> {
    let folder = config.server.data_dir.clone();
    let cannot_open = |why: String| Failure::Other(format!("cannot open the data folder: {why}"));
    match tokio::task::spawn_blocking(move || Broker::open(&folder, settings)).await {
        Ok(Ok(broker)) => Ok(broker),
        Ok(Err(error)) => Err(cannot_open(error.to_string())),
        Err(error) => Err(cannot_open(error.to_string())),
    }
}

fn tokens(current: &Current) -> Result<Tokens, Failure> {
    let config = current.config();
    let Some(file) = &config.http.tokens_file else { return Ok(Tokens::default()) };
    Tokens::open(file).map_err(Failure::Other)
}

fn readiness(opened: Arc<OnceLock<Arc<Broker>>>, drain: CancellationToken) -> http::Readiness {
    Arc::new(move || {
        if drain.is_cancelled() {
            return Err("shutting down".to_owned());
        }
        match opened.get() {
            None => Err("opening the data folder".to_owned()),
            Some(broker) => broker.log.health().map_err(|error| error.to_string()),
        }
    })
}

async fn resolve(address: &HostPort) -> Result<SocketAddr, Failure> {
    let unknown = |why: String| Failure::Other(format!("cannot listen on {address}: {why}"));
    let mut found = tokio::net::lookup_host((address.host.as_str(), address.port))
        .await
        .map_err(|error| unknown(error.to_string()))?;
    found.next().ok_or_else(|| unknown("the name has no address".to_owned()))
}

fn cannot_listen(what: &str, address: SocketAddr, error: &std::io::Error) -> Failure {
    let why = match error.kind() {
        std::io::ErrorKind::AddrInUse => "the port is in use".to_owned(),
        std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        std::io::ErrorKind::PermissionDenied => "not permitted (ports below 1024 need privileges)".to_owned(),
        _ => error.to_string(),
    };
    Failure::Other(format!("cannot listen on {address} for {what}: {why}"))
}

/// Takes the hard limit of open files: every connection and every log segment is one, and the soft limit is often 1024.
pub fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
}
