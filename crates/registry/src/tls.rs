//! Trust: the machine's roots, the roots and client certificates of single registries, and none at all.
//!
//! Files: `<certs_dir>/<host[:port]>/*.crt` are roots beside the machine's, `x.cert` with `x.key` is a
//! client certificate (source: docs.docker.com/engine/security/certificates; moby
//! `daemon/pkg/registry/registry.go`, `loadTLSConfig`).

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::SystemTime,
};

/// Why there is no TLS configuration for a host.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or folder cannot be read.
    #[error("could not read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no PEM.
    #[error("could not load {path}: {reason}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// `x.cert` without `x.key`.
    #[error("missing key {key} for client certificate {cert}. CA certificates must use the extension .crt")]
    MissingKey {
        /// What is missing.
        key: PathBuf,
        /// What it is missing for.
        cert: PathBuf,
    },
    /// `x.key` without `x.cert`.
    #[error("missing client certificate {cert} for key {key}")]
    MissingCert {
        /// What is missing.
        cert: PathBuf,
        /// What it is missing for.
        key: PathBuf,
    },
    /// Certificates that do not go together.
    #[error("could not use certificates: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Makes TLS configurations and keeps them.
pub(crate) struct Trust {
    certs_dir: PathBuf,
    made: Mutex<HashMap<Wanted, (Stamp, Arc<ClientConfig>)>>,
}

/// A registry's host, and whether anybody is believed to be it.
type Wanted = (String, bool);

/// What tells whether a folder of certificates is as it was: names, times and lengths of its files.
type Stamp = Vec<(PathBuf, Option<SystemTime>, u64)>;

impl Trust {
    pub(crate) fn new(certs_dir: PathBuf) -> Self {
        Self { certs_dir, made: Mutex::default() }
    }

    /// The configuration for a host. `insecure`: whatever certificate it shows is taken.
    /// Reads files: not to be called where blocking for milliseconds matters.
    pub(crate) fn config_for(&self, authority: &str, insecure: bool) -> Result<Arc<ClientConfig>, TlsError> {
        let key = (authority.to_owned(), insecure);
        let folder = self.certs_dir.join(authority.replace('/', "_"));
        let stamp = stamp(&folder);
        if let Some((before, config)) = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && *before == stamp
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(make(&folder, insecure)?);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= KEPT_MAX {
            made.clear();
        }
        made.insert(key, (stamp, Arc::clone(&config)));
        Ok(config)
    }
}

fn stamp(folder: &Path) -> Stamp {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut stamp: Stamp = entries
        .map(|entry| {
            // Through links, as the files are read.
            let data = fs::metadata(entry.path()).ok();
            let time = data.as_ref().and_then(|data| data.modified().ok());
            (entry.path(), time, data.map_or(0, |data| data.len()))
        })
        .collect();
    stamp.sort();
    stamp
}

fn make(folder: &Path, insecure: bool) -> Result<ClientConfig, TlsError> {
    let host = HostCertificates::read(folder)?;
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = if insecure {
        builder.dangerous().with_custom_certificate_verifier(take_any(provider))
    } else {
        let mut roots = RootCertStore { roots: machine_roots().roots.clone() };
        roots.add_parsable_certificates(host.roots);
        builder.with_root_certificates(roots)
    };
    let mut config = match host.client {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What a client that is no registry's trusts, and shows. Without a file for `ca` it is the machine's roots.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientFiles<'a> {
    /// Roots, instead of the machine's.
    pub ca: Option<&'a Path>,
    /// The client's certificate, with `key`.
    pub cert: Option<&'a Path>,
    /// The certificate's key.
    pub key: Option<&'a Path>,
    /// Whatever certificate the server shows is taken.
    pub skip_verify: bool,
}

/// A configuration of these files.
///
/// # Errors
/// When one cannot be read or is none.
pub fn client_config(files: &ClientFiles<'_>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = if files.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(take_any(provider))
    } else {
        let roots = match files.ca {
            None => machine_roots().clone(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates(path)?);
                roots
            }
        };
        builder.with_root_certificates(roots)
    };
    match (files.cert, files.key) {
        (Some(cert), Some(key)) => Ok(builder.with_client_auth_cert(certificates(cert)?, private_key(key)?)?),
        _ => Ok(builder.with_no_client_auth()),
    }
}

const KEPT_MAX: usize = 64;

/// The machine's roots, read once. A machine without any trusts nobody.
fn machine_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut store = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!(%error, "cannot read some of the machine's root certificates");
        }
        store.add_parsable_certificates(found.certs);
        store
    })
}

#[derive(Default)]
struct HostCertificates {
    roots: Vec<CertificateDer<'static>>,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl HostCertificates {
    fn read(folder: &Path) -> Result<Self, TlsError> {
        let read_error = |source| TlsError::Read { path: folder.to_owned(), source };
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Self::default());
            }
            Err(error) => return Err(read_error(error)),
        };
        let mut paths =
            entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(read_error)?;
        paths.sort();
        let mut found = Self::default();
        for path in paths {
            found.take(&path)?;
        }
        Ok(found)
    }

    fn take(&mut self, path: &Path) -> Result<(), TlsError> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => self.roots.extend(certificates(path)?),
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.exists() {
                    return Err(TlsError::MissingKey { key, cert: path.to_owned() });
                }
                self.client = Some((certificates(path)?, private_key(&key)?));
            }
            Some("key") => {
                let cert = path.with_extension("cert");
                if !cert.exists() {
                    return Err(TlsError::MissingCert { cert, key: path.to_owned() });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn pem_error(path: &Path) -> impl Fn(rustls_pki_types::pem::Error) -> TlsError {
    move |error| TlsError::Pem { path: path.to_owned(), reason: error.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(pem_error(path))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(pem_error(path))
}

/// A verifier that takes any certificate: for hosts of which the user said so.
pub fn take_any(provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(TakeAny(provider))
}

/// Takes any certificate: what `insecure-registries` asks for.
#[derive(Debug)]
struct TakeAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakeAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
