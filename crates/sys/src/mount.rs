//! Mounts by descriptor: a mount is made detached, given its attributes, and then attached to a place that
//! is itself a descriptor, so that no path is looked up twice.
//!
//! Sources: fsopen(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2); moby
//! `daemon/graphdriver/overlay2/mount.go` for the overlay fallback.

mod attrs;
mod info;
mod overlay;

pub use attrs::{AttrChange, has_recursive_attributes, remount_bind, set_attrs, set_propagation};
pub use info::{MountInfo, mountinfo, parse_mountinfo};
pub use overlay::{Overlay, mount_overlay, overlay_tree};

use crate::{Context, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use rustix::mount as sys;
use std::path::Path;
use wharf_spec::plan::MountAttrs;

/// How much of a tree an operation covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recursion {
    /// One mount.
    Single,
    /// The mount and everything mounted below it.
    Tree,
}

/// A file system being configured (fsopen(2)).
#[derive(Debug)]
pub struct FsContext {
    fd: OwnedFd,
    fs_type: String,
}

impl FsContext {
    /// Starts configuring a file system of the given type.
    pub fn open(fs_type: &str) -> Result<FsContext> {
        let fd = sys::fsopen(fs_type, sys::FsOpenFlags::FSOPEN_CLOEXEC).on("fsopen", || fs_type)?;
        Ok(FsContext { fd, fs_type: fs_type.to_owned() })
    }

    /// Sets an option; an empty value sets it as a flag. The kernel takes 255 bytes at most.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        if value.is_empty() {
            return sys::fsconfig_set_flag(self.fd.as_fd(), key).on("fsconfig", || self.subject(key, value));
        }
        sys::fsconfig_set_string(self.fd.as_fd(), key, value).on("fsconfig", || self.subject(key, value))
    }

    /// Makes the superblock and a detached mount of it.
    pub fn mount(self, attrs: MountAttrs) -> Result<OwnedFd> {
        sys::fsconfig_create(self.fd.as_fd()).on("fsconfig", || format!("{} create", self.fs_type))?;
        let flags = sys::FsMountFlags::FSMOUNT_CLOEXEC;
        sys::fsmount(self.fd.as_fd(), flags, attrs::fsmount_flags(attrs))
            .on("fsmount", || self.fs_type.clone())
    }

    fn subject(&self, key: &str, value: &str) -> String {
        format!("{} {key}={value}", self.fs_type)
    }
}

/// Makes a detached mount of a new file system. `options` as [`FsContext::set`] takes them; without a `source` it
/// has the type's name.
pub fn new_filesystem(fs_type: &str, options: &[(&str, &str)], attrs: MountAttrs) -> Result<OwnedFd> {
    let context = FsContext::open(fs_type)?;
    if !options.iter().any(|(key, _)| *key == "source") {
        context.set("source", fs_type)?;
    }
    for (key, value) in options {
        context.set(key, value)?;
    }
    context.mount(attrs)
}

/// Clones the mount at a path (following symlinks) into a detached one: a bind mount without a target.
pub fn clone_tree(path: &Path, recursion: Recursion) -> Result<OwnedFd> {
    sys::open_tree(CWD, path, clone_flags(recursion)).on("open_tree", || path.display().to_string())
}

/// Clones what a descriptor (O_PATH is enough) refers to into a detached mount. Before kernel 6.15 a
/// descriptor that is itself a detached mount is refused (EINVAL).
pub fn clone_tree_of(fd: impl AsFd, recursion: Recursion) -> Result<OwnedFd> {
    let flags = clone_flags(recursion) | sys::OpenTreeFlags::AT_EMPTY_PATH;
    sys::open_tree(fd.as_fd(), "", flags).on("open_tree", || describe(fd.as_fd()))
}

fn clone_flags(recursion: Recursion) -> sys::OpenTreeFlags {
    let flags = sys::OpenTreeFlags::OPEN_TREE_CLONE | sys::OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match recursion {
        Recursion::Single => flags,
        Recursion::Tree => flags | sys::OpenTreeFlags::AT_RECURSIVE,
    }
}

