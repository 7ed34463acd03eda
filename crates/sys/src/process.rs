//! Processes: making them, waiting for them, and changing what the calling one is.
//!
//! Forking is only sound when the caller has one thread: [`SingleThreaded`] is the proof that
//! [`clone`] asks for.

mod clone;
mod credentials;
mod exec;
mod inherit;
mod limits;
mod memory;
mod signals;
mod spawn;
mod tuning;

pub use clone::{CloneOptions, Fork, SingleThreaded, clone};
pub use credentials::{join_session_keyring, no_new_privileges, set_groups, set_ids, set_umask};
pub use exec::{close_all_but, close_on_exec_from, execve, execveat, exit};
pub use inherit::{is_inherited, take_inherited};
pub use limits::{LimitValue, limit, raise_descriptor_limit, reset_nice, set_limit, set_oom_score_adj};
pub use memory::trim_heap;
pub use signals::{
    block_signals, exit_on_termination_signals, ignore_signal, reset_signals, set_signal_mask,
};
pub use spawn::{spawn_with_default_signals, spawn_with_fd};
pub use tuning::{
    set_all_cpus, set_cpus, set_io_priority, set_memory_policy, set_personality, set_scheduler,
};

use crate::raw::{check, own, prctl};
use crate::{Context, Error, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions};
use std::path::Path;

bitflags::bitflags! {
    /// Kinds of namespaces (CLONE_NEW*; source: namespaces(7)).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Namespaces: u32 {
        /// CLONE_NEWTIME
        const TIME = 0x0000_0080;
        /// CLONE_NEWNS
        const MOUNT = 0x0002_0000;
        /// CLONE_NEWCGROUP
        const CGROUP = 0x0200_0000;
        /// CLONE_NEWUTS
        const UTS = 0x0400_0000;
        /// CLONE_NEWIPC
        const IPC = 0x0800_0000;
        /// CLONE_NEWUSER
        const USER = 0x1000_0000;
        /// CLONE_NEWPID
        const PID = 0x2000_0000;
        /// CLONE_NEWNET
        const NET = 0x4000_0000;
    }
}

/// Their names, such as `PID|NET`.
impl std::fmt::Display for Namespaces {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.iter_names().map(|(name, _)| name).collect();
        formatter.write_str(&names.join("|"))
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By exiting with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// As a shell and Docker say it: the status, or 128 + the signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// A descriptor that stands for the process and becomes readable when it ends (pidfd_open(2)).
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    let process = rustix::process::Pid::from_raw(pid)
        .ok_or_else(|| Error::call("pidfd_open", pid.to_string(), Errno::INVAL))?;
    rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty())
        .on("pidfd_open", || pid.to_string())
}

/// Sends a signal by number; 0 only checks. ESRCH when the process has ended and was waited for.
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is live; a null siginfo is allowed.
    let value = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    check(value).map(drop).on("pidfd_send_signal", || format!("signal {signal}"))
}

/// Sends a signal to a pid; prefer [`pidfd_send_signal`], which cannot hit another process.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: integers only.
    let value = unsafe { libc::syscall(libc::SYS_kill, pid, signal) };
    check(value).map(drop).on("kill", || format!("{pid} with signal {signal}"))
}

/// Waits for a child to end and reaps it.
pub fn wait(pidfd: impl AsFd) -> Result<Exit> {
    loop {
        if let Some(exit) = wait_with(pidfd.as_fd(), WaitIdOptions::EXITED)? {
            return Ok(exit);
        }
    }
}

/// Reaps a child if it has ended.
pub fn try_wait(pidfd: impl AsFd) -> Result<Option<Exit>> {
    wait_with(pidfd.as_fd(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

fn wait_with(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> Result<Option<Exit>> {
    let status = rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd), options));
    let status = status.on("waitid", || "pidfd")?;
    Ok(status.and_then(|status| match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Exit::Code(code)),
        (None, Some(signal)) => Some(Exit::Signal(signal)),
        (None, None) => None,
    }))
}

/// Reaps one ended child of any kind: what a subreaper does with orphans. `None` when none has ended (or
/// there are none). Do not mix with [`wait`] on children whose status matters.
pub fn reap_any() -> Result<Option<(i32, Exit)>> {
    let options = rustix::process::WaitOptions::NOHANG;
    match rustix::io::retry_on_intr(|| rustix::process::wait(options)) {
        Ok(Some((pid, status))) => {
            let exit = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, signal) => Exit::Signal(signal.unwrap_or(0)),
            };
            Ok(Some((pid.as_raw_pid(), exit)))
        }
        Ok(None) | Err(Errno::CHILD) => Ok(None),
        Err(errno) => Err(Error::call("wait4", "any child", errno)),
    }
}

/// The pid of a child that has ended, left to be reaped: lets a subreaper tell its own children from orphans.
pub fn peek_ended_child() -> Result<Option<i32>> {
    // SAFETY: siginfo_t is plain data, for which zeros are valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is live and writable; the unused rusage pointer is null.
    let value = unsafe {
        libc::syscall(libc::SYS_waitid, libc::P_ALL, 0, &mut info, flags, std::ptr::null::<libc::rusage>())
    };
    match check(value) {
        Err(Errno::CHILD) => return Ok(None),
        other => other.map(drop).on("waitid", || "any child")?,
    }
    // SAFETY: after a successful waitid the child fields are filled in, or zero when no child has ended.
    let pid = unsafe { info.si_pid() };
    Ok((pid != 0).then_some(pid))
}

