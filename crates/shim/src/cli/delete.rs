//! `delete`: removes what is left of a container, with `--force` whatever it is doing.

use super::error::{CliError, CliResult};
use super::kill;
use super::store::{Container, Record, Status};
use super::{Context, flags};
use lexopt::prelude::*;
use std::time::Duration;
use wharf_runtime::hooks;
use wharf_sys::{event, process};

const SIGKILL: i32 = 9;
/// How long a killed process may take to end (source: runc `killContainer`).
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn main(parser: &mut lexopt::Parser, context: &Context) -> CliResult<u8> {
    let mut force = false;
    let mut arguments = flags::Arguments::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("force") | Short('f') => force = flags::switch(parser)?,
            other => arguments.take(other)?,
        }
    }
    let id = arguments.only_id("delete")?;
    let container = match context.store.load(&id) {
        Err(CliError::NotExist) => {
            context.store.remove_leftover(&id)?;
            return if force { Ok(0) } else { Err(CliError::NotExist) };
        }
        other => other?,
    };
    delete(context, &container, force).map(|()| 0)
}

fn delete(context: &Context, container: &Container, force: bool) -> CliResult<()> {
    let _lock = match container.lock() {
        // Somebody else was faster.
        Err(CliError::NotExist) if force => return Ok(()),
        other => other?,
    };
    match container.status()? {
        Status::Stopped => {}
        Status::Created => kill_and_wait(container)?,
        _ if force => kill_and_wait(container)?,
        other => {
            return Err(CliError::text(format!(
                "cannot delete container {} that is not stopped: {}",
                container.id,
                other.word()
            )));
        }
    }
    wharf_runtime::delete(&container.cgroup()?)?;
    container.forget()?;
    run_poststop(context, &container.record);
    Ok(())
}

fn kill_and_wait(container: &Container) -> CliResult<()> {
    let Ok(pidfd) = process::pidfd_open(container.record.pid) else { return Ok(()) };
    match kill::send(container, SIGKILL, false) {
        Err(CliError::NotRunning) => return Ok(()),
        other => other?,
    }
    if event::wait_readable(&pidfd, Some(PATIENCE))? {
        return Ok(());
    }
    Err(CliError::text("container init still running"))
}

/// Runs the hooks that come after the end. One that fails is a warning: there is nothing left to undo.
pub(super) fn run_poststop(context: &Context, record: &Record) {
    let list = &record.plan.hooks.poststop;
    if list.is_empty() {
        return;
    }
    let state = hooks::state_json(&record.plan, hooks::Status::Stopped, 0);
    if let Err(error) = hooks::run("poststop", list, &state) {
        context.log.warn(&error.to_string());
    }
}
