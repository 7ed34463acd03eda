//! The Engine API's client: one connection at a time, JSON in and out, streams and hijacked connections.

mod address;
mod hijack;
mod stream;

pub(crate) use address::{Address, TlsOptions};
pub(crate) use hijack::{Hijacked, Input};
pub(crate) use stream::JsonLines;

use crate::error::{Error, Result};
use address::Connection;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use serde::{Serialize, de::DeserializeOwned};
use std::{cell::RefCell, io, str::FromStr};
use wharf_api::{ErrorResponse, Version, gojson};

/// The newest API this client asks for: the last one whose objects still have the fields of Docker's classic
/// outputs (1.52 drops `NetworkSettings.IPAddress` and others that scripts read).
pub(crate) const API_VERSION: Version = Version(1, 51);

/// The body of a request.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A daemon.
pub(crate) struct Client {
    address: Address,
    version: Version,
    /// What the daemon said of itself with the ping.
    pub(crate) server_os: String,
    /// Headers of every request that the user asked for.
    headers: Vec<(HeaderName, HeaderValue)>,
    idle: RefCell<Vec<SendRequest<Body>>>,
}

/// Parameters of a request.
#[derive(Default)]
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// With one more parameter.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&encode(value));
        self
    }

    /// With one more parameter, unless it is empty.
    pub(crate) fn with_text(self, name: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.with(name, value) }
    }

    /// With `name=1` if it is so.
    pub(crate) fn with_switch(self, name: &str, on: bool) -> Self {
        if on { self.with(name, "1") } else { self }
    }

    /// With filters, if there are any.
    pub(crate) fn with_filters(self, filters: &wharf_api::filters::Filters) -> Self {
        self.with_text("filters", &filters.to_json())
    }
}

/// Percent-encodes a part of a path or query.
pub(crate) fn encode(text: &str) -> String {
    const SET: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(text, &SET).to_string()
}

/// Percent-encodes a name of several parts, whose slashes stay.
pub(crate) fn encode_path(text: &str) -> String {
    const SET: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~')
        .remove(b'/')
        .remove(b':')
        .remove(b'@');
    percent_encoding::utf8_percent_encode(text, &SET).to_string()
}

/// A request.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
    /// Parts of the head that depend on the body.
    content_type: Option<&'static str>,
}

impl Call {
    pub(crate) fn new(method: Method, path: &str, query: Query) -> Self {
        let path = format!("{path}{}", query.0);
        Self { method, path, headers: Vec::new(), body: empty(), content_type: None }
    }

    /// With a JSON body.
    pub(crate) fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Self> {
        let json = gojson::to_vec(value).map_err(|e| Error::text(e.to_string()))?;
        self.body = Full::new(Bytes::from(json)).map_err(|never| match never {}).boxed_unsync();
        self.content_type = Some("application/json");
        Ok(self)
    }

    /// With a tar archive that comes bit by bit.
    pub(crate) fn tar<S>(mut self, stream: S) -> Self
    where
        S: futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        use futures_util::StreamExt;
        let frames = stream.map(|chunk| chunk.map(http_body::Frame::data));
        self.body = BodyExt::boxed_unsync(StreamBody::new(frames));
        self.content_type = Some("application/x-tar");
        self
    }

    /// With one more header, unless it is empty.
    pub(crate) fn header(mut self, name: &'static str, value: String) -> Self {
        if !value.is_empty() {
            self.headers.push((name, value));
        }
        self
    }
}

fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}

impl Client {
    /// Connects and agrees on an API version (`DOCKER_API_VERSION` fixes it).
    pub(crate) async fn connect(address: Address, headers: Vec<(HeaderName, HeaderValue)>) -> Result<Self> {
        let newest = API_VERSION;
        let mut client =
            Self { address, version: newest, server_os: String::new(), headers, idle: RefCell::default() };
        let fixed = std::env::var("DOCKER_API_VERSION").ok().filter(|v| !v.is_empty());
        let call = Call::new(Method::HEAD, "/_ping", Query::new());
        let response = client.send_raw(call, None).await?;
        let text = |name: &str| {
            response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
        };
        client.server_os = text("ostype");
        client.version = match fixed {
            Some(fixed) => {
                Version::from_str(fixed.trim_start_matches('v')).map_err(|e| Error::text(e.to_string()))?
            }
            None => Version::from_str(&text("api-version")).map_or(newest, |theirs| theirs.min(newest)),
        };
        Ok(client)
    }

    /// The API version in use.
    pub(crate) const fn version(&self) -> Version {
        self.version
    }

    /// Whether the daemon knows this version of the API.
    pub(crate) fn knows(&self, major: u32, minor: u32) -> bool {
        self.version >= Version(major, minor)
    }

