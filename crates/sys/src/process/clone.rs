//! clone3(2) as a fork: the child is a copy of the caller and goes on with ordinary Rust.

use crate::raw::{check, own};
use crate::{Context, Error, Result};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::marker::PhantomData;

use super::Namespaces;

/// Proof that the calling process had one thread when this was made. In a forked child of such a process it
/// still holds. Who starts threads afterwards and forks nevertheless gets children whose locks may be stuck.
#[derive(Debug, Clone, Copy)]
pub struct SingleThreaded(PhantomData<*const ()>);

impl SingleThreaded {
    /// Looks into `/proc/self/task`; an error when there are more threads than the caller.
    pub fn check() -> Result<SingleThreaded> {
        let path = "/proc/self/task";
        // A directory has one link for each subdirectory besides its own two.
        let links = rustix::fs::stat(path).on("stat", || path)?.st_nlink;
        match links {
            3 => Ok(SingleThreaded(PhantomData)),
            _ => Err(Error::malformed(
                "fork",
                format!("{} threads where one is allowed", links.saturating_sub(2)),
            )),
        }
    }
}

/// How [`clone`] makes the child.
#[derive(Debug, Default)]
pub struct CloneOptions<'a> {
    /// New namespaces for the child.
    pub namespaces: Namespaces,
    /// A cgroup v2 directory the child is born in (CLONE_INTO_CGROUP, kernel 5.7).
    pub into_cgroup: Option<BorrowedFd<'a>>,
    /// The child becomes a sibling: its parent is the caller's parent (CLONE_PARENT).
    pub as_sibling: bool,
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    /// The caller, with the child's pid (in the caller's pid namespace) and pidfd.
    Parent {
        /// Process id.
        pid: i32,
        /// Readable when the child ends.
        pidfd: OwnedFd,
    },
    /// The child.
    Child,
}

/// `struct clone_args` (source: clone3(2)).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks. Where clone3(2) is missing or filtered out (ENOSYS: inside a container with Docker's seccomp
/// profile) and no cgroup is asked for, clone(2) does it.
pub fn clone(_proof: SingleThreaded, options: &CloneOptions<'_>) -> Result<Fork> {
    let mut pidfd: i32 = -1;
    let mut flags = libc::CLONE_PIDFD as u64 | u64::from(options.namespaces.bits());
    let mut cgroup = 0;
    if options.as_sibling {
        flags |= libc::CLONE_PARENT as u64;
    }
    if let Some(fd) = options.into_cgroup {
        flags |= CLONE_INTO_CGROUP;
        cgroup = fd.as_raw_fd() as u64;
    }
    // With CLONE_PARENT the child gets the caller's own exit signal and must not name one.
    let exit_signal = if options.as_sibling { 0 } else { libc::SIGCHLD as u64 };
    let args = CloneArgs { flags, pidfd: &raw mut pidfd as u64, exit_signal, cgroup, ..CloneArgs::default() };
    let pid = match clone3(&args) {
        Err(Errno::NOSYS) if options.into_cgroup.is_none() => legacy_clone(&args),
        other => other,
    };
    let pid = pid.on("clone3", || options.namespaces.to_string())?;
    if pid == 0 {
        return Ok(Fork::Child);
    }
    let pidfd = own(pidfd.into()).on("clone3", || "pidfd")?;
    Ok(Fork::Parent { pid: pid as i32, pidfd })
}

fn clone3(args: &CloneArgs) -> Result<libc::c_long, Errno> {
    // SAFETY: no CLONE_VM: the child has a copy of this memory and the same stack address in it. The caller
    // has one thread (see `SingleThreaded`), so no lock of the copy is held by a thread that does not exist
    // there. `args` and the pidfd it points to are live.
    let value = unsafe { libc::syscall(libc::SYS_clone3, args as *const CloneArgs, size_of::<CloneArgs>()) };
    check(value)
}

/// The first three arguments are in the same order on all architectures we build for; tid and tls are unused.
fn legacy_clone(args: &CloneArgs) -> Result<libc::c_long, Errno> {
    let flags = args.flags | args.exit_signal;
    // SAFETY: as for clone3; the third argument of clone(2) is where CLONE_PIDFD stores the descriptor.
    let value = unsafe { libc::syscall(libc::SYS_clone, flags, 0u64, args.pidfd, 0u64, 0u64) };
    check(value)
}
