//! `run`: makes a container, starts it, and unless detached stays until it ends.

use super::error::{CliError, CliResult};
use super::foreground;
use super::launch::{self, Begin, CreateFlags};
use super::store::Record;
use super::{Context, delete, flags, start};
use wharf_runtime::Container;
use wharf_sys::process;

pub(super) fn main(parser: &mut lexopt::Parser, context: &Context) -> CliResult<u8> {
    let mut options = CreateFlags::default();
    let (mut detach, mut keep) = (false, false);
    let mut arguments = flags::Arguments::default();
    while let Some(arg) = parser.next()? {
        let Some(name) = launch::option_name(&arg) else {
            arguments.take(arg)?;
            continue;
        };
        match name.as_str() {
            "detach" | "d" => detach = flags::switch(parser)?,
            "keep" => keep = flags::switch(parser)?,
            // Orphans of a container go to whoever reaps them on this host.
            "no-subreaper" => drop(flags::switch(parser)?),
            _ if options.take(&name, parser)? => {}
            _ => return Err(CliError::text(format!("Incorrect Usage: invalid option {name:?}"))),
        }
    }
    let id = arguments.only_id("run")?;
    run(context, &id, &options, Stay { detach, keep }).map_err(|source| CliError::Command {
        prefix: "wharf-runtime run failed",
        code: 1,
        source: Box::new(source),
    })
}

/// What happens after the start.
#[derive(Debug, Clone, Copy)]
struct Stay {
    detach: bool,
    keep: bool,
}

fn run(context: &Context, id: &str, options: &CreateFlags, stay: Stay) -> CliResult<u8> {
    let plan = launch::plan(context, id, options)?;
    options.report.check_terminal(plan.process.terminal.is_some(), stay.detach)?;
    let caller = options.report.connect()?;
    let mut nascent = context.store.reserve(id)?;
    let (mut container, record) = launch::create(context, &mut nascent, (plan, options), Begin::AtOnce)?;
    let terminal = container.terminal.take();
    let terminal = caller.deliver(container.pid, &container.pidfd, terminal).inspect_err(|_| {
        launch::undo(&container);
        nascent.abandon();
    })?;
    // Others may work on it now.
    drop(nascent);
    start::run_poststart(&record).inspect_err(|_| {
        // The error that led here is the one to tell.
        let _ = process::pidfd_send_signal(&container.pidfd, 9);
        let _ = process::wait(&container.pidfd);
        let _ = remove(context, id, &container, &record);
    })?;
    if stay.detach {
        return Ok(0);
    }
    let code = foreground::attend(&container.pidfd, terminal)?;
    if !stay.keep {
        remove(context, id, &container, &record)?;
    }
    Ok(code)
}

fn remove(context: &Context, id: &str, container: &Container, record: &Record) -> CliResult<()> {
    if let Some(group) = &container.cgroup {
        wharf_runtime::delete(group)?;
    }
    match context.store.load(id) {
        // Somebody has deleted it meanwhile.
        Err(CliError::NotExist) => return Ok(()),
        other => other?.forget()?,
    }
    delete::run_poststop(context, record);
    Ok(())
}
