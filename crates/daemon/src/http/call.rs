//! One request, as handlers see it.

use super::{conn::Connection, form::Form, router::Vars, stream::Line};
use crate::{
    app::App,
    error::{Error, Result},
};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt};
use http::{HeaderMap, header, request::Parts};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use wharf_api::{Version, auth::AuthConfig, gojson};
use wharf_spec::ErrorKind;

/// The most that is read of a body that must be held in memory.
const BODY_LIMIT: usize = 16 << 20;

/// One request.
pub(crate) struct Call {
    /// The daemon.
    pub(crate) app: Arc<App>,
    /// The connection that it came by.
    pub(crate) connection: Arc<Connection>,
    /// The API version that the client speaks.
    pub(crate) version: Version,
    /// The parameters after the `?`.
    pub(crate) form: Form,
    /// Method, URI, headers.
    pub(crate) parts: Parts,
    /// Values of the route's names.
    pub(super) vars: Vars,
    /// The body, until somebody takes it.
    pub(super) body: super::conn::RequestBody,
    /// The connection itself, when it can be taken over. Taken from the request before its body is read,
    /// since hyper gives it out with the request only.
    pub(super) upgrade: Option<OnUpgrade>,
}

impl Call {
    /// The value of a name of the route.
    pub(crate) fn var(&self, name: &str) -> &str {
        self.vars.iter().find(|(n, _)| *n == name).map_or("", |(_, v)| v)
    }

    /// The headers.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// A header's text, empty when there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// Whether the client sends no body.
    pub(crate) fn has_no_body(&self) -> bool {
        self.body.is_empty()
    }

    /// The whole body.
    ///
    /// # Errors
    /// When it does not arrive whole or is too long.
    pub(crate) async fn bytes(&mut self) -> Result<Bytes> {
        let mut whole = BytesMut::new();
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(Error::Body)?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > BODY_LIMIT {
                return Err(Error::invalid("http: request body too large"));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    }

    /// The body as it comes.
    pub(crate) fn body_stream(self) -> BoxStream<'static, std::io::Result<Bytes>> {
        self.body.into_data_stream().map(|item| item.map_err(std::io::Error::other)).boxed()
    }

    /// Refuses bodies that are not JSON by their header (source: moby `httputils.CheckForJSON`).
    ///
    /// # Errors
    /// `unsupported Content-Type header (text/plain): must be 'application/json'`.
    pub(crate) fn check_for_json(&self) -> Result<()> {
        let given = self.header(header::CONTENT_TYPE.as_str());
        if given.is_empty() && self.has_no_body() {
            return Ok(());
        }
        match media_type(given) {
            Ok(kind) if kind == "application/json" => Ok(()),
            Ok(_) => Err(Error::invalid(format!(
                "unsupported Content-Type header ({given}): must be 'application/json'"
            ))),
            Err(why) => Err(Error::invalid(format!("malformed Content-Type header ({given}): {why}"))),
        }
    }

    /// The body as JSON; no body is the default (source: moby `httputils.ReadJSON`).
    ///
    /// # Errors
    /// When it is another type, no JSON, or more than one value.
    pub(crate) async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        self.check_for_json()?;
        if self.has_no_body() {
            return Ok(T::default());
        }
        let body = self.bytes().await?;
        match gojson::decode(&body) {
            Ok((_, rest)) if gojson::more(rest) => Err(Error::invalid("unexpected content after JSON")),
            Ok((value, _)) => Ok(value),
            Err(gojson::Error::Eof) => {
                Err(Error::invalid("invalid JSON: got EOF while reading request body"))
            }
            Err(e) => Err(wharf_api::Error::Json(e).into()),
        }
    }

    /// The credentials of the header `X-Registry-Auth`; what cannot be read counts as none, as in moby.
    pub(crate) fn registry_auth(&self) -> AuthConfig {
        use base64::{Engine as _, engine::general_purpose};
        let text = self.header("x-registry-auth").trim_end_matches('=');
        let decoded = general_purpose::URL_SAFE_NO_PAD
            .decode(text)
            .or_else(|_| general_purpose::STANDARD_NO_PAD.decode(text));
        decoded.ok().and_then(|json| gojson::from_slice(&json).ok()).unwrap_or_default()
    }

    /// What is needed to take the connection over.
    pub(crate) fn into_line(self) -> Line {
        let values = self.parts.headers.get_all(header::UPGRADE);
        let asked = values.iter().any(|v| v.as_bytes() != super::adapter::MARKER.as_bytes());
        Line {
            upgrade: self.upgrade,
            asked,
            connection: self.connection,
            sessions: self.app.sessions.clone(),
            stopped: self.app.stopped.clone(),
        }
    }

    /// An error for what is not built, naming the endpoint.
    pub(crate) fn not_built(&self) -> Error {
        let path = super::router::split_version(self.parts.uri.path())
            .map_or(self.parts.uri.path(), |(_, rest)| rest);
        Error::new(
            ErrorKind::NotImplemented,
            format!("not implemented in Wharf yet: {} {path}", self.parts.method),
        )
    }
}

/// The type of a Content-Type header in lower case, or what Go's `mime.ParseMediaType` says against it.
fn media_type(header: &str) -> Result<String, &'static str> {
    let kind = header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_token = |s: &str| {
        !s.is_empty() && s.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
    };
    match kind.split_once('/') {
        _ if kind.is_empty() => Err("mime: no media type"),
        None if is_token(&kind) => Ok(kind),
        Some((major, minor)) if is_token(major) && is_token(minor) => Ok(kind),
        Some((major, "")) if is_token(major) => Err("mime: expected token after slash"),
        _ => Err("mime: unexpected content after media type"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_read_as_go_reads_them() {
        assert_eq!(media_type("Application/JSON; charset=utf-8").unwrap(), "application/json");
        assert_eq!(media_type("").unwrap_err(), "mime: no media type");
        assert_eq!(media_type("text/").unwrap_err(), "mime: expected token after slash");
        assert!(media_type("a b").is_err());
    }
}
