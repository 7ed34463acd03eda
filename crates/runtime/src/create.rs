//! Making a container's first process.

use crate::cgroup::{self, Group};
use crate::error::{Error, Result, Step, point};
use crate::hooks;
use crate::init::{self, ProcHandle, Setup, limits};
use crate::listener;
use crate::rootfs;
use crate::seccomp::Program;
use crate::spawn::{self, Intermediate, Joined, Spawned};
use crate::sync::{self, ParentEnd, Report};
use crate::validate;
use rustix::fd::{BorrowedFd, OwnedFd};
use wharf_spec::plan::{Namespace, Plan, TerminalSize};
use wharf_sys::cgroup::Cgroup;
use wharf_sys::fault;
use wharf_sys::process::{CloneOptions, SingleThreaded};

/// Where a process's input and output go.
#[derive(Debug, Clone, Copy)]
pub enum Io<'a> {
    /// These become 0, 1 and 2.
    Given([BorrowedFd<'a>; 3]),
    /// A terminal of the container's own `/dev/pts`, of this size; the other end is returned.
    Terminal(TerminalSize),
    /// The same for a caller that writes what comes out to a terminal of its own: line ends stay as written.
    RelayedTerminal(TerminalSize),
}

/// Whether a process may outlive who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The kernel kills it when the calling thread ends: the shim's containers.
    OfParent,
    /// It goes on: those of the `wharf-runtime` command, which ends at once.
    Own,
}

/// What [`create`] needs besides the plan.
#[derive(Debug)]
pub struct CreateOptions<'a> {
    /// Its input and output.
    pub io: Io<'a>,
    /// The system call filter, compiled from `plan.process.seccomp`.
    pub seccomp: Option<&'a Program>,
    /// The fifo made by [`crate::make_gate`]: the process waits at it until [`crate::start`]. `None` starts
    /// at once.
    pub gate: Option<BorrowedFd<'a>>,
    /// The file of the `docker-init` program (on a mounted file system, not a memfd), for `plan.init`.
    pub init_program: Option<BorrowedFd<'a>>,
    /// Whether it dies with its parent.
    pub lifetime: Lifetime,
    /// How many descriptors from 3 on, left open by whoever started this program, its program gets too.
    pub preserved: u32,
    /// The root is entered with chroot(2): where the host's own is a ramfs, which pivot_root(2) refuses.
    pub no_pivot: bool,
}

/// A container whose first process runs its program, or waits at its gate.
#[derive(Debug)]
pub struct Container {
    /// The first process, as the caller's pid namespace numbers it; a child of the caller.
    pub pid: i32,
    /// The same, readable when it ends.
    pub pidfd: OwnedFd,
    /// Our end of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
    /// Its control group; `None` when it is in the caller's.
    pub cgroup: Option<Cgroup>,
    /// What could not be done and was not asked to be fatal.
    pub warnings: Vec<String>,
}

/// Makes a container. `fds` are the descriptors that came with the plan; mounts among them are used up.
///
/// # Errors
/// With everything undone: the process is reaped, the control group removed. [`wharf_spec::shim::Failure`]
/// (by `From`) tells program errors from the rest and has runc's words.
pub fn create(plan: &Plan, fds: &[OwnedFd], options: &CreateOptions<'_>) -> Result<Container> {
    let proof =
        SingleThreaded::check().map_err(|source| Error::Step { step: "create".to_owned(), source })?;
    validate::plan(plan)?;
    let mut warnings = Vec::new();
    let mut group = cgroup::prepare(plan, proof, &mut warnings)?;
    fault::death("create.grouped");
    match spawn_and_follow(plan, fds, options, group.as_mut(), proof) {
        Ok((spawned, progress)) => {
            let cgroup = group.map(|group| {
                warnings.extend(group.warnings);
                group.cgroup
            });
            warnings.extend(progress.warnings);
            let Spawned { pid, pidfd } = spawned;
            Ok(Container { pid, pidfd, terminal: progress.terminal, cgroup, warnings })
        }
        Err(error) => {
            if let Some(group) = group {
                // The error that led here is the one to tell.
                let _ = group.cgroup.remove();
            }
            Err(error)
        }
    }
}

