//! TLS on a listener: certificates from files, read again when they change; who a client's certificate says it is.

mod client;
mod principal;
mod reload;
mod sink;
mod subject;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use krocket_config::security::{self, ClientAuth};
use krocket_config::watch::{Content, Watch};
use krocket_stack::Principal;
use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::metrics;
use crate::quiet::Quiet;

pub use client::client;
pub use principal::{PrincipalRules, RuleError};
pub(crate) use sink::TlsSink;
pub use subject::rfc2253;

/// Plaintext that a connection may have encrypted and not sent: what its memory costs at most.
const BUFFER: usize = 64 << 10;

/// Why certificates cannot be used. `key` is the setting that is to blame.
#[derive(Debug, Error)]
#[error("{}: {message}", path.display())]
pub struct TlsError {
    /// `cert`, `key`, `client_ca` or `crl`.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
}

/// A listener's certificates, and what it asks of clients.
pub struct Tls {
    listener: String,
    files: security::Tls,
    rules: PrincipalRules,
    current: ArcSwap<ServerConfig>,
    watch: Mutex<Watch>,
    failures: Quiet,
}

impl Tls {
    /// Loads the files.
    pub fn load(listener: &str, files: &security::Tls, rules: PrincipalRules) -> Result<Self, TlsError> {
        let (watch, contents) = Watch::new(Files::paths(files).into_iter().map(|(_, path)| path.clone()));
        let (config, not_after) = Files::from(files, contents)?.config(files)?;
        let tls = Tls {
            listener: listener.to_owned(),
            files: files.clone(),
            rules,
            current: ArcSwap::from_pointee(config),
            watch: Mutex::new(watch),
            failures: Quiet::default(),
        };
        tls.tell_expiry(not_after);
        Ok(tls)
    }

    /// Shakes hands. The error's text says what the client or its certificate lacks.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Option<Principal>)> {
        let acceptor = TlsAcceptor::from(self.current.load_full());
        let stream = acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(BUFFER))).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let principal = certificate.map(|it| self.principal(it)).transpose()?;
        Ok((stream, principal))
    }

    /// Counts a handshake that failed, and says why.
    pub fn refuse(&self, peer: SocketAddr, reason: &dyn std::fmt::Display) {
        metrics::get().handshakes_failed.with_label_values(&[&self.listener]).inc();
        if let Some(unsaid) = self.failures.admit() {
            tracing::warn!(%peer, listener = self.listener, %reason, unsaid, "a TLS handshake failed");
        }
    }

    /// The user that a verified certificate stands for.
    fn principal(&self, certificate: &CertificateDer<'_>) -> io::Result<Principal> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|error| invalid(format!("the client certificate cannot be read: {error}")))?;
        let subject = rfc2253(parsed.subject());
        match self.rules.apply(&subject) {
            Some(name) => Ok(Principal::user(name)),
            None => Err(invalid(format!("no rule of security.principal_rules matches the subject {subject:?}"))),
        }
    }

    fn tell_expiry(&self, not_after: i64) {
        metrics::get().certificate_expiry.with_label_values(&[&self.listener]).set(not_after);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        if not_after < now {
            tracing::error!(listener = self.listener, file = %self.files.cert.display(), "the certificate has expired");
        }
    }
}

/// The files' bytes.
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    crl: Option<Vec<u8>>,
}

impl Files {
    /// Which files there are, by their settings.
    fn paths(files: &security::Tls) -> Vec<(&'static str, &PathBuf)> {
        let certificate = [("cert", &files.cert), ("key", &files.key)];
        let of_clients = [("client_ca", files.client_ca.as_ref()), ("crl", files.crl.as_ref())];
        let of_clients = of_clients.into_iter().filter_map(|(key, path)| Some((key, path?)));
        certificate.into_iter().chain(of_clients).collect()
    }

    /// `contents` are those of [`Files::paths`].
    fn from(files: &security::Tls, contents: Vec<Content>) -> Result<Self, TlsError> {
        let mut read = HashMap::new();
        for ((key, path), content) in Files::paths(files).into_iter().zip(contents) {
            read.insert(key, content.map_err(|why| fault(key, path, why))?);
        }
        let mut take = |key| read.remove(key);
        let (cert, key) = (take("cert").unwrap_or_default(), take("key").unwrap_or_default());
        Ok(Files { cert, key, client_ca: take("client_ca"), crl: take("crl") })
    }

    /// What rustls makes of them, and when the certificate ends (epoch seconds).
    fn config(&self, files: &security::Tls) -> Result<(ServerConfig, i64), TlsError> {
        let chain = certificates("cert", &files.cert, &self.cert)?;
        let not_after = match X509Certificate::from_der(&chain[0]) {
            Ok((_, parsed)) => parsed.validity().not_after.timestamp(),
            Err(error) => return Err(fault("cert", &files.cert, format!("not a certificate: {error}"))),
        };
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| {
            let message = match error {
                pem::Error::NoItemsFound => "no unencrypted private key in it".to_owned(),
                error => error.to_string(),
            };
            fault("key", &files.key, message)
        })?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| fault("cert", &files.cert, error.to_string()))?;
        let builder = match files.client_auth {
            ClientAuth::None => builder.with_no_client_auth(),
            asked => builder.with_client_cert_verifier(self.verifier(files, asked, provider)?),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            let message = match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!("this key does not belong to the certificate {}", files.cert.display())
                }
                error => error.to_string(),
            };
            fault("key", &files.key, message)
        })?;
        if files.client_auth != ClientAuth::None {
            // A session that is resumed is not verified again: a certificate that has expired since would still do.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok((config, not_after))
    }

    fn verifier(
        &self,
        files: &security::Tls,
        asked: ClientAuth,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
        let (Some(path), Some(bytes)) = (&files.client_ca, &self.client_ca) else {
            return Err(fault(
                "client_ca",
                &files.cert,
                "clients are asked for certificates, of which no authority is known: set `client_ca`".to_owned(),
            ));
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("client_ca", path, bytes)? {
            roots.add(certificate).map_err(|error| fault("client_ca", path, error.to_string()))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = if asked == ClientAuth::Requested { builder.allow_unauthenticated() } else { builder };
        let builder = match (&files.crl, &self.crl) {
            (Some(path), Some(bytes)) => builder.with_crls(revoked(path, bytes)?),
            _ => builder,
        };
        builder.build().map_err(|error| fault("client_ca", path, error.to_string()))
    }
}

fn certificates(key: &'static str, path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(fault(key, path, "no certificate in it (PEM is expected)".to_owned())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(fault(key, path, error.to_string())),
    }
}

fn revoked(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
    let lists = lists.map_err(|error| fault("crl", path, error.to_string()))?;
    for list in &lists {
        if let Err(error) = CertificateRevocationList::from_der(list) {
            return Err(fault("crl", path, format!("not a list of revoked certificates: {error}")));
        }
    }
    match lists.is_empty() {
        true => Err(fault("crl", path, "no list of revoked certificates in it (PEM is expected)".to_owned())),
        false => Ok(lists),
    }
}

fn fault(key: &'static str, path: &Path, message: String) -> TlsError {
    TlsError { key, path: path.to_owned(), message }
}
