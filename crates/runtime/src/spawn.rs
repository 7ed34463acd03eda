//! Forking a container's processes into their namespaces.

use crate::create::Io;
use crate::error::{Error, Result, Step, point};
use crate::init::ProcHandle;
use crate::rootfs::given;
use crate::sync::{self, Report};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Gid, Uid};
use std::path::Path;
use wharf_spec::plan::{IdMap, IdMaps, Namespace, Plan, Process, Source, TimeOffset};
use wharf_sys::fault;
use wharf_sys::process::{self, CloneOptions, Exit, Fork, Namespaces, SingleThreaded};

/// Namespaces that a plan joins, opened.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    all: Vec<(Namespaces, OwnedFd)>,
}

impl Joined {
    /// Opens them. User and pid namespaces come last: the others are joined with the rights of the host.
    pub(crate) fn open(plan: &Plan, fds: &[OwnedFd]) -> Result<Joined> {
        let namespaces = &plan.namespaces;
        let kinds = [
            (Namespaces::NET, &namespaces.network),
            (Namespaces::IPC, &namespaces.ipc),
            (Namespaces::UTS, &namespaces.uts),
            (Namespaces::CGROUP, &namespaces.cgroup),
            (Namespaces::TIME, &namespaces.time),
            (Namespaces::PID, &namespaces.pid),
            (Namespaces::USER, &namespaces.user),
        ];
        let mut all = Vec::new();
        for (kind, namespace) in kinds {
            let Namespace::Join(source) = namespace else { continue };
            let fd = match source {
                Source::Path(path) => {
                    process::open_namespace(Path::new(path)).step(|| format!("open {kind} namespace"))?
                }
                Source::Fd(fd) => rustix::io::fcntl_dupfd_cloexec(given(*fd, fds)?, 3)
                    .map_err(|errno| wharf_sys::Error::call("dup", "namespace", errno))
                    .step(|| format!("open {kind} namespace"))?,
            };
            all.push((kind, fd));
        }
        Ok(Joined { all })
    }

    fn has(&self, kind: Namespaces) -> bool {
        self.all.iter().any(|(known, _)| *known == kind)
    }

    /// Joins them all. A pid namespace counts for the next child only.
    pub(crate) fn enter(&self) -> Result<()> {
        for (kind, fd) in &self.all {
            process::set_namespace(fd, *kind).step(|| format!("join {kind} namespace"))?;
        }
        Ok(())
    }
}

/// The namespaces that clone3 makes. Not the cgroup namespace: its root is the group one is in when it is
/// made, and the child is not in its group yet.
pub(crate) fn new_namespaces(plan: &Plan) -> Namespaces {
    let kinds = [
        (Namespaces::NET, &plan.namespaces.network),
        (Namespaces::IPC, &plan.namespaces.ipc),
        (Namespaces::UTS, &plan.namespaces.uts),
        (Namespaces::PID, &plan.namespaces.pid),
        (Namespaces::USER, &plan.namespaces.user),
    ];
    let new = kinds.iter().filter(|(_, namespace)| **namespace == Namespace::New);
    new.fold(Namespaces::MOUNT, |all, (kind, _)| all | *kind)
}

/// Whether a process between parent and child has to join namespaces: pid and time namespaces take only children, a
/// user namespace must own the others, and in a new user namespace the rights to join the host's are gone.
pub(crate) fn needs_intermediate(plan: &Plan, joined: &Joined) -> bool {
    joined.has(Namespaces::PID)
        || joined.has(Namespaces::USER)
        || plan.namespaces.time != Namespace::Host
        || plan.namespaces.user == Namespace::New && !joined.all.is_empty()
}

/// Has the next child born in a time namespace of its own, whose clocks are set before anybody is in it (source:
/// time_namespaces(7)).
pub(crate) fn new_time_namespace(plan: &Plan) -> Result<()> {
    if plan.namespaces.time != Namespace::New {
        return Ok(());
    }
    process::unshare(Namespaces::TIME).step(|| "unshare time namespace")?;
    let line = |offset: &TimeOffset| format!("{} {} {}\n", offset.clock, offset.seconds, offset.nanoseconds);
    let text: String = plan.namespaces.time_offsets.iter().map(line).collect();
    if text.is_empty() {
        return Ok(());
    }
    ProcHandle::open()?.write("self/timens_offsets", &text).step(|| "set time namespace offsets")
}

/// A new process.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

