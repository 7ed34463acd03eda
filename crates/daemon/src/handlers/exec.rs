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
    let mut request: ExecStartRequest = call.json().await?;
    let id = call.var("name").to_owned();
    // Whether it exists is an ordinary error; what follows happens on the stream.
    call.app.engine.exec.inspect(&id)?;
    if call.version < Version(1, 42) || !request.tty {
        request.console_size = None;
    }
    if request.detach {
        call.app.engine.exec.start_detached(&id, request.console_size).await?;
        return Ok(reply::empty(StatusCode::OK));
    }
    let multiplexed = !request.tty && call.version >= Version(1, 42);
    let session = match call.app.engine.exec.start(&id, request.console_size).await {
        Ok(stream) => Session::of_stream(stream),
        Err(error) => {
            tracing::error!(%error, exec = %id, "Error running exec in container");
            let text = format!("{error}\r\n");
            Session::of_text(if request.tty { text.into_bytes() } else { frame(1, text.as_bytes()) })
        }
    };
    stream::take_over(call.into_line(), if multiplexed { MULTIPLEXED } else { RAW }, session)
}

/// `POST /exec/{id}/resize`
pub(crate) async fn resize(call: Call) -> Result<Reply> {
    let size = call.form.terminal_size()?;
    call.app.engine.exec.resize(call.var("name"), size).await?;
    Ok(reply::empty(StatusCode::OK))
}
