//! What `create`, `run` and `exec` have in common: options, standard streams, and what the caller is told.

use super::bundle;
use super::console;
use super::error::{CliError, CliResult};
use super::store::{Nascent, Record};
use super::{Context, flags};
use lexopt::prelude::*;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::Mode;
use std::path::{Path, PathBuf};
use wharf_runtime::oci::{self, Origin};
use wharf_runtime::{Container, CreateOptions, Io, Lifetime, seccomp};
use wharf_spec::plan::{Plan, Process, Source};
use wharf_sys::process;

const SIGKILL: i32 = 9;

/// What the caller wants to be told, and where the process's terminal goes.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
}

impl Report {
    /// Takes one of its options; `Ok(false)` for others.
    pub(super) fn take(&mut self, name: &str, parser: &mut lexopt::Parser) -> CliResult<bool> {
        let place = match name {
            "console-socket" => &mut self.console_socket,
            "pidfd-socket" => &mut self.pidfd_socket,
            "pid-file" => &mut self.pid_file,
            _ => return Ok(false),
        };
        *place = Some(PathBuf::from(parser.value()?)).filter(|path| !path.as_os_str().is_empty());
        Ok(true)
    }

    /// A terminal needs somebody who holds its other end (source: runc `checkTerminal`).
    pub(super) fn check_terminal(&self, terminal: bool, detached: bool) -> CliResult<()> {
        match (&self.console_socket, terminal && detached) {
            (None, true) => {
                Err(CliError::text("cannot allocate tty if runc will detach without setting console socket"))
            }
            (Some(_), false) => {
                Err(CliError::text("cannot use console socket if runc will not detach or allocate tty"))
            }
            _ => Ok(()),
        }
    }

    /// Connects to the caller's sockets: before there is a process, so that nothing has to be undone.
    pub(super) fn connect(&self) -> CliResult<Connected<'_>> {
        let connect = |path: &Option<PathBuf>| path.as_deref().map(console::connect).transpose();
        Ok(Connected {
            console: connect(&self.console_socket)?,
            pidfd: connect(&self.pidfd_socket)?,
            pid_file: self.pid_file.as_deref(),
        })
    }
}

/// A [`Report`] whose sockets are open.
#[derive(Debug)]
pub(super) struct Connected<'a> {
    console: Option<OwnedFd>,
    pidfd: Option<OwnedFd>,
    pid_file: Option<&'a Path>,
}

impl Connected<'_> {
    /// Hands over what belongs to the caller. The terminal comes back when nobody asked for it.
    pub(super) fn deliver(
        self,
        pid: i32,
        pidfd: &OwnedFd,
        terminal: Option<OwnedFd>,
    ) -> CliResult<Option<OwnedFd>> {
        if let Some(socket) = &self.pidfd {
            console::send(socket, "pidfd", pidfd.as_fd())?;
        }
        let kept = match (&self.console, terminal) {
            (Some(socket), Some(master)) => {
                console::send(socket, "/dev/ptmx", master.as_fd())?;
                None
            }
            (_, terminal) => terminal,
        };
        if let Some(path) = self.pid_file {
            wharf_sys::fs::replace_file(path, pid.to_string().as_bytes(), Mode::from_raw_mode(0o644))?;
        }
        Ok(kept)
    }
}

/// The three streams of this process.
pub(super) fn own_stdio() -> [BorrowedFd<'static>; 3] {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
}

/// Where a process's input and output go. A terminal whose other end nobody has asked for is relayed to the
/// caller's.
pub(super) fn io_of(process: &Process, report: &Report) -> Io<'static> {
    match (process.terminal, &report.console_socket) {
        (None, _) => Io::Given(own_stdio()),
        (Some(size), Some(_)) => Io::Terminal(size),
        (Some(size), None) => Io::RelayedTerminal(size),
    }
}

/// Options of `create` and `run`.
#[derive(Debug, Default)]
pub(super) struct CreateFlags {
    pub(super) bundle: Option<PathBuf>,
    pub(super) report: Report,
    no_pivot: bool,
    no_new_keyring: bool,
    preserved: u32,
}

impl CreateFlags {
    /// Takes one option; `Ok(false)` for others.
    pub(super) fn take(&mut self, name: &str, parser: &mut lexopt::Parser) -> CliResult<bool> {
        match name {
            "bundle" | "b" => self.bundle = Some(PathBuf::from(parser.value()?)),
            "no-pivot" => self.no_pivot = flags::switch(parser)?,
            "no-new-keyring" => self.no_new_keyring = flags::switch(parser)?,
            "preserve-fds" => self.preserved = flags::number(parser)?,
            _ => return self.report.take(name, parser),
        }
        Ok(true)
    }
}

