//! The layer between an image and a container's own: mount points and files that the engine will cover, so
//! that they never show as changes (source: moby `daemon/initlayer/setup_unix.go`).
//!
//! Docker mounts the layer to make them. Here they are written into the layer's directory directly, as
//! overlayfs would: a directory of the image that gets something new is copied up with its metadata, and
//! one that replaces something else is opaque.

use crate::{
    Error, Result,
    files::Owner,
    union::{Found, Union, is_directory, lossy, open_child},
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

/// What is put at a path.
enum Item {
    Directory,
    File,
    Link(&'static str),
}

const ITEMS: [(&str, Item); 10] = [
    ("dev/pts", Item::Directory),
    ("dev/shm", Item::Directory),
    ("proc", Item::Directory),
    ("sys", Item::Directory),
    (".dockerenv", Item::File),
    ("etc/resolv.conf", Item::File),
    ("etc/hosts", Item::File),
    ("etc/hostname", Item::File),
    ("dev/console", Item::File),
    ("etc/mtab", Item::Link("/proc/mounts")),
];

/// Fills the layer's directory, below which `lower` lies. What is a directory in the image stays one, where
/// a file should be as well: Docker cannot unlink it either.
pub(crate) fn fill(layer: &OwnedFd, lower: &Union, owner: Option<Owner>) -> Result<()> {
    for (path, item) in &ITEMS {
        let Some((parent, name)) = path.split_once('/') else {
            put(layer.as_fd(), lower, path, item, owner)?;
            continue;
        };
        let found = lower.child(parent.as_bytes())?;
        let below = found.as_ref().and_then(|found| found.directory.clone()).unwrap_or_default();
        if !below.child(name.as_bytes())?.is_some_and(|found| found.is_directory()) {
            let parent = directory(layer.as_fd(), parent, found.as_ref(), owner)?;
            put(parent.as_fd(), &below, name, item, owner)?;
        }
    }
    Ok(())
}

fn put(parent: BorrowedFd<'_>, below: &Union, name: &str, item: &Item, owner: Option<Owner>) -> Result<()> {
    let found = below.child(name.as_bytes())?;
    if found.as_ref().is_some_and(Found::is_directory) {
        return Ok(());
    }
    match item {
        Item::Directory => directory(parent, name, found.as_ref(), owner).map(drop),
        Item::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file =
                fs::openat(parent, name, flags, Mode::from_raw_mode(0o755)).map_err(error("open", name))?;
            fs::fchmod(&file, Mode::from_raw_mode(0o755)).map_err(error("chmod", name))?;
            give(parent, name, owner)
        }
        Item::Link(target) => {
            fs::symlinkat(*target, parent, name).map_err(error("symlink", name))?;
            give(parent, name, owner)
        }
    }
}

/// What is new belongs to the container's root.
fn give(parent: BorrowedFd<'_>, name: &str, owner: Option<Owner>) -> Result<()> {
    let Some(Owner { uid, gid }) = owner else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(error("chown", name))
}

/// Makes a directory of the layer, like the one below it if there is one.
fn directory(
    parent: BorrowedFd<'_>,
    name: &str,
    below: Option<&Found>,
    owner: Option<Owner>,
) -> Result<OwnedFd> {
    match fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        // Made for an earlier item.
        Err(Errno::EXIST) => return open_child(parent, name.as_bytes()).map_err(error("open", name)),
        other => other.map_err(error("mkdir", name))?,
    }
    give(parent, name, owner)?;
    let open = open_child(parent, name.as_bytes()).map_err(error("open", name))?;
    match below {
        Some(found) if is_directory(&found.stat) => copy_metadata(&open, name, found)?,
        Some(_) => {
            fs::fchmod(&open, Mode::from_raw_mode(0o755)).map_err(error("chmod", name))?;
            fs::fsetxattr(&open, wharf_archive::OPAQUE_XATTR, b"y", XattrFlags::empty())
                .map_err(error("setxattr", name))?;
        }
        None => fs::fchmod(&open, Mode::from_raw_mode(0o755)).map_err(error("chmod", name))?,
    }
    Ok(open)
}

/// Owner, mode, attributes and times of the image's directory.
fn copy_metadata(to: &OwnedFd, name: &str, found: &Found) -> Result<()> {
    let stat = &found.stat;
    let from = open_child(&*found.parent, name.as_bytes()).map_err(error("open", name))?;
    fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
        .map_err(error("chown", name))?;
    copy_xattrs(&from, to, name)?;
    fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(error("chmod", name))?;
    let time = |seconds, nanos: i64| Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps {
        last_access: time(stat.st_atime, i64::try_from(stat.st_atime_nsec).unwrap_or(0)),
        last_modification: time(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
    };
    fs::futimens(to, &times).map_err(error("futimens", name))
}

fn copy_xattrs(from: &OwnedFd, to: &OwnedFd, name: &str) -> Result<()> {
    let mut names = vec![0u8; 64 << 10];
    let length = match fs::flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(error("listxattr", name)(e)),
    };
    for key in names[..length].split(|&byte| byte == 0).filter(|key| !key.is_empty()) {
        if key.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        let length = fs::fgetxattr(from, key, &mut value[..]).map_err(error("getxattr", name))?;
        fs::fsetxattr(to, key, &value[..length], XattrFlags::empty()).map_err(error("setxattr", name))?;
    }
    Ok(())
}

fn error(operation: &'static str, name: &str) -> impl FnOnce(Errno) -> Error {
    lossy(operation, name.as_bytes())
}
