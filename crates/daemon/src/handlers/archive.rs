//! Copies into and out of containers (source: moby `daemon/server/router/container/copy.go`).

use crate::{
    error::{Error, Result},
    http::{
        call::Call,
        reply::{self, Reply},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, StatusCode, header};
use wharf_api::{container::PathStat, gojson};
use wharf_engine::containers::{Encoding, PutOptions};

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
    let encoding = wanted_encoding(call.header(header::ACCEPT_ENCODING.as_str()));
    let (stat, tar) = call.app.engine.containers.archive_get(container, path, encoding).await?;
    let mut reply = with_stat(reply::stream("application/x-tar", tar), &stat)?;
    let word = match encoding {
        Encoding::Identity => return Ok(reply),
        Encoding::Gzip => "gzip",
        Encoding::Deflate => "deflate",
    };
    reply.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(word));
    Ok(reply)
}

/// The best of gzip and deflate that a client takes (source: golang/gddo `httputil.NegotiateContentEncoding`).
fn wanted_encoding(accept: &str) -> Encoding {
    let mut best = (Encoding::Identity, 0.0);
    for (offer, encoding) in [("gzip", Encoding::Gzip), ("deflate", Encoding::Deflate)] {
        for wanted in accept.split(',') {
            let (word, parameters) = wanted.split_once(';').unwrap_or((wanted, ""));
            let weight = parameters.trim().strip_prefix("q=").map_or(Ok(1.0), |q| q.trim().parse::<f64>());
            let weight = weight.unwrap_or(0.0);
            if (word.trim() == offer || word.trim() == "*") && weight > best.1 {
                best = (encoding, weight);
            }
        }
    }
    best.0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_encoding_is_taken() {
        for (accept, encoding) in [
            ("", Encoding::Identity),
            ("identity", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("deflate, gzip", Encoding::Gzip),
            ("deflate, gzip;q=0.5", Encoding::Deflate),
            ("br, *;q=0.1", Encoding::Gzip),
            ("gzip;q=0", Encoding::Identity),
            ("gzip;q=x", Encoding::Identity),
        ] {
            assert_eq!(wanted_encoding(accept), encoding, "{accept}");
        }
    }
}
