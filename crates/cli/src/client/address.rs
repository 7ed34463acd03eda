//! Where the daemon is: `unix://`, `tcp://`, `http://`, `https://`, with TLS if it is asked for.

use crate::error::{Error, Result};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A daemon's address.
#[derive(Clone)]
pub(crate) struct Address {
    /// As it was given.
    text: String,
    place: Place,
    tls: Option<TlsOptions>,
}

#[derive(Clone)]
enum Place {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
}

/// A connection to a daemon.
pub(crate) enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Files for TLS.
#[derive(Clone)]
pub(crate) struct TlsOptions {
    verify: bool,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl TlsOptions {
    /// `None` when TLS is not asked for (docker/cli: `cli/flags/options.go`).
    pub(crate) fn new(folder: &Path, tls: bool, verify: Option<bool>, files: [&str; 3]) -> Option<Self> {
        let environment = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let verify = verify.unwrap_or_else(|| environment("DOCKER_TLS_VERIFY").is_some());
        if !tls && !verify && environment("DOCKER_TLS").is_none() {
            return None;
        }
        let folder = environment("DOCKER_CERT_PATH").map_or_else(|| folder.to_owned(), PathBuf::from);
        let file = |given: &str, default: &str| {
            if given.is_empty() { folder.join(default) } else { PathBuf::from(given) }
        };
        let [ca, cert, key] = files;
        Some(Self { verify, ca: file(ca, "ca.pem"), cert: file(cert, "cert.pem"), key: file(key, "key.pem") })
    }

    fn config(&self) -> Result<rustls::ClientConfig> {
        let failed =
            |e: String| Error::text(format!("Failed to initialize: unable to resolve docker endpoint: {e}"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| failed(e.to_string()))?;
        let builder = if self.verify {
            let mut roots = rustls::RootCertStore::empty();
            let pem = |e: rustls_pki_types::pem::Error| failed(format!("open {}: {e}", self.ca.display()));
            for certificate in CertificateDer::pem_file_iter(&self.ca).map_err(pem)? {
                roots.add(certificate.map_err(pem)?).map_err(|e| failed(e.to_string()))?;
            }
            builder.with_root_certificates(roots)
        } else {
            builder.dangerous().with_custom_certificate_verifier(wharf_registry::tls::take_any(provider))
        };
        if !self.cert.exists() && !self.key.exists() {
            return Ok(builder.with_no_client_auth());
        }
        let pem = |e: rustls_pki_types::pem::Error| failed(format!("could not load X509 key pair: {e}"));
        let chain =
            CertificateDer::pem_file_iter(&self.cert).map_err(pem)?.collect::<std::result::Result<_, _>>();
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(pem)?;
        builder.with_client_auth_cert(chain.map_err(pem)?, key).map_err(|e| failed(e.to_string()))
    }
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// When it is malformed or of a kind that is not supported.
    pub(crate) fn parse(text: &str, tls: Option<TlsOptions>) -> Result<Self> {
        let invalid = || {
            let what = "unable to resolve docker endpoint: invalid bind address format";
            Error::text(format!("Failed to initialize: {what}: {text}"))
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let place = match scheme {
            "unix" if rest.is_empty() => Place::Unix(PathBuf::from("/var/run/docker.sock")),
            "unix" => Place::Unix(PathBuf::from(rest)),
            "tcp" | "http" | "https" => {
                let authority = rest.split('/').next().unwrap_or_default();
                let default_port = if tls.is_some() { 2376 } else { 2375 };
                let (host, port) = split_port(authority).ok_or_else(invalid)?;
                let host = if host.is_empty() { "127.0.0.1" } else { host };
                Place::Tcp { host: host.to_owned(), port: port.unwrap_or(default_port) }
            }
            _ => return Err(invalid()),
        };
        let text = if text.contains("://") { text.to_owned() } else { format!("tcp://{text}") };
        let tls = tls.filter(|_| matches!(place, Place::Tcp { .. }));
        Ok(Self { text, place, tls })
    }

    /// The address as it was given.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn host_header(&self) -> &str {
        match &self.place {
            Place::Unix(_) => "api.moby.localhost",
            Place::Tcp { .. } => {
                self.text.split("://").last().unwrap_or_default().split('/').next().unwrap_or_default()
            }
        }
    }

    /// Connects.
    pub(crate) async fn dial(&self) -> Result<Connection> {
        match &self.place {
            Place::Unix(path) => {
                UnixStream::connect(path).await.map(Connection::Unix).map_err(|e| self.failed(&e))
            }
            Place::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|e| self.failed(&e))?;
                let _ = stream.set_nodelay(true);
                match &self.tls {
                    None => Ok(Connection::Tcp(stream)),
                    Some(tls) => self.encrypt(tls, host, stream).await,
                }
            }
        }
    }

    async fn encrypt(&self, tls: &TlsOptions, host: &str, stream: TcpStream) -> Result<Connection> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| Error::text(e.to_string()))?;
        let connector = TlsConnector::from(Arc::new(tls.config()?));
        let stream = connector.connect(name, stream).await.map_err(|e| Error::Connect(e.to_string()))?;
        Ok(Connection::Tls(Box::new(stream)))
    }

    fn failed(&self, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Error::Permission(self.text.clone()),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut => {
                Error::NoDaemon(self.text.clone())
            }
            _ => match &self.place {
                Place::Unix(_) => Error::NoDaemon(self.text.clone()),
                Place::Tcp { host, .. } if error.raw_os_error().is_none() => {
                    Error::Connect(format!("dial tcp: lookup {host}: no such host"))
                }
                Place::Tcp { .. } => Error::Connect(error.to_string()),
            },
        }
    }
}

fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return Some((host, port.strip_prefix(':').map(str::parse).transpose().ok()?));
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
        None => Some((authority, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let place = |text: &str| match Address::parse(text, None).map(|a| a.place) {
            Ok(Place::Unix(path)) => path.display().to_string(),
            Ok(Place::Tcp { host, port }) => format!("{host} {port}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(place("unix:///run/x.sock"), "/run/x.sock");
        assert_eq!(place("unix://"), "/var/run/docker.sock");
        assert_eq!(place("tcp://h:1"), "h 1");
        assert_eq!(place("tcp://[::1]:2/x"), "::1 2");
        assert_eq!(place("h"), "h 2375");
        assert_eq!(place("tcp://:7"), "127.0.0.1 7");
        assert_eq!(
            place("foo://x"),
            "Failed to initialize: unable to resolve docker endpoint: invalid bind address format: foo://x"
        );
        assert!(place("tcp://h:x").ends_with("invalid bind address format: tcp://h:x"));
    }
}