/// Attaches a detached mount on top of what `target` refers to.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = sys::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | sys::MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    sys::move_mount(mount.as_fd(), "", target.as_fd(), "", flags)
        .on("move_mount", || describe(target.as_fd()))
}

/// Attaches a detached mount at a path of the host that the caller trusts; symlinks are followed.
pub fn attach_at(mount: impl AsFd, path: &Path) -> Result<()> {
    let flags = sys::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | sys::MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    sys::move_mount(mount.as_fd(), "", CWD, path, flags).on("move_mount", || path.display().to_string())
}

/// Detaches what is mounted at `path` (umount2 with MNT_DETACH; a final symlink is not followed).
pub fn detach(path: &Path) -> Result<()> {
    let flags = sys::UnmountFlags::DETACH | sys::UnmountFlags::NOFOLLOW;
    sys::unmount(path, flags).on("umount", || path.display().to_string())
}

/// As [`detach`], but nothing mounted there (EINVAL) and no such path are fine.
pub fn detach_if_mounted(path: &Path) -> Result<()> {
    match detach(path) {
        Err(error) if error.is(Errno::INVAL) || error.is(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Makes the directory `new_root` refers to the root of this mount namespace and drops the old root. The
/// working directory is the new root afterwards (source: pivot_root(2), "pivot_root(".", ".")").
pub fn pivot_root(new_root: impl AsFd) -> Result<()> {
    rustix::process::fchdir(new_root.as_fd()).on("fchdir", || "new root")?;
    rustix::process::pivot_root(".", ".").on("pivot_root", || ".")?;
    sys::unmount(".", sys::UnmountFlags::DETACH).on("umount", || "old root")?;
    rustix::process::chdir("/").on("chdir", || "/")
}

/// Makes the directory `new_root` refers to the root of this process, which is a mount that covers the whole
/// of the old one: for where the old root is a ramfs, which cannot be pivoted from (source: pivot_root(2), NOTES).
///
/// The old root stays mounted, out of sight. Its procfs and sysfs do not: with them there the kernel would let a
/// user namespace mount ones without masks (source: runc `msMoveRoot`).
pub fn change_root(new_root: impl AsFd) -> Result<()> {
    for mount in mountinfo()?.iter().rev().filter(|mount| matches!(mount.fs_type.as_str(), "proc" | "sysfs"))
    {
        // Looked up from the old root: those of the new one have the same names and are not found by them.
        match sys::unmount(&mount.target, sys::UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => {
                return Err(crate::Error::call("umount", mount.target.display().to_string(), errno));
            }
        }
    }
    rustix::process::fchdir(new_root.as_fd()).on("fchdir", || "new root")?;
    rustix::process::chroot(".").on("chroot", || ".")?;
    rustix::process::chdir("/").on("chdir", || "/")
}

/// Whether two descriptors are on the same mount (statx(2) STATX_MNT_ID, kernel 5.8).
pub fn same_mount(one: impl AsFd, other: impl AsFd) -> Result<bool> {
    Ok(mount_id(one)? == mount_id(other)?)
}

/// The id of the mount that a descriptor is on, as the first column of mountinfo shows it.
pub fn mount_id(fd: impl AsFd) -> Result<u64> {
    let flags = rustix::fs::StatxFlags::MNT_ID;
    let stat =
        rustix::fs::statx(fd.as_fd(), "", AtFlags::EMPTY_PATH, flags).on("statx", || describe(fd.as_fd()))?;
    Ok(stat.stx_mnt_id)
}

/// A descriptor's path for messages, as far as the kernel tells it.
pub(crate) fn describe(fd: BorrowedFd<'_>) -> String {
    use rustix::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    match rustix::fs::readlink(link.as_str(), Vec::new()) {
        Ok(path) => path.to_string_lossy().into_owned(),
        Err(_) => format!("descriptor {}", fd.as_raw_fd()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
