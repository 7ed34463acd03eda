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
use wharf_engine::containers::{Logs, LogsOptions};

/// `GET /containers/{id}/logs`
pub(crate) async fn stream(call: Call) -> Result<Reply> {
    let options = options(&call)?;
    let logs = call.app.engine.containers.logs(call.var("name"), options).await?;
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
    if call.version >= Version(1, 54) {
        match form.get("format") {
            "" => {}
            "json" => return Err(call.not_built()),
            _ => return Err(Error::invalid("unsupported log format")),
        }
    }
    Ok(LogsOptions {
        stdout,
        stderr,
        follow: form.bool("follow"),
        since: since.map(|t| t.0),
        until: until.map(|t| t.0),
        tail: LogsOptions::tail_from(form.get("tail")),
        timestamps: form.bool("timestamps"),
        details: form.bool("details"),
    })
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
