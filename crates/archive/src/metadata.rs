//! Owner, mode, attributes and times of a new file.

use crate::{Error, Header, Kind, Owner, Time, error::lossy, whiteout};
use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd},
    fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};
use wharf_spec::plan::IdMaps;

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
pub(crate) fn apply(inode: Inode<'_>, header: &Header, owners: Owners<'_>, path: &[u8]) -> Result<(), Error> {
    let fd = inode.fd();
    let stat = fs::fstat(fd).map_err(Error::file("stat", path))?;
    let has_owner = chown(fd, &stat, header, owners, path)?;
    set_xattrs(inode, header, owners.ids, path)?;
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

/// Who is to own what is extracted, and as whom the host knows them.
#[derive(Clone, Copy)]
pub(crate) struct Owners<'a> {
    pub(crate) owner: Owner,
    pub(crate) ids: Option<&'a IdMaps>,
}

impl Owners<'_> {
    /// The host's user and group for an entry. [`Owner::Caller`] is as in the archive.
    pub(crate) fn of(self, header: &Header, path: &[u8]) -> Result<(u32, u32), Error> {
        let (uid, gid) = match self.owner {
            Owner::Fixed { uid, gid } => (uid, gid),
            Owner::Archive | Owner::Caller => {
                (in_range("uid", header.uid, path)?, in_range("gid", header.gid, path)?)
            }
        };
        match self.ids {
            None => Ok((uid, gid)),
            Some(ids) => Ok(ids.to_host(uid, gid)?),
        }
    }
}

/// Whether the owner was right before.
fn chown(
    inode: BorrowedFd<'_>,
    stat: &fs::Stat,
    header: &Header,
    owners: Owners<'_>,
    path: &[u8],
) -> Result<bool, Error> {
    if owners.owner == Owner::Caller {
        return Ok(true);
    }
    let (uid, gid) = owners.of(header, path)?;
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

fn set_xattrs(inode: Inode<'_>, header: &Header, ids: Option<&IdMaps>, path: &[u8]) -> Result<(), Error> {
    for (name, value) in header.xattrs() {
        if whiteout::steers_overlayfs(name) {
            tracing::debug!(path = lossy(path), xattr = lossy(name), "left out an attribute of overlayfs");
            continue;
        }
        let rooted = ids.filter(|_| name == CAPABILITY).and_then(|ids| rooted_capability(value, ids));
        let value = rooted.as_deref().unwrap_or(value);
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

/// File capabilities.
const CAPABILITY: &[u8] = b"security.capability";

/// File capabilities in the form that holds in the user namespace of this root: the kernel heeds those of the
/// host's root (revision 2) outside of all namespaces only (source: linux/capability.h, capabilities(7)).
fn rooted_capability(value: &[u8], ids: &IdMaps) -> Option<Vec<u8>> {
    let (root, _) = ids.root().ok()?;
    let is_of_host = value.len() == 20 && value.get(3) == Some(&2);
    is_of_host.then(|| {
        let mut rooted = value.to_vec();
        rooted[3] = 3;
        rooted.extend_from_slice(&root.to_le_bytes());
        rooted
    })
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
