//! What goes wrong between us and a registry, in Docker's words.
//!
//! Source: distribution `registry/api/errcode`, `registry/client/errors.go`; moby
//! `daemon/internal/distribution/errors.go`.

use crate::url::Url;
use serde::Deserialize;
use std::{fmt, io};
use wharf_spec::{Digest, ErrorKind, ImageRef, ParseManifestError};

/// An error of the registry client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer came at all.
    #[error("{method} \"{url}\": {source}")]
    Transport {
        /// As Go writes it: `Get`, `Head`.
        method: String,
        /// Where to.
        url: String,
        /// Why not.
        source: TransportError,
    },
    /// The registry answered with an error in the protocol's form.
    #[error("{}", ApiError::list(.0))]
    Api(Vec<ApiError>),
    /// An error status outside 400 to 499.
    #[error("received unexpected HTTP status: {0}")]
    Status(http::StatusCode),
    /// A client error whose body could not be understood.
    #[error("error parsing HTTP {status} response body: {reason}: {body:?}")]
    Unparsed {
        /// The status.
        status: u16,
        /// What is wrong with the body.
        reason: String,
        /// The beginning of the body.
        body: String,
    },
    /// The image may not be read, or does not exist.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {source}"
    )]
    PullDenied {
        /// Familiar name.
        repository: String,
        /// The registry's words.
        source: ApiError,
    },
    /// There is no such tag or digest.
    #[error("manifest for {image} not found: {source}")]
    ManifestNotFound {
        /// Familiar string.
        image: String,
        /// The registry's words.
        source: ApiError,
    },
    /// There is no such repository.
    #[error("repository {repository} not found: {source}")]
    RepositoryNotFound {
        /// Familiar name.
        repository: String,
        /// The registry's words.
        source: ApiError,
    },
    /// The demand for authentication could not be met, so that the request was never sent.
    #[error("{method} \"{url}\": {source}")]
    Auth {
        /// As Go writes it: `Get`, `Head`.
        method: String,
        /// Where to.
        url: String,
        /// Why not.
        source: Box<Error>,
    },
    /// The registry asks for a name and password and there are none.
    #[error("no basic auth credentials")]
    NoCredentials,
    /// The token server sent no token.
    #[error("authorization server did not include a token in the response")]
    NoToken,
    /// The registry's demand for authentication cannot be met.
    #[error("invalid token auth challenge realm: {0}")]
    Realm(String),
    /// The token server's answer is malformed.
    #[error("unable to decode token response: {0}")]
    TokenResponse(serde_json::Error),
    /// A manifest is malformed.
    #[error(transparent)]
    Manifest(#[from] ParseManifestError),
    /// A manifest is not the one that was asked for.
    #[error("manifest verification failed for digest {0}")]
    ManifestDigest(Digest),
    /// A blob is not the one that was asked for.
    #[error("filesystem layer verification failed for digest {0}")]
    BlobDigest(Digest),
    /// A config is not the one that was asked for.
    #[error("image config verification failed for digest {0}")]
    ConfigDigest(Digest),
    /// The config of an image could not be fetched.
    #[error("error pulling image configuration: {source}")]
    Config {
        /// Why.
        source: Box<Error>,
    },
    /// Trying again did not help, or would not.
    #[error("download failed after attempts={attempts}: {source}")]
    Attempts {
        /// How often it was tried, counted as moby does.
        attempts: u32,
        /// Why the last one failed.
        source: Box<Error>,
    },
    /// More bytes than the descriptor promised, or fewer.
    #[error("blob {digest} has {found} bytes, its descriptor says {expected}")]
    BlobSize {
        /// Which.
        digest: Digest,
        /// In the descriptor.
        expected: u64,
        /// Received, at least.
        found: u64,
    },
    /// Larger than we take.
    #[error("response to {url} exceeds the limit of {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// Bytes.
        limit: usize,
    },
    /// The answer lacks something or has something that is nonsense.
    #[error("unexpected response to {url}: {reason}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// An address that is none.
    #[error("invalid URL {0:?}")]
    Url(String),
    /// More than ten redirects.
    #[error("{method} \"{url}\": stopped after 10 redirects")]
    Redirects {
        /// As Go writes it.
        method: String,
        /// The last one.
        url: String,
    },
    /// A redirect from an encrypted to a plain connection.
    #[error("refusing the redirect from https to {0}")]
    Downgrade(String),
    /// Reading what is to be uploaded failed.
    #[error("error reading content to upload: {0}")]
    Source(#[source] io::Error),
    /// The name has no registry (see [`ImageRef::domain`]).
    #[error("no endpoints found for {0}")]
    NoEndpoint(String),
    /// `scratch` is no image.
    #[error("'{0}' is a reserved name")]
    ReservedName(String),
    /// Uploading failed. Told without the request that it befell (moby: `retryOnError`).
    #[error("{}", .0.reason())]
    Upload(Box<Error>),
    /// Trust roots, client certificates or keys could not be read.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
}

