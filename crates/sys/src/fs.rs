//! Files beyond std: locks, sealed memory files, extended attributes, device nodes, times, atomic
//! replacement.

use crate::mount::describe;
use crate::{Context, Error, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::path::Path;

/// The largest value of an extended attribute, and the largest list of names (XATTR_SIZE_MAX).
const XATTR_MAX: usize = 65536;

/// Takes an exclusive flock(2) without waiting; `Ok(false)` when somebody else holds it. It is held until
/// the descriptor is closed everywhere.
pub fn try_lock(fd: impl AsFd) -> Result<bool> {
    match rustix::fs::flock(fd.as_fd(), rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(Error::call("flock", describe(fd.as_fd()), errno)),
    }
}

/// Puts `from` in the place of `to` (renameat2(2)); with [`RenameFlags::NOREPLACE`] an existing `to` is
/// EEXIST.
pub fn rename_at(
    from_dir: impl AsFd,
    from: &OsStr,
    to_dir: impl AsFd,
    to: &OsStr,
    flags: RenameFlags,
) -> Result<()> {
    rustix::fs::renameat_with(from_dir, from, to_dir, to, flags)
        .on("rename", || format!("{} to {}", from.display(), to.display()))
}

/// Writes `bytes` to `path` so that readers see the old or the new content, nothing between: a temporary file
/// beside it, then rename. No fsync: see [`sync_filesystem`].
pub fn replace_file(path: &Path, bytes: &[u8], mode: Mode) -> Result<()> {
    use std::io::Write;
    let name =
        path.file_name().ok_or_else(|| Error::call("write", path.display().to_string(), Errno::INVAL))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&temporary, flags, mode).on("open", || temporary.display().to_string())?;
    let mut file = std::fs::File::from(fd);
    let written = file.write_all(bytes).on("write", || temporary.display().to_string());
    written
        .and_then(|()| std::fs::rename(&temporary, path).on("rename", || path.display().to_string()))
        .inspect_err(|_| {
            // The original error is what matters; a left-over temporary is overwritten next time.
            let _ = std::fs::remove_file(&temporary);
        })
}

/// Flushes the file system that a descriptor is on (syncfs(2)).
pub fn sync_filesystem(fd: impl AsFd) -> Result<()> {
    rustix::fs::syncfs(fd.as_fd()).on("syncfs", || describe(fd.as_fd()))
}

/// A file in memory that nobody can change any more.
pub fn sealed_memfd(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    sealed_from(name, &mut { bytes })
}

/// A sealed copy of a file, such as the shim's own program (CVE-2019-5736).
pub fn sealed_copy(name: &str, source: &mut std::fs::File) -> Result<OwnedFd> {
    sealed_from(name, source)
}

fn sealed_from(name: &str, source: &mut impl std::io::Read) -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    // MFD_EXEC is not given: kernels before 6.3 refuse it, later ones assume it (sysctl vm.memfd_noexec=0).
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(name, flags).on("memfd_create", || name)?;
    let mut file = std::fs::File::from(fd);
    std::io::copy(source, &mut file).on("write", || name)?;
    std::io::Seek::rewind(&mut file).on("lseek", || name)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals).on("fcntl", || name)?;
    Ok(file.into())
}

/// Whether a descriptor is a memory file sealed against writing and shrinking.
pub fn is_sealed(fd: impl AsFd) -> bool {
    use rustix::fs::SealFlags;
    rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::WRITE | SealFlags::SHRINK))
}

/// A file for xattr calls: xattrs cannot be read through O_PATH descriptors, but through their link in /proc.
fn xattr_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The value of an extended attribute; `None` when it is not set or the file system has none. For symlinks
/// and O_PATH descriptors too.
pub fn get_xattr(fd: impl AsFd, name: &OsStr) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; 256];
    loop {
        match rustix::fs::getxattr(xattr_path(fd.as_fd()), name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < XATTR_MAX => value = vec![0u8; XATTR_MAX],
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(Error::call("getxattr", describe(fd.as_fd()), errno)),
        }
    }
}