/// The options' name, long or short; what is no option goes to the arguments.
pub(super) fn option_name(arg: &lexopt::Arg<'_>) -> Option<String> {
    match arg {
        Long(name) => Some((*name).to_owned()),
        Short(letter) => Some(letter.to_string()),
        Value(_) => None,
    }
}

/// How many descriptors from 3 on a process gets: those of socket activation (`LISTEN_FDS`, source:
/// sd_listen_fds(3)), of which it is told, and `asked` more. All have to be there.
pub(super) fn preserved(asked: u32, env: &mut Vec<String>) -> CliResult<u32> {
    let listen = std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    if listen > 0 {
        env.extend([format!("LISTEN_FDS={listen}"), "LISTEN_PID=1".to_owned()]);
    }
    let count = listen.saturating_add(asked);
    let is_there = |number: &u32| i32::try_from(*number).is_ok_and(process::is_inherited);
    match (3..count.saturating_add(3)).find(|number| !is_there(number)) {
        Some(number) => Err(CliError::text(format!(
            "unable to stat preserved-fd {} (of {count}): stat /proc/self/fd/{number}: no such file or directory",
            number - 3
        ))),
        None => Ok(count),
    }
}

/// A bundle read and decided about.
pub(super) fn plan(context: &Context, id: &str, options: &CreateFlags) -> CliResult<Plan> {
    if options.no_new_keyring {
        context
            .log
            .warn("--no-new-keyring has no effect: a container never sees the session keyring of the host");
    }
    let bundle = bundle::path(options.bundle.as_deref())?;
    let converted = oci::to_plan(&bundle::config(&bundle)?, Origin { id, bundle: &bundle })?;
    converted.warnings.iter().for_each(|warning| context.log.warn(warning));
    Ok(converted.plan)
}

/// Whether a new container's process runs at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    AtGate,
    AtOnce,
}

/// Makes a container and writes it down. With an error everything is undone.
pub(super) fn create(
    context: &Context,
    nascent: &mut Nascent,
    (mut plan, flags): (Plan, &CreateFlags),
    begin: Begin,
) -> CliResult<(Container, Record)> {
    let preserved = preserved(flags.preserved, &mut plan.process.env)?;
    // Every mount of the plan is a descriptor for a while. What the container gets is in its plan.
    process::raise_descriptor_limit()?;
    let compiled = seccomp::compile(&plan.process.seccomp, plan.process.capabilities.bounding)
        .map_err(|error| CliError::text(error.to_string()))?;
    let gate = match begin {
        Begin::AtGate => Some(wharf_runtime::make_gate(&nascent.gate())?),
        Begin::AtOnce => None,
    };
    let options = CreateOptions {
        io: io_of(&plan.process, &flags.report),
        seccomp: compiled.as_deref(),
        gate: gate.as_ref().map(AsFd::as_fd),
        init_program: None,
        lifetime: Lifetime::Own,
        preserved,
        no_pivot: flags.no_pivot,
    };
    let container = wharf_runtime::create(&plan, &[], &options)?;
    container.warnings.iter().for_each(|warning| context.log.warn(warning));
    match write_down(nascent, plan, container.pid) {
        Ok(record) => Ok((container, record)),
        Err(error) => {
            undo(&container);
            Err(error)
        }
    }
}

fn write_down(nascent: &mut Nascent, plan: Plan, pid: i32) -> CliResult<Record> {
    let rootfs = match &plan.root.source {
        Source::Path(path) => path.clone(),
        Source::Fd(_) => String::new(),
    };
    let created = jiff::Timestamp::now().to_string();
    let start_time = process::start_time(pid)?;
    let record = Record { version: 1, created, rootfs, pid, start_time, plan };
    nascent.keep(&record)?;
    Ok(record)
}

/// Kills a container that cannot stay, and removes its control group.
pub(super) fn undo(container: &Container) {
    // The error that led here is the one to tell.
    let _ = process::pidfd_send_signal(&container.pidfd, SIGKILL);
    let _ = process::wait(&container.pidfd);
    if let Some(group) = &container.cgroup {
        let _ = wharf_runtime::delete(group);
    }
}
