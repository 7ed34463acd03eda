//! The container as the shim holds it: `wharf_runtime`'s calls, or an external runtime's, with the shim's pipes
//! and terminals around them.

use crate::external::{self, External, Inputs};
use crate::serve::{Ends, Started};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use std::path::Path;
use wharf_runtime::hooks::{self, Status};
use wharf_runtime::{CreateOptions, ExecOptions, Io, Lifetime};
use wharf_spec::plan::{Fd, Namespace, Plan, Process, Resources, Scope, Stdio};
use wharf_spec::shim::{ExecPlan, Failure, FailureKind};
use wharf_sys::cgroup::{Cgroup, OomWatch};
use wharf_sys::{Context, seqpacket};

/// What a pipe of output holds: the more, the fewer switches between a busy container and the shim.
const OUTPUT_PIPE: usize = 256 * 1024;
const SIGKILL: i32 = 9;

/// A container whose main process was started.
#[derive(Debug)]
pub(crate) struct Container {
    id: String,
    main_pid: i32,
    main: OwnedFd,
    cgroup: Option<Cgroup>,
    /// The unit that the group is, where systemd made it for Wharf's own runtime.
    scope: Option<Scope>,
    oom_watch: Option<OomWatch>,
    oom_kills: u64,
    /// Its processes end with the main one by themselves.
    has_own_pids: bool,
    tolerate_missing_privilege: bool,
    /// What made it, if not Wharf's own runtime.
    external: Option<External>,
    /// Kept when there are hooks to be run at the end.
    plan_with_hooks: Option<Box<Plan>>,
}

impl Container {
    /// Makes the container and starts its main process. `fds` came with the plan; `init_program` is the file of
    /// `docker-init`.
    ///
    /// # Errors
    /// With everything undone.
    pub(crate) fn create(
        plan: &Plan,
        fds: &[OwnedFd],
        init_program: Option<&Path>,
    ) -> Result<(Container, Started, Vec<String>), Failure> {
        let (ends, theirs) = streams(&plan.process, &plan.stdio, fds)?;
        let streams = theirs.as_ref().map(|Theirs(fds)| fds);
        let inputs = Inputs { fds, init_program, streams };
        let (external, made) = match &plan.runtime {
            None => (None, create_here(plan, &inputs)?),
            Some(runtime) => {
                let (external, made) = External::create(plan, runtime, &inputs)?;
                (Some(external), made)
            }
        };
        drop(theirs);
        let mut warnings = made.warnings;
        let main = made.pidfd.try_clone().map_err(|e| refused("copy the pidfd", &e))?;
        let mut container = Container {
            id: plan.id.clone(),
            main_pid: made.pid,
            main,
            oom_watch: made.cgroup.as_ref().and_then(|group| group.watch_oom().ok()),
            cgroup: made.cgroup,
            scope: plan.cgroup.scope.clone().filter(|_| external.is_none()),
            oom_kills: 0,
            has_own_pids: plan.namespaces.pid == Namespace::New,
            tolerate_missing_privilege: plan.tolerate_missing_privilege,
            // An external runtime runs them itself.
            plan_with_hooks: (!plan.hooks.poststop.is_empty() && external.is_none())
                .then(|| Box::new(plan.clone())),
            external,
        };
        if container.external.is_none() {
            container.run_hooks("poststart", plan, Status::Running, &mut warnings);
        }
        match with_terminal(ends, made.terminal, has_input(&plan.stdio)) {
            Ok(ends) => Ok((container, Started { pid: made.pid, pidfd: made.pidfd, ends }, warnings)),
            Err(failure) => {
                container.abandon();
                Err(failure)
            }
        }
    }

    /// Starts a further process.
    ///
    /// # Errors
    /// With the process gone.
    pub(crate) fn exec(&self, plan: &ExecPlan, fds: &[OwnedFd]) -> Result<Started, Failure> {
        let process = &plan.process;
        let (ends, theirs) = streams(process, &plan.stdio, fds)?;
        let streams = theirs.as_ref().map(|Theirs(fds)| fds);
        let made = match &self.external {
            None => self.exec_here(process, streams)?,
            Some(external) => external.exec(process, streams)?,
        };
        let ends = with_terminal(ends, made.terminal, has_input(&plan.stdio)).inspect_err(|_| {
            // What cannot be talked to is not left running.
            let _ = wharf_runtime::signal(&made.pidfd, SIGKILL);
        })?;
        Ok(Started { pid: made.pid, pidfd: made.pidfd, ends })
    }

