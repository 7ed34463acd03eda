//! Where clients connect: unix sockets, TCP, sockets handed over by systemd.

mod group;
mod tls;
mod unix;

use crate::{config::TlsFiles, http::server::Socket};
use std::io;
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A unix socket.
    #[error("can't create unix socket {path}: {source}")]
    Unix {
        /// Its path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A TCP address.
    #[error("listen tcp {address}: {source}")]
    Tcp {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Certificates.
    #[error("invalid TLS configuration: {0}")]
    Tls(String),
    /// The group of `--group` does not exist.
    #[error("group {0} not found")]
    Group(String),
    /// Sockets of systemd.
    #[error("{0}")]
    Activation(String),
}

/// One socket that accepts clients.
pub(crate) struct Listener {
    socket: ListenSocket,
    tls: Option<TlsAcceptor>,
    /// The path of a unix socket that we made; removed at the end.
    _path: Option<unix::OwnedPath>,
}

#[derive(Debug)]
enum ListenSocket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    fn unix(socket: UnixListener, path: Option<unix::OwnedPath>) -> Self {
        Self { socket: ListenSocket::Unix(socket), tls: None, _path: path }
    }

    fn tcp(socket: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        Self { socket: ListenSocket::Tcp(socket), tls, _path: None }
    }

    /// What encrypts the connections, if anything does.
    pub(crate) fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.clone()
    }

    /// The next client.
    pub(crate) async fn accept(&self) -> io::Result<Socket> {
        match &self.socket {
            ListenSocket::Unix(listener) => Ok(Socket::Unix(listener.accept().await?.0)),
            ListenSocket::Tcp(listener) => {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                Ok(Socket::Tcp(socket))
            }
        }
    }
}

/// Listens on every host of the configuration, `protocol://address` each.
///
/// # Errors
/// See [`Error`]; what was listened on before is given up again.
pub(crate) async fn all(
    hosts: &[String],
    group: &str,
    files: Option<&TlsFiles>,
) -> Result<Vec<Listener>, Error> {
    let verified = files.is_some_and(|files| files.verify);
    let tls = files.map(tls::acceptor).transpose().map_err(Error::Tls)?;
    let mut listeners = Vec::new();
    for host in hosts {
        match host.split_once("://") {
            Some(("unix", path)) => listeners.push(unix::listen(path, group)?),
            Some(("fd", which)) => listeners.extend(activated(which)?),
            Some((_, address)) => {
                if !verified {
                    warn_of_strangers(address);
                }
                listeners.push(tcp(address, tls.clone()).await?);
            }
            None => return Err(Error::Activation(format!("bad format {host}, expected PROTO://ADDR"))),
        }
        tracing::info!("API listen on {host}");
    }
    Ok(listeners)
}

fn warn_of_strangers(address: &str) {
    tracing::warn!(
        host = address,
        "Binding to IP address without --tlsverify is insecure and gives root access on this machine to everyone who has access to your network"
    );
}

async fn tcp(address: &str, tls: Option<TlsAcceptor>) -> Result<Listener, Error> {
    let fail = |source| Error::Tcp { address: address.to_owned(), source };
    let socket = TcpListener::bind(address).await.map_err(fail)?;
    Ok(Listener::tcp(socket, tls))
}

/// Sockets of systemd: all of them, or the one with a number (source: moby `daemon/listeners`, `listenFD`).
fn activated(which: &str) -> Result<Vec<Listener>, Error> {
    let fail = |text: &str| Error::Activation(text.to_owned());
    let mut handed = listenfd::ListenFd::from_env();
    if handed.len() == 0 {
        return Err(fail(
            "no sockets found via socket activation: make sure the service was started by systemd",
        ));
    }
    let indices: Vec<usize> = match which {
        "" | "*" => (0..handed.len()).collect(),
        number => {
            let number: usize = number.parse().map_err(|_| {
                fail(&format!("failed to parse systemd fd address: should be a number: {number}"))
            })?;
            let index = number.checked_sub(3).filter(|i| *i < handed.len());
            vec![index.ok_or_else(|| fail("too few socket activated files passed in by systemd"))?]
        }
    };
    indices.into_iter().map(|index| activated_one(&mut handed, index)).collect()
}

fn activated_one(handed: &mut listenfd::ListenFd, index: usize) -> Result<Listener, Error> {
    let fail = |e: io::Error| {
        Error::Activation(format!("failed to listen on systemd activated file: fd {}: {e}", index + 3))
    };
    if let Ok(Some(listener)) = handed.take_unix_listener(index) {
        listener.set_nonblocking(true).map_err(fail)?;
        return Ok(Listener::unix(UnixListener::from_std(listener).map_err(fail)?, None));
    }
    match handed.take_tcp_listener(index) {
        Ok(Some(listener)) => {
            listener.set_nonblocking(true).map_err(fail)?;
            Ok(Listener::tcp(TcpListener::from_std(listener).map_err(fail)?, None))
        }
        Ok(None) => Err(fail(io::ErrorKind::NotFound.into())),
        Err(e) => Err(fail(e)),
    }
}
