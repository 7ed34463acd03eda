//! Starting as a second step: a process waits at a fifo, its gate, until somebody opens the other side
//! (source: runc `libcontainer/standard_init_linux.go`, "exec fifo").

use crate::error::{Error, Result, Step};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;
use wharf_sys::Context;
use wharf_sys::fs::{DeviceNumber, make_node};

/// Makes a gate at `path` and opens it (O_PATH) for [`crate::CreateOptions::gate`].
pub fn make_gate(path: &Path) -> Result<OwnedFd> {
    let step = || format!("make exec fifo {}", path.display());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::refused(step(), "not a path of a file"));
    };
    let dir = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .on("open", || parent.display().to_string())
        .step(step)?;
    let number = DeviceNumber { major: 0, minor: 0 };
    let name: &OsStr = name;
    let mode = Mode::from_raw_mode(0o622);
    make_node(&dir, name, FileType::Fifo, mode, number).step(step)?;
    // Whatever the umask: the process opens it as the user that it has become.
    rustix::fs::chmodat(&dir, name, mode, AtFlags::empty())
        .on("chmod", || path.display().to_string())
        .step(step)?;
    rustix::fs::openat(&dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .on("open", || path.display().to_string())
        .step(step)
}

/// Opens the gate at `path` for the container's first process and removes it. Returns when the process has
/// gone through; [`Error::NotRunning`] when it has ended instead.
pub fn start(path: &Path, pidfd: impl AsFd) -> Result<()> {
    let step = || format!("open exec fifo {}", path.display());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fifo =
        rustix::fs::open(path, flags, Mode::empty()).on("open", || path.display().to_string()).step(step)?;
    loop {
        // Readable also when the writer is gone: then the read below says so.
        if wharf_sys::event::wait_readable(&fifo, Some(Duration::from_millis(100))).step(step)? {
            break;
        }
        if wharf_sys::event::wait_readable(pidfd.as_fd(), Some(Duration::ZERO)).step(step)? {
            return Err(Error::NotRunning);
        }
    }
    let mut byte = [0u8; 1];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(&fifo, &mut byte));
    if count.on("read", || path.display().to_string()).step(step)? == 0 {
        return Err(Error::NotRunning);
    }
    rustix::fs::unlink(path).on("unlink", || path.display().to_string()).step(step)
}