impl Error {
    /// What the error means to a client of the Engine API.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::PullDenied { .. } | Self::ManifestNotFound { .. } | Self::RepositoryNotFound { .. } => {
                ErrorKind::NotFound
            }
            Self::Api(errors) => errors.first().map_or(ErrorKind::System, ApiError::kind),
            Self::ReservedName(_) => ErrorKind::Forbidden,
            Self::Manifest(error) => error.kind(),
            Self::Upload(error) => error.kind(),
            Self::Auth { .. }
            | Self::NoCredentials
            | Self::Transport { .. }
            | Self::Status(_)
            | Self::Unparsed { .. }
            | Self::NoToken
            | Self::Realm(_)
            | Self::TokenResponse(_)
            | Self::ManifestDigest(_)
            | Self::BlobDigest(_)
            | Self::ConfigDigest(_)
            | Self::Config { .. }
            | Self::Attempts { .. }
            | Self::BlobSize { .. }
            | Self::TooLarge { .. }
            | Self::Protocol { .. }
            | Self::Url(_)
            | Self::Redirects { .. }
            | Self::Downgrade(_)
            | Self::Source(_)
            | Self::NoEndpoint(_)
            | Self::Tls(_) => ErrorKind::System,
        }
    }

    /// The error with the name of the image it is about (moby: `translatePullError`).
    pub fn about(self, image: &ImageRef) -> Self {
        let Self::Api(errors) = self else { return self };
        let Some(first) = errors.first().cloned() else { return Self::Api(errors) };
        match first.code.as_str() {
            "DENIED" => Self::PullDenied { repository: image.familiar_name(), source: first },
            "MANIFEST_UNKNOWN" => Self::ManifestNotFound { image: image.familiar_string(), source: first },
            "NAME_UNKNOWN" => Self::RepositoryNotFound { repository: image.familiar_name(), source: first },
            _ => Self::Api(errors),
        }
    }

    /// Whether another endpoint may do better (moby: `continueOnError`). `mirror` is whether the one that
    /// failed is a mirror, whose every word is doubted.
    pub(crate) fn lets_next_endpoint_try(&self, mirror: bool) -> bool {
        match self {
            Self::Api(errors) => mirror || errors.is_empty(),
            Self::Manifest(_) | Self::Source(_) | Self::Config { .. } => mirror,
            Self::Upload(error) => error.lets_next_endpoint_try(mirror),
            _ => true,
        }
    }

    /// Whether the same request may succeed later (moby: `retryOnError`).
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Transport { source, .. } => !matches!(source, TransportError::Certificate(_)),
            Self::Status(status) => status.is_server_error(),
            _ => false,
        }
    }

    /// Whether an upload may succeed when it is tried again (moby: `retryOnError`).
    pub fn upload_may_pass(&self) -> bool {
        const FINAL: [&str; 5] = ["UNAUTHORIZED", "UNSUPPORTED", "DENIED", "TOOMANYREQUESTS", "NAME_UNKNOWN"];
        match self {
            Self::Api(errors) => errors.first().is_none_or(|first| !FINAL.contains(&first.code.as_str())),
            Self::Unparsed { .. } | Self::Protocol { .. } => true,
            _ => self.is_passing(),
        }
    }

    /// Whether the registry says that it does not know who asks.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Api(errors) if errors.first().is_some_and(|e| e.code == "UNAUTHORIZED"))
    }

    /// What went wrong, without the request.
    fn reason(&self) -> String {
        match self {
            Self::Auth { source, .. } => source.reason(),
            Self::Transport { source, .. } => source.to_string(),
            other => other.to_string(),
        }
    }

    /// Whether the other side spoke HTTP, so that it need not be tried without encryption.
    pub(crate) fn proves_transport(&self) -> bool {
        match self {
            Self::Upload(error) => error.proves_transport(),
            other => !matches!(other, Self::Transport { .. } | Self::Tls(_) | Self::Url(_)),
        }
    }

    pub(crate) fn transport(method: &http::Method, url: &Url, source: TransportError) -> Self {
        Self::Transport { method: go_method(method), url: url.to_string(), source }
    }

    pub(crate) fn protocol(url: &Url, reason: impl Into<String>) -> Self {
        Self::Protocol { url: url.to_string(), reason: reason.into() }
    }
}

