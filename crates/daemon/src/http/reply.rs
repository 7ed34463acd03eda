//! Answers of handlers.

use super::body::Body;
use crate::error::{Error, Result};
use bytes::Bytes;
use futures_util::stream::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use std::io;
use wharf_api::{ErrorResponse, gojson};

/// An answer.
pub(crate) type Reply = Response<Body>;

/// A JSON answer (source: moby `httputils.WriteJSON`).
///
/// # Errors
/// When the value cannot be written as JSON.
pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Result<Reply> {
    let text = gojson::to_vec(value).map_err(Error::Encode)?;
    Ok(with_type(status, "application/json", Body::full(text)))
}

/// A JSON answer with status 200.
///
/// # Errors
/// As [`json`].
pub(crate) fn ok<T: Serialize + ?Sized>(value: &T) -> Result<Reply> {
    json(StatusCode::OK, value)
}

/// An answer without body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = status;
    reply
}

/// 204.
pub(crate) fn no_content() -> Reply {
    empty(StatusCode::NO_CONTENT)
}

/// Status 200 and a body that goes out as it comes.
pub(crate) fn stream<S>(content_type: &'static str, stream: S) -> Reply
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    with_type(StatusCode::OK, content_type, Body::stream(stream))
}

/// An answer with a content type.
pub(crate) fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// The answer to a failed request. 304 has no body, as Go's server sends none.
pub(crate) fn error(status: StatusCode, message: String) -> Reply {
    if status == StatusCode::NOT_MODIFIED {
        return empty(status);
    }
    let text = gojson::to_vec(&ErrorResponse { message }).unwrap_or_default();
    with_type(status, "application/json", Body::full(text))
}

/// The answer to a failed request of a client below 1.24, which expects plain text (Go's `http.Error`).
pub(crate) fn plain_error(status: StatusCode, message: &str) -> Reply {
    let mut reply = with_type(status, "text/plain; charset=utf-8", Body::full(format!("{message}\n")));
    reply.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}
