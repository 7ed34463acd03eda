//! Certificates of `tcp://` (source: moby `daemon/command/daemon.go`, newAPIServerTLSConfig; docker/go-connections
//! `tlsconfig`, Server).

use crate::config::TlsFiles;
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// What encrypts connections.
///
/// # Errors
/// In Docker's words, when a file cannot be read or is not what it should be.
pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = if files.verify {
        let roots = Arc::new(authorities(files)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        builder.with_client_cert_verifier(verifier.map_err(|e| e.to_string())?)
    } else {
        builder.with_no_client_auth()
    };
    let pair = |why: &dyn std::fmt::Display| {
        format!("could not load X509 key pair (cert: {:?}, key: {:?}): {why}", files.cert, files.key)
    };
    let chain = CertificateDer::pem_file_iter(&files.cert).map_err(|e| pair(&e))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|e| pair(&e))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| pair(&e))?;
    let mut config = builder.with_single_cert(chain, key).map_err(|e| pair(&e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whose certificates clients may have.
fn authorities(files: &TlsFiles) -> Result<RootCertStore, String> {
    let failed = |why: &dyn std::fmt::Display| format!("could not read CA certificate {:?}: {why}", files.ca);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&files.ca).map_err(|e| failed(&e))? {
        roots.add(certificate.map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
    }
    if roots.is_empty() { Err(failed(&"it holds no certificate")) } else { Ok(roots) }
}
