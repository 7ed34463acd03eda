//! `tmpcopyup`: a temporary file system starts with what the image has at its place.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use wharf_sys::fs::{DeviceNumber, FileTime, make_node, set_times};
use wharf_sys::path::Root;
use wharf_sys::{Context, Errno, Error, Result};

/// Directories deeper than this are not a tree anybody made for use.
const MAX_DEPTH: usize = 256;

/// Copies what is at `path` in the root into the top of `filesystem`. A place that is not there has nothing
/// to copy.
pub(super) fn fill(root: &Root, path: &Path, filesystem: &OwnedFd) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match root.open_file(path, flags, Mode::empty()) {
        Err(error) if error.is(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
        Ok(source) => copy_directory(source.as_fd(), filesystem.as_fd(), 0),
    }
}

fn copy_directory(source: BorrowedFd<'_>, target: BorrowedFd<'_>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::call("tmpcopyup", "directory tree", Errno::LOOP));
    }
    let entries = Dir::read_from(source).on("readdir", || "tmpcopyup source")?;
    for entry in entries {
        let entry = entry.on("readdir", || "tmpcopyup source")?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            copy_entry(source, target, name, depth)?;
        }
    }
    Ok(())
}

fn copy_entry(source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<()> {
    let shown = || name.to_string_lossy();
    let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW).on("stat", shown)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700)).on("mkdir", shown)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let from = rustix::fs::openat(source, name, flags, Mode::empty()).on("open", shown)?;
            let to = rustix::fs::openat(target, name, flags, Mode::empty()).on("open", shown)?;
            copy_directory(from.as_fd(), to.as_fd(), depth + 1)?;
        }
        FileType::RegularFile => copy_file(source, target, name)?,
        FileType::Symlink => {
            let text = rustix::fs::readlinkat(source, name, Vec::new()).on("readlink", shown)?;
            rustix::fs::symlinkat(text.as_c_str(), target, name).on("symlink", shown)?;
        }
        kind => make_node(target, name, kind, mode, DeviceNumber::from_raw(stat.st_rdev))?,
    }
    copy_attributes(target, name, &stat)
}

fn copy_file(source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    let shown = || name.to_string_lossy();
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = rustix::fs::openat(source, name, read, Mode::empty()).on("open", shown)?;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = rustix::fs::openat(target, name, write, Mode::from_raw_mode(0o600)).on("create", shown)?;
    let (mut from, mut to) = (std::fs::File::from(from), std::fs::File::from(to));
    std::io::copy(&mut from, &mut to).map(drop).on("copy", shown)
}

/// Owner first, since a change of owner clears set-id bits.
fn copy_attributes(target: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> Result<()> {
    let shown = || name.to_string_lossy();
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).on("chown", shown)?;
    if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::chmodat(target, name, mode, AtFlags::empty()).on("chmod", shown)?;
    }
    let time = |seconds, nanos| FileTime { seconds, nanos };
    let accessed = time(stat.st_atime, stat.st_atime_nsec as u32);
    let modified = time(stat.st_mtime, stat.st_mtime_nsec as u32);
    set_times(target, name, accessed, modified)
}
