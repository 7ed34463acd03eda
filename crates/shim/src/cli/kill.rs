//! `kill`: signals a container's main process, or with `--all` every one of its processes.

use super::error::{CliError, CliResult};
use super::store::{Container, Status};
use super::{Context, flags};
use lexopt::prelude::*;
use wharf_spec::plan::Namespace;
use wharf_spec::signal;
use wharf_sys::{Errno, process};

const SIGKILL: i32 = 9;

pub(super) fn main(parser: &mut lexopt::Parser, context: &Context) -> CliResult<u8> {
    let mut all = false;
    let mut arguments = flags::Arguments::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("all") | Short('a') => all = flags::switch(parser)?,
            other => arguments.take(other)?,
        }
    }
    let (id, written) = arguments.id_and_optional("kill")?;
    let container = context.store.load(&id)?;
    let number = number(written.as_deref().unwrap_or("SIGTERM"))?;
    match send(&container, number, all) {
        // What was to be killed is gone: `kill --all` after the end is no error.
        Err(CliError::NotRunning) if all => Ok(0),
        other => other.map(|()| 0),
    }
}

fn number(written: &str) -> CliResult<i32> {
    // 0 asks whether the process is there.
    if written == "0" {
        return Ok(0);
    }
    signal::parse(written).map_err(|_| CliError::text(format!("unknown signal {written:?}")))
}

/// Signals a container. Without a pid namespace of its own SIGKILL goes to all processes: nothing else would
/// end those that its main process leaves behind.
pub(super) fn send(container: &Container, signal: i32, all: bool) -> CliResult<()> {
    let shares_pids = container.record.plan.namespaces.pid != Namespace::New;
    if all || (signal == SIGKILL && shares_pids) {
        return send_to_all(container, signal);
    }
    send_to_main(container, signal)
}

fn send_to_all(container: &Container, signal: i32) -> CliResult<()> {
    let group = container.cgroup()?;
    if !group.exists() {
        return Err(CliError::NotRunning);
    }
    if signal == SIGKILL { Ok(group.kill_all()?) } else { Ok(group.signal_all(signal)?) }
}

fn send_to_main(container: &Container, signal: i32) -> CliResult<()> {
    let pidfd = match process::pidfd_open(container.record.pid) {
        Ok(pidfd) => pidfd,
        Err(error) if error.is(Errno::SRCH) || error.is(Errno::INVAL) => return Err(CliError::NotRunning),
        Err(error) => return Err(error.into()),
    };
    // Asked after the pidfd was made: the number cannot pass to another process behind our back.
    if !container.is_alive() {
        return Err(CliError::NotRunning);
    }
    match process::pidfd_send_signal(&pidfd, signal) {
        Err(error) if error.is(Errno::SRCH) => return Err(CliError::NotRunning),
        other => other.map_err(|error| CliError::text(format!("unable to signal init: {error}")))?,
    }
    if signal == SIGKILL && container.status()? == Status::Paused {
        // A frozen process of cgroup v1 does not die before it is thawed.
        container.cgroup()?.thaw()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_runc_reads_them() {
        assert_eq!(number("KILL").unwrap(), 9);
        assert_eq!(number("sigterm").unwrap(), 15);
        assert_eq!(number("0").unwrap(), 0);
        assert_eq!(number("NOPE").unwrap_err().to_string(), "unknown signal \"NOPE\"");
    }
}