/// `GET` as Go's `url.Error` writes it: `Get`.
pub(crate) fn go_method(method: &http::Method) -> String {
    let name = method.as_str();
    name.chars().take(1).chain(name.chars().skip(1).map(|c| c.to_ascii_lowercase())).collect()
}

/// Why no answer came, in the words of Go's `net` and `crypto/tls`.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The name of the host is not known.
    #[error("dial tcp: lookup {host}: {reason}")]
    Lookup {
        /// The name.
        host: String,
        /// Such as `no such host`.
        reason: String,
    },
    /// No connection.
    #[error("dial tcp {address}: {}", go_io_error(.source, "connect: "))]
    Connect {
        /// Address and port.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// What answered does not speak TLS.
    #[error("http: server gave HTTP response to HTTPS client")]
    NotTls,
    /// The certificate is not trusted.
    #[error("tls: failed to verify certificate: x509: {0}")]
    Certificate(String),
    /// Another failure of the handshake.
    #[error("remote error: tls: {0}")]
    Handshake(String),
    /// The connection broke.
    #[error("{}", go_io_error(.0, ""))]
    Io(#[source] io::Error),
    /// Not HTTP, or HTTP cut short.
    #[error("{}", http_reason(.0))]
    Http(#[source] hyper::Error),
    /// Nothing for too long.
    #[error("net/http: timeout awaiting response headers")]
    Timeout,
    /// The connection stood, but no more bytes came.
    #[error("read: i/o timeout")]
    Stalled,
}

/// In Go's words, where a message was cut short: in its head or in its body.
fn http_reason(error: &hyper::Error) -> String {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    let is_cut = source.is_some_and(|source| source.kind() == std::io::ErrorKind::UnexpectedEof);
    if is_cut || error.is_incomplete_message() { "unexpected EOF".to_owned() } else { error.to_string() }
}

/// An `io::Error` as Go prints it: without number, in lower case, `i/o timeout` for timeouts.
fn go_io_error(error: &io::Error, prefix: &str) -> String {
    if error.kind() == io::ErrorKind::TimedOut {
        return "i/o timeout".to_owned();
    }
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    let prefix = if error.raw_os_error().is_some() { prefix } else { "" };
    format!("{prefix}{}{}", first.map(String::from).unwrap_or_default(), chars.as_str())
}

/// One error in a registry's answer (source: OCI distribution-spec, "Error Codes").
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ApiError {
    /// Such as `MANIFEST_UNKNOWN`; `UNKNOWN` for codes that are not the protocol's.
    pub code: String,
    /// Its words, or the protocol's for that code.
    pub message: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.to_lowercase().replace('_', " "), self.message)
    }
}

/// Codes and the words they have where the registry brings none.
const CODES: [(&str, &str); 18] = [
    ("UNKNOWN", "unknown error"),
    ("UNSUPPORTED", "The operation is unsupported."),
    ("UNAUTHORIZED", "authentication required"),
    ("DENIED", "requested access to the resource is denied"),
    ("UNAVAILABLE", "service unavailable"),
    ("TOOMANYREQUESTS", "too many requests"),
    ("DIGEST_INVALID", "provided digest did not match uploaded content"),
    ("SIZE_INVALID", "provided length did not match content length"),
    ("NAME_INVALID", "invalid repository name"),
    ("TAG_INVALID", "manifest tag did not match URI"),
    ("NAME_UNKNOWN", "repository name not known to registry"),
    ("MANIFEST_UNKNOWN", "manifest unknown"),
    ("MANIFEST_INVALID", "manifest invalid"),
    ("MANIFEST_UNVERIFIED", "manifest failed signature verification"),
    ("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"),
    ("BLOB_UNKNOWN", "blob unknown to registry"),
    ("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"),
    ("BLOB_UPLOAD_INVALID", "blob upload invalid"),
];

impl ApiError {
    /// An error of this code. Unknown codes become `UNKNOWN`, an empty message the protocol's own.
    pub fn new(code: &str, message: &str) -> Self {
        let (code, words) = CODES.iter().find(|(known, _)| *known == code).unwrap_or(&CODES[0]);
        let message = if message.is_empty() { words } else { message };
        Self { code: (*code).to_owned(), message: message.chars().take(MESSAGE_MAX).collect() }
    }

    fn list(errors: &[Self]) -> String {
        match errors {
            [one] => one.to_string(),
            all => all.iter().fold("errors:\n".to_owned(), |text, error| format!("{text}{error}\n")),
        }
    }

