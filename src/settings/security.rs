//! Listeners and who may come in by them: checks of the configuration, and what runs by it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use krocket_broker::Broker;
use krocket_config::check::Step;
use krocket_config::schema::HostPort;
use krocket_config::security::{ClientAuth, Listener, Mechanism, Security};
use krocket_config::{Config, ConfigError, Fault, Loaded};
use krocket_proxy::sasl::{FileUsers, Sasl, Tokens, Users};
use krocket_proxy::tls::{PrincipalRules, Tls, TlsError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::exit::Failure;
use crate::http::socket::Socket;

/// What guards the listeners.
pub struct Doors {
    tls: HashMap<String, Arc<Tls>>,
    http: Option<Arc<Tls>>,
    users: Option<Arc<FileUsers>>,
    tokens: Option<Arc<Tokens>>,
    max_reauth: Option<Duration>,
}

impl Doors {
    /// Loads certificates and users.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let rules = rules(config).map_err(|fault| Failure::Other(fault.to_string()))?;
        let mut tls = HashMap::new();
        for listener in &config.listeners {
            if let Some(files) = &listener.tls {
                let cannot = |error| Failure::Other(format!("listener {}: {error}", listener.name));
                let loaded = Tls::load(&listener.name, files, rules.clone()).map_err(cannot)?;
                tls.insert(listener.name.clone(), Arc::new(loaded));
            }
        }
        let http = http_tls(config).map_err(|error| Failure::Other(format!("HTTP: {error}")))?.map(Arc::new);
        let security = &config.security;
        let failed = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
        let users = security.users_file.as_deref().map(FileUsers::load).transpose().map_err(|error| failed(&error))?;
        let tokens = security.oauthbearer.as_ref().map(Tokens::load).transpose().map_err(|error| failed(&error))?;
        Ok(Doors {
            tls,
            http,
            users: users.map(Arc::new),
            tokens: tokens.map(Arc::new),
            max_reauth: security.max_reauth,
        })
    }

    /// Puts the guards of a listener in place; `broker` has the users that were made with Kafka's admin call.
    pub fn guard(
        &self,
        socket: krocket_proxy::Listener,
        listener: &Listener,
        broker: &Broker,
    ) -> krocket_proxy::Listener {
        let users = self.users(broker);
        let sasl = Sasl::new(&listener.name, &listener.sasl, users, self.tokens.clone(), self.max_reauth);
        let sasl = (!listener.sasl.is_empty()).then(|| Arc::new(sasl));
        socket.with_tls(self.tls.get(&listener.name).cloned()).with_sasl(sasl)
    }

    /// The users with their passwords; `broker` has those that were made with Kafka's admin call.
    pub fn users(&self, broker: &Broker) -> Users {
        Users::new(self.users.clone(), broker.credentials(), &broker.secret)
    }

    /// The HTTP API's socket.
    pub fn http(&self, listener: TcpListener) -> Socket {
        Socket::new(listener, self.http.clone())
    }

    /// Follows the files until `stop`.
    pub fn follow(&self, stop: &CancellationToken) {
        for tls in self.tls.values().chain(&self.http) {
            tokio::spawn(tls.clone().follow(stop.clone()));
        }
        if let Some(users) = &self.users {
            tokio::spawn(users.clone().follow(stop.clone()));
        }
        if let Some(tokens) = &self.tokens {
            tokio::spawn(tokens.clone().follow(stop.clone()));
        }
    }
}

/// What the HTTP API encrypts with. It is called as its connections are, and no listener is.
fn http_tls(config: &Config) -> Result<Option<Tls>, TlsError> {
    let files = config.http.tls.clone();
    files.map(|files| Tls::load("http", &files.into(), PrincipalRules::default())).transpose()
}

/// True for addresses that are none: clients must be told another.
pub(super) fn is_everywhere(address: &HostPort) -> bool {
    matches!(address.host.as_str(), "0.0.0.0" | "::" | "")
}

/// What the types cannot say about `[[listeners]]` and `[security]`. The first fault is returned.
pub(super) fn check(loaded: &Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    for key in ["listen", "advertised"] {
        if !config.listeners.is_empty() && loaded.sets("server", key) {
            let message = format!("`{key}` and [[listeners]] both say where clients connect: leave one of them out");
            return Err(loaded.error("server", key, message));
        }
    }
    let rules = rules(config).map_err(|fault| loaded.fault(&fault))?;
    check_security(&config.security).map_err(|fault| loaded.fault(&fault))?;
    if let Err(error) = http_tls(config) {
        let fault = Fault::new(["http".into(), "tls".into(), error.key.into()], error.to_string());
        return Err(loaded.fault(&fault));
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        check_listener(config, index, listener, &rules).map_err(|fault| loaded.fault(&fault))?;
    }
    Ok(())
}