/// Sets an extended attribute, of an O_PATH descriptor too. For a symlink itself see [`set_xattr_at`].
pub fn set_xattr(fd: impl AsFd, name: &OsStr, value: &[u8]) -> Result<()> {
    rustix::fs::setxattr(xattr_path(fd.as_fd()), name, value, rustix::fs::XattrFlags::empty())
        .on("setxattr", || format!("{} {}", describe(fd.as_fd()), name.display()))
}

/// The names of all extended attributes.
pub fn list_xattrs(fd: impl AsFd) -> Result<Vec<std::ffi::OsString>> {
    let mut names = vec![0u8; 1024];
    loop {
        match rustix::fs::listxattr(xattr_path(fd.as_fd()), names.as_mut_slice()) {
            Ok(length) => return Ok(split_names(&names[..length])),
            Err(Errno::RANGE) if names.len() < XATTR_MAX => names = vec![0u8; XATTR_MAX],
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(Error::call("listxattr", describe(fd.as_fd()), errno)),
        }
    }
}

/// Copies the extended attributes of a file that `keep` wants.
pub fn copy_xattrs(from: impl AsFd, to: impl AsFd, keep: impl Fn(&OsStr) -> bool) -> Result<()> {
    for name in list_xattrs(&from)?.into_iter().filter(|name| keep(name)) {
        // One that is gone by now is none.
        if let Some(value) = get_xattr(&from, &name)? {
            set_xattr(&to, &name, &value)?;
        }
    }
    Ok(())
}

fn split_names(list: &[u8]) -> Vec<std::ffi::OsString> {
    use std::os::unix::ffi::OsStrExt;
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| OsStr::from_bytes(name).to_owned()).collect()
}

/// Path of `name` in `dir` for calls that have no *at form; only the last component is looked up.
fn beside(dir: BorrowedFd<'_>, name: &OsStr) -> std::path::PathBuf {
    Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name)
}

/// Sets an extended attribute of `name` in `dir` without following a symlink (lsetxattr(2)).
pub fn set_xattr_at(dir: impl AsFd, name: &OsStr, key: &OsStr, value: &[u8]) -> Result<()> {
    let path = beside(dir.as_fd(), name);
    rustix::fs::lsetxattr(&path, key, value, rustix::fs::XattrFlags::empty())
        .on("lsetxattr", || format!("{} {}", name.display(), key.display()))
}

/// The value of an extended attribute of `name` in `dir`, without following a symlink (lgetxattr(2)).
pub fn get_xattr_at(dir: impl AsFd, name: &OsStr, key: &OsStr) -> Result<Option<Vec<u8>>> {
    let path = beside(dir.as_fd(), name);
    let mut value = vec![0u8; XATTR_MAX];
    match rustix::fs::lgetxattr(&path, key, value.as_mut_slice()) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(Error::call("lgetxattr", format!("{} {}", name.display(), key.display()), errno)),
    }
}

/// The names of the extended attributes of `name` in `dir`, without following a symlink (llistxattr(2)).
pub fn list_xattrs_at(dir: impl AsFd, name: &OsStr) -> Result<Vec<std::ffi::OsString>> {
    let path = beside(dir.as_fd(), name);
    let mut names = vec![0u8; XATTR_MAX];
    match rustix::fs::llistxattr(&path, names.as_mut_slice()) {
        Ok(length) => Ok(split_names(&names[..length])),
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        Err(errno) => Err(Error::call("llistxattr", name.display().to_string(), errno)),
    }
}

/// A device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "self-evident")]
pub struct DeviceNumber {
    pub major: u32,
    pub minor: u32,
}

impl DeviceNumber {
    /// From the kernel's packed form (`st_rdev`, `st_dev`).
    pub fn from_raw(device: u64) -> DeviceNumber {
        DeviceNumber { major: rustix::fs::major(device), minor: rustix::fs::minor(device) }
    }
}

