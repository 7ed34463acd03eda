//! Running a further process in a container.
//!
//! An intermediate process joins the container's control group and all its namespaces at once, by the pidfd
//! of the first process, and makes the real one as its sibling: a child of the caller inside the container's
//! pid namespace. From the first instruction on it cannot be traced or looked into by the container, and a
//! container that may trace everything finds nothing of the host in it: but for its streams and a socket to the
//! caller, all descriptors are closed before it is made (CVE-2016-9962).

use crate::create::{Io, Lifetime, Progress};
use crate::error::{Error, Result, Step};
use crate::hooks;
use crate::init::limits::{self, Limits};
use crate::init::{self, Entered, ProcHandle};
use crate::listener;
use crate::seccomp::Program;
use crate::spawn::{self, Intermediate, Keep, Spawned};
use crate::sync::{self, ParentEnd, Report};
use crate::validate;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
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
    /// How many descriptors from 3 on, left open by whoever started this program, its program gets too.
    pub preserved: u32,
    /// The container's plan, for what a seccomp listener is told.
    pub plan: Option<&'a plan::Plan>,
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
    options.cgroup.map(Cgroup::open_join).transpose().step(|| "error adding pid to cgroups")
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
        let cpus = &wanted.tuning.initial_cpus;
        if !cpus.is_empty() {
            process::set_cpus(cpus).step(|| "set initial CPU affinity")?;
        }
        if let Some(join) = join {
            join.enter_v1().step(|| "unable to join cgroup")?;
        }
        process::set_namespaces_of(init, namespaces).step(|| "join namespaces")
    };
    let into_cgroup = join.and_then(Join::directory);
    let mut fds = vec![parent.as_fd(), child.as_fd()];
    if let Io::Given(given) = options.io {
        fds.extend(given);
    }
    let keep = Some(Keep { first: init::first_unwanted(options.preserved), fds: &fds });
    let how = Intermediate { before: &before, namespaces: Namespaces::empty(), into_cgroup, keep };
    // The caller's procfs, for limits: the container's own is not to be trusted.
    let proc = ProcHandle::open()?;
    let Some(spawned) = spawn::through(proof, &how)? else {
        let in_user_namespace = namespaces.contains(Namespaces::USER);
        init::run_entered(&Entered { process: wanted, options, in_user_namespace, sync: &child })
    };
    drop(child);
    let limits = Limits { process: wanted, tolerate: options.tolerate_missing_privilege };
    match follow(&parent, &spawned, &Given { proc: &proc, limits: &limits, options }) {
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

/// What the new process may ask for.
struct Given<'a> {
    proc: &'a ProcHandle,
    limits: &'a Limits<'a>,
    options: &'a ExecOptions<'a>,
}

fn follow(parent: &ParentEnd, spawned: &Spawned, given: &Given<'_>) -> Result<Progress> {
    let options = given.options;
    let mut progress = Progress::default();
    while let Some(report) = parent.next()? {
        match progress.note(report)? {
            // Limits are the host's to give: the process may be in a user namespace, and has nothing of it open.
            Some(Report::WantsLimits) => {
                let target = limits::Target::Child(spawned.pid);
                progress.warnings.extend(limits::set(given.proc, target, given.limits)?);
                parent.go_on()?;
            }
            Some(Report::Listener(number)) => {
                let state = state_of(options);
                listener::hand_over(options.seccomp, spawned, number, &state)?;
                parent.go_on()?;
            }
            Some(_) => return Err(Error::refused("init pipe", "a report out of place")),
            None => {}
        }
    }
    progress.finish(spawned)
}

/// The container's state for a seccomp listener.
fn state_of(options: &ExecOptions<'_>) -> Vec<u8> {
    let pid = options.init_pid;
    match options.plan {
        Some(plan) => hooks::state_json(plan, hooks::Status::Running, pid),
        None => {
            let state = crate::oci::State::new(options.container_id, "running", pid, "");
            serde_json::to_vec(&state).unwrap_or_default()
        }
    }
}

/// All namespaces of the first process. Joining one's own user namespace is an error, and older kernels have no
/// time namespaces, so these are left out when they are the same.
fn namespaces_to_join(init_pid: i32) -> Result<Namespaces> {
    let mut wanted = Namespaces::all();
    for (kind, name) in [(Namespaces::USER, "user"), (Namespaces::TIME, "time")] {
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}"));
        match (link(&init_pid.to_string()), link("self")) {
            (Ok(theirs), Ok(ours)) if theirs == ours => wanted -= kind,
            (Ok(_), Ok(_)) => {}
            // A kernel without time namespaces.
            (Err(_), Err(_)) => wanted -= kind,
            (Err(_), Ok(_)) => return Err(Error::NotRunning),
            (Ok(_), Err(error)) => {
                return Err(Error::refused(format!("open /proc/self/ns/{name}"), error.to_string()));
            }
        }
    }
    Ok(wanted)
}
