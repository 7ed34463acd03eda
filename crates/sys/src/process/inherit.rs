//! Descriptors that a program was started with.

use crate::{Context, Error, Result};
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::sync::atomic::{AtomicU64, Ordering};

/// One bit for each number that was handed out.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Whether descriptor `number` was left open by whoever started this program: it is open, and not close-on-exec
/// as everything is that this program opens.
pub fn is_inherited(number: i32) -> bool {
    // SAFETY: F_GETFD on a number; on one that is not open it fails.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Takes over descriptor `number` (3 to 63), which whoever started this program left open in it, and marks it
/// close-on-exec. To be called first thing in `main`, before the program opens anything itself.
///
/// # Errors
/// EBADF when there is none, EBUSY the second time, EINVAL for other numbers.
pub fn take_inherited(number: i32) -> Result<OwnedFd> {
    let name = || format!("inherited descriptor {number}");
    if !(3..64).contains(&number) {
        return Err(Error::call("fcntl", name(), Errno::INVAL));
    }
    if !std::path::Path::new(&format!("/proc/self/fd/{number}")).is_symlink() {
        return Err(Error::call("fcntl", name(), Errno::BADF));
    }
    if TAKEN.fetch_or(1 << number, Ordering::Relaxed) & 1 << number != 0 {
        return Err(Error::call("fcntl", name(), Errno::BUSY));
    }
    // SAFETY: it is open, and nobody else in this program owns it: it was there before `main` (see above), and a
    // number is handed out once.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).on("fcntl", name)?;
    Ok(fd)
}
