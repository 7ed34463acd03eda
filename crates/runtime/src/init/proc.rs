//! The procfs that everything about the new process itself is written to: the host's, opened before the
//! container's root is entered, so that no mount of the container can stand in its place (CVE-2019-16884,
//! CVE-2025-52881).

use crate::error::{Result, Step};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use wharf_spec::plan::MountAttrs;
use wharf_sys::{Context, Errno, mount, path};

/// An open procfs.
#[derive(Debug)]
pub(crate) struct ProcHandle(OwnedFd);

impl ProcHandle {
    /// Opens `/proc` and makes sure that it is one.
    pub(crate) fn open() -> Result<ProcHandle> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd =
            rustix::fs::open("/proc", flags, Mode::empty()).on("open", || "/proc").step(|| "open /proc")?;
        path::require_proc(&fd).step(|| "open /proc")?;
        Ok(ProcHandle(fd))
    }

    /// Makes one of the caller's pid namespace, that is mounted nowhere.
    pub(crate) fn fresh() -> Result<ProcHandle> {
        mount::new_filesystem("proc", &[], MountAttrs::empty()).map(ProcHandle).step(|| "make a procfs")
    }

    /// Writes a value to a file of it. Nothing mounted over a part of it is followed.
    pub(crate) fn write(&self, file: &str, value: &str) -> wharf_sys::Result<()> {
        match write_in(self.0.as_fd(), file, value) {
            // A part of /proc is covered, as inside another container: the same file of a procfs of our own.
            Err(error) if error.is(Errno::XDEV) => {
                let fresh = mount::new_filesystem("proc", &[], MountAttrs::empty())?;
                write_in(fresh.as_fd(), file, value)
            }
            other => other,
        }
    }

    /// Whether there is such a file.
    pub(crate) fn has(&self, file: &str) -> bool {
        open_in(self.0.as_fd(), file, OFlags::PATH).is_ok()
    }
}

impl AsFd for ProcHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open_in(proc: BorrowedFd<'_>, file: &str, flags: OFlags) -> wharf_sys::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(proc, file, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
        .on("open", || format!("/proc/{file}"))
}

fn write_in(proc: BorrowedFd<'_>, file: &str, value: &str) -> wharf_sys::Result<()> {
    let fd = open_in(proc, file, OFlags::WRONLY)?;
    path::require_proc(&fd)?;
    rustix::io::write(&fd, value.as_bytes()).map(drop).on("write", || format!("/proc/{file}"))
}
