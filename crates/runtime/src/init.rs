//! What a new process does between clone3 and execve, step by step.
//!
//! Two ways lead here: [`run`] for a container's first process, which builds the container around itself, and
//! [`run_entered`] for a further process, which an intermediate one has brought into the namespaces already.
//! Both end in the same steps: terminal, credentials, program. Nothing here returns to the caller: the
//! process becomes the program, or reports why not and ends.

mod credentials;
mod devices;
mod environment;
mod labels;
pub(crate) mod limits;
mod masks;
mod mounts;
mod namespaces;
mod pivot;
mod proc;
mod program;
mod sysctls;
mod terminal;
mod tuning;

pub(crate) use proc::ProcHandle;

use crate::cgroup::Group;
use crate::create::{CreateOptions, Lifetime};
use crate::error::{Error, Result, Step, point};
use crate::exec::ExecOptions;
use crate::hooks;
use crate::rootfs::Sources;
use crate::seccomp::{self, Program};
use crate::spawn::{Joined, libc_sigkill};
use crate::sync::ChildEnd;
use limits::Limits;
use rustix::fd::{AsFd, BorrowedFd};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use wharf_spec::plan::{Hook, Namespace, Plan, Process};
use wharf_sys::cgroup::Cgroup;
use wharf_sys::{fault, process};

/// Status of a process that could not become its program, as runc's.
const FAILED: i32 = 255;

/// A container's first process.
pub(crate) struct Setup<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) options: &'a CreateOptions<'a>,
    pub(crate) sources: &'a Sources<'a>,
    /// Namespaces it has to join itself; `None` when an intermediate process did.
    pub(crate) joined: Option<&'a Joined>,
    /// The group it has to enter itself; `None` when somebody else brings it there.
    pub(crate) enter: Option<&'a Group>,
    /// The group it is in at the end.
    pub(crate) cgroup: Option<&'a Cgroup>,
    pub(crate) sync: &'a ChildEnd,
}

/// A further process, already in the container's namespaces.
pub(crate) struct Entered<'a> {
    pub(crate) process: &'a Process,
    pub(crate) options: &'a ExecOptions<'a>,
    pub(crate) in_user_namespace: bool,
    pub(crate) sync: &'a ChildEnd,
}

/// Becomes a container's first process.
pub(crate) fn run(setup: &Setup<'_>) -> ! {
    guarded(setup.sync, || first_process(setup))
}

/// Becomes a further process of a container.
pub(crate) fn run_entered(entered: &Entered<'_>) -> ! {
    guarded(entered.sync, || further_process(entered))
}

/// Runs the steps; whatever goes wrong, a panic included, must not unwind into what is the parent's code.
fn guarded(sync: &ChildEnd, steps: impl FnOnce() -> Result<Infallible>) -> ! {
    match catch_unwind(AssertUnwindSafe(steps)) {
        Ok(Err(error)) => sync.fail(error),
        Ok(Ok(never)) => match never {},
        Err(_) => sync.fail(Error::refused("init", "panicked")),
    }
    process::exit(FAILED)
}