    fn exec_here(
        &self,
        process: &Process,
        streams: Option<&[OwnedFd; 3]>,
    ) -> Result<wharf_runtime::Process, Failure> {
        let seccomp = compile(process)?;
        let options = ExecOptions {
            container_id: &self.id,
            init: self.main.as_fd(),
            init_pid: self.main_pid,
            cgroup: self.cgroup.as_ref(),
            io: io(process, streams),
            seccomp: seccomp.as_deref(),
            lifetime: Lifetime::OfParent,
            tolerate_missing_privilege: self.tolerate_missing_privilege,
            preserved: 0,
            plan: None,
        };
        Ok(wharf_runtime::exec(process, &options)?)
    }

    /// Signals the main process.
    pub(crate) fn signal_main(&self, signal: i32) -> Result<(), Failure> {
        match &self.external {
            None => Ok(wharf_runtime::signal(&self.main, signal)?),
            Some(external) => external.signal(&self.main, signal),
        }
    }

    /// Signals every process.
    pub(crate) fn signal_all(&self, signal: i32) -> Result<(), Failure> {
        if let Some(external) = &self.external {
            return external.signal_all(signal);
        }
        Ok(wharf_runtime::signal_all(self.group("signal")?, signal)?)
    }

    pub(crate) fn pause(&self) -> Result<(), Failure> {
        if let Some(external) = &self.external {
            return external.pause();
        }
        Ok(wharf_runtime::pause(self.group("pause")?)?)
    }

    pub(crate) fn resume(&self) -> Result<(), Failure> {
        if let Some(external) = &self.external {
            return external.resume();
        }
        Ok(wharf_runtime::resume(self.group("resume")?)?)
    }

    pub(crate) fn update(&self, resources: &Resources) -> Result<(), Failure> {
        if let Some(external) = &self.external {
            return external.update(resources);
        }
        if let Some(scope) = &self.scope {
            wharf_runtime::update_scope(scope, resources)?;
        }
        // What this machine cannot limit was said when the container was started.
        Ok(wharf_runtime::update(self.group("update")?, resources).map(drop)?)
    }

    /// Becomes readable when the group's memory ran out.
    pub(crate) fn oom_watch(&self) -> Option<BorrowedFd<'_>> {
        self.oom_watch.as_ref().map(AsFd::as_fd)
    }

    /// Whether the kernel has killed for memory since this was last asked.
    pub(crate) fn take_oom(&mut self) -> bool {
        if let Some(watch) = &self.oom_watch {
            // It stays readable then, and is asked again.
            let _ = watch.drain();
        }
        let kills = self.cgroup.as_ref().and_then(|group| group.oom_kills().ok()).unwrap_or(0);
        let before = std::mem::replace(&mut self.oom_kills, kills);
        kills > before
    }

    /// The main process has ended: others that did not end with it are killed.
    pub(crate) fn kill_rest(&self) {
        if !self.has_own_pids {
            self.kill_all();
        }
    }

    fn kill_all(&self) {
        if let Some(group) = &self.cgroup {
            // What escapes now is met again when the group is removed.
            let _ = wharf_runtime::signal_all(group, SIGKILL);
        }
    }

    /// Ends and removes it.
    pub(crate) fn abandon(&mut self) {
        self.kill_all();
        self.delete();
    }

    /// Removes what is left of it.
    pub(crate) fn delete(&mut self) {
        self.oom_watch = None;
        if let Some(external) = self.external.take() {
            external.delete();
        }
        if let Some(scope) = self.scope.take() {
            self.kill_all();
            // Empty, it goes by itself.
            let _ = wharf_runtime::delete_scope(&scope);
        }
        if let Some(group) = self.cgroup.take() {
            // A group that stays is found and removed by the daemon's next look.
            let _ = wharf_runtime::delete(&group);
        }
        if let Some(plan) = self.plan_with_hooks.take() {
            self.run_hooks("poststop", &plan, Status::Stopped, &mut Vec::new());
        }
    }

    /// Hooks after which nothing can be undone: their failures are warnings (source: OCI runtime-spec, runtime.md,
    /// "Lifecycle").
    fn run_hooks(&self, kind: &'static str, plan: &Plan, status: Status, warnings: &mut Vec<String>) {
        let hooks = match status {
            Status::Stopped => &plan.hooks.poststop,
            _ => &plan.hooks.poststart,
        };
        if hooks.is_empty() {
            return;
        }
        let state = hooks::state_json(plan, status, self.main_pid);
        if let Err(error) = hooks::run(kind, hooks, &state) {
            warnings.push(error.to_string());
        }
    }

    fn group(&self, step: &str) -> Result<&Cgroup, Failure> {
        self.cgroup.as_ref().ok_or_else(|| refused(step, &"the container has no control group of its own"))
    }
}

