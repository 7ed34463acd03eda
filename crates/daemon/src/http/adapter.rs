//! The layer between a socket and hyper that makes Docker's old way of taking a connection over possible.
//!
//! A client may `POST /containers/x/attach` without asking for an upgrade and expects
//! `HTTP/1.1 200 OK`, no framing, and from then on raw bytes in both directions. hyper hands a connection
//! over only for a request with an `Upgrade` header and an answer with status 101. So on the way in the
//! header is added to such requests (with a value of our own, [`MARKER`], by which handlers know that the
//! client did not ask), and on the way out, when the handler says so, the status line is rewritten.
//!
//! The head of a request is changed only where one begins for certain (see [`Connection`]); elsewhere, as
//! after pipelined requests, bytes pass as they are, and the handler has to do without the upgrade.

use super::conn::Connection;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The value of the header that we add.
pub(crate) const MARKER: &str = "x-wharf-raw";

/// The longest request line that is looked at.
const LINE_LIMIT: usize = 4096;

/// A socket with the changes described above.
pub(crate) struct Adapter<S> {
    socket: S,
    connection: Arc<Connection>,
    /// The beginning of a request line, until it is long enough to know what it is.
    beginning: Vec<u8>,
    /// Bytes for hyper.
    inward: Vec<u8>,
    inward_at: usize,
    /// Bytes for the client that hyper believes to be written.
    outward: Vec<u8>,
    outward_at: usize,
    /// The number of the last request whose beginning was seen.
    seen: Option<u64>,
}

impl<S> Adapter<S> {
    /// Wraps a socket.
    pub(crate) fn new(socket: S, connection: Arc<Connection>) -> Self {
        Self {
            socket,
            connection,
            beginning: Vec::new(),
            inward: Vec::new(),
            inward_at: 0,
            outward: Vec::new(),
            outward_at: 0,
            seen: None,
        }
    }

    /// The socket, with what was read of it and not taken, and what is still to be written to it.
    pub(crate) fn into_parts(mut self) -> (S, Vec<u8>, Vec<u8>) {
        let mut inward = self.inward.split_off(self.inward_at);
        inward.append(&mut self.beginning);
        (self.socket, inward, self.outward.split_off(self.outward_at))
    }

    /// Hands over what has been read already.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let rest = &self.inward[self.inward_at..];
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.inward_at += count;
        if self.inward_at == self.inward.len() {
            self.inward = Vec::new();
            self.inward_at = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> Adapter<S> {
    /// Reads the beginning of a request. What is of no interest goes to hyper at once; the rest is kept.
    fn poll_beginning(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.beginning.is_empty() {
            let start = buf.filled().len();
            ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
            let new = &buf.filled()[start..];
            let of_interest = is_undecided(new) || line_end(new).is_some_and(|end| takes_over(&new[..end]));
            if new.is_empty() || !of_interest {
                return Poll::Ready(Ok(()));
            }
            self.beginning.extend_from_slice(new);
            buf.set_filled(start);
        }
        while is_undecided(&self.beginning) {
            let mut chunk = [0; 1024];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                break;
            }
            self.beginning.extend_from_slice(chunk.filled());
        }
        self.inward = std::mem::take(&mut self.beginning);
        add_header(&mut self.inward);
        self.give(buf);
        Poll::Ready(Ok(()))
    }
}

/// Whether a request line is one of those that take a connection over.
fn takes_over(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"POST ") else { return false };
    let Some(rest) = rest.strip_suffix(b" HTTP/1.1\r\n") else { return false };
    let path = rest.split(|b| *b == b'?').next().unwrap_or_default();
    path.ends_with(b"/attach") || (path.ends_with(b"/start") && path.windows(6).any(|w| w == b"/exec/"))
}

/// The end of the first line, line feed included.
fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == b'\n').map(|at| at + 1)
}

/// Whether more bytes are needed to know what the request is.
fn is_undecided(bytes: &[u8]) -> bool {
    let beginning = &b"POST "[..bytes.len().min(5)];
    line_end(bytes).is_none() && bytes.len() < LINE_LIMIT && bytes.starts_with(beginning)
}

/// Adds the header after the request line when the request takes the connection over.
fn add_header(bytes: &mut Vec<u8>) {
    let Some(end) = line_end(bytes) else { return };
    if takes_over(&bytes[..end]) {
        let header = format!("Upgrade: {MARKER}\r\n");
        bytes.splice(end..end, header.into_bytes());
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Adapter<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.inward.is_empty() {
            this.give(buf);
            return Poll::Ready(Ok(()));
        }
        let awaited = this.connection.awaited_request();
        if awaited.is_none() || awaited == this.seen {
            return Pin::new(&mut this.socket).poll_read(cx, buf);
        }
        ready!(this.poll_beginning(cx, buf))?;
        this.seen = awaited;
        Poll::Ready(Ok(()))
    }
}

