//! A certificate authority, krocket with listeners, clients that encrypt.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use krocket_config::schema::HostPort;
use krocket_config::security::{ClientAuth, Listener, Tls};
use krocket_testkit::{Client, soon};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An authority and the folder of its files.
pub(crate) struct Authority {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    pub(crate) issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in files.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) serial: u64,
}

impl Authority {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("signed");
        std::fs::write(folder.join(format!("{name}.crt")), certificate.pem()).expect("written");
        Authority { folder: folder.to_owned(), name: name.to_owned(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.crt", self.name))
    }

    /// A certificate for 127.0.0.1 and this common name.
    pub(crate) fn sign(&self, name: &str) -> Identity {
        self.sign_until(name, 2096)
    }

    pub(crate) fn sign_until(&self, name: &str, year: i32) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        static SERIALS: AtomicU64 = AtomicU64::new(1);
        let serial = SERIALS.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some(serial.into());
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let file = |end: &str| self.folder.join(format!("{name}.{end}"));
        let identity = Identity { cert: file("crt"), key: file("key"), serial };
        std::fs::write(&identity.cert, certificate.pem()).expect("written");
        std::fs::write(&identity.key, key.serialize_pem()).expect("written");
        identity
    }

    /// Writes the list of those whose certificates are not good any more.
    pub(crate) fn revoke(&self, these: &[&Identity]) -> PathBuf {
        let revoked = |identity: &&Identity| RevokedCertParams {
            serial_number: identity.serial.into(),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(2096, 1, 1),
            crl_number: (these.len() as u64).into(),
            issuing_distribution_point: None,
            revoked_certs: these.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.folder.join(format!("{}.crl", self.name));
        let list = list.signed_by(&self.issuer).expect("signed").pem().expect("PEM");
        std::fs::write(&path, list).expect("written");
        path
    }

    /// A client's settings: it trusts this authority and shows who it is.
    pub(crate) fn client(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file()).expect("a certificate")).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { cert, key, .. }) => {
                let chain = vec![CertificateDer::from_pem_file(cert).expect("a certificate")];
                let key = PrivateKeyDer::from_pem_file(key).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("they match")
            }
        })
    }
}

impl Identity {
    /// A server's side.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let chain = vec![CertificateDer::from_pem_file(&self.cert).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they match");
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A listener on a free port.
pub(crate) fn listener(name: &str, tls: Option<Tls>) -> Listener {
    Listener { name: name.to_owned(), listen: HostPort::new("127.0.0.1", 0), advertised: None, tls, sasl: Vec::new() }
}

pub(crate) fn tls(identity: &Identity) -> Tls {
    Tls {
        cert: identity.cert.clone(),
        key: identity.key.clone(),
        client_ca: None,
        crl: None,
        client_auth: ClientAuth::None,
    }
}

pub(crate) type TlsClient = Client<TlsStream<TcpStream>>;

/// Connects and shakes hands; the error is the server's alert or what the client finds wrong.
pub(crate) async fn handshake(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = soon("connecting", TcpStream::connect(address)).await.expect("connects");
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    soon("shaking hands", TlsConnector::from(config.clone()).connect(name, stream)).await
}

pub(crate) async fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsClient {
    Client::over(handshake(address, config).await.expect("shakes hands"))
}
