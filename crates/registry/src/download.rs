//! Files from the web: what `docker import` of a URL fetches (source: moby
//! `daemon/builder/remotecontext/remote.go`, `GetWithStatusError`).

use crate::{
    Error, Registry, TransportError,
    transport::{Answer, Outgoing},
    url::Url,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::io;
use wharf_spec::ErrorKind;

/// The most that is read of an error's body.
const ERROR_MAX: usize = 64 << 10;

/// A file under way.
pub struct Download {
    /// Its length, if the server says so.
    pub length: Option<u64>,
    /// What the server calls it, by `Content-Disposition`.
    pub name: Option<String>,
    /// `Last-Modified`, as written.
    pub modified: String,
    /// `Content-Type`, as written.
    pub content_type: String,
    body: Incoming,
}

impl Download {
    /// Its bytes.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        self.body.into_data_stream().map(|piece| piece.map_err(io::Error::other))
    }
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// Nobody to ask, or no answer.
    #[error(transparent)]
    Request(#[from] Error),
    /// An address that is not of the web.
    #[error("Get {url:?}: unsupported protocol scheme {scheme:?}")]
    Scheme {
        /// The address.
        url: String,
        /// What it begins with.
        scheme: String,
    },
    /// The server refuses.
    #[error("failed to GET {url} with status {status}: {body}")]
    Status {
        /// The address.
        url: String,
        /// Number and words.
        status: StatusCode,
        /// What the server says to it.
        body: String,
    },
}

impl DownloadError {
    /// The class of the error for a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request(Error::Transport { source: TransportError::Lookup { .. }, .. }) => {
                ErrorKind::NotFound
            }
            Self::Request(_) | Self::Scheme { .. } => ErrorKind::System,
            Self::Status { status, .. } => match *status {
                StatusCode::NOT_FOUND => ErrorKind::NotFound,
                StatusCode::BAD_REQUEST => ErrorKind::InvalidArgument,
                StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
                StatusCode::FORBIDDEN => ErrorKind::Forbidden,
                _ => ErrorKind::System,
            },
        }
    }
}

impl Registry {
    /// Fetches a file of any server, following redirects. No credentials are sent.
    ///
    /// # Errors
    /// When there is no answer, or one of status 400 and up.
    pub async fn download(&self, url: &str) -> Result<Download, DownloadError> {
        let scheme = url.split("://").next().unwrap_or_default();
        if !matches!(scheme, "http" | "https") {
            return Err(DownloadError::Scheme { url: url.to_owned(), scheme: scheme.to_owned() });
        }
        let parsed: Url = url.parse()?;
        let mut outgoing = Outgoing::new(Method::GET, parsed);
        let answer = self.inner.transport.fetch(&mut outgoing, None).await?;
        if answer.status().as_u16() >= 400 {
            return Err(refusal(url, answer).await);
        }
        let length = answer.header(header::CONTENT_LENGTH).parse().ok();
        let name = file_name(answer.header(header::CONTENT_DISPOSITION));
        let modified = answer.header(header::LAST_MODIFIED).to_owned();
        let content_type = answer.header(header::CONTENT_TYPE).to_owned();
        Ok(Download { length, name, modified, content_type, body: answer.response.into_body() })
    }
}

/// The parameter `filename` of a disposition (RFC 6266).
fn file_name(disposition: &str) -> Option<String> {
    let parameter = disposition.split(';').map(str::trim).find_map(|part| part.strip_prefix("filename="))?;
    let name = parameter.trim_matches('"').rsplit('/').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

async fn refusal(url: &str, answer: Answer) -> DownloadError {
    let status = answer.status();
    let body = answer.bytes(ERROR_MAX).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).trim().to_owned();
    DownloadError::Status { url: url.to_owned(), status, body }
}
