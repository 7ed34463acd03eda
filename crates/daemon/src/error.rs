//! What a handler can fail with, and the HTTP status that says so. The only place where kinds of errors
//! become status codes (source: moby `daemon/server/httpstatus/status.go`).

use http::StatusCode;
use wharf_spec::ErrorKind;

/// The result of a handler.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed request. The text is what the client sees.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] wharf_engine::Error),
    /// A text of the request could not be read.
    #[error(transparent)]
    Api(#[from] wharf_api::Error),
    /// Something wrong with the request as such, or an endpoint that always answers the same.
    #[error("{message}")]
    Request {
        /// What it means.
        kind: ErrorKind,
        /// The text.
        message: String,
    },
    /// The request's body could not be received.
    #[error("read request body: {0}")]
    Body(#[source] hyper::Error),
    /// An answer could not be written as JSON.
    #[error("encode answer: {0}")]
    Encode(#[source] serde_json::Error),
    /// An answer could not be put together.
    #[error("build answer: {0}")]
    Http(#[from] http::Error),
    /// The handler panicked.
    #[error("internal error: the handler of this request panicked")]
    Panicked,
}

impl Error {
    /// An error of this kind with this text.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Request { kind, message: message.into() }
    }

    /// The request is wrong.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// What it means.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Engine(e) => e.kind(),
            Self::Api(e) => e.kind(),
            Self::Request { kind, .. } => *kind,
            Self::Body(_) => ErrorKind::InvalidArgument,
            Self::Encode(_) | Self::Http(_) | Self::Panicked => ErrorKind::System,
        }
    }

    /// The status code that says so.
    pub(crate) fn status(&self) -> StatusCode {
        match self.kind() {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
            ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            ErrorKind::Cancelled | ErrorKind::System => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
