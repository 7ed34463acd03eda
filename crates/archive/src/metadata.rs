//! Owner, mode, attributes and times of a new file.

use crate::{Error, Header, Kind, Owner, Time, error::lossy, whiteout};
use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd},
    fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

/// An inode, and how it is reached.
#[derive(Clone, Copy)]
pub(crate) enum Inode<'fd> {
    /// Open for reading or writing.
    Open(BorrowedFd<'fd>),
    /// `O_PATH`: calls that do not take such go through `/proc`, which costs a lookup.
    Path(BorrowedFd<'fd>),
}

/// Sets everything but times on an inode. The order matters: chown clears setuid and capabilities.
///
/// What a new file has already is not set again: most files of an image have the owner and mode that they were
/// made with, and each call is a transaction of the file system.
pub(crate) fn apply(inode: Inode<'_>, header: &Header, owner: Owner, path: &[u8]) -> Result<(), Error> {
    let fd = inode.fd();
    let stat = fs::fstat(fd).map_err(Error::file("stat", path))?;
    let has_owner = chown(fd, &stat, header, owner, path)?;
    set_xattrs(inode, header, path)?;
    // An attribute may be an access list, which changes the mode.
    let is_plain = has_owner && header.xattrs().next().is_none();
    let has_mode = is_plain && stat.st_mode & 0o7777 == header.mode & 0o7777;
    if header.kind == Kind::Symlink || has_mode {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(header.mode);
    let changed = match inode {
        Inode::Open(fd) => fs::fchmod(fd, mode),
        // fchmod does not take O_PATH, fchmodat2 is too young (6.6).
        Inode::Path(fd) => fs::chmod(proc_path(fd), mode),
    };
    changed.map_err(Error::file("chmod", path))
}

impl<'fd> Inode<'fd> {
    fn fd(self) -> BorrowedFd<'fd> {
        match self {
            Self::Open(fd) | Self::Path(fd) => fd,
        }
    }
}

/// Whether the owner was right before.
fn chown(
    inode: BorrowedFd<'_>,
    stat: &fs::Stat,
    header: &Header,
    owner: Owner,
    path: &[u8],
) -> Result<bool, Error> {
    let (uid, gid) = match owner {
        Owner::Archive => (in_range("uid", header.uid, path)?, in_range("gid", header.gid, path)?),
        Owner::Fixed { uid, gid } => (uid, gid),
        Owner::Caller => return Ok(true),
    };
    if (stat.st_uid, stat.st_gid) == (uid, gid) {
        return Ok(true);
    }
    fs::chownat(inode, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)
        .map(|()| false)
        .map_err(Error::file("chown", path))
}

/// The system's ids end before `u32::MAX`, which means "unchanged".
pub(crate) fn in_range(what: &'static str, value: i64, path: &[u8]) -> Result<u32, Error> {
    match u32::try_from(value) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(Error::Range { what, value, path: lossy(path) }),
    }
}

fn set_xattrs(inode: Inode<'_>, header: &Header, path: &[u8]) -> Result<(), Error> {
    for (name, value) in header.xattrs() {
        if whiteout::steers_overlayfs(name) {
            tracing::debug!(path = lossy(path), xattr = lossy(name), "left out an attribute of overlayfs");
            continue;
        }
        let set = match inode {
            Inode::Open(fd) => fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Inode::Path(fd) => fs::setxattr(proc_path(fd), name, value, XattrFlags::empty()),
        };
        match set {
            Ok(()) => {}
            // In a user namespace some may not be set; Docker ignores it too.
            Err(Errno::PERM) => {
                tracing::warn!(
                    path = lossy(path),
                    xattr = lossy(name),
                    "could not set an extended attribute"
                );
            }
            Err(error) => return Err(Error::file("setxattr", path)(error)),
        }
    }
    Ok(())
}

/// A name for calls that take no `O_PATH` descriptor.
pub(crate) fn proc_path(inode: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", inode.as_raw_fd())
}

/// Sets access and modification time of a name in a directory, of a link itself.
pub(crate) fn set_times(directory: impl AsFd, name: &[u8], header: &Header) -> Result<(), Errno> {
    fs::utimensat(directory, name, &timestamps(header), AtFlags::SYMLINK_NOFOLLOW)
}

/// The header's times as Docker sets them: an access time before the modification time is not believed,
/// times before 1970 or after 2262 are 1970 (source: moby `go-archive/time.go`).
pub(crate) fn timestamps(header: &Header) -> Timestamps {
    let mtime = bounded(header.mtime);
    let atime = bounded(header.atime.unwrap_or_default().max(header.mtime));
    Timestamps { last_access: atime, last_modification: mtime }
}

fn bounded(time: Time) -> Timespec {
    const LAST: i64 = i64::MAX / 1_000_000_000;
    if (0..LAST).contains(&time.seconds) {
        Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanos) }
    } else {
        Timespec { tv_sec: 0, tv_nsec: 0 }
    }
}