fn spawn_and_follow(
    plan: &Plan,
    fds: &[OwnedFd],
    options: &CreateOptions<'_>,
    mut in_group: Option<&mut Group>,
    proof: SingleThreaded,
) -> Result<(Spawned, Progress)> {
    let group = in_group.as_deref();
    if let Some(maps) = &plan.namespaces.id_maps {
        spawn::give_pipes(&options.io, maps, &plan.process)?;
    }
    let sources = rootfs::open(plan, fds, options.init_program, proof)?;
    let joined = Joined::open(plan, fds)?;
    point("create.opened")?;
    let (parent, child) = sync::pair()?;
    let namespaces = spawn::new_namespaces(plan);
    let into_cgroup = group.and_then(|group| group.join.directory());
    let between = spawn::needs_intermediate(plan, &joined);
    let spawned = match between {
        true => {
            let before = || {
                if let Some(group) = group {
                    group.join.enter_v1().step(|| "unable to apply cgroup configuration")?;
                }
                joined.enter()?;
                spawn::new_time_namespace(plan)
            };
            let how = Intermediate { before: &before, namespaces, into_cgroup, keep: None };
            spawn::through(proof, &how)?
        }
        false => spawn::direct(proof, &CloneOptions { namespaces, into_cgroup, as_sibling: false })?,
    };
    let Some(spawned) = spawned else {
        drop(parent);
        let joined = (!between).then_some(&joined);
        let enter = group.filter(|_| !between && plan.namespaces.user != Namespace::New);
        let cgroup = group.map(|group| &group.cgroup);
        init::run(&Setup { plan, options, sources: &sources, joined, enter, cgroup, sync: &child })
    };
    fault::death("create.cloned");
    drop(child);
    let settled = in_group.as_deref_mut().map_or(Ok(()), |group| group.is_inhabited(&plan.cgroup.resources));
    let followed = settled.and_then(|()| follow(&parent, &spawned, plan, in_group.as_deref(), options));
    match followed {
        Ok(progress) => Ok((spawned, progress)),
        Err(error) => {
            spawned.kill();
            Err(error)
        }
    }
}

/// What a new process has told so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) warnings: Vec<String>,
    ready: bool,
}

impl Progress {
    /// Takes note of a report; gives back the ones that want something done.
    pub(crate) fn note(&mut self, report: Report) -> Result<Option<Report>> {
        match report {
            Report::Terminal(fd) => self.terminal = Some(fd),
            Report::Warning(text) => self.warnings.push(text),
            Report::Ready => self.ready = true,
            Report::Failed(failure) => return Err(Error::Init(failure)),
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    /// The pipe is closed: by execve when the process was ready, else by its death.
    pub(crate) fn finish(self, spawned: &Spawned) -> Result<Progress> {
        match self.ready {
            true => Ok(self),
            false => Err(Error::InitDied(spawned.kill().map_or(0, |exit| exit.code()))),
        }
    }
}

/// Serves the new process until its program runs, or until it waits at its gate.
fn follow(
    parent: &ParentEnd,
    spawned: &Spawned,
    plan: &Plan,
    group: Option<&Group>,
    options: &CreateOptions<'_>,
) -> Result<Progress> {
    let mut progress = Progress::default();
    while let Some(report) = parent.next()? {
        match progress.note(report)? {
            Some(Report::WantsMaps) => {
                settle_user_namespace(spawned, plan, group)?;
                parent.go_on()?;
            }
            Some(Report::WantsLimits) => {
                set_limits(spawned, plan, &mut progress)?;
                parent.go_on()?;
            }
            Some(Report::Listener(number)) => {
                let state = hooks::state_json(plan, hooks::Status::Creating, spawned.pid);
                listener::hand_over(options.seccomp, spawned, number, &state)?;
                parent.go_on()?;
            }
            Some(Report::WantsHooks) => {
                let state = hooks::state_json(plan, hooks::Status::Creating, spawned.pid);
                hooks::run("prestart", &plan.hooks.prestart, &state)?;
                hooks::run("createRuntime", &plan.hooks.create_runtime, &state)?;
                parent.go_on()?;
            }
            Some(_) => return Err(Error::refused("init pipe", "a report out of place")),
            None => {}
        }
        if progress.ready && options.gate.is_some() {
            return Ok(progress);
        }
    }
    progress.finish(spawned)
}

/// What a process in a new user namespace needs from the host first: id maps, its v1 group.
fn settle_user_namespace(spawned: &Spawned, plan: &Plan, group: Option<&Group>) -> Result<()> {
    if let (Namespace::New, Some(maps)) = (&plan.namespaces.user, &plan.namespaces.id_maps) {
        spawn::write_maps(spawned.pid, maps)?;
    }
    if let Some(group) = group.filter(|group| group.cgroup.version() == 1) {
        group.cgroup.add(spawned.pid).step(|| "unable to apply cgroup configuration")?;
    }
    Ok(())
}

/// Limits are the host's to give: a process in a user namespace cannot raise its own.
fn set_limits(spawned: &Spawned, plan: &Plan, progress: &mut Progress) -> Result<()> {
    let proc = ProcHandle::open()?;
    let limits = limits::Limits { process: &plan.process, tolerate: plan.tolerate_missing_privilege };
    progress.warnings.extend(limits::set(&proc, limits::Target::Child(spawned.pid), &limits)?);
    Ok(())
}
