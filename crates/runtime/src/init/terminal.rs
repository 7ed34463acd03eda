//! Standard input and output: three given descriptors, or a terminal of the container's own devpts.

use super::devices::empty_file;
use super::masks::{is_null, require_null};
use crate::create::Io;
use crate::error::{Result, Step};
use crate::sync::ChildEnd;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::ffi::OsStr;
use std::path::Path;
use wharf_sys::mount::{self, Recursion};
use wharf_sys::path::Root;
use wharf_sys::{Context, process, pty};

/// What becomes 0, 1 and 2.
pub(super) enum Stdio<'a> {
    Given([BorrowedFd<'a>; 3]),
    Terminal(OwnedFd),
}

/// The root of a process that is inside its container already.
pub(super) fn container_root() -> Result<Root> {
    Root::open(Path::new("/")).step(|| "open /")
}

/// Opens a terminal if one is wanted, sets its size and sends its other end to the parent.
pub(super) fn open<'a>(root: &Root, io: &Io<'a>, sync: &ChildEnd) -> Result<Stdio<'a>> {
    match io {
        Io::Given(fds) => Ok(Stdio::Given(*fds)),
        Io::Terminal(size) | Io::RelayedTerminal(size) => {
            let pair = pty::open_in(root, Path::new("/dev/pts")).step(|| "open console")?;
            if size.rows != 0 && size.columns != 0 {
                pty::set_size(&pair.master, *size).step(|| "resize console")?;
            }
            if matches!(io, Io::RelayedTerminal(_)) {
                pty::keep_line_ends(&pair.terminal).step(|| "console modes")?;
            }
            sync.terminal(&pair.master)?;
            Ok(Stdio::Terminal(pair.terminal))
        }
    }
}

/// Binds the terminal, by its descriptor, over `/dev/console` (CVE-2025-52565).
pub(super) fn mount_console(root: &Root, stdio: &Stdio<'_>) -> Result<()> {
    let Stdio::Terminal(terminal) = stdio else { return Ok(()) };
    let step = || "mount console";
    let dev =
        root.open_file(Path::new("/dev"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).step(step)?;
    let target = empty_file(&dev, OsStr::new("console")).step(step)?;
    let bind = mount::clone_tree_of(terminal, Recursion::Single).step(step)?;
    mount::attach(&bind, &target).step(step)
}

/// Starts a session and makes the descriptors 0, 1 and 2; a terminal becomes the controlling one.
pub(super) fn take(stdio: &Stdio<'_>) -> Result<()> {
    process::new_session().step(|| "setsid")?;
    match stdio {
        Stdio::Given(fds) => process::become_stdio(*fds).step(|| "dup stdio"),
        Stdio::Terminal(terminal) => {
            process::set_controlling_terminal(terminal).step(|| "ioctl(setctty)")?;
            let fd = terminal.as_fd();
            process::become_stdio([fd, fd, fd]).step(|| "dup stdio")
        }
    }
}

/// Those of 0, 1 and 2 that are the host's null device become the container's.
pub(super) fn reopen_null() -> Result<()> {
    let current = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut null = [false; 3];
    for (is, fd) in null.iter_mut().zip(current) {
        *is = is_null(fd)?;
    }
    if null == [false; 3] {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let own = rustix::fs::open("/dev/null", flags, Mode::empty())
        .on("open", || "/dev/null")
        .step(|| "error reopening /dev/null inside container")?;
    require_null(&own)?;
    let mut fds = current;
    for (fd, is) in fds.iter_mut().zip(null) {
        if is {
            *fd = own.as_fd();
        }
    }
    process::become_stdio(fds).step(|| "dup stdio")
}
