//! `GET /containers/{id}/logs` (source: moby `container_routes.go`, `getContainersLogs`).

use crate::{
    error::{Error, Result},
    http::{
        call::Call,
        reply::{self, Reply},
        stream::{MULTIPLEXED, RAW, frame},
    },
};
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use std::io;
use wharf_api::{Version, time};
use wharf_engine::containers::{JsonLines, Logs, LogsOptions};

/// `GET /containers/{id}/logs`
pub(crate) async fn stream(call: Call) -> Result<Reply> {
    let options = options(&call)?;
    let is_json = options.json.is_some();
    let logs = call.app.engine.containers.logs(call.var("name"), options).await?;
    if is_json {
        let kind = json_type(&call).unwrap_or("application/x-ndjson");
        let stopping = call.app.stopping.clone().cancelled_owned();
        return Ok(reply::stream(kind, chunks(logs).take_until(stopping)));
    }
    let multiplexed = !logs.tty && call.version >= Version(1, 42);
    let stopping = call.app.stopping.clone().cancelled_owned();
    Ok(reply::stream(if multiplexed { MULTIPLEXED } else { RAW }, chunks(logs).take_until(stopping)))
}

fn options(call: &Call) -> Result<LogsOptions> {
    let form = &call.form;
    let (stdout, stderr) = (form.bool("stdout"), form.bool("stderr"));
    if !stdout && !stderr {
        return Err(Error::invalid("must specify at least one of 'stdout' or 'stderr'"));
    }
    let moment = |name: &str, text: &str| {
        time::parse_unix(text).map_err(|e| Error::invalid(format!("invalid value for {name:?}: {e}")))
    };
    let since = moment("since", form.get("since"))?;
    let until = moment("until", if form.get("until") == "0" { "" } else { form.get("until") })?;
    let accepted = json_type(call);
    let json = match form.get("format") {
        _ if call.version < Version(1, 54) => None,
        "" => accepted,
        "json" => accepted.or(Some("application/x-ndjson")),
        _ => return Err(Error::invalid("unsupported log format")),
    };
    let form_of = |kind| match kind {
        "application/json-seq" => JsonLines::Sequence,
        _ => JsonLines::Lines,
    };
    Ok(LogsOptions {
        stdout,
        stderr,
        follow: form.bool("follow"),
        since: since.map(|t| t.0),
        until: until.map(|t| t.0),
        tail: LogsOptions::tail_from(form.get("tail")),
        timestamps: form.bool("timestamps"),
        details: form.bool("details"),
        json: json.map(form_of),
    })
}

/// The form of a JSON stream that the client names.
fn json_type(call: &Call) -> Option<&'static str> {
    super::events::accepted(call.headers())
}

/// A log's chunks; an error becomes its last words, in the stream for errors of the system.
pub(super) fn chunks(logs: Logs) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let tty = logs.tty;
    logs.chunks.map(move |chunk| {
        Ok(chunk.unwrap_or_else(|error| {
            let text = format!("Error grabbing logs: {error}\n");
            if tty { text.into() } else { frame(3, text.as_bytes()).into() }
        }))
    })
}
