//! Who the calling process is.

use crate::raw::{check, prctl};
use crate::{Context, Result};

/// Sets real, effective and saved user and group id, group first (setresgid(2), setresuid(2)). Of the calling
/// thread: call it with one thread only.
pub fn set_ids(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: integers only.
    let value = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    check(value).map(drop).on("setresgid", || gid.to_string())?;
    // SAFETY: integers only.
    let value = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    check(value).map(drop).on("setresuid", || uid.to_string())
}

/// Sets the supplementary groups of the calling thread.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: pointer and length are of one live slice.
    let value = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    check(value).map(drop).on("setgroups", || format!("{groups:?}"))
}

/// No gain of privileges by execve from now on.
pub fn no_new_privileges() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop).on("prctl(PR_SET_NO_NEW_PRIVS)", || "self")
}

/// Sets the file mode mask and returns the old one.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)).as_raw_mode()
}

/// Leaves the inherited session keyring for a new one of the given name (keyctl(2) JOIN_SESSION_KEYRING), so
/// that a container does not see the keys of the host, and makes it searchable by its owner.
pub fn join_session_keyring(name: &str) -> Result<()> {
    let text = std::ffi::CString::new(name).map_err(|_| crate::Error::malformed(name, "NUL in a name"))?;
    // SAFETY: the name is a live C string.
    let value = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, text.as_ptr()) };
    let keyring = check(value).on("keyctl", || name)?;
    // SAFETY: integers only.
    let value =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, keyring, KEYRING_PERMISSIONS) };
    check(value).map(drop).on("keyctl", || name)
}

/// What the kernel gives a new session keyring (everything to its possessor; view, read and link to its
/// user), and search to its user, without which a later process cannot join it by name.
const KEYRING_PERMISSIONS: u32 = 0x3f13_0000 | 0x0008_0000;