/// Joins the given namespaces of the process a pidfd stands for, all at once (kernel 5.8).
pub fn set_namespaces_of(pidfd: impl AsFd, which: Namespaces) -> Result<()> {
    setns(pidfd.as_fd(), which).on("setns", || format!("pidfd {which}"))
}

/// Joins one namespace given by a descriptor of its nsfs file; it must be of the given kind.
pub fn set_namespace(fd: impl AsFd, kind: Namespaces) -> Result<()> {
    setns(fd.as_fd(), kind).on("setns", || kind.to_string())
}

fn setns(fd: BorrowedFd<'_>, flags: Namespaces) -> Result<(), Errno> {
    // SAFETY: the descriptor is live; changing namespaces does not touch this process's memory.
    let value = unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), flags.bits()) };
    check(value).map(drop)
}

/// Gives the calling thread new namespaces. A new pid namespace is for its next child.
pub fn unshare(which: Namespaces) -> Result<()> {
    unshare_raw(which.bits() as i32).on("unshare", || which.to_string())
}

/// Gives the calling thread a working directory, root and umask of its own.
pub fn unshare_working_directory() -> Result<()> {
    unshare_raw(libc::CLONE_FS).on("unshare", || "working directory")
}

fn unshare_raw(flags: i32) -> Result<(), Errno> {
    // SAFETY: neither CLONE_FS nor CLONE_NEW* affects memory or descriptors.
    let value = unsafe { libc::syscall(libc::SYS_unshare, flags) };
    check(value).map(drop)
}

/// Makes orphaned descendants this process's children (PR_SET_CHILD_SUBREAPER).
pub fn become_subreaper() -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop).on("prctl(PR_SET_CHILD_SUBREAPER)", || "self")
}

/// Has the kernel send this signal to the caller when its parent thread ends; 0 for none. Cleared by a change
/// of ids and by execve of a set-id program.
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, 0)
        .map(drop)
        .on("prctl(PR_SET_PDEATHSIG)", || signal.to_string())
}

/// Whether others may trace this process and look at its descriptors (PR_SET_DUMPABLE); execve sets it again.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, dumpable.into(), 0).map(drop).on("prctl(PR_SET_DUMPABLE)", || "self")
}

/// The name that `ps` shows (at most 15 bytes of it).
pub fn set_name(name: &str) {
    if let Ok(name) = std::ffi::CString::new(name) {
        // Cosmetic: failure changes nothing.
        let _ = rustix::thread::set_name(&name);
    }
}

/// Starts a new session without a controlling terminal.
pub fn new_session() -> Result<()> {
    rustix::process::setsid().map(drop).on("setsid", || "self")
}

/// Makes a terminal the controlling one of this session (TIOCSCTTY).
pub fn set_controlling_terminal(terminal: impl AsFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).on("ioctl(TIOCSCTTY)", || "terminal")
}

/// Sets the UTS namespace's host name.
pub fn set_hostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).on("sethostname", || name)
}

/// Sets the UTS namespace's NIS domain name.
pub fn set_domainname(name: &str) -> Result<()> {
    rustix::system::setdomainname(name.as_bytes()).on("setdomainname", || name)
}

/// The working directory; an error when it is not below the root (the kernel says `(unreachable)`), which
/// would be a way out of a container (CVE-2024-21626).
pub fn working_directory() -> Result<std::path::PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let bytes = rustix::process::getcwd(Vec::new()).on("getcwd", || "working directory")?.into_bytes();
    let path = std::path::PathBuf::from(std::ffi::OsString::from_vec(bytes));
    match path.is_absolute() {
        true => Ok(path),
        false => Err(Error::malformed(path.display().to_string(), "not below the root")),
    }
}

/// When a process started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`): pid and start time
/// together name a process for as long as the machine runs.
pub fn start_time(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).on("read", || path.clone())?;
    parse_start_time(&text).ok_or_else(|| Error::malformed(path, "has no start time"))
}

fn parse_start_time(stat: &str) -> Option<u64> {
    // The name in parentheses may contain anything, parentheses included: fields count from the last one.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Opens a namespace file such as `/proc/self/ns/net`.
pub fn open_namespace(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .on("open", || path.display().to_string())
}

/// A copy of descriptor number `number` of the process a pidfd stands for (pidfd_getfd(2)).
pub fn pidfd_getfd(pidfd: impl AsFd, number: i32) -> Result<OwnedFd> {
    // SAFETY: integers only.
    let value = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_fd().as_raw_fd(), number, 0) };
    check(value).and_then(own).on("pidfd_getfd", || number.to_string())
}

/// Makes `fd` also known as 0, 1 or 2, inherited over execve.
pub fn become_stdio(fds: [BorrowedFd<'_>; 3]) -> Result<()> {
    // Copies above 2 first, so that no source is overwritten before it is used.
    let mut copies = Vec::with_capacity(3);
    for fd in fds {
        copies.push(rustix::io::fcntl_dupfd_cloexec(fd, 3).on("dup", || "stdio")?);
    }
    rustix::stdio::dup2_stdin(&copies[0]).on("dup2", || "0")?;
    rustix::stdio::dup2_stdout(&copies[1]).on("dup2", || "1")?;
    rustix::stdio::dup2_stderr(&copies[2]).on("dup2", || "2")
}

#[cfg(test)]
mod tests;
