//! The bare system call, for what rustix has no wrapper for.

use rustix::fd::{FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

/// Turns libc's convention (-1 and errno) into a result.
pub(crate) fn check(value: libc::c_long) -> Result<libc::c_long, Errno> {
    if value < 0 { Err(last_errno()) } else { Ok(value) }
}

/// The calling thread's errno.
pub(crate) fn last_errno() -> Errno {
    let code = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Errno::from_raw_os_error(code)
}

/// Takes ownership of a descriptor that a system call has just returned.
pub(crate) fn own(fd: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `prctl(2)` with integer arguments only.
pub(crate) fn prctl(option: libc::c_int, arg2: u64, arg3: u64) -> Result<i32, Errno> {
    // SAFETY: all arguments are integers; the options used in this crate take no pointers here.
    let value = unsafe { libc::syscall(libc::SYS_prctl, option, arg2, arg3, 0u64, 0u64) };
    check(value).map(|value| value as i32)
}
