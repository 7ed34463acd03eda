//! Connections: dial, encrypt, keep alive, send one request and follow where it leads.

use crate::{Endpoint, Error, TransportError, endpoint::Scheme, error::go_method, tls::Trust, url::Url};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// The body of a request.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// No body.
pub fn empty_body() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is all there.
pub fn full_body(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes bit by bit.
pub fn stream_body<S>(stream: S) -> Body
where
    S: futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    use futures_util::StreamExt;
    BodyExt::boxed_unsync(StreamBody::new(stream.map(|chunk| chunk.map(http_body::Frame::data))))
}

/// What is sent along. A stream can be sent once only: neither redirects nor retries are followed with it.
pub(crate) enum Payload {
    Empty,
    Bytes(Bytes),
    Stream(Body),
}

impl Payload {
    fn take(&mut self) -> Body {
        match self {
            Self::Empty => empty_body(),
            Self::Bytes(bytes) => full_body(bytes.clone()),
            Self::Stream(stream) => std::mem::replace(stream, empty_body()),
        }
    }

    pub(crate) const fn is_replayable(&self) -> bool {
        !matches!(self, Self::Stream(_))
    }
}

/// A request on its way.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
    /// Certificates are not checked.
    insecure: bool,
    /// The host whose certificates count, wherever redirects and token servers lead.
    certificates_of: String,
    /// How long to wait for the head of the answer.
    pub(crate) patience: Duration,
}

/// How long a registry may take to begin its answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

impl Outgoing {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        let (headers, payload) = (HeaderMap::new(), Payload::Empty);
        let certificates_of = url.authority.clone();
        Self { method, url, headers, payload, insecure: false, certificates_of, patience: PATIENCE }
    }

    /// The same for work with this endpoint: its certificates are used, and whether they are checked is as
    /// configured for it (moby: one `http.Transport` for registry, token server and redirects).
    pub(crate) fn of(mut self, endpoint: &Endpoint) -> Self {
        self.insecure = endpoint.is_insecure();
        endpoint.authority().clone_into(&mut self.certificates_of);
        self
    }
}

/// A credential, and the only origin that may see it.
#[derive(Clone)]
pub(crate) struct Credential {
    pub(crate) origin: Url,
    pub(crate) value: HeaderValue,
}

/// The head of an answer, its body still to come, and where it came from in the end.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) url: Url,
}

impl Answer {
    /// A header as text, empty when missing or not text.
    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The whole body, if it is not longer than `limit` bytes.
    pub(crate) async fn bytes(self, limit: usize) -> Result<Bytes, Error> {
        let url = self.url;
        let collected = http_body_util::Limited::new(self.response.into_body(), limit).collect();
        match timeout(PATIENCE, collected).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => match error.downcast::<hyper::Error>() {
                Ok(error) => Err(Error::transport(&Method::GET, &url, TransportError::Http(*error))),
                Err(_) => Err(Error::TooLarge { url: url.to_string(), limit }),
            },
            Err(_) => Err(Error::transport(&Method::GET, &url, TransportError::Stalled)),
        }
    }
}

/// What makes connections alike: where to, and how they are secured.
type Way = (Scheme, String, bool, String);
type Idle = HashMap<Way, Vec<http1::SendRequest<Body>>>;

/// All connections of a registry client.
pub(crate) struct Transport {
    trust: Arc<Trust>,
    user_agent: HeaderValue,
    idle: Mutex<Idle>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const REDIRECTS_MAX: usize = 10;
/// Idle connections kept for each host.
const IDLE_MAX: usize = 8;

impl Transport {
    pub(crate) fn new(trust: Trust, user_agent: &str) -> Self {
        let user_agent = HeaderValue::from_str(user_agent).unwrap_or(HeaderValue::from_static("wharf"));
        Self { trust: Arc::new(trust), user_agent, idle: Mutex::default() }
    }

    /// Sends a request and follows redirects. The credential goes to its own origin only.
    pub(crate) async fn fetch(
        &self,
        outgoing: &mut Outgoing,
        credential: Option<&Credential>,
    ) -> Result<Answer, Error> {
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.send(outgoing, credential).await?;
            let Some(next) = redirect(&answer, outgoing)? else { return Ok(answer) };
            if answer.url.scheme == Scheme::Https && next.scheme == Scheme::Http && !outgoing.insecure {
                return Err(Error::Downgrade(next.to_string()));
            }
            outgoing.url = next;
        }
        Err(Error::Redirects { method: go_method(&outgoing.method), url: outgoing.url.to_string() })
    }