    /// Sends a request and gives the answer of a status below 400.
    ///
    /// # Errors
    /// When there is no answer or the daemon refuses.
    pub(crate) async fn send(&self, mut call: Call) -> Result<Response<Incoming>> {
        call.path = format!("/v{}{}", self.version, call.path);
        let response = self.send_raw(call, None).await?;
        if response.status().as_u16() < 400 { Ok(response) } else { Err(read_error(response).await) }
    }

    /// Sends a request and reads the JSON answer.
    ///
    /// # Errors
    /// As [`Self::send`], or when the answer is not what it should be.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        let body = self.fetch_raw(call).await?;
        gojson::from_slice(&body).map_err(|e| Error::text(e.to_string()))
    }

    /// Sends a request and reads the answer whole.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub(crate) async fn fetch_raw(&self, call: Call) -> Result<Bytes> {
        let response = self.send(call).await?;
        Ok(response.into_body().collect().await.map_err(broken)?.to_bytes())
    }

    /// GET as JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: Query) -> Result<T> {
        self.fetch(Call::new(Method::GET, path, query)).await
    }

    /// A POST without body whose answer does not matter.
    pub(crate) async fn post(&self, path: &str, query: Query) -> Result<()> {
        self.fetch_raw(Call::new(Method::POST, path, query)).await.map(drop)
    }

    /// A DELETE whose answer does not matter.
    pub(crate) async fn delete(&self, path: &str, query: Query) -> Result<()> {
        self.fetch_raw(Call::new(Method::DELETE, path, query)).await.map(drop)
    }

    /// A request whose connection is ours afterwards, in both directions.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub(crate) async fn hijack(&self, mut call: Call) -> Result<Hijacked> {
        call.path = format!("/v{}{}", self.version, call.path);
        let response = self.send_raw(call, Some("tcp")).await?;
        match response.status().as_u16() {
            101 => Hijacked::of(response).await,
            status if status < 400 => Ok(Hijacked::output_only(response)),
            _ => Err(read_error(response).await),
        }
    }

    async fn send_raw(&self, call: Call, upgrade: Option<&'static str>) -> Result<Response<Incoming>> {
        let request = self.request(call, upgrade)?;
        let mut sender = match self.take_idle() {
            Some(sender) => sender,
            None => self.dial().await?,
        };
        let response = sender.send_request(request).await.map_err(broken)?;
        if upgrade.is_none() {
            self.idle.borrow_mut().push(sender);
        }
        Ok(response)
    }

    fn request(&self, call: Call, upgrade: Option<&'static str>) -> Result<Request<Body>> {
        let mut request = Request::new(call.body);
        *request.method_mut() = call.method;
        *request.uri_mut() =
            call.path.parse().map_err(|_| Error::text(format!("invalid path {:?}", call.path)))?;
        let headers = request.headers_mut();
        headers.extend(self.headers.iter().cloned());
        let text = |value: &str| HeaderValue::from_str(value).map_err(|e| Error::text(e.to_string()));
        headers.insert(header::HOST, text(self.address.host_header())?);
        let agent = concat!("Docker-Client/28.2.2 (linux; wharf/", env!("CARGO_PKG_VERSION"), ")");
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        if let Some(kind) = call.content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if let Some(protocol) = upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
        }
        for (name, value) in call.headers {
            headers.insert(name, text(&value)?);
        }
        Ok(request)
    }

    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|sender| !sender.is_closed());
        let ready = idle.iter().position(SendRequest::is_ready)?;
        Some(idle.swap_remove(ready))
    }

    async fn dial(&self) -> Result<SendRequest<Body>> {
        match self.address.dial().await? {
            Connection::Unix(stream) => handshake(stream).await,
            Connection::Tcp(stream) => handshake(stream).await,
            Connection::Tls(stream) => handshake(*stream).await,
        }
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Body>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let io = hyper_util::rt::TokioIo::new(stream);
    let (sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(broken)?;
    tokio::spawn(async move {
        // Whoever waits for an answer gets the error.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

/// The words for a connection that broke.
fn broken(error: hyper::Error) -> Error {
    if error.is_incomplete_message() {
        return Error::Connect("EOF".to_owned());
    }
    Error::Connect(error.to_string())
}

/// The daemon's words.
async fn read_error(response: Response<Incoming>) -> Error {
    let status = response.status();
    let body = response.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let message = match gojson::from_slice::<ErrorResponse>(&body) {
        Ok(error) if !error.message.is_empty() => error.message,
        _ if body.is_empty() => format!(
            "request returned {status} for API route and version, check if the server supports the requested API version"
        ),
        _ => String::from_utf8_lossy(&body).trim().to_owned(),
    };
    Error::Daemon { status: status.as_u16(), message }
}
