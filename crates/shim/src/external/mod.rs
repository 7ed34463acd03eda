//! Containers made by an OCI runtime of the host (`--add-runtime`): crun, runc, runsc and the like, driven through
//! runc's command line. What they make is a child of the shim, which is a subreaper: from then on it is
//! watched as Wharf's own.
//!
//! Files on disk, in the container's run directory, which is the bundle: `config.json`, `log.json` (what the
//! runtime said last), `runtime/` (its `--root`), and for moments `process.pid`, `process.json`,
//! `resources.json` and `console.sock`.
//!
//! Source: OCI runtime-spec `runtime.md`, runc's manual pages, containerd `cmd/containerd-shim-runc-v2/process`.

mod command;
mod console;
mod document;

use command::Streams;
use console::Console;
use document::Place;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::Mode;
use serde::Serialize;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use wharf_runtime::{Container, oci};
use wharf_spec::plan::{ExternalRuntime, Plan, Process, Resources, Source};
use wharf_spec::shim::{Failure, FailureKind};
use wharf_sys::cgroup::{Cgroup, Hierarchies};
use wharf_sys::{event, process};

const SIGKILL: i32 = 9;

/// A container's runtime.
#[derive(Debug)]
pub(crate) struct External {
    runtime: ExternalRuntime,
    /// The container's.
    id: String,
    bundle: PathBuf,
}

/// What a container is made of besides its plan.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    /// They came with the plan.
    pub(crate) fds: &'a [OwnedFd],
    /// The file of `docker-init`.
    pub(crate) init_program: Option<&'a Path>,
    /// The process's standard streams; `None` for a terminal.
    pub(crate) streams: Option<&'a [OwnedFd; 3]>,
}

impl External {
    /// Makes a container and starts its process.
    ///
    /// # Errors
    /// In the runtime's words, with everything undone.
    pub(crate) fn create(
        plan: &Plan,
        runtime: &ExternalRuntime,
        inputs: &Inputs<'_>,
    ) -> Result<(External, Container), Failure> {
        let external =
            External { runtime: runtime.clone(), id: plan.id.clone(), bundle: PathBuf::from(&plan.bundle) };
        let warnings = external.write_bundle(plan, inputs)?;
        let made = external.make(plan, inputs).and_then(|(pid, pidfd, terminal)| {
            external.run("start", &[external.id.as_ref()], Streams::None)?;
            Ok(Container { pid, pidfd, terminal, cgroup: cgroup(plan), warnings })
        });
        match made {
            Ok(made) => Ok((external, made)),
            Err(failure) => {
                external.delete();
                // The failure is what counts; a runtime that failed halfway may have left it.
                let _ = cgroup(plan).map(|group| group.remove());
                Err(failure)
            }
        }
    }

    fn write_bundle(&self, plan: &Plan, inputs: &Inputs<'_>) -> Result<Vec<String>, Failure> {
        let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&self.runtime.root);
        made.map_err(|error| refused("make the runtime's directory", &error))?;
        make_working_directory(plan)?;
        let mut warnings = Vec::new();
        write_config(plan, inputs, &mut warnings)?;
        Ok(warnings)
    }

    fn make(&self, plan: &Plan, inputs: &Inputs<'_>) -> Result<(i32, OwnedFd, Option<OwnedFd>), Failure> {
        let args: [&OsStr; 2] = ["--bundle".as_ref(), self.bundle.as_ref()];
        self.start_process("create", &args, Started { process: &plan.process, streams: inputs.streams })
    }

    /// Starts a further process.
    ///
    /// # Errors
    /// In the runtime's words; nothing runs then.
    pub(crate) fn exec(
        &self,
        wanted: &Process,
        streams: Option<&[OwnedFd; 3]>,
    ) -> Result<wharf_runtime::Process, Failure> {
        let mut warnings = Vec::new();
        let file = self.write("process.json", &document::process(wanted, &mut warnings))?;
        let args: [&OsStr; 3] = ["--detach".as_ref(), "--process".as_ref(), file.as_ref()];
        let started = self.start_process("exec", &args, Started { process: wanted, streams });
        forget(&file);
        let (pid, pidfd, terminal) = started?;
        Ok(wharf_runtime::Process { pid, pidfd, terminal, warnings })
    }

    /// `create` and `exec`: both leave a process behind, whose pid they write to a file and whose terminal
    /// they send over a socket.
    fn start_process(
        &self,
        verb: &str,
        args: &[&OsStr],
        started: Started<'_>,
    ) -> Result<(i32, OwnedFd, Option<OwnedFd>), Failure> {
        let console = match started.process.terminal {
            Some(_) => {
                Some(Console::listen(&self.bundle).map_err(|error| refused("console socket", &error))?)
            }
            None => None,
        };
        let pid_file = self.bundle.join("process.pid");
        let mut all = args.to_vec();
        all.extend(["--pid-file".as_ref(), pid_file.as_os_str()]);
        if let Some(console) = &console {
            all.extend(["--console-socket".as_ref(), console.address()]);
        }
        all.push(self.id.as_ref());
        let ran = self.run(verb, &all, started.streams.map_or(Streams::None, Streams::Container));
        let pid = ran.and_then(|()| read_pid(&pid_file));
        forget(&pid_file);
        let pid = pid?;
        let pidfd = process::pidfd_open(pid).map_err(|error| refused("open the new process", &error))?;
        let terminal = console.map(|console| console.receive(started.process.terminal)).transpose();
        match terminal {
            Ok(terminal) => Ok((pid, pidfd, terminal)),
            Err(error) => {
                // What cannot be talked to is not left running.
                let _ = process::pidfd_send_signal(&pidfd, SIGKILL);
                Err(refused("receive the terminal", &error))
            }
        }
    }

    /// Signals the main process. One that must end ends even when its runtime cannot be run any more.
    pub(crate) fn signal(&self, main: impl AsFd, signal: i32) -> Result<(), Failure> {
        let number = signal.to_string();
        match self.run("kill", &[self.id.as_ref(), number.as_ref()], Streams::None) {
            Err(_) if has_ended(main.as_fd()) => Err(wharf_runtime::Error::NotRunning.into()),
            Err(_) if signal == SIGKILL => Ok(wharf_runtime::signal(main, signal)?),
            other => other,
        }
    }

    /// Signals every process.
    pub(crate) fn signal_all(&self, signal: i32) -> Result<(), Failure> {
        let number = signal.to_string();
        self.run("kill", &["--all".as_ref(), self.id.as_ref(), number.as_ref()], Streams::None)
    }

    pub(crate) fn pause(&self) -> Result<(), Failure> {
        self.run("pause", &[self.id.as_ref()], Streams::None)
    }

    pub(crate) fn resume(&self) -> Result<(), Failure> {
        self.run("resume", &[self.id.as_ref()], Streams::None)
    }

    pub(crate) fn update(&self, resources: &Resources) -> Result<(), Failure> {
        let file = self.write("resources.json", &oci::resources_document(resources))?;
        let args: [&OsStr; 3] = ["--resources".as_ref(), file.as_ref(), self.id.as_ref()];
        let updated = self.run("update", &args, Streams::None);
        forget(&file);
        updated
    }

    /// Removes what the runtime keeps of the container, killing what is left of it.
    pub(crate) fn delete(&self) {
        // What stays is in the run directory, which goes too, and in the control group, which the shim and
        // the daemon look after.
        let _ = self.run("delete", &["--force".as_ref(), self.id.as_ref()], Streams::None);
    }

    fn write(&self, name: &str, document: &impl Serialize) -> Result<PathBuf, Failure> {
        write(&self.bundle, name, document)
    }
}