impl Spawned {
    /// Ends a process that is not wanted any more, and reaps it.
    pub(crate) fn kill(&self) -> Option<Exit> {
        // It may have ended by itself.
        let _ = process::pidfd_send_signal(&self.pidfd, libc_sigkill());
        process::wait(&self.pidfd).ok()
    }
}

/// SIGKILL; the same number on every architecture.
pub(crate) const fn libc_sigkill() -> i32 {
    9
}

/// How a process is made by [`through`].
pub(crate) struct Intermediate<'a> {
    /// What the process in between does: joins namespaces and control groups.
    pub(crate) before: &'a dyn Fn() -> Result<()>,
    /// New namespaces of the child.
    pub(crate) namespaces: Namespaces,
    /// Group of both on cgroup v2.
    pub(crate) into_cgroup: Option<BorrowedFd<'a>>,
    /// All that the child has open; `None` is everything.
    pub(crate) keep: Option<Keep<'a>>,
}

/// Descriptors that a process keeps which is born where others may look into it.
pub(crate) struct Keep<'a> {
    /// Those below are not touched.
    pub(crate) first: u32,
    pub(crate) fds: &'a [BorrowedFd<'a>],
}

/// Forks directly. Returns twice: `None` in the child.
pub(crate) fn direct(proof: SingleThreaded, options: &CloneOptions<'_>) -> Result<Option<Spawned>> {
    match process::clone(proof, options).step(|| "clone")? {
        Fork::Child => Ok(None),
        Fork::Parent { pid, pidfd } => Ok(Some(Spawned { pid, pidfd })),
    }
}

/// Forks a process that joins namespaces, which makes the real one as its sibling and ends. Returns twice:
/// `None` in the real child.
pub(crate) fn through(proof: SingleThreaded, how: &Intermediate<'_>) -> Result<Option<Spawned>> {
    // Not the pipe of the real child, which may speak before the intermediate process has told its pid.
    let (parent, child) = sync::pair()?;
    // Born into the group, so that its child is: no descriptor of the group is open any more when that is made.
    let options = CloneOptions { into_cgroup: how.into_cgroup, ..CloneOptions::default() };
    match process::clone(proof, &options).step(|| "clone")? {
        Fork::Child => match between(proof, how, [parent.as_fd(), child.as_fd()]) {
            Ok(Fork::Child) => Ok(None),
            Ok(Fork::Parent { pid, .. }) => process::exit(i32::from(child.sibling(pid).is_err())),
            Err(error) => {
                child.fail(error);
                process::exit(1)
            }
        },
        Fork::Parent { pidfd, .. } => {
            drop(child);
            let report = parent.next();
            let exit = process::wait(&pidfd).step(|| "wait for the intermediate process")?;
            match report? {
                Some(Report::Sibling(pid)) => {
                    let pidfd = process::pidfd_open(pid).step(|| "open the new process")?;
                    Ok(Some(Spawned { pid, pidfd }))
                }
                Some(Report::Failed(failure)) => Err(Error::Init(failure)),
                _ => Err(Error::InitDied(exit.code())),
            }
        }
    }
}

fn between(proof: SingleThreaded, how: &Intermediate<'_>, pipe: [BorrowedFd<'_>; 2]) -> Result<Fork> {
    process::set_dumpable(false).step(|| "set dumpable")?;
    (how.before)()?;
    if let Some(Keep { first, fds }) = &how.keep {
        process::close_all_but(*first, &[*fds, &pipe].concat());
    }
    point("exec.joined")?;
    let options = CloneOptions { namespaces: how.namespaces, into_cgroup: None, as_sibling: true };
    let (held, holds) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| wharf_sys::Error::call("pipe", "sibling", errno))
        .step(|| "clone")?;
    let fork = process::clone(proof, &options).step(|| "clone")?;
    match fork {
        Fork::Child => {
            // Not a word to the parent before the process in between has told it whom to listen to: it holds the
            // other end until it ends.
            drop(holds);
            let _ = rustix::io::retry_on_intr(|| rustix::io::read(&held, &mut [0u8; 1]));
        }
        // Left open: the exit closes it.
        Fork::Parent { .. } => {
            fault::death("exec.forked");
            let _ = std::os::fd::IntoRawFd::into_raw_fd(holds);
        }
    }
    Ok(fork)
}

