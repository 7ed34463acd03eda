//! Running a further process in a container.
//!
//! An intermediate process joins the container's control group and all its namespaces at once, by the pidfd
//! of the first process, and makes the real one as its sibling: a child of the caller inside the container's
//! pid namespace. From the first instruction on it cannot be traced or looked into by the container
//! (CVE-2016-9962).

use crate::create::{Io, Lifetime, Progress};
use crate::error::{Error, Result, Step};
use crate::init::limits::{self, Limits};
use crate::init::{self, Entered, ProcHandle};
use crate::seccomp::Program;
use crate::spawn::{self, Intermediate, Spawned};
use crate::sync::{self, ParentEnd, Report};
use crate::validate;
use rustix::fd::{BorrowedFd, OwnedFd};
use wharf_spec::plan;
use wharf_sys::cgroup::{Cgroup, Hierarchies, Join};
use wharf_sys::process::{self, Namespaces, SingleThreaded};

/// What [`exec`] needs besides the process.
#[derive(Debug)]
pub struct ExecOptions<'a> {
    /// The container's id: names its keyring.
    pub container_id: &'a str,
    /// The container's first process.
    pub init: BorrowedFd<'a>,
    /// Its pid.
    pub init_pid: i32,
    /// The container's control group; `None` leaves the process in the caller's.
    pub cgroup: Option<&'a Cgroup>,
    /// Input and output.
    pub io: Io<'a>,
    /// The system call filter, compiled from `process.seccomp`.
    pub seccomp: Option<&'a Program>,
    /// Whether it dies with its parent.
    pub lifetime: Lifetime,
    /// As in the plan: limits that are not allowed are skipped with a warning.
    pub tolerate_missing_privilege: bool,
}

/// A process that runs its program.
#[derive(Debug)]
pub struct Process {
    /// As the caller's pid namespace numbers it; a child of the caller.
    pub pid: i32,
    /// The same, readable when it ends.
    pub pidfd: OwnedFd,
    /// Our end of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
    /// What was skipped.
    pub warnings: Vec<String>,
}

/// Runs a process in a container.
///
/// The caller has to reap it soon after its end: the kernel lets the first process of a pid namespace end only
/// when all others are reaped.
///
/// # Errors
/// With the process reaped. [`Error::NotRunning`] when the container's first process has ended.
pub fn exec(wanted: &plan::Process, options: &ExecOptions<'_>) -> Result<Process> {
    let proof = SingleThreaded::check().step(|| "exec")?;
    validate::process(wanted)?;
    let namespaces = namespaces_to_join(options.init_pid)?;
    let join = open_join(options)?;
    if namespaces.contains(Namespaces::USER) {
        spawn::give_pipes(&options.io, &spawn::read_maps(options.init_pid)?, wanted)?;
    }
    match attempt(wanted, options, namespaces, join.as_ref(), proof) {
        // The container has handed its own group's controllers down (systemd inside does): follow its first
        // process.
        Err(Error::Init(failure)) if failure.errno == EBUSY && join.as_ref().is_some_and(is_directory) => {
            let group = Hierarchies::detect().and_then(|all| all.of_process(options.init_pid));
            let join = group.and_then(|group| group.open_join()).step(|| "unable to join cgroup")?;
            attempt(wanted, options, namespaces, Some(&join), proof)
        }
        other => other,
    }
}

const EBUSY: i32 = wharf_sys::Errno::BUSY.raw_os_error();

fn is_directory(join: &Join) -> bool {
    join.directory().is_some()
}

fn open_join(options: &ExecOptions<'_>) -> Result<Option<Join>> {
    options.cgroup.map(Cgroup::open_join).transpose().step(|| "unable to join cgroup")
}

fn attempt(
    wanted: &plan::Process,
    options: &ExecOptions<'_>,
    namespaces: Namespaces,
    join: Option<&Join>,
    proof: SingleThreaded,
) -> Result<Process> {
    let (parent, child) = sync::pair()?;
    let init = options.init;
    let before = || {
        if let Some(join) = join {
            join.enter_v1().step(|| "unable to join cgroup")?;
        }
        process::set_namespaces_of(init, namespaces).step(|| "join namespaces")
    };
    let into_cgroup = join.and_then(Join::directory);
    let how = Intermediate { before: &before, namespaces: Namespaces::empty(), into_cgroup };
    // The caller's procfs, for what is about the new process itself: the container's own is not to be
    // trusted.
    let proc = ProcHandle::open()?;
    let Some(spawned) = spawn::through(proof, &how)? else {
        drop(parent);
        let in_user_namespace = namespaces.contains(Namespaces::USER);
        init::run_entered(&Entered { process: wanted, options, proc: &proc, in_user_namespace, sync: &child })
    };
    drop(child);
    let limits = Limits { process: wanted, tolerate: options.tolerate_missing_privilege };
    match follow(&parent, &spawned, &proc, &limits) {
        Ok(progress) => {
            let Spawned { pid, pidfd } = spawned;
            Ok(Process { pid, pidfd, terminal: progress.terminal, warnings: progress.warnings })
        }
        Err(error) => {
            spawned.kill();
            Err(error)
        }
    }
}

fn follow(parent: &ParentEnd, spawned: &Spawned, proc: &ProcHandle, limits: &Limits<'_>) -> Result<Progress> {
    let mut progress = Progress::default();
    while let Some(report) = parent.next()? {
        match progress.note(report)? {
            // Limits are the host's to give: the process may be in a user namespace.
            Some(Report::WantsMaps) => {
                progress.warnings.extend(limits::set(proc, limits::Target::Child(spawned.pid), limits)?);
                parent.go_on()?;
            }
            Some(_) => return Err(Error::refused("init pipe", "a report out of place")),
            None => {}
        }
    }
    progress.finish(spawned)
}

/// All namespaces of the first process. Joining one's own user namespace is an error, so it is left out when
/// it is the same.
fn namespaces_to_join(init_pid: i32) -> Result<Namespaces> {
    let all = Namespaces::all();
    let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user"));
    match (link(&init_pid.to_string()), link("self")) {
        (Ok(theirs), Ok(ours)) if theirs == ours => Ok(all - Namespaces::USER),
        (Ok(_), Ok(_)) => Ok(all),
        (Err(_), _) => Err(Error::NotRunning),
        (_, Err(error)) => Err(Error::refused("open /proc/self/ns/user", error.to_string())),
    }
}
