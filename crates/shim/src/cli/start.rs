//! `start`: lets a created container's process go on to its program.

use super::error::{CliError, CliResult};
use super::store::{Record, Status};
use super::{Context, flags};
use wharf_runtime::hooks;
use wharf_sys::process;

pub(super) fn main(parser: &mut lexopt::Parser, context: &Context) -> CliResult<u8> {
    let container = context.store.load(&flags::only_id(parser, "start")?)?;
    let _lock = container.lock()?;
    match container.status()? {
        Status::Created => {}
        Status::Stopped => return Err(CliError::text("cannot start a container that has stopped")),
        Status::Running => return Err(CliError::text("cannot start an already running container")),
        Status::Paused => return Err(CliError::text("cannot start a container in the paused state")),
    }
    let dead = || CliError::text("container process is already dead");
    let pidfd = process::pidfd_open(container.record.pid).map_err(|_| dead())?;
    if !container.is_alive() {
        return Err(dead());
    }
    match wharf_runtime::start(&container.gate(), &pidfd) {
        Err(wharf_runtime::Error::NotRunning) => return Err(dead()),
        other => other?,
    }
    run_poststart(&container.record).inspect_err(|_| {
        // The error that led here is the one to tell.
        let _ = process::pidfd_send_signal(&pidfd, 9);
    })?;
    Ok(0)
}

/// Runs the hooks that come after the start. When one fails the container is to be stopped (source: OCI
/// runtime-spec 1.3, runtime.md, "Lifecycle"; runc `container_linux.go`, `start`).
pub(super) fn run_poststart(record: &Record) -> CliResult<()> {
    let list = &record.plan.hooks.poststart;
    if list.is_empty() {
        return Ok(());
    }
    let state = hooks::state_json(&record.plan, hooks::Status::Running, record.pid);
    Ok(hooks::run("poststart", list, &state)?)
}
