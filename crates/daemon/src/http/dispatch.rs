//! From a request to its answer: version, route, handler, error.

use super::{
    body::Body,
    call::Call,
    conn::{Connection, RequestBody},
    form::{self, Form},
    reply::{self, Reply},
    router::{Route, split_version},
};
use crate::{
    app::App,
    error::{Error, Result},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use std::{convert::Infallible, sync::Arc, time::Instant};
use tracing::Instrument;
use wharf_api::Version;

/// Answers one request of a connection.
pub(crate) async fn answer(
    app: Arc<App>,
    connection: Arc<Connection>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, body) = request.into_parts();
    let (body, guard) = connection.begin(body);
    let request = Received { connection, parts, body, upgrade };
    let reply = respond(app, request).await;
    Ok(reply.map(|body| body.guarded(guard)))
}

/// A request before its route is known.
pub(super) struct Received {
    pub(super) connection: Arc<Connection>,
    pub(super) parts: http::request::Parts,
    pub(super) body: RequestBody,
    pub(super) upgrade: Option<OnUpgrade>,
}

/// Finds the route and lets it answer.
pub(super) async fn respond(app: Arc<App>, request: Received) -> Reply {
    let Ok(path) = form::unescape(request.parts.uri.path(), false) else {
        return reply::plain_error(StatusCode::BAD_REQUEST, "400 Bad Request");
    };
    let (version, bare) = split_version(&path).map_or((None, path.as_str()), |(v, rest)| (Some(v), rest));
    let Some((route, vars)) = app.router.find(&request.parts.method, bare) else {
        return reply::error(StatusCode::NOT_FOUND, "page not found".into());
    };
    let span = tracing::debug_span!("request", method = %request.parts.method, path = %path);
    let begun = Instant::now();
    let result = async {
        let spoken = accept_version(version, &app, route)?;
        let form = Form::parse(request.parts.uri.query().unwrap_or_default())?;
        let Received { connection, parts, body, upgrade } = request;
        let call =
            Call { app: Arc::clone(&app), connection, version: spoken, form, parts, vars, body, upgrade };
        run(route, call).await
    }
    .instrument(span)
    .await;
    if result.is_ok() {
        app.metrics.answered(&route.method, route.pattern, begun.elapsed());
    }
    let mut reply = result.unwrap_or_else(|error| failed(&error, route, version));
    add_headers(reply.headers_mut(), &app);
    reply
}

/// Checks the version of the path (source: moby `daemon/server/middleware/version.go`).
fn accept_version(version: Option<&str>, app: &App, route: &Route) -> Result<Version> {
    let Some(text) = version else { return Ok(Version::MAX) };
    let spoken: Version = text.parse()?;
    if spoken < app.min_version {
        return Err(Error::invalid(format!(
            "client version {text} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            app.min_version
        )));
    }
    if spoken > Version::MAX {
        return Err(Error::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {}",
            Version::MAX
        )));
    }
    if spoken < route.since {
        return Err(Error::invalid(format!(
            "{} {} requires minimum API version {}",
            route.method, route.pattern, route.since
        )));
    }
    Ok(spoken)
}

/// Runs a handler. What changes something runs to its end even if the client goes away, since hyper drops
/// the answer of a client that is gone.
async fn run(route: &'static Route, call: Call) -> Result<Reply> {
    let handler = (route.handler)(call);
    if matches!(route.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return handler.await;
    }
    match tokio::spawn(handler.in_current_span()).await {
        Ok(result) => result,
        Err(_) => Err(Error::Panicked),
    }
}

/// The answer to a failed request. Errors of ours are logged, here and nowhere else.
fn failed(error: &Error, route: &Route, version: Option<&str>) -> Reply {
    let status = error.status();
    let message = error.to_string();
    if status.is_server_error()
        && status != StatusCode::NOT_IMPLEMENTED
        && status != StatusCode::SERVICE_UNAVAILABLE
    {
        tracing::error!(method = %route.method, path = route.pattern, status = status.as_u16(), %message, "request failed");
    }
    let is_ancient = version.and_then(|v| v.parse::<Version>().ok()).is_some_and(|v| v < Version(1, 24));
    if is_ancient { reply::plain_error(status, &message) } else { reply::error(status, message) }
}

/// The headers of every answer that has a route.
fn add_headers(headers: &mut HeaderMap, app: &App) {
    let experimental = if app.experimental { "true" } else { "false" };
    headers.insert(HeaderName::from_static("docker-experimental"), HeaderValue::from_static(experimental));
    headers.insert(header::SERVER, app.server_header.clone());
    headers.insert(HeaderName::from_static("api-version"), app.version_header.clone());
    headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
}