/// Writes the id maps of a process that has just got a new user namespace.
pub(crate) fn write_maps(pid: i32, maps: &IdMaps) -> Result<()> {
    for (file, lines) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
        let path = format!("/proc/{pid}/{file}");
        let line = |map: &IdMap| format!("{} {} {}\n", map.inside, map.outside, map.count);
        let text: String = lines.iter().map(line).collect();
        std::fs::write(&path, text)
            .map_err(|error| Error::refused(format!("write {path}"), error.to_string()))?;
    }
    Ok(())
}

/// A user namespace with these maps and nobody in it.
pub(crate) fn user_namespace(maps: &IdMaps, proof: SingleThreaded) -> Result<OwnedFd> {
    held(
        proof,
        Namespaces::USER,
        || Ok(()),
        |holder| {
            write_maps(holder, maps)?;
            namespace_of(holder, "user")
        },
    )
}

/// A user and a network namespace that belong together, with nobody in them.
#[derive(Debug)]
pub struct NamespacePair {
    /// The user namespace.
    pub user: OwnedFd,
    /// The network namespace, in which the other's root may do as root does.
    pub network: OwnedFd,
}

/// Makes a network namespace inside a user namespace: a new one with these maps, or the one of `user`.
///
/// # Errors
/// When the kernel refuses.
pub fn network_in_user_namespace(maps: &IdMaps, user: Option<BorrowedFd<'_>>) -> Result<NamespacePair> {
    let proof = SingleThreaded::check().step(|| "make namespaces")?;
    let new = if user.is_none() { Namespaces::USER | Namespaces::NET } else { Namespaces::empty() };
    let enter = || {
        let Some(user) = user else { return Ok(()) };
        process::set_namespace(user, Namespaces::USER).step(|| "join user namespace")?;
        process::unshare(Namespaces::NET).step(|| "unshare network namespace")
    };
    held(proof, new, enter, |holder| {
        if user.is_none() {
            write_maps(holder, maps)?;
        }
        Ok(NamespacePair { user: namespace_of(holder, "user")?, network: namespace_of(holder, "net")? })
    })
}

/// Makes a process in new namespaces, which does `enter`; gives what `take` has of it, by its pid, and ends it.
fn held<T>(
    proof: SingleThreaded,
    namespaces: Namespaces,
    enter: impl Fn() -> Result<()>,
    take: impl FnOnce(i32) -> Result<T>,
) -> Result<T> {
    let (parent, child) = sync::pair()?;
    let options = CloneOptions { namespaces, ..CloneOptions::default() };
    let Some(holder) = direct(proof, &options)? else {
        drop(parent);
        match enter() {
            // Waits until the parent has what it wants and kills this process.
            Ok(()) => drop(child.await_maps()),
            Err(error) => child.fail(error),
        }
        process::exit(0)
    };
    drop(child);
    let taken = match parent.next() {
        Ok(Some(Report::WantsMaps)) => take(holder.pid),
        Ok(Some(Report::Failed(failure))) => Err(Error::Init(failure)),
        Ok(_) => Err(Error::InitDied(0)),
        Err(error) => Err(error),
    };
    holder.kill();
    taken
}

fn namespace_of(pid: i32, kind: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{kind}");
    process::open_namespace(Path::new(&path)).step(|| format!("open {kind} namespace"))
}

/// The id maps of a process, as the caller's user namespace sees them.
pub(crate) fn read_maps(pid: i32) -> Result<IdMaps> {
    let read = |file: &str| -> Result<Vec<IdMap>> {
        let path = format!("/proc/{pid}/{file}");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error::refused(format!("read {path}"), error.to_string()))?;
        Ok(text.lines().filter_map(map_line).collect())
    };
    Ok(IdMaps { uids: read("uid_map")?, gids: read("gid_map")? })
}

fn map_line(line: &str) -> Option<IdMap> {
    let mut numbers = line.split_ascii_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(IdMap { inside: next()?, outside: next()?, count: next()? })
}

/// Gives the pipes of a process in a user namespace to its user: it could not open `/dev/stdout` otherwise, and has
/// no right to take what belongs to the host's root. Only pipes: others are the caller's own.
pub(crate) fn give_pipes(io: &Io<'_>, maps: &IdMaps, process: &Process) -> Result<()> {
    let Io::Given(all) = io else { return Ok(()) };
    let Ok((uid, gid)) = maps.to_host(process.uid, process.gid) else { return Ok(()) };
    for fd in all {
        if wharf_sys::path::file_type(fd).step(|| "fstat")? == FileType::Fifo {
            rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(|errno| wharf_sys::Error::call("fchown", "stdio", errno))
                .step(|| "give the streams to the container's user")?;
        }
    }
    Ok(())
}
