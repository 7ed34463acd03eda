//! Becoming another program.

use crate::raw::{check, last_errno};
use crate::{Context, Result, fault};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// Pointers to C strings, ended by a null pointer.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|text| text.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

/// Becomes the program at `path`. Returns only an error.
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> Errno {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: path and both arrays are live, NUL-terminated strings and null-terminated arrays of them.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    last_errno()
}

/// Becomes the program that a descriptor refers to (execveat(2) AT_EMPTY_PATH). Returns only an error.
pub fn execveat(fd: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> Errno {
    let (args, env) = (pointers(args), pointers(env));
    let (fd, path) = (fd.as_raw_fd(), c"".as_ptr());
    // SAFETY: the descriptor is live, the arrays are null-terminated arrays of live C strings.
    unsafe { libc::syscall(libc::SYS_execveat, fd, path, args.as_ptr(), env.as_ptr(), libc::AT_EMPTY_PATH) };
    last_errno()
}

/// Ends the process at once: no destructors, no atexit handlers, which belong to the process it was forked
/// from.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit touches no memory and does not return.
    unsafe { libc::_exit(code) }
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2) CLOSE_RANGE_CLOEXEC, kernel 5.11; one
/// by one through `/proc/self/fd` before).
pub fn close_on_exec_from(first: i32) -> Result<()> {
    /// CLOSE_RANGE_CLOEXEC
    const CLOEXEC: u32 = 4;
    // SAFETY: with CLOSE_RANGE_CLOEXEC nothing is closed, only flags are set.
    let value = unsafe { libc::syscall(libc::SYS_close_range, first as u32, u32::MAX, CLOEXEC) };
    match check(value) {
        Err(Errno::NOSYS | Errno::INVAL) => close_on_exec_one_by_one(first),
        other => other.map(drop).on("close_range", || first.to_string()),
    }
}

/// Closes every descriptor from `first` on but those to keep, whoever may believe to own them: for a process
/// that is about to become another program and waits before it does.
///
/// `first` is above 0. Nothing happens where close_range(2) is missing (before kernel 5.9).
pub fn close_all_but(first: u32, keep: &[BorrowedFd<'_>]) {
    let faults = fault::descriptor();
    let mut kept: Vec<u32> = keep.iter().chain(&faults).map(|fd| fd.as_raw_fd() as u32).collect();
    kept.sort_unstable();
    let mut from = first;
    for fd in kept.into_iter().filter(|fd| *fd >= first) {
        close_range(from, fd - 1);
        from = fd + 1;
    }
    close_range(from, u32::MAX);
}

fn close_range(from: u32, to: u32) {
    if from <= to {
        // SAFETY: a descriptor that is closed behind its owner's back makes the owner's calls fail with EBADF;
        // nothing is opened any more that could take its number.
        unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
    }
}

fn close_on_exec_one_by_one(first: i32) -> Result<()> {
    let path = "/proc/self/fd";
    for entry in std::fs::read_dir(path).on("open", || path)? {
        let name = entry.on("readdir", || path)?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if fd >= first {
            // SAFETY: F_SETFD on a number; the directory's own descriptor may be gone already, which is
            // EBADF.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn slow_way_marks_them_too() {
        let file = tempfile::tempfile().unwrap();
        let fd = rustix::io::fcntl_dupfd_cloexec(file.as_fd(), 700).unwrap();
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
        assert!(!rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        close_on_exec_one_by_one(700).unwrap();
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}