fn first_process(setup: &Setup<'_>) -> Result<Infallible> {
    let plan = setup.plan;
    detach_from_parent(setup.sync, setup.options.lifetime, setup.options.preserved)?;
    let mut warnings = Vec::new();
    point("init.detached")?;
    namespaces::enter(setup)?;
    point("init.entered")?;
    let proc = ProcHandle::open()?;
    choose_cpus(&[])?;
    warnings.extend(leave_keyring(&plan.id));
    build_root(setup, &mut warnings)?;
    point("init.rooted")?;
    let gate = setup.options.gate;
    let keep: Vec<BorrowedFd<'_>> = [proc.as_fd(), setup.sync.as_fd()].into_iter().chain(gate).collect();
    process::close_all_but(first_unwanted(setup.options.preserved), &keep);
    // Not before: building a root may take more than its processes may.
    match plan.namespaces.user {
        Namespace::Host => {
            let limits = Limits { process: &plan.process, tolerate: plan.tolerate_missing_privilege };
            warnings.extend(limits::set(&proc, limits::Target::Own, &limits)?);
        }
        _ => setup.sync.await_limits()?,
    }
    namespaces::set_names(plan)?;
    labels::set(&proc, &plan.process)?;
    sysctls::write(&proc, &plan.sysctls)?;
    point("init.set")?;
    let tail = Tail {
        process: &plan.process,
        seccomp: setup.options.seccomp,
        tolerate: plan.tolerate_missing_privilege,
        in_user_namespace: plan.namespaces.user != Namespace::Host,
        lifetime: setup.options.lifetime,
        run_as_init: plan.init,
        sync: setup.sync,
    };
    let prepared = prepare_program(&tail, &mut warnings)?;
    if tail.process.no_new_privileges && seccomp::notifies(tail.seccomp) {
        // While the parent still listens: it hands the filter's descriptor on.
        program::install_filter(tail.seccomp, setup.sync)?;
    }
    if gate.is_some() {
        program::heed_signals();
    }
    announce(setup.sync, &warnings)?;
    fault::death("init.ready");
    if let Some(gate) = gate {
        program::wait_at_gate(&proc, gate)?;
    }
    if tail.process.no_new_privileges && !seccomp::notifies(tail.seccomp) {
        program::install_filter(tail.seccomp, setup.sync)?;
    }
    run_start_container_hooks(plan, &prepared)?;
    program::execute(&prepared)
}

/// Hooks inside the container. One without an environment of its own has the process's (source: runc
/// `standard_init_linux.go`).
fn run_start_container_hooks(plan: &Plan, prepared: &program::Prepared) -> Result<()> {
    if plan.hooks.start_container.is_empty() {
        return Ok(());
    }
    // Only init's own pid namespace is known here: 1, as runc tells it.
    let state = hooks::state_json(plan, hooks::Status::Created, std::process::id() as i32);
    let with_environment = |hook: &Hook| match hook.env.is_empty() {
        true => Hook { env: prepared.environment(), ..hook.clone() },
        false => hook.clone(),
    };
    let hooks: Vec<Hook> = plan.hooks.start_container.iter().map(with_environment).collect();
    hooks::run("startContainer", &hooks, &state)
}

fn further_process(entered: &Entered<'_>) -> Result<Infallible> {
    let options = entered.options;
    detach_from_parent(entered.sync, options.lifetime, options.preserved)?;
    let mut warnings = Vec::new();
    entered.sync.await_limits()?;
    if entered.in_user_namespace {
        namespaces::become_root()?;
    }
    choose_cpus(&entered.process.tuning.final_cpus)?;
    warnings.extend(leave_keyring(options.container_id));
    point("exec.entered")?;
    let root = terminal::container_root()?;
    let stdio = terminal::open(&root, &options.io, entered.sync)?;
    terminal::take(&stdio)?;
    if labels::wanted(entered.process) {
        // One of its own: the container's is not to be trusted, the host's not to be had here.
        labels::set(&ProcHandle::fresh()?, entered.process)?;
    }
    point("exec.set")?;
    let tail = Tail {
        process: entered.process,
        seccomp: options.seccomp,
        tolerate: options.tolerate_missing_privilege,
        in_user_namespace: entered.in_user_namespace,
        lifetime: options.lifetime,
        run_as_init: false,
        sync: entered.sync,
    };
    let prepared = prepare_program(&tail, &mut warnings)?;
    if tail.process.no_new_privileges {
        program::install_filter(tail.seccomp, tail.sync)?;
    }
    announce(entered.sync, &warnings)?;
    fault::death("exec.ready");
    program::execute(&prepared)
}

/// Gives up what a forked process has from its parent: signals, niceness, umask, being looked into.
fn detach_from_parent(sync: &ChildEnd, lifetime: Lifetime, preserved: u32) -> Result<()> {
    process::set_dumpable(false).step(|| "set dumpable")?;
    die_with_parent(lifetime)?;
    if !sync.parent_is_there() {
        return Err(Error::refused("init", "the parent has ended"));
    }
    process::reset_signals().step(|| "reset signals")?;
    process::reset_nice();
    // Modes of what is made in the root are exact; the process's own mask comes later.
    process::set_umask(0);
    process::close_on_exec_from(first_unwanted(preserved) as i32).step(|| "close descriptors")
}

/// The first descriptor that is not for the program.
pub(crate) fn first_unwanted(preserved: u32) -> u32 {
    preserved.saturating_add(3).min(i32::MAX as u32)
}