    async fn send(&self, outgoing: &mut Outgoing, credential: Option<&Credential>) -> Result<Answer, Error> {
        let (url, method) = (outgoing.url.clone(), outgoing.method.clone());
        let failed = |source| Error::transport(&method, &url, source);
        let key = (url.scheme, url.authority.clone(), outgoing.insecure, outgoing.certificates_of.clone());
        let (mut sender, reused) = match self.take_idle(&key) {
            Some(sender) => (sender, true),
            None => (self.connect(&url, &key).await?.map_err(failed)?, false),
        };
        let request = self.request(outgoing, credential)?;
        let mut result = timeout(outgoing.patience, sender.send_request(request)).await;
        // An idle connection may have been closed by the other side just now: that is no failure.
        if reused && outgoing.payload.is_replayable() && matches!(&result, Ok(Err(_))) {
            sender = self.connect(&url, &key).await?.map_err(failed)?;
            let request = self.request(outgoing, credential)?;
            result = timeout(outgoing.patience, sender.send_request(request)).await;
        }
        let response = result.map_err(|_| failed(TransportError::Timeout))?;
        let response = response.map_err(|error| match upload_error(&error) {
            Some(source) => Error::Source(source),
            None => failed(TransportError::Http(error)),
        })?;
        self.keep_idle(key, sender);
        Ok(Answer { response, url })
    }

    fn request(
        &self,
        outgoing: &mut Outgoing,
        credential: Option<&Credential>,
    ) -> Result<Request<Body>, Error> {
        let url = &outgoing.url;
        let target: http::Uri = url.target.parse().map_err(|_| Error::Url(url.to_string()))?;
        let body = outgoing.payload.take();
        let mut request = Request::new(body);
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = target;
        let headers = request.headers_mut();
        headers.extend(outgoing.headers.clone());
        headers.insert(header::HOST, url.authority.parse().map_err(|_| Error::Url(url.to_string()))?);
        headers.insert(header::USER_AGENT, self.user_agent.clone());
        // Layers are compressed already, and their digests are of the bytes as they are.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(credential) = credential.filter(|c| c.origin.same_origin(url)) {
            headers.insert(header::AUTHORIZATION, credential.value.clone());
        }
        Ok(request)
    }

    fn take_idle(&self, key: &Way) -> Option<http1::SendRequest<Body>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = idle.get_mut(key)?;
        senders.retain(|sender| !sender.is_closed());
        let ready = senders.iter().position(http1::SendRequest::is_ready)?;
        Some(senders.swap_remove(ready))
    }

    /// Keeps a connection whose answer may still be under way: it is taken again once that has been read.
    fn keep_idle(&self, key: Way, sender: http1::SendRequest<Body>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = idle.entry(key).or_default();
        senders.retain(|sender| !sender.is_closed());
        if senders.len() < IDLE_MAX {
            senders.push(sender);
        }
    }

    /// The outer error is ours (certificates), the inner one the network's.
    async fn connect(
        &self,
        url: &Url,
        (_, _, insecure, certificates_of): &Way,
    ) -> Result<Result<http1::SendRequest<Body>, TransportError>, Error> {
        let stream = match dial(url).await {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error)),
        };
        if url.scheme == Scheme::Http {
            return Ok(handshake(stream).await);
        }
        let (trust, authority, insecure) = (Arc::clone(&self.trust), certificates_of.clone(), *insecure);
        let config = tokio::task::spawn_blocking(move || trust.config_for(&authority, insecure))
            .await
            .map_err(|error| Error::Source(io::Error::other(error)))??;
        Ok(match encrypt(TlsConnector::from(config), url.host(), stream).await {
            Ok(stream) => handshake(stream).await,
            Err(error) => Err(error),
        })
    }
}

/// Where an answer sends us, if it does and we may go.
fn redirect(answer: &Answer, outgoing: &Outgoing) -> Result<Option<Url>, Error> {
    let reading = matches!(outgoing.method, Method::GET | Method::HEAD);
    let follow = match answer.status() {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => reading,
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => outgoing.payload.is_replayable(),
        _ => false,
    };
    let location = answer.header(header::LOCATION);
    if !follow || location.is_empty() {
        return Ok(None);
    }
    answer.url.join(location).map(Some)
}