/// Writes a container's `config.json` into its bundle, for runtimes and hooks.
///
/// # Errors
/// When the plan cannot be said in it, or the file not be written.
pub(crate) fn write_config(
    plan: &Plan,
    inputs: &Inputs<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let place = Place { fds: inputs.fds, init_program: inputs.init_program };
    let config = document::config(plan, &place, warnings)?;
    write(Path::new(&plan.bundle), "config.json", &config).map(drop)
}

fn write(bundle: &Path, name: &str, document: &impl Serialize) -> Result<PathBuf, Failure> {
    let path = bundle.join(name);
    let step = format!("write {name}");
    let bytes = serde_json::to_vec(document).map_err(|error| refused(&step, &error))?;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(&bytes)).map_err(|error| refused(&step, &error))?;
    Ok(path)
}

/// A process that a runtime is to leave behind.
struct Started<'a> {
    process: &'a Process,
    streams: Option<&'a [OwnedFd; 3]>,
}

/// As Docker, which makes it before it asks a runtime: not every runtime does (source: moby
/// `daemon/container/container_unix.go`, SetupWorkingDirectory).
fn make_working_directory(plan: &Plan) -> Result<(), Failure> {
    let Source::Path(root) = &plan.root.source else {
        return Err(refused("prepare the root", &"an external runtime needs its path"));
    };
    if !plan.process.make_cwd {
        return Ok(());
    }
    wharf_sys::path::Root::open(Path::new(root))
        .and_then(|root| root.mkdir_all(Path::new(&plan.process.cwd), Mode::from_raw_mode(0o755)))
        .map(drop)
        .map_err(|error| refused("make the working directory", &error))
}

/// The control group that the runtime made; runtimes without any work too.
fn cgroup(plan: &Plan) -> Option<Cgroup> {
    let group = Hierarchies::detect().and_then(|all| all.group(&plan.cgroup.path)).ok()?;
    group.exists().then_some(group)
}

fn has_ended(pidfd: impl AsFd) -> bool {
    event::wait_readable(pidfd, Some(Duration::ZERO)).unwrap_or(false)
}

fn read_pid(path: &Path) -> Result<i32, Failure> {
    let step = "read the runtime's pid file";
    let text = std::fs::read_to_string(path).map_err(|error| refused(step, &error))?;
    let pid = text.trim().parse().map_err(|_| refused(step, &format!("{text:?} is no process id")))?;
    if pid > 0 { Ok(pid) } else { Err(refused(step, &format!("{pid} is no process id"))) }
}

/// Removes a file that has done its duty; one that was not made is gone too.
fn forget(path: &Path) {
    let _ = std::fs::remove_file(path);
}

fn refused(step: &str, problem: &dyn std::fmt::Display) -> Failure {
    Failure { kind: FailureKind::Setup, step: step.into(), errno: 0, message: format!("{step}: {problem}") }
}
