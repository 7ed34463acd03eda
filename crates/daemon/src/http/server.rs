//! Connections: accepting them, serving HTTP/1.1 on them, letting them end.

use super::{adapter::Adapter, conn::Connection, dispatch};
use crate::{app::App, listen::Listener};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::Instrument;

/// A client's socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// Of the machine.
    Unix(UnixStream),
    /// Of a network.
    Tcp(TcpStream),
    /// Of a network, encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

/// How long a client may take to agree on how to encrypt.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Accepts connections until `stopping` says so.
pub(crate) async fn accept(app: Arc<App>, listener: Listener) {
    let stopping = app.stopping.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        match accepted {
            Ok(socket) => {
                let span = socket.span();
                let app = Arc::clone(&app);
                app.connections.clone().spawn(begin(app, socket, listener.tls()).instrument(span));
            }
            Err(error) => {
                // Out of file descriptors, mostly: waiting is all that helps.
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Encrypts the connection where that is asked for, then serves it.
async fn begin(app: Arc<App>, socket: Socket, tls: Option<TlsAcceptor>) {
    let socket = match (socket, tls) {
        (Socket::Tcp(plain), Some(tls)) => {
            let stopping = app.stopping.clone();
            let agreed = tokio::select! {
                agreed = tokio::time::timeout(HANDSHAKE, tls.accept(plain)) => agreed,
                () = stopping.cancelled() => return,
            };
            match agreed {
                Ok(Ok(encrypted)) => Socket::Tls(Box::new(encrypted)),
                Ok(Err(error)) => return tracing::info!(%error, "TLS handshake error"),
                Err(_) => return tracing::info!("TLS handshake error: the client took too long"),
            }
        }
        (socket, _) => socket,
    };
    serve(app, socket).await;
}

/// Serves one connection until it ends or is taken over. When the daemon stops it ends after the request
/// that is being served.
async fn serve(app: Arc<App>, socket: Socket) {
    let stopping = app.stopping.clone();
    let state = Arc::new(Connection::default());
    let io = TokioIo::new(Adapter::new(socket, Arc::clone(&state)));
    let service = service_fn(move |request| dispatch::answer(Arc::clone(&app), Arc::clone(&state), request));
    let connection = http1::Builder::new()
        .title_case_headers(true)
        // An idle connection stays: it costs little, and clients keep pools of them.
        .header_read_timeout(None)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke");
    }
}

impl Socket {
    /// A span that says who the client is: the process (SO_PEERCRED), or the address.
    fn span(&self) -> tracing::Span {
        match self {
            Self::Unix(s) => {
                let peer = s.peer_cred().ok();
                let (pid, uid) = (peer.and_then(|p| p.pid()), peer.map(|p| p.uid()));
                tracing::debug_span!("client", pid, uid)
            }
            Self::Tcp(s) => tracing::debug_span!("client", address = ?s.peer_addr().ok()),
            Self::Tls(s) => tracing::debug_span!("client", address = ?s.get_ref().0.peer_addr().ok()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(s) => s.as_fd(),
            Self::Tcp(s) => s.as_fd(),
            Self::Tls(s) => s.get_ref().0.as_fd(),
        }
    }
}

macro_rules! delegate {
    ($self:ident, $s:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Unix(s) => {
                let $s = Pin::new(s);
                $call
            }
            Socket::Tcp(s) => {
                let $s = Pin::new(s);
                $call
            }
            Socket::Tls(s) => {
                let $s = Pin::new(s.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => s.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, s => s.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, s => s.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => s.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => s.poll_shutdown(cx))
    }
}