/// The error of our own side, when reading what is to be uploaded failed.
fn upload_error(error: &hyper::Error) -> Option<io::Error> {
    let source = std::error::Error::source(error)?.downcast_ref::<io::Error>()?;
    error.is_user().then(|| io::Error::new(source.kind(), source.to_string()))
}

async fn dial(url: &Url) -> Result<TcpStream, TransportError> {
    let lookup = |reason: String| TransportError::Lookup { host: url.host().to_owned(), reason };
    let addresses: Vec<SocketAddr> = match tokio::net::lookup_host((url.host(), url.port())).await {
        Ok(addresses) => addresses.collect(),
        Err(_) => return Err(lookup("no such host".to_owned())),
    };
    let mut last = lookup("no such host".to_owned());
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it small requests wait for the acknowledgement of the last; it never fails here.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(source)) => last = TransportError::Connect { address: address.to_string(), source },
            Err(_) => {
                let source = io::Error::from(io::ErrorKind::TimedOut);
                last = TransportError::Connect { address: address.to_string(), source };
            }
        }
    }
    Err(last)
}

async fn encrypt(
    connector: TlsConnector,
    host: &str,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, TransportError> {
    let name = rustls_pki_types::ServerName::try_from(host.to_owned())
        .map_err(|_| TransportError::Lookup { host: host.to_owned(), reason: "no such host".to_owned() })?;
    match timeout(HANDSHAKE_TIMEOUT, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(tls_error(error)),
        Err(_) => Err(TransportError::Handshake("net/http: TLS handshake timeout".to_owned())),
    }
}

/// What went wrong in a handshake, in Go's words where there are any.
fn tls_error(error: io::Error) -> TransportError {
    use rustls::{CertificateError, Error as Tls};
    let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<Tls>()) else {
        return TransportError::Io(error);
    };
    match tls {
        Tls::InvalidMessage(_) => TransportError::NotTls,
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => {
            TransportError::Certificate("certificate signed by unknown authority".to_owned())
        }
        Tls::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            TransportError::Certificate("certificate has expired or is not yet valid".to_owned())
        }
        Tls::InvalidCertificate(other) => TransportError::Certificate(other.to_string()),
        other => TransportError::Handshake(other.to_string()),
    }
}

/// Starts HTTP on a stream. The connection lives until its sender and the last body are gone.
async fn handshake<S>(stream: S) -> Result<http1::SendRequest<Body>, TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(TransportError::Http)?;
    tokio::spawn(async move {
        // Whoever waits for the answer gets the error; on an idle connection it means nothing.
        let _ = connection.await;
    });
    Ok(sender)
}

/// Also the size of reads: large enough that a gigabyte does not take a million of them.
const HEAD_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");

    /// A server with the test certificate that answers every request with 200.
    async fn tls_server() -> SocketAddr {
        use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        let chain = vec![CertificateDer::from_pem_file(format!("{DATA}/server.crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(format!("{DATA}/server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        });
        address
    }

    async fn get(certs: &Path, address: SocketAddr, insecure: bool) -> Result<StatusCode, Error> {
        let transport = Transport::new(Trust::new(certs.to_owned()), "test");
        let mut outgoing = Outgoing::new(Method::GET, format!("https://{address}/v2/").parse().unwrap());
        outgoing.insecure = insecure;
        transport.fetch(&mut outgoing, None).await.map(|answer| answer.status())
    }

    #[tokio::test]
    async fn certificates_are_checked_unless_told_otherwise() {
        let (address, certs) = (tls_server().await, tempfile::tempdir().unwrap());
        let error = get(certs.path(), address, false).await.unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "Get \"https://{address}/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority"
            )
        );
        assert_eq!(get(certs.path(), address, true).await.unwrap(), 200);
        let own = certs.path().join(address.to_string());
        fs::create_dir(&own).unwrap();
        fs::copy(format!("{DATA}/server.crt"), own.join("ca.crt")).unwrap();
        assert_eq!(get(certs.path(), address, false).await.unwrap(), 200);
        fs::write(own.join("client.cert"), "").unwrap();
        let error = get(certs.path(), address, false).await.unwrap_err().to_string();
        assert!(
            error.starts_with("missing key ") && error.contains("must use the extension .crt"),
            "{error}"
        );
    }
}
