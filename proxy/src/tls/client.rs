//! The other side of TLS: whom krocket trusts when it is the client.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Where systems keep the authorities that they trust.
const BUNDLES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Trusts the authorities in this PEM file; without one, those of the system.
pub fn client(authorities: Option<&Path>) -> Result<ClientConfig, String> {
    let system = || BUNDLES.iter().map(Path::new).find(|path| path.exists());
    let path = authorities.or_else(system).ok_or("this system has no list of authorities: say which to trust")?;
    let cannot = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| cannot(&error))? {
        let certificate = certificate.map_err(|error| cannot(&error))?;
        // A system's list may have certificates of kinds that are out of use.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        return Err(cannot(&"no certificate in it"));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
