//! Where mounts may go (source: runc `libcontainer/rootfs_linux.go`, `createOpenMountpoint`,
//! `checkProcMount`).

use crate::error::{Error, Result, Step};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode};
use std::path::{Component, Path, PathBuf};
use wharf_spec::plan::{Mount, MountKind};
use wharf_sys::path::{Root, is_proc};
use wharf_sys::{Context, Errno};

/// Directories of a root that are where they seem to be: an image whose `/proc` is a symlink would have the
/// container's own procfs mounted elsewhere (CVE-2023-27561, CVE-2026-41579).
const ORDINARY: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Files below `/proc` that may be covered: lxcfs emulates them.
const COVERABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// The target of a new file system: a directory, made when missing.
pub(super) fn directory(root: &Root, mount: &Mount) -> Result<OwnedFd> {
    open_directory(root, mount, None)
}

/// The target of a bind of a directory.
pub(super) fn directory_for_bind(root: &Root, mount: &Mount, source: impl AsFd) -> Result<OwnedFd> {
    open_directory(root, mount, Some(source.as_fd()))
}

fn open_directory(root: &Root, mount: &Mount, source: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let path = lexical(&mount.target);
    require_ordinary(root, mount, &path)?;
    let fd = root.mkdir_all(&path, Mode::from_raw_mode(0o755)).step(|| creating(mount))?;
    check(mount, &fd, source)?;
    Ok(fd)
}

/// The target of a bind of anything else: a file, made when missing.
pub(super) fn file(root: &Root, mount: &Mount, source: impl AsFd) -> Result<OwnedFd> {
    let path = lexical(&mount.target);
    let fd = root.ensure_file(&path, Mode::from_raw_mode(0o644)).step(|| creating(mount))?;
    check(mount, &fd, Some(source.as_fd()))?;
    Ok(fd)
}

fn creating(mount: &Mount) -> String {
    format!("{}: create mountpoint for {} mount", crate::rootfs::mounting(mount), mount.target)
}

/// The path without `.` and `..`, which at the top lead nowhere.
fn lexical(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn require_ordinary(root: &Root, mount: &Mount, path: &Path) -> Result<()> {
    let kernel = matches!(mount.kind, MountKind::Proc | MountKind::Sysfs);
    if !kernel && !ORDINARY.iter().any(|name| path == Path::new(name)) {
        return Ok(());
    }
    match root.stat_nofollow(path) {
        Err(error) if error.is(Errno::NOENT) => Ok(()),
        Err(error) => Err(error).step(|| creating(mount)),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => Ok(()),
        Ok(_) => {
            let name =
                if matches!(mount.kind, MountKind::Proc) { "proc".into() } else { mount.target.clone() };
            Err(Error::refused("", format!("filesystem {name:?} must be mounted on ordinary directory")))
        }
    }
}

/// Refuses the root itself, and what is or covers a part of `/proc`.
fn check(mount: &Mount, target: &OwnedFd, source: Option<BorrowedFd<'_>>) -> Result<()> {
    let place = place_of(target)?;
    if place == Path::new("/") {
        return Err(Error::refused("", "mountpoint \"/\" is on the top of rootfs"));
    }
    let on_proc = is_proc(target).step(String::new)?;
    if !on_proc && !place.starts_with("/proc") {
        return Ok(());
    }
    if place == Path::new("/proc") {
        let source_is_proc = source.is_some_and(|source| is_proc(source).unwrap_or(false));
        if source_is_proc || matches!(mount.kind, MountKind::Proc) {
            return Ok(());
        }
        return Err(Error::refused(
            "",
            format!("{place:?} cannot be mounted because it is not of type proc"),
        ));
    }
    if COVERABLE.iter().any(|name| place == Path::new(name)) {
        return Ok(());
    }
    Err(Error::refused("", format!("{place:?} cannot be mounted because it is inside /proc")))
}

/// Where the kernel says a descriptor is. The root is attached over `/`, so this is the path inside the
/// container.
fn place_of(fd: &OwnedFd) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::read_link(&link).on("readlink", || link.clone()).step(String::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_lead_nowhere() {
        assert_eq!(lexical("/a/../../proc/./x"), Path::new("/proc/x"));
        assert_eq!(lexical("//"), Path::new("/"));
    }
}