/// Makes it with Wharf's own runtime.
fn create_here(plan: &Plan, inputs: &Inputs<'_>) -> Result<wharf_runtime::Container, Failure> {
    if plan.hooks != wharf_spec::plan::Hooks::default() {
        // They look for the container's root and more in its bundle (source: OCI runtime-spec, config.md, "POSIX-platform
        // Hooks").
        external::write_config(plan, inputs, &mut Vec::new())?;
    }
    let seccomp = compile(&plan.process)?;
    let init_program = match inputs.init_program.filter(|_| plan.init) {
        Some(path) => Some(open(path, OFlags::PATH | OFlags::CLOEXEC)?),
        None => None,
    };
    let options = CreateOptions {
        io: io(&plan.process, inputs.streams),
        seccomp: seccomp.as_deref(),
        gate: None,
        init_program: init_program.as_ref().map(AsFd::as_fd),
        lifetime: Lifetime::OfParent,
        preserved: 0,
        no_pivot: false,
    };
    Ok(wharf_runtime::create(plan, inputs.fds, &options)?)
}

fn compile(process: &Process) -> Result<Option<std::sync::Arc<wharf_runtime::seccomp::Program>>, Failure> {
    let compiled = wharf_runtime::seccomp::compile(&process.seccomp, process.capabilities.bounding);
    compiled.map_err(|error| wharf_runtime::Error::from(error).into())
}

/// The process's ends of its streams.
#[derive(Debug)]
struct Theirs([OwnedFd; 3]);

fn io<'a>(process: &Process, theirs: Option<&'a [OwnedFd; 3]>) -> Io<'a> {
    match (theirs, process.terminal) {
        (Some([stdin, stdout, stderr]), _) => Io::Given([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]),
        (None, size) => Io::Terminal(size.unwrap_or_default()),
    }
}

fn has_input(stdio: &Stdio) -> bool {
    matches!(stdio, Stdio::Shim { stdin: true, .. })
}

/// Makes the streams, ours and theirs; for a terminal both come later.
fn streams(process: &Process, stdio: &Stdio, fds: &[OwnedFd]) -> Result<(Ends, Option<Theirs>), Failure> {
    if process.terminal.is_some() {
        return Ok((Ends::default(), None));
    }
    match stdio {
        Stdio::Given([stdin, stdout, stderr]) => {
            let theirs = [given(*stdin, fds)?, given(*stdout, fds)?, given(*stderr, fds)?];
            Ok((Ends::default(), Some(Theirs(theirs))))
        }
        Stdio::Shim { stdin, .. } => pipes(*stdin).map_err(|error| refused("make pipes", &error)),
    }
}

fn pipes(stdin: bool) -> Result<(Ends, Option<Theirs>), wharf_sys::Error> {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).on("pipe", || "stdio");
    let (out_ours, out_theirs) = pipe()?;
    let (err_ours, err_theirs) = pipe()?;
    // Kernel limits per user may forbid it, which only costs speed.
    let _ = rustix::pipe::fcntl_setpipe_size(&out_ours, OUTPUT_PIPE);
    let (in_ours, in_theirs) = if stdin {
        let (theirs, ours) = pipe()?;
        (Some(ours), theirs)
    } else {
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        (None, null.on("open", || "/dev/null")?)
    };
    for ours in [Some(&out_ours), Some(&err_ours), in_ours.as_ref()].into_iter().flatten() {
        seqpacket::set_nonblocking(ours, true)?;
    }
    let ends = Ends { stdin: in_ours, stdout: Some(out_ours), stderr: Some(err_ours), terminal: None };
    Ok((ends, Some(Theirs([in_theirs, out_theirs, err_theirs]))))
}

/// Adds a terminal's end, if there is one, as input and output.
fn with_terminal(ends: Ends, terminal: Option<OwnedFd>, input: bool) -> Result<Ends, Failure> {
    let Some(terminal) = terminal else { return Ok(ends) };
    let copy = || terminal.try_clone().map_err(|error| refused("copy the terminal", &error));
    seqpacket::set_nonblocking(&terminal, true).map_err(|error| refused("prepare the terminal", &error))?;
    let stdin = if input { Some(copy()?) } else { None };
    Ok(Ends { stdin, stdout: Some(copy()?), stderr: None, terminal: Some(terminal) })
}

fn given(fd: Fd, fds: &[OwnedFd]) -> Result<OwnedFd, Failure> {
    let fd =
        fds.get(usize::from(fd.0)).ok_or_else(|| refused("take the descriptors", &"one did not come"))?;
    fd.try_clone().map_err(|error| refused("take the descriptors", &error))
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Failure> {
    rustix::fs::open(path, flags, Mode::empty())
        .on("open", || path.display().to_string())
        .map_err(|error| refused("open docker-init", &error))
}

fn refused(step: &str, problem: &dyn std::fmt::Display) -> Failure {
    Failure { kind: FailureKind::Setup, step: step.into(), errno: 0, message: format!("{step}: {problem}") }
}