/// The head of a 101 as a 200; other heads as they are.
fn rewrite_status(head: &[u8]) -> Vec<u8> {
    match line_end(head) {
        Some(end) if head.starts_with(b"HTTP/1.1 101 ") => [b"HTTP/1.1 200 OK\r\n", &head[end..]].concat(),
        _ => head.to_vec(),
    }
}

impl<S: AsyncWrite + Unpin> Adapter<S> {
    /// Writes what hyper believes to be written.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.outward_at < self.outward.len() {
            let written =
                ready!(Pin::new(&mut self.socket).poll_write(cx, &self.outward[self.outward_at..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outward_at += written;
        }
        self.outward = Vec::new();
        self.outward_at = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Adapter<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        if self.connection.take_raw_answer() {
            self.outward = rewrite_status(buf);
            // What cannot be written now is written before anything else.
            if let Poll::Ready(Err(e)) = self.poll_drain(cx) {
                return Poll::Ready(Err(e));
            }
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        if self.connection.take_raw_answer() {
            let whole: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
            self.outward = rewrite_status(&whole);
            if let Poll::Ready(Err(e)) = self.poll_drain(cx) {
                return Poll::Ready(Err(e));
            }
            return Poll::Ready(Ok(whole.len()));
        }
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn only_requests_that_take_over_are_changed() {
        for (line, want) in [
            ("POST /v1.41/containers/x/attach?stream=1 HTTP/1.1\r\n", true),
            ("POST /exec/abc/start HTTP/1.1\r\n", true),
            ("POST /containers/abc/start HTTP/1.1\r\n", false),
            ("GET /containers/x/attach HTTP/1.1\r\n", false),
            ("POST /containers/x/attach HTTP/1.0\r\n", false),
            ("POST /containers/x/attachment HTTP/1.1\r\n", false),
            ("POST /x?y=/attach HTTP/1.1\r\n", false),
        ] {
            let mut bytes = format!("{line}Host: d\r\n\r\n").into_bytes();
            add_header(&mut bytes);
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(text.contains(MARKER), want, "{text}");
            assert!(text.starts_with(line) && text.ends_with("Host: d\r\n\r\n"));
        }
    }

    #[tokio::test]
    async fn a_head_in_pieces_is_put_together() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut adapter = Adapter::new(server, Arc::new(Connection::default()));
        let writer = tokio::spawn(async move {
            for piece in ["PO", "ST /exec/a/sta", "rt HTTP/1.1\r", "\nHost: d\r\n\r\n{}"] {
                client.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut text = String::new();
        adapter.read_to_string(&mut text).await.unwrap();
        writer.await.unwrap();
        assert_eq!(text, format!("POST /exec/a/start HTTP/1.1\r\nUpgrade: {MARKER}\r\nHost: d\r\n\r\n{{}}"));
    }

    #[tokio::test]
    async fn bodies_pass_untouched() {
        let (mut client, server) = tokio::io::duplex(1024);
        let connection = Arc::new(Connection::default());
        let mut adapter = Adapter::new(server, Arc::clone(&connection));
        client.write_all(b"PUT /x HTTP/1.1\r\n\r\n").await.unwrap();
        let mut buf = [0; 256];
        let n = adapter.read(&mut buf).await.unwrap();
        assert_eq!(&buf[..n], b"PUT /x HTTP/1.1\r\n\r\n");
        let guard = connection.begin_for_test();
        let body = b"POST /exec/a/start HTTP/1.1\r\n\r\n";
        client.write_all(body).await.unwrap();
        let n = adapter.read(&mut buf).await.unwrap();
        assert_eq!(&buf[..n], body);
        drop(guard);
        client.write_all(body).await.unwrap();
        let n = adapter.read(&mut buf).await.unwrap();
        assert!(String::from_utf8_lossy(&buf[..n]).contains(MARKER));
    }

    #[tokio::test]
    async fn the_status_line_is_rewritten_once() {
        let (mut client, server) = tokio::io::duplex(16);
        let connection = Arc::new(Connection::default());
        let mut adapter = Adapter::new(server, Arc::clone(&connection));
        connection.answer_raw();
        let head =
            b"HTTP/1.1 101 Switching Protocols\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";
        let reader = tokio::spawn(async move {
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            text
        });
        adapter.write_all(head).await.unwrap();
        adapter.write_all(b"HTTP/1.1 101 raw bytes").await.unwrap();
        adapter.shutdown().await.unwrap();
        drop(adapter);
        assert_eq!(
            reader.await.unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nHTTP/1.1 101 raw bytes"
        );
    }
}