fn check_security(security: &Security) -> Result<(), Fault> {
    let fault = |path: &[Step], message: String| Err(Fault::new([&["security".into()], path].concat(), message));
    if let Some(path) = &security.users_file
        && let Err(error) = FileUsers::check(path)
    {
        return fault(&["users_file".into()], error.to_string());
    }
    if security.max_reauth.is_some_and(|time| time.is_zero()) {
        return fault(&["max_reauth".into()], "`max_reauth` must not be zero; without it nobody has to".to_owned());
    }
    let Some(oauth) = &security.oauthbearer else { return Ok(()) };
    let of_oauth = |key: &'static str, message: &str| fault(&["oauthbearer".into(), key.into()], message.to_owned());
    if oauth.issuer.is_empty() {
        return of_oauth("issuer", "`issuer` must not be empty");
    }
    if oauth.audience.is_empty() || oauth.audience.iter().any(String::is_empty) {
        return of_oauth("audience", "`audience` must name those that tokens are made for");
    }
    if oauth.subject_claim.is_empty() {
        return of_oauth("subject_claim", "`subject_claim` must not be empty");
    }
    if oauth.refresh.is_zero() {
        return of_oauth("refresh", "`refresh` must not be zero");
    }
    match Tokens::load(oauth) {
        Ok(_) => Ok(()),
        Err(error) => of_oauth("jwks", &error.to_string()),
    }
}

fn check_listener(config: &Config, index: usize, listener: &Listener, rules: &PrincipalRules) -> Result<(), Fault> {
    let fault =
        |path: &[Step], message: String| Err(Fault::new([&["listeners".into(), index.into()], path].concat(), message));
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if listener.name.is_empty() || !listener.name.chars().all(legal) {
        let message = "a name is made of letters, digits, `-`, `_` and `.`".to_owned();
        return fault(&["name".into()], message);
    }
    // Connections without a socket have it.
    if listener.name == "http" {
        return fault(&["name".into()], format!("\"{}\" is the HTTP API's own name", listener.name));
    }
    for (earlier, other) in config.listeners[..index].iter().enumerate() {
        if other.name == listener.name {
            return fault(&["name".into()], format!("there is another listener \"{}\"", listener.name));
        }
        if other.listen == listener.listen && listener.listen.port != 0 {
            return fault(
                &["listen".into()],
                format!("listener \"{}\" has this address", config.listeners[earlier].name),
            );
        }
    }
    if is_everywhere(&listener.listen) && listener.advertised.is_none() {
        let message = format!(
            "it takes connections on every address, so clients must be told which one to use: set `advertised`, for \
             example advertised = \"localhost:{}\"",
            listener.listen.port
        );
        return fault(&["listen".into()], message);
    }
    if let Some(tls) = &listener.tls {
        if tls.client_auth == ClientAuth::None && tls.client_ca.is_some() {
            let message = "clients are not asked for certificates: set `client_auth` to \"requested\" or \"required\"";
            return fault(&["tls".into(), "client_ca".into()], message.to_owned());
        }
        if tls.client_auth == ClientAuth::None && tls.crl.is_some() {
            let message = "clients are not asked for certificates: set `client_auth` to \"requested\" or \"required\"";
            return fault(&["tls".into(), "crl".into()], message.to_owned());
        }
        if let Err(error) = Tls::load(&listener.name, tls, rules.clone()) {
            return fault(&["tls".into(), error.key.into()], error.to_string());
        }
    }
    for (place, mechanism) in listener.sasl.iter().enumerate() {
        if listener.sasl[..place].contains(mechanism) {
            return fault(&["sasl".into(), place.into()], format!("{mechanism} is there twice"));
        }
        if *mechanism == Mechanism::OauthBearer && config.security.oauthbearer.is_none() {
            let message = "OAUTHBEARER needs to know whose tokens to take: set security.oauthbearer";
            return fault(&["sasl".into(), place.into()], message.to_owned());
        }
    }
    Ok(())
}

/// What works and is perhaps not meant.
pub fn warnings(config: &Config) -> Vec<String> {
    let open = config.listeners.iter().filter(|listener| listener.tls.is_none() && !is_loopback(&listener.listen));
    let warning = |listener: &Listener| {
        let mechanism = listener.sasl.iter().find(|mechanism| mechanism.shows_secrets())?;
        Some(format!(
            "listener {}: {mechanism} without TLS: whoever sees the network traffic sees passwords or tokens",
            listener.name
        ))
    };
    let mut warnings: Vec<String> = open.filter_map(warning).collect();
    let security = &config.security;
    let asks_who = security.authorizer || config.http.tokens_file.is_some();
    if asks_who && config.http.tls.is_none() && !is_loopback(&config.server.http) {
        warnings.push("HTTP without `tls`: whoever sees the network traffic sees tokens and passwords".to_owned());
    }
    let asked = |these: &[Mechanism]| {
        config.listeners.iter().flat_map(|listener| &listener.sasl).any(|mechanism| these.contains(mechanism))
    };
    let passwords = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];
    if security.users_file.is_some() && !asked(&passwords) && !asks_who {
        warnings.push("security.users_file: neither a listener nor HTTP asks for passwords".to_owned());
    }
    if security.oauthbearer.is_some() && !asked(&[Mechanism::OauthBearer]) {
        warnings.push("security.oauthbearer: no listener takes tokens".to_owned());
    }
    warnings
}

fn is_loopback(address: &HostPort) -> bool {
    address.host == "localhost" || address.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn rules(config: &Config) -> Result<PrincipalRules, Fault> {
    PrincipalRules::parse(&config.security.principal_rules).map_err(|(index, error)| {
        Fault::new(["security".into(), "principal_rules".into(), index.into()], error.to_string())
    })
}