/// Makes a node `name` in `dir` (mknodat(2)); the umask applies to `mode`.
pub fn make_node(
    dir: impl AsFd,
    name: &OsStr,
    kind: FileType,
    mode: Mode,
    device: DeviceNumber,
) -> Result<()> {
    let packed = rustix::fs::makedev(device.major, device.minor);
    rustix::fs::mknodat(dir, name, kind, mode, packed).on("mknod", || name.display().to_string())
}

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "self-evident")]
pub struct FileTime {
    pub seconds: i64,
    pub nanos: u32,
}

/// Sets access and modification time of `name` in `dir`; a symlink's own.
pub fn set_times(dir: impl AsFd, name: &OsStr, accessed: FileTime, modified: FileTime) -> Result<()> {
    let timespec = |time: FileTime| Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() };
    let times = Timestamps { last_access: timespec(accessed), last_modification: timespec(modified) };
    rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .on("utimensat", || name.display().to_string())
}

/// Gives what a descriptor refers to (such as an O_TMPFILE) a name in `dir` (linkat(2) AT_EMPTY_PATH, or
/// through /proc for those without CAP_DAC_READ_SEARCH).
pub fn link_fd(fd: impl AsFd, dir: impl AsFd, name: &OsStr) -> Result<()> {
    let link = xattr_path(fd.as_fd());
    rustix::fs::linkat(CWD, link.as_str(), dir, name, AtFlags::SYMLINK_FOLLOW)
        .on("link", || name.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn locks_exclude_each_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (one, two) =
            (std::fs::File::open(file.path()).unwrap(), std::fs::File::open(file.path()).unwrap());
        assert!(try_lock(&one).unwrap());
        assert!(!try_lock(&two).unwrap());
        drop(one);
        assert!(try_lock(&two).unwrap());
    }

    #[test]
    fn sealed_means_sealed() {
        let mut file = std::fs::File::from(sealed_memfd("test", b"abc").unwrap());
        assert!(is_sealed(&file));
        assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(file.set_len(1).is_err());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        assert!(!is_sealed(tempfile::tempfile().unwrap()));
    }

    #[test]
    fn files_are_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        replace_file(&path, b"one", Mode::from_raw_mode(0o600)).unwrap();
        replace_file(&path, b"two", Mode::from_raw_mode(0o600)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn xattrs_come_back_also_from_links() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
        let handle = std::fs::File::open(dir.path()).unwrap();
        let file = std::fs::File::open(dir.path().join("f")).unwrap();
        set_xattr(&file, OsStr::new("trusted.one"), b"1").unwrap();
        assert_eq!(get_xattr(&file, OsStr::new("trusted.one")).unwrap().unwrap(), b"1");
        assert_eq!(get_xattr(&file, OsStr::new("trusted.two")).unwrap(), None);
        assert!(list_xattrs(&file).unwrap().contains(&"trusted.one".into()));
        set_xattr_at(&handle, OsStr::new("l"), OsStr::new("trusted.link"), b"2").unwrap();
        assert_eq!(
            get_xattr_at(&handle, OsStr::new("l"), OsStr::new("trusted.link")).unwrap().unwrap(),
            b"2"
        );
        assert_eq!(get_xattr_at(&handle, OsStr::new("f"), OsStr::new("trusted.link")).unwrap(), None);
        assert_eq!(list_xattrs_at(&handle, OsStr::new("l")).unwrap(), ["trusted.link"]);
    }

    #[test]
    fn nodes_times_and_links() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let handle = std::fs::File::open(dir.path()).unwrap();
        let null = DeviceNumber { major: 1, minor: 3 };
        make_node(&handle, OsStr::new("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o600), null)
            .unwrap();
        let time = FileTime { seconds: 1_000_000_000, nanos: 123_456_789 };
        set_times(&handle, OsStr::new("null"), time, time).unwrap();
        let meta = std::fs::metadata(dir.path().join("null")).unwrap();
        assert_eq!(DeviceNumber::from_raw(meta.rdev()), null);
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000_000_000, 123_456_789));
        let file =
            rustix::fs::open(dir.path(), OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o600)).unwrap();
        link_fd(&file, &handle, OsStr::new("linked")).unwrap();
        assert!(dir.path().join("linked").exists());
    }
}
