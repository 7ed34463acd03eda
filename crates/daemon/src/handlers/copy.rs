//! Files of containers: `docker cp` and `docker export`
//! (source: moby `daemon/server/router/container/copy.go`).

use crate::{
    error::{Error, Result},
    http::{
        call::Call,
        reply::{self, Reply},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode};
use wharf_api::container::PathStat;
use wharf_engine::containers::PutOptions;

/// The header that describes a path.
const STAT_HEADER: &str = "x-docker-container-path-stat";

/// Name and path of a request.
fn target(call: &Call) -> Result<(&str, &str)> {
    match (call.var("name"), call.form.get("path")) {
        ("", _) => Err(Error::invalid("bad parameter: name cannot be empty")),
        (_, "") => Err(Error::invalid("bad parameter: path cannot be empty")),
        both => Ok(both),
    }
}

fn stat_header(stat: &PathStat) -> Result<HeaderValue> {
    let json = serde_json::to_vec(stat).map_err(Error::Encode)?;
    Ok(HeaderValue::try_from(STANDARD.encode(json)).map_err(http::Error::from)?)
}

/// `HEAD /containers/{id}/archive`
pub(crate) async fn head(call: Call) -> Result<Reply> {
    let (name, path) = target(&call)?;
    let stat = call.app.engine.containers.stat_path(name, path).await?;
    let mut answer = reply::empty(StatusCode::OK);
    answer.headers_mut().insert(STAT_HEADER, stat_header(&stat)?);
    Ok(answer)
}

/// `GET /containers/{id}/archive`
pub(crate) async fn get(call: Call) -> Result<Reply> {
    let (name, path) = target(&call)?;
    let (stat, tar) = call.app.engine.containers.archive(name, path).await?;
    let mut answer = reply::stream("application/x-tar", tar);
    answer.headers_mut().insert(STAT_HEADER, stat_header(&stat)?);
    Ok(answer)
}

/// `PUT /containers/{id}/archive`
pub(crate) async fn put(call: Call) -> Result<Reply> {
    let (name, path) = target(&call)?;
    let (name, path) = (name.to_owned(), path.to_owned());
    let options = PutOptions {
        no_overwrite_dir_non_dir: call.form.bool("noOverwriteDirNonDir"),
        copy_uid_gid: call.form.bool("copyUIDGID"),
    };
    let containers = call.app.engine.containers.clone();
    containers.put_archive(&name, &path, options, call.body_stream()).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `GET /containers/{id}/export`
pub(crate) async fn export(call: Call) -> Result<Reply> {
    let tar = call.app.engine.containers.export(call.var("name")).await?;
    Ok(reply::stream("application/octet-stream", tar))
}
