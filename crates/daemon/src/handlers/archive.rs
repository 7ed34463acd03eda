//! Copies into and out of containers (source: moby `daemon/server/router/container/copy.go`).

use crate::{
    error::{Error, Result},
    http::{
        call::Call,
        reply::{self, Reply},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, StatusCode};
use wharf_api::{container::PathStat, gojson};
use wharf_engine::containers::PutOptions;

/// What the path is, as JSON in base64.
const PATH_STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

/// Container and path of a request (source: moby `httputils.ArchiveFormValues`).
fn container_and_path(call: &Call) -> Result<(&str, &str)> {
    let (container, path) = (call.var("name"), call.form.get("path"));
    for (name, value) in [("name", container), ("path", path)] {
        if value.is_empty() {
            return Err(Error::invalid(format!("bad parameter: {name} cannot be empty")));
        }
    }
    Ok((container, path))
}

fn with_stat(mut reply: Reply, stat: &PathStat) -> Result<Reply> {
    let json = gojson::to_vec(stat).map_err(Error::Encode)?;
    // Go's Marshal, unlike its Encoder, ends without a line feed.
    let text = STANDARD.encode(json.trim_ascii_end());
    reply.headers_mut().insert(PATH_STAT, HeaderValue::from_str(&text).map_err(http::Error::from)?);
    Ok(reply)
}

/// `HEAD /containers/{id}/archive`
pub(crate) async fn stat(call: Call) -> Result<Reply> {
    let (container, path) = container_and_path(&call)?;
    let stat = call.app.engine.containers.archive_stat(container, path).await?;
    with_stat(reply::empty(StatusCode::OK), &stat)
}

/// `GET /containers/{id}/archive`
pub(crate) async fn get(call: Call) -> Result<Reply> {
    let (container, path) = container_and_path(&call)?;
    let (stat, tar) = call.app.engine.containers.archive_get(container, path).await?;
    with_stat(reply::stream("application/x-tar", tar), &stat)
}

/// `PUT /containers/{id}/archive`
pub(crate) async fn put(call: Call) -> Result<Reply> {
    let (container, path) = container_and_path(&call)?;
    let (container, path) = (container.to_owned(), path.to_owned());
    let options = PutOptions {
        keep_kind: call.form.bool("noOverwriteDirNonDir"),
        own_by_user: call.form.bool("copyUIDGID"),
    };
    let containers = call.app.engine.containers.clone();
    containers.archive_put(&container, &path, call.body_stream(), options).await?;
    Ok(reply::empty(StatusCode::OK))
}
