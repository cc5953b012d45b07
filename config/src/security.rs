//! `[[listeners]]` and `[security]`: where clients connect, and how they prove who they are.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::schema::{Config, HostPort};
use crate::units;

/// One entry of `[[listeners]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// What it is called in metrics and log lines; unique.
    pub name: String,
    /// Where clients connect. Port 0 takes a free one.
    pub listen: HostPort,
    /// What clients that came this way are told to connect to; by default `listen`.
    #[serde(default)]
    pub advertised: Option<HostPort>,
    /// Absent: bytes travel unencrypted.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// How clients may say who they are; empty: nobody has to.
    #[serde(default)]
    pub sasl: Vec<Mechanism>,
}

/// `tls` of a listener. The files are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM: krocket's certificate, then those between it and its authority.
    pub cert: PathBuf,
    /// PEM: the certificate's private key, not encrypted.
    pub key: PathBuf,
    /// PEM: authorities whose certificates clients may show.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// PEM: lists of certificates that these authorities have revoked (CRLs), one of each authority.
    #[serde(default)]
    pub crl: Option<PathBuf>,
    /// Whether clients show a certificate.
    #[serde(default)]
    pub client_auth: ClientAuth,
}

/// `tls` of the HTTP API. The files are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// PEM: krocket's certificate, then those between it and its authority.
    pub cert: PathBuf,
    /// PEM: the certificate's private key, not encrypted.
    pub key: PathBuf,
}

impl From<ServerTls> for Tls {
    fn from(tls: ServerTls) -> Self {
        Tls { cert: tls.cert, key: tls.key, client_ca: None, crl: None, client_auth: ClientAuth::None }
    }
}

/// Kafka's ssl.client.auth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// Clients are not asked for a certificate.
    #[default]
    None,
    /// They may show one; without it they are anonymous.
    Requested,
    /// They must show one.
    Required,
}

/// A SASL mechanism, by its registered name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Mechanism {
    /// User name and password as they are.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 5802 with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// RFC 5802 with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// RFC 7628: a signed token of an identity provider.
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

impl Mechanism {
    /// Its registered name.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
            Mechanism::OauthBearer => "OAUTHBEARER",
        }
    }

    /// True where whoever listens on the wire can use what is sent.
    pub fn shows_secrets(self) -> bool {
        matches!(self, Mechanism::Plain | Mechanism::OauthBearer)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// `[security]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// True: ACLs decide who may do what, and what they do not allow is denied (Kafka's authorizer.class.name).
    pub authorizer: bool,
    /// Who may do everything, as `User:name` (Kafka's super.users).
    pub super_users: Vec<String>,
    /// True: what no ACL names is allowed to everybody (Kafka's allow.everyone.if.no.acl.found).
    pub allow_everyone_if_no_acl_found: bool,
    /// A TOML file of `name = "password"` lines for PLAIN and SCRAM; read again when it changes. A user whose SCRAM
    /// credentials were set with Kafka's admin call goes by those.
    pub users_file: Option<PathBuf>,
    /// How a certificate's subject becomes a user's name (Kafka's ssl.principal.mapping.rules); the first that matches
    /// holds. Empty: the subject as it is.
    pub principal_rules: Vec<String>,
    /// Whose tokens OAUTHBEARER takes.
    pub oauthbearer: Option<OauthBearer>,
    /// After this long a SASL connection must prove again who it is (Kafka's connections.max.reauth.ms, KIP-368).
    /// Absent: never, except that a token's end is the session's.
    #[serde(with = "units::optional_duration")]
    pub max_reauth: Option<Duration>,
}

/// `security.oauthbearer`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OauthBearer {
    /// The provider's public keys (JWKS): a file, or an http or https URL.
    pub jwks: String,
    /// PEM: authorities for an https URL; by default the system's.
    #[serde(default)]
    pub jwks_ca: Option<PathBuf>,
    /// What a token's `iss` must be.
    pub issuer: String,
    /// One of these must be in a token's `aud`.
    pub audience: Vec<String>,
    /// The claim that is the user's name.
    #[serde(default = "subject")]
    pub subject_claim: String,
    /// How often the keys are read again; an unknown key asks for them at once.
    #[serde(default = "refresh", with = "units::duration")]
    pub refresh: Duration,
}

fn subject() -> String {
    "sub".to_owned()
}

fn refresh() -> Duration {
    Duration::from_secs(600)
}

impl OauthBearer {
    /// The file, where the keys are in one.
    pub fn file(&self) -> Option<&Path> {
        (!self.jwks.contains("://")).then(|| Path::new(&self.jwks))
    }
}

impl Config {
    /// The listeners there are: those of `[[listeners]]`, or the one of `server.listen`.
    pub fn listeners(&self) -> Vec<Listener> {
        if !self.listeners.is_empty() {
            return self.listeners.clone();
        }
        let (listen, advertised) = (self.server.listen.clone(), self.server.advertised.clone());
        vec![Listener { name: "kafka".to_owned(), listen, advertised, tls: None, sasl: Vec::new() }]
    }

    /// Takes relative paths of listeners and security from the folder of the configuration file.
    pub(crate) fn paths_from(&mut self, folder: &Path) {
        let tls = self.listeners.iter_mut().filter_map(|listener| listener.tls.as_mut());
        let mut paths: Vec<&mut PathBuf> = tls
            .flat_map(|tls| [&mut tls.cert, &mut tls.key].into_iter().chain(&mut tls.client_ca).chain(&mut tls.crl))
            .collect();
        paths.extend(self.security.users_file.as_mut());
        paths.extend(self.http.tokens_file.as_mut());
        paths.extend(self.http.tls.iter_mut().flat_map(|tls| [&mut tls.cert, &mut tls.key]));
        if let Some(oauth) = &mut self.security.oauthbearer {
            if let Some(file) = oauth.file() {
                oauth.jwks = folder.join(file).display().to_string();
            }
            paths.extend(oauth.jwks_ca.as_mut());
        }
        for path in paths {
            *path = folder.join(&*path);
        }
    }
}
