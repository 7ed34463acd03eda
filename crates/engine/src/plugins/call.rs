//! One call of a plugin: a POST with JSON, and JSON back (source: moby `pkg/plugins/client.go`).

use super::Address;
use crate::{Error, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    io,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

const ACCEPT: &str = "application/vnd.docker.plugins.v1.2+json";
/// A plugin is trusted, but not to fill the memory.
const LONGEST_ANSWER: usize = 16 << 20;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How long a plugin is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until nobody is called again who did not listen.
    pub(super) in_all: Duration,
    /// For one answer.
    pub(super) answer: Duration,
}

/// Calls a method. What cannot be reached is called again after 1, 2, 4, 8 ... seconds.
///
/// # Errors
/// As [`super::Plugin::call`].
pub(super) async fn call<T: DeserializeOwned>(
    address: &Address,
    method: &str,
    body: Option<Vec<u8>>,
    patience: Patience,
) -> Result<T> {
    let (body, begun) = (Bytes::from(body.unwrap_or_default()), Instant::now());
    let mut pause = FIRST_PAUSE;
    loop {
        match tokio::time::timeout(patience.answer, post(address, method, body.clone())).await {
            Ok(Ok((status, answer))) => return read(method, status, &answer),
            Err(_) => return Err(unreachable(address, method, "context deadline exceeded")),
            Ok(Err(error)) if begun.elapsed() + pause >= patience.in_all => {
                return Err(unreachable(address, method, &words(address, &error)));
            }
            Ok(Err(error)) => tracing::warn!(method, %error, "unable to connect to plugin, trying again"),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

fn unreachable(address: &Address, method: &str, why: &str) -> Error {
    Error::Refused(format!("Post \"http://{}/{method}\": {why}", address.host()))
}

/// Go's words for a socket that nobody listens at.
fn words(address: &Address, error: &io::Error) -> String {
    let why = wharf_sys::io_text(error);
    match address {
        Address::Unix(path) => format!("dial unix {}: connect: {why}", path.display()),
        Address::Tcp(address) => format!("dial tcp {address}: connect: {why}"),
    }
}

async fn post(address: &Address, method: &str, body: Bytes) -> io::Result<(u16, Bytes)> {
    match address {
        Address::Unix(path) => exchange(UnixStream::connect(path).await?, address, method, body).await,
        Address::Tcp(to) => exchange(TcpStream::connect(to).await?, address, method, body).await,
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: &Address,
    method: &str,
    body: Bytes,
) -> io::Result<(u16, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("/{method}"))
        .header(header::HOST, address.host())
        .header(header::ACCEPT, ACCEPT)
        .body(Full::new(body))
        .map_err(io::Error::other)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status().as_u16();
        let body =
            Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await.map_err(io::Error::other)?;
        Ok((status, body.to_bytes()))
    };
    let answer = answer.await;
    connection.abort();
    answer
}

/// What a plugin answers besides its own fields.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Failure {
    err: String,
}

fn read<T: DeserializeOwned>(method: &str, status: u16, answer: &[u8]) -> Result<T> {
    let failure: Failure = serde_json::from_slice(answer).unwrap_or_default();
    if status != 200 {
        let said = String::from_utf8_lossy(answer);
        let why = if failure.err.is_empty() { said.trim_end() } else { failure.err.as_str() };
        return Err(Error::Refused(format!("{method}: {why}")));
    }
    if !failure.err.is_empty() {
        return Err(Error::Refused(failure.err));
    }
    serde_json::from_slice(answer).map_err(|error| Error::Refused(format!("{method}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    const SHORT: Patience = Patience { in_all: Duration::ZERO, answer: Duration::from_millis(50) };

    async fn called(answer: Option<&'static str>) -> Result<serde_json::Value> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                None => std::future::pending().await,
            }
            request
        });
        let patience =
            if answer.is_some() { Patience { answer: Duration::from_secs(30), ..SHORT } } else { SHORT };
        let called = call(&Address::Unix(path), "Sub.Do", Some(b"{}".to_vec()), patience).await;
        if answer.is_some() {
            let request = server.await.unwrap();
            assert!(
                request.starts_with("POST /Sub.Do HTTP/1.1\r\nhost: plugin.moby.localhost\r\n"),
                "{request}"
            );
        }
        called
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn answers_are_read_and_errors_told() {
        runtime().block_on(async {
            let good = called(Some("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"A\":1}")).await.unwrap();
            assert_eq!(good["A"], 1);
            let own = called(Some("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"Err\":\"no\"}")).await;
            assert_eq!(own.unwrap_err().to_string(), "no");
            let bad = called(Some("HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\nwhat\n")).await;
            assert_eq!(bad.unwrap_err().to_string(), "Sub.Do: what");
            let nonsense = called(Some("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n[")).await;
            assert!(nonsense.unwrap_err().to_string().starts_with("Sub.Do: EOF"));
        });
    }

    #[test]
    fn who_does_not_answer_or_listen_is_given_up() {
        runtime().block_on(async {
            let late = called(None).await.unwrap_err().to_string();
            assert_eq!(late, "Post \"http://plugin.moby.localhost/Sub.Do\": context deadline exceeded");
            let nobody = Address::Unix("/nosuch/p.sock".into());
            let error = call::<serde_json::Value>(&nobody, "A.B", None, SHORT).await.unwrap_err().to_string();
            assert_eq!(
                error,
                "Post \"http://plugin.moby.localhost/A.B\": dial unix /nosuch/p.sock: connect: no such file or directory"
            );
        });
    }
}