/// Leaves the CPUs of whoever made this process, for those wanted; without a wish for all that its control group
/// has.
fn choose_cpus(wanted: &[u32]) -> Result<()> {
    if wanted.is_empty() {
        // Forbidden by a filter around us, perhaps: nothing to fail for.
        let _ = process::set_all_cpus();
        return Ok(());
    }
    process::set_cpus(wanted).step(|| "set final CPU affinity")
}

fn die_with_parent(lifetime: Lifetime) -> Result<()> {
    match lifetime {
        Lifetime::OfParent => {
            process::set_parent_death_signal(libc_sigkill()).step(|| "set parent death signal")
        }
        Lifetime::Own => Ok(()),
    }
}

/// Leaves the host's session keyring. It protects little and fails for many reasons (quota, no keyrings in
/// the kernel, a filter around the shim): a warning.
fn leave_keyring(id: &str) -> Option<String> {
    match process::join_session_keyring(&format!("_ses.{id}")) {
        Err(error) if !error.is(wharf_sys::Errno::NOSYS) => {
            Some(format!("unable to join session keyring: {error}"))
        }
        _ => None,
    }
}

/// Everything about the file system: after this, `/` is the container's.
fn build_root(setup: &Setup<'_>, warnings: &mut Vec<String>) -> Result<()> {
    let plan = setup.plan;
    let root = pivot::attach_root(&setup.sources.root)?;
    point("init.attached")?;
    let made = mounts::make(setup, &root, warnings)?;
    point("init.mounted")?;
    if let Some(program) = &setup.sources.init {
        mounts::bind_init(&root, program)?;
    }
    if devices::wanted(plan) {
        devices::make(plan, &root)?;
    }
    if !plan.hooks.prestart.is_empty() || !plan.hooks.create_runtime.is_empty() {
        setup.sync.await_hooks()?;
    }
    let state = hooks::state_json(plan, hooks::Status::Creating, std::process::id() as i32);
    hooks::run("createContainer", &plan.hooks.create_container, &state)?;
    let stdio = terminal::open(&root, &setup.options.io, setup.sync)?;
    terminal::mount_console(&root, &stdio)?;
    masks::apply(plan, &root)?;
    point("init.masked")?;
    pivot::enter(plan, &root, &made, setup.options.no_pivot)?;
    terminal::take(&stdio)?;
    if devices::wanted(plan) {
        terminal::reopen_null()?;
    }
    Ok(())
}

/// The last steps, common to both kinds of processes.
struct Tail<'a> {
    process: &'a Process,
    seccomp: Option<&'a Program>,
    tolerate: bool,
    in_user_namespace: bool,
    lifetime: Lifetime,
    /// Run under `docker-init`.
    run_as_init: bool,
    sync: &'a ChildEnd,
}

/// Takes on the process's identity and finds its program.
fn prepare_program(tail: &Tail<'_>, warnings: &mut Vec<String>) -> Result<program::Prepared> {
    let process = tail.process;
    process::set_umask(process.umask.unwrap_or(0o022));
    tuning::apply(&process.tuning)?;
    let env = environment::prepare(&process.env, process.uid)?;
    let entered = credentials::enter_as_root(process)?;
    if process.no_new_privileges {
        process::no_new_privileges().step(|| "set no_new_privs")?;
    } else {
        // Without no_new_privs installing a filter is a privilege that is about to be dropped. From here on the
        // calls must be few and old: the filter may be one that knows nothing else.
        program::install_filter(tail.seccomp, tail.sync)?;
    }
    let identity = credentials::Identity {
        process,
        entered,
        tolerate: tail.tolerate,
        in_user_namespace: tail.in_user_namespace,
    };
    warnings.extend(credentials::assume(&identity)?);
    // A change of ids has undone both.
    process::set_dumpable(false).step(|| "set dumpable")?;
    die_with_parent(tail.lifetime)?;
    program::find(&process.args, env, tail.run_as_init)
}

/// Tells the parent what was skipped and that only filter and execve are left.
fn announce(sync: &ChildEnd, warnings: &[String]) -> Result<()> {
    warnings.iter().try_for_each(|warning| sync.warn(warning))?;
    sync.ready()
}
