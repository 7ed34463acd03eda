//! A small HTTP client on a unix socket: it says exactly what a test wants said, wrong things included.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// A daemon's API.
#[derive(Debug, Clone)]
pub struct Api {
    socket: PathBuf,
    version: String,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, with any chunking taken off.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The `message` of an error body.
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Api {
    /// The API on this socket, called at this version (`v1.47`), or without one when empty.
    pub fn new(socket: impl Into<PathBuf>, version: &str) -> Self {
        Self { socket: socket.into(), version: version.into() }
    }

    /// The same at another version.
    #[must_use]
    pub fn at(&self, version: &str) -> Self {
        Self::new(&self.socket, version)
    }

    /// Without a body.
    ///
    /// # Errors
    /// When there is no HTTP answer.
    pub fn call(&self, method: &str, path: &str) -> Result<Response> {
        self.send(method, path, "", &[])
    }

    /// With a JSON body.
    ///
    /// # Errors
    /// When there is no HTTP answer.
    pub fn json(&self, method: &str, path: &str, body: &Value) -> Result<Response> {
        self.send(method, path, "application/json", &serde_json::to_vec(body)?)
    }

    /// With any body.
    ///
    /// # Errors
    /// When there is no HTTP answer.
    pub fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Result<Response> {
        self.request(method, path, content_type, &[], body)
    }

    /// With any body and more headers.
    ///
    /// # Errors
    /// When there is no HTTP answer.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        let mut stream =
            UnixStream::connect(&self.socket).with_context(|| self.socket.display().to_string())?;
        let mut head = self.head(method, path, content_type, body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        stream.write_all(head.as_bytes())?;
        // A daemon that refuses early may close its reading side: its answer is what counts.
        let _ = stream.write_all(body);
        read_response(BufReader::new(stream), method)
    }

    /// With a JSON body, for an answer whose connection becomes a stream of bytes. What does not come within 30
    /// seconds is an error of the stream.
    ///
    /// # Errors
    /// When the answer is another one.
    pub fn hijack(&self, path: &str, body: &Value) -> Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let body = serde_json::to_vec(body)?;
        let head = self.head("POST", path, "application/json", body.len());
        let head = head.replace("Connection: close", "Connection: Upgrade\r\nUpgrade: tcp");
        stream.write_all(head.as_bytes())?;
        stream.write_all(b"\r\n")?;
        stream.write_all(&body)?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).context("no HTTP answer")?;
            answer.push(byte[0]);
        }
        if !answer.starts_with(b"HTTP/1.1 101 ") {
            let mut rest = String::new();
            let _ = stream.read_to_string(&mut rest);
            bail!("{}{rest}", String::from_utf8_lossy(&answer));
        }
        Ok(stream)
    }

    fn head(&self, method: &str, path: &str, content_type: &str, length: usize) -> String {
        let prefix = if self.version.is_empty() { String::new() } else { format!("/{}", self.version) };
        let mut head = format!("{method} {prefix}{path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n");
        if !content_type.is_empty() {
            head += &format!("Content-Type: {content_type}\r\n");
        }
        if length > 0 || !content_type.is_empty() {
            head += &format!("Content-Length: {length}\r\n");
        }
        head
    }
}

fn read_response(mut reader: BufReader<UnixStream>, method: &str) -> Result<Response> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status =
        line.split(' ').nth(1).and_then(|s| s.parse().ok()).with_context(|| format!("no HTTP: {line:?}"))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response { status, headers, body: Vec::new() };
    if method == "HEAD" {
        return Ok(response);
    }
    if response.header("transfer-encoding") == Some("chunked") {
        read_chunks(&mut reader, &mut response.body)?;
    } else if let Some(length) = response.header("content-length") {
        let length: u64 = length.parse()?;
        reader.take(length).read_to_end(&mut response.body)?;
    } else if !matches!(status, 204 | 304) {
        reader.read_to_end(&mut response.body)?;
    }
    Ok(response)
}

fn read_chunks(reader: &mut BufReader<UnixStream>, body: &mut Vec<u8>) -> Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).with_context(|| format!("chunk size {line:?}"))?;
        if reader.take(size).read_to_end(body)? as u64 != size {
            bail!("a chunk was cut short");
        }
        reader.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(());
        }
    }
}