    fn kind(&self) -> ErrorKind {
        match self.code.as_str() {
            "UNAUTHORIZED" => ErrorKind::Unauthorized,
            "DENIED" | "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" => ErrorKind::NotFound,
            _ => ErrorKind::System,
        }
    }
}

/// A registry's words are shown to users, in logs and in JSON: not by the megabyte.
const MESSAGE_MAX: usize = 4096;

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    errors: Option<Vec<EnvelopeError>>,
    #[serde(default)]
    details: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct EnvelopeError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The error in an answer of status 400 to 499 (Go: `parseHTTPErrorResponse`).
pub(crate) fn error_of_response(status: http::StatusCode, content_type: &str, body: &[u8]) -> Error {
    if !status.is_client_error() {
        return Error::Status(status);
    }
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if kind != "application/json" && kind != "application/vnd.api+json" {
        return Error::Api(vec![plain_error(status, &String::from_utf8_lossy(body))]);
    }
    let unparsed = |reason: String| {
        if status == http::StatusCode::UNAUTHORIZED {
            return Error::Api(vec![ApiError::new("UNAUTHORIZED", "")]);
        }
        let body = String::from_utf8_lossy(body).chars().take(MESSAGE_MAX).collect();
        Error::Unparsed { status: status.as_u16(), reason, body }
    };
    let envelope: Envelope = match serde_json::from_slice(body) {
        Ok(envelope) => envelope,
        Err(error) => return unparsed(error.to_string()),
    };
    if let Some(serde_json::Value::String(details)) = &envelope.details
        && !details.is_empty()
    {
        return Error::Api(vec![plain_error(status, details)]);
    }
    match envelope.errors {
        Some(errors) if !errors.is_empty() => {
            Error::Api(errors.iter().take(16).map(|e| ApiError::new(&e.code, &e.message)).collect())
        }
        _ => unparsed("no error details found in HTTP response body".to_owned()),
    }
}

fn plain_error(status: http::StatusCode, text: &str) -> ApiError {
    let code = match status {
        http::StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
        http::StatusCode::FORBIDDEN => "DENIED",
        http::StatusCode::TOO_MANY_REQUESTS => "TOOMANYREQUESTS",
        _ => "UNKNOWN",
    };
    ApiError::new(code, text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, kind: &str, body: &str) -> Error {
        error_of_response(http::StatusCode::from_u16(status).unwrap(), kind, body.as_bytes())
    }

    #[test]
    fn texts_are_dockers() {
        let image: ImageRef = "127.0.0.1:5000/x:y".parse().unwrap();
        let json = |code: &str, message: &str| {
            format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#)
        };
        let error =
            response(404, "application/json; charset=utf-8", &json("MANIFEST_UNKNOWN", "manifest unknown"));
        let error = error.about(&image);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(
            error.to_string(),
            "manifest for 127.0.0.1:5000/x:y not found: manifest unknown: manifest unknown"
        );
        let error = response(401, "application/json", &json("DENIED", "")).about(&"x".parse().unwrap());
        assert_eq!(
            error.to_string(),
            "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
        );
        let error = response(404, "application/json", &json("NAME_UNKNOWN", "n")).about(&image);
        assert_eq!(error.to_string(), "repository 127.0.0.1:5000/x not found: name unknown: n");
    }

    #[test]
    fn odd_answers_are_told() {
        assert_eq!(response(502, "", "").to_string(), "received unexpected HTTP status: 502 Bad Gateway");
        assert_eq!(response(429, "text/plain", "slow down\n").to_string(), "toomanyrequests: slow down");
        assert_eq!(
            response(401, "application/json", "{}").to_string(),
            "unauthorized: authentication required"
        );
        assert_eq!(response(403, "application/json", r#"{"details":"no"}"#).to_string(), "denied: no");
        assert!(
            response(404, "application/json", "<html>").to_string().starts_with("error parsing HTTP 404")
        );
        assert_eq!(
            response(404, "application/json", "{}").to_string(),
            "error parsing HTTP 404 response body: no error details found in HTTP response body: \"{}\""
        );
    }

    #[test]
    fn refused_connections_read_as_in_go() {
        let source = TransportError::Connect {
            address: "127.0.0.1:5000".to_owned(),
            source: io::Error::from_raw_os_error(111),
        };
        let url = "http://127.0.0.1:5000/v2/".parse::<Url>().unwrap();
        let error = Error::transport(&http::Method::GET, &url, source);
        assert_eq!(
            error.to_string(),
            "Get \"http://127.0.0.1:5000/v2/\": dial tcp 127.0.0.1:5000: connect: connection refused"
        );
    }
}
