//! Processes in running containers (source: moby `daemon/server/router/container/exec.go`).

use crate::{
    error::{Error, Result},
    http::{
        call::Call,
        reply::{self, Reply},
        stream::{self, MULTIPLEXED, RAW, Session, frame},
    },
};
use http::StatusCode;
use wharf_api::{
    IdResponse, Version,
    container::{ExecCreateRequest, ExecStartRequest},
};
use wharf_engine::exec::{ExecStart, StartedExec};
use wharf_spec::plan::TerminalSize;

/// `POST /containers/{id}/exec`
pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let mut request: ExecCreateRequest = call.json().await?;
    if request.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::invalid("No exec command specified"));
    }
    if call.version < Version(1, 42) {
        request.console_size = None;
    }
    let id = call.app.engine.exec.create(call.var("name"), request).await?;
    reply::json(StatusCode::CREATED, &IdResponse { id: id.to_string() })
}

/// `GET /exec/{id}/json`
pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    reply::ok(&call.app.engine.exec.inspect(call.var("id"))?)
}

/// `POST /exec/{id}/start`: with `Detach` an ordinary answer, else the connection becomes the process's
pub(crate) async fn start(mut call: Call) -> Result<Reply> {
    let request: ExecStartRequest = call.json().await?;
    let id = call.var("name").to_owned();
    // Whether it exists is an ordinary error; what follows happens on the stream.
    let tty = call.app.engine.exec.has_terminal(&id)?;
    let size =
        request.console_size.filter(|_| request.tty && call.version >= Version(1, 42)).map(terminal_size);
    let started = call.app.engine.exec.start(&id, ExecStart { detach: request.detach, size }).await;
    if request.detach {
        started?;
        return Ok(reply::empty(StatusCode::OK));
    }
    let execs = call.app.engine.exec.clone();
    let session = match started {
        Ok(StartedExec { stream: Some(stream), .. }) => {
            Session::of_stream(stream, async move { execs.settle(&id).await })
        }
        Ok(StartedExec { stream: None, .. }) => Session::of_text(Vec::new()),
        Err(error) => {
            tracing::error!(%error, exec = %id, "Error running exec in container");
            let text = format!("{error}\r\n");
            Session::of_text(if tty { text.into_bytes() } else { frame(1, text.as_bytes()) })
        }
    };
    let multiplexed = !tty && call.version >= Version(1, 42);
    stream::take_over(call.into_line(), if multiplexed { MULTIPLEXED } else { RAW }, session)
}

fn terminal_size([rows, columns]: [u64; 2]) -> TerminalSize {
    let limited = |n| u16::try_from(n).unwrap_or(u16::MAX);
    TerminalSize { rows: limited(rows), columns: limited(columns) }
}

/// `POST /exec/{id}/resize`
pub(crate) async fn resize(call: Call) -> Result<Reply> {
    let size = call.form.terminal_size()?;
    call.app.engine.exec.resize(call.var("name"), size).await?;
    Ok(reply::empty(StatusCode::OK))
}
