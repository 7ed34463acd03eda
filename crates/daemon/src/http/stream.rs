//! Connections taken over: raw bytes between a client and a process.

use super::{adapter::Adapter, body::Body, conn::Connection, reply::Reply, server::Socket};
use crate::error::Result;
use bytes::{Bytes, BytesMut};
use futures_util::{
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt},
};
use http::{HeaderValue, Response, StatusCode, header};
use hyper::{ext::ReasonPhrase, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Frames of both outputs one after the other.
pub(crate) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// Bytes as they are; what clients below 1.42 are told in any case.
pub(crate) const RAW: &str = "application/vnd.docker.raw-stream";

/// What is copied at once.
const CHUNK: usize = 64 << 10;

/// How often a client that sends no more is looked after.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// What a client gets on a connection taken over.
pub(crate) struct Session {
    /// What is sent first, such as the log so far.
    pub(crate) before: BoxStream<'static, io::Result<Bytes>>,
    /// The process's end: reading gives its output, writing its input.
    pub(crate) stream: Option<UnixStream>,
    /// What must have happened before the client sees the end of the output: who reads it to its end and then
    /// asks how the process ended is told.
    pub(crate) settled: Option<BoxFuture<'static, ()>>,
}

impl Session {
    /// A session that says one thing and ends.
    pub(crate) fn of_text(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        Self { before: stream::once(async { Ok(text) }).boxed(), stream: None, settled: None }
    }

    /// A session with a process, which ends for the client when the future has.
    pub(crate) fn of_stream(stream: UnixStream, settled: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { before: stream::empty().boxed(), stream: Some(stream), settled: Some(Box::pin(settled)) }
    }
}

/// A frame of the multiplexed form: stream number, three zeros, length in network order, bytes
/// (source: moby `api/pkg/stdcopy`).
pub(crate) fn frame(stream: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut whole = Vec::with_capacity(8 + bytes.len());
    whole.extend_from_slice(&[stream, 0, 0, 0]);
    whole.extend_from_slice(&length.to_be_bytes());
    whole.extend_from_slice(&bytes[..length as usize]);
    whole
}

/// What is needed to take a connection over.
pub(crate) struct Line {
    /// hyper's promise of the connection.
    pub(crate) upgrade: Option<OnUpgrade>,
    /// Whether the client asked for an upgrade.
    pub(crate) asked: bool,
    /// What the adapter below hyper listens to.
    pub(crate) connection: Arc<Connection>,
    /// Where the session runs.
    pub(crate) sessions: TaskTracker,
    /// Ends the session.
    pub(crate) stopped: CancellationToken,
}

impl Line {
    /// Runs a session until its end or the daemon's.
    pub(super) fn run(self, session: impl Future<Output = io::Result<()>> + Send + 'static) {
        self.sessions.spawn(async move {
            if let Some(Err(error)) = self.stopped.run_until_cancelled(session).await {
                tracing::debug!(%error, "a connection that was taken over broke");
            }
        });
    }
}

/// Takes the connection over for a session: 101 when the client asked for an upgrade, else an unframed 200.
/// Where the connection cannot be had (HTTP/1.0, pipelined requests) the output is an ordinary body and there
/// is no input.
///
/// # Errors
/// When the answer cannot be built.
pub(crate) fn take_over(mut line: Line, content_type: &'static str, session: Session) -> Result<Reply> {
    let Some(upgrade) = line.upgrade.take() else { return Ok(without_upgrade(session)) };
    let mut reply = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    if line.asked {
        reply = reply
            .extension(ReasonPhrase::from_static(b"UPGRADED"))
            .header(header::CONTENT_TYPE, content_type)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "tcp");
    } else {
        line.connection.answer_raw();
        reply = reply.header(header::CONTENT_TYPE, RAW);
    }
    line.run(serve(upgrade, session));
    Ok(reply.body(Body::empty())?)
}

fn without_upgrade(session: Session) -> Reply {
    let output = session.stream.map(|s| tokio_util::io::ReaderStream::with_capacity(s, CHUNK));
    let settled = stream::iter(session.settled).then(|settled| settled).filter_map(async |()| None);
    let body = session.before.chain(stream::iter(output).flatten()).chain(settled);
    let mut reply = super::reply::stream(RAW, body);
    reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    reply
}

async fn serve(upgrade: OnUpgrade, session: Session) -> io::Result<()> {
    let (socket, early) = taken_socket(upgrade).await?;
    relay(socket, early.freeze(), session).await
}

/// The socket behind an upgrade, and what the client sent meanwhile.
///
/// # Errors
/// When the connection broke before.
pub(super) async fn taken_socket(upgrade: OnUpgrade) -> io::Result<(Socket, BytesMut)> {
    let upgraded = upgrade.await.map_err(io::Error::other)?;
    let parts = upgraded
        .downcast::<TokioIo<Adapter<Socket>>>()
        .map_err(|_| io::Error::other("the connection is of an unknown kind"))?;
    let (mut socket, unread, unwritten) = parts.io.into_inner().into_parts();
    socket.write_all(&unwritten).await?;
    let mut early = BytesMut::from(&parts.read_buf[..]);
    early.extend_from_slice(&unread);
    Ok((socket, early))
}

/// Copies in both directions until the process's output ends or the client is gone. Each side's end of
/// sending is passed on; the client's does not end the session.
async fn relay(mut client: Socket, early: Bytes, mut session: Session) -> io::Result<()> {
    while let Some(chunk) = session.before.next().await {
        client.write_all(&chunk?).await?;
    }
    let Some(process) = session.stream else { return client.shutdown().await };
    let watched = client.as_fd().try_clone_to_owned()?;
    let (from_process, mut to_process) = process.into_split();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let input = async {
        // The process may have closed its input while the client goes on sending: that ends nothing.
        if to_process.write_all(&early).await.is_ok() {
            let _ = copy(&mut from_client, &mut to_process).await;
        }
        let _ = to_process.shutdown().await;
        until_gone(&watched).await;
    };
    tokio::select! {
        result = copy(from_process, &mut to_client) => result?,
        () = input => {}
    }
    if let Some(settled) = session.settled {
        settled.await;
    }
    to_client.shutdown().await
}

/// Waits until a client that sends no more has closed its whole end. A TCP client shows that only by
/// refusing what is written to it, which ends the copying of output.
async fn until_gone(client: &OwnedFd) {
    loop {
        tokio::time::sleep(LOOK_AFTER).await;
        let mut fds = [PollFd::new(client, PollFlags::empty())];
        let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        if polled.is_err() || fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            return;
        }
    }
}

async fn copy(from: impl AsyncRead, to: impl AsyncWrite) -> io::Result<()> {
    tokio::pin!(from, to);
    let mut buffer = BytesMut::with_capacity(CHUNK);
    loop {
        buffer.clear();
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        to.write_all(&buffer).await?;
    }
}
