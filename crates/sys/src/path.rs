//! Paths that cannot leave a root, whatever somebody does to the tree meanwhile.
//!
//! [`Root`] is a directory, held open, standing for `/`: absolute symlinks and `..` stay inside
//! (openat2(2) RESOLVE_IN_ROOT), magic links of procfs are refused. Every answer is a descriptor; operate on
//! it, or on a name in it, never on the path again (CVE-2021-30465, CVE-2018-15664).

use crate::{Context, Error, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How often a lookup that raced with a rename is tried again.
const RACE_RETRIES: usize = 128;
/// How many dangling symlinks [`Root::mkdir_all`] follows, as the kernel's own limit.
const MAX_LINKS: usize = 40;

/// A directory that stands for `/`.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// Opens a directory of the host that the caller trusts.
    pub fn open(path: &Path) -> Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).on("open", || path.display().to_string())?;
        Ok(Root { fd })
    }

    /// Takes an open directory or a detached mount.
    pub fn from_fd(fd: OwnedFd) -> Root {
        Root { fd }
    }

    /// A second handle on the same directory.
    pub fn try_clone(&self) -> Result<Root> {
        Ok(Root { fd: rustix::io::fcntl_dupfd_cloexec(&self.fd, 3).on("dup", || "root")? })
    }

    /// Gives the descriptor back.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// What `path` refers to, as an O_PATH descriptor; a final symlink is followed.
    pub fn resolve(&self, path: &Path) -> Result<OwnedFd> {
        self.open_file(path, OFlags::PATH, Mode::empty())
    }

    /// As [`Root::resolve`], but a final symlink is itself the answer.
    pub fn resolve_nofollow(&self, path: &Path) -> Result<OwnedFd> {
        self.open_file(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Opens `path` inside the root. `mode` only matters with O_CREAT.
    pub fn open_file(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        open_scoped(self.fd.as_fd(), path, flags, mode, ResolveFlags::IN_ROOT)
    }

    /// Metadata of what `path` refers to; a final symlink is not followed.
    pub fn stat_nofollow(&self, path: &Path) -> Result<Stat> {
        stat(self.resolve_nofollow(path)?)
    }

    /// The directory `path` names, made with its parents where missing (`mode` for each, umask applied), as
    /// an O_PATH descriptor. A dangling symlink gets its target made, inside the root.
    pub fn mkdir_all(&self, path: &Path, mode: Mode) -> Result<OwnedFd> {
        self.mkdir_following(path, mode, 0)
    }

    fn mkdir_following(&self, path: &Path, mode: Mode, depth: usize) -> Result<OwnedFd> {
        if depth > MAX_LINKS {
            return Err(Error::call("mkdir", path.display().to_string(), Errno::LOOP));
        }
        match self.open_file(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Err(error) if error.is(Errno::NOENT) => {}
            other => return other,
        }
        let (parent, name) = split(path)?;
        let parent_fd = self.mkdir_following(parent, mode, depth + 1)?;
        match rustix::fs::mkdirat(&parent_fd, name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::call("mkdir", path.display().to_string(), errno)),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&parent_fd, name, flags, Mode::empty()) {
            Err(Errno::LOOP | Errno::NOTDIR) => match readlink_at(&parent_fd, name) {
                Ok(target) => self.mkdir_following(&parent.join(target), mode, depth + 1),
                Err(_) => Err(Error::call("mkdir", path.display().to_string(), Errno::NOTDIR)),
            },
            other => other.on("open", || path.display().to_string()),
        }
    }

    /// The file `path` names, as an O_PATH descriptor: an existing one of any kind (symlinks followed), or a
    /// new empty regular file with its parent directories (0755). For bind mount targets.
    pub fn ensure_file(&self, path: &Path, mode: Mode) -> Result<OwnedFd> {
        match self.resolve(path) {
            Err(error) if error.is(Errno::NOENT) => {}
            other => return other,
        }
        let (parent, name) = split(path)?;
        let parent_fd = self.mkdir_all(parent, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(&parent_fd, name, flags, mode) {
            Ok(_) => {}
            // A dangling symlink: make what it points to.
            Err(Errno::EXIST) => {
                if let Ok(target) = readlink_at(&parent_fd, name) {
                    return self.ensure_link_target(&parent.join(target), mode);
                }
            }
            Err(errno) => return Err(Error::call("create", path.display().to_string(), errno)),
        }
        self.resolve(path)
    }

    fn ensure_link_target(&self, path: &Path, mode: Mode) -> Result<OwnedFd> {
        let (parent, name) = split(path)?;
        let parent_fd = self.mkdir_all(parent, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&parent_fd, name, flags, mode).on("create", || path.display().to_string())
    }

    /// The directory that holds `path` (O_PATH, must exist) and the last name in it.
    pub fn parent_of<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr)> {
        let (parent, name) = split(path)?;
        Ok((self.open_file(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?, name))
    }

    /// Where a symlink points; its own text, uninterpreted.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf> {
        let link = self.resolve_nofollow(path)?;
        readlink_at(&link, OsStr::new("")).on("readlink", || path.display().to_string())
    }

    /// Reads a whole regular file of at most `limit` bytes (CVE-2026-47262: files of images are hostile).
    pub fn read_limited(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        use std::io::Read;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.open_file(path, flags, Mode::empty())?;
        if !FileType::from_raw_mode(stat(&fd)?.st_mode).is_file() {
            return Err(Error::malformed(path.display().to_string(), "not a regular file"));
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::from(fd);
        file.take(limit + 1).read_to_end(&mut bytes).on("read", || path.display().to_string())?;
        if bytes.len() as u64 > limit {
            return Err(Error::malformed(path.display().to_string(), format!("larger than {limit} bytes")));
        }
        Ok(bytes)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens `path` relative to `dir`; anything that would leave `dir` (`..`, absolute paths or symlinks) is an
/// error (RESOLVE_BENEATH).
pub fn open_beneath(dir: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    open_scoped(dir.as_fd(), path, flags, mode, ResolveFlags::BENEATH)
}

/// openat2(2) without magic links, tried again when a rename raced with it.
fn open_scoped(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    scope: ResolveFlags,
) -> Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // openat2 refuses mode bits without O_CREAT.
    let mode = if flags.intersects(OFlags::CREATE | OFlags::TMPFILE) { mode } else { Mode::empty() };
    let mut tries = 0;
    loop {
        let resolve = scope | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN) if tries < RACE_RETRIES => tries += 1,
            other => return other.on("open", || path.display().to_string()),
        }
    }
}

/// Splits into the parent and the last name. Names that are not ordinary (`..`, none) are refused.
fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    let invalid = || Error::call("open", path.display().to_string(), Errno::INVAL);
    let name = path.file_name().ok_or_else(invalid)?;
    Ok((path.parent().ok_or_else(invalid)?, name))
}

/// The text of a symlink: `name` in `dir`, or `dir` itself (an O_PATH symlink) when `name` is empty.
pub fn readlink_at(dir: impl AsFd, name: &OsStr) -> Result<PathBuf, Errno> {
    let text = rustix::fs::readlinkat(dir, name, Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(text.as_bytes())))
}

/// fstat(2), also of O_PATH descriptors.
pub fn stat(fd: impl AsFd) -> Result<Stat> {
    rustix::fs::statat(fd.as_fd(), "", AtFlags::EMPTY_PATH).on("fstat", || crate::mount::describe(fd.as_fd()))
}

/// What kind of file a descriptor is.
pub fn file_type(fd: impl AsFd) -> Result<FileType> {
    Ok(FileType::from_raw_mode(stat(fd)?.st_mode))
}

/// Opens again what a descriptor (such as an O_PATH one) refers to, through `/proc/self/fd`. The `/proc` of
/// the caller must be the kernel's: see [`reopen_through`] where it may not be.
pub fn reopen(fd: impl AsFd, flags: OFlags) -> Result<OwnedFd> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    rustix::fs::openat(CWD, link.as_str(), flags | OFlags::CLOEXEC, Mode::empty())
        .on("open", || crate::mount::describe(fd.as_fd()))
}

/// As [`reopen`], through a procfs the caller holds open and trusts.
pub fn reopen_through(proc: impl AsFd, fd: impl AsFd, flags: OFlags) -> Result<OwnedFd> {
    require_proc(proc.as_fd())?;
    let link = format!("self/fd/{}", fd.as_fd().as_raw_fd());
    rustix::fs::openat(proc, link.as_str(), flags | OFlags::CLOEXEC, Mode::empty())
        .on("open", || link.clone())
}

/// Whether a descriptor is on a procfs.
pub fn is_proc(fd: impl AsFd) -> Result<bool> {
    Ok(filesystem_magic(fd)? == libc::PROC_SUPER_MAGIC as u64)
}

/// An error unless the descriptor is on a procfs (CVE-2025-52881: writes meant for `/proc`).
pub fn require_proc(fd: impl AsFd) -> Result<()> {
    match is_proc(fd.as_fd())? {
        true => Ok(()),
        false => Err(Error::malformed(crate::mount::describe(fd.as_fd()), "not on a procfs")),
    }
}

/// The magic number of the file system a descriptor is on (statfs(2)).
pub fn filesystem_magic(fd: impl AsFd) -> Result<u64> {
    let info = rustix::fs::fstatfs(fd.as_fd()).on("fstatfs", || crate::mount::describe(fd.as_fd()))?;
    Ok(info.f_type as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/etc")).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::fs::write(dir.path().join("root/etc/secret"), "inside").unwrap();
        let root = Root::open(&dir.path().join("root")).unwrap();
        (dir, root)
    }

    #[test]
    fn nothing_leads_out() {
        let (dir, root) = tree();
        symlink("/etc/secret", dir.path().join("root/abs")).unwrap();
        symlink("../../../../secret", dir.path().join("root/up")).unwrap();
        symlink(dir.path().join("secret"), dir.path().join("root/host")).unwrap();
        assert_eq!(root.read_limited(Path::new("/abs"), 100).unwrap(), b"inside");
        assert_eq!(root.read_limited(Path::new("../../etc/secret"), 100).unwrap(), b"inside");
        assert!(root.resolve(Path::new("up")).unwrap_err().is(Errno::NOENT));
        assert!(root.resolve(Path::new("host")).unwrap_err().is(Errno::NOENT));
        let beneath = open_beneath(&root, Path::new("abs"), OFlags::PATH, Mode::empty());
        assert!(beneath.unwrap_err().is(Errno::XDEV));
    }

    #[test]
    fn magic_links_are_refused() {
        let root = Root::open(Path::new("/")).unwrap();
        assert!(root.resolve(Path::new("/proc/self/root")).unwrap_err().is(Errno::LOOP));
        assert!(root.resolve(Path::new("/proc/self/fd/0")).unwrap_err().is(Errno::LOOP));
    }

    #[test]
    fn directories_are_made_inside_even_through_dangling_links() {
        let (dir, root) = tree();
        symlink("/var/real", dir.path().join("root/link")).unwrap();
        root.mkdir_all(Path::new("/link/a/b"), Mode::from_raw_mode(0o700)).unwrap();
        assert!(dir.path().join("root/var/real/a/b").is_dir());
        root.mkdir_all(Path::new("/link/a/b"), Mode::from_raw_mode(0o700)).unwrap();
        symlink("/loop", dir.path().join("root/loop")).unwrap();
        assert!(root.mkdir_all(Path::new("/loop/x"), Mode::from_raw_mode(0o700)).is_err());
        let error = root.mkdir_all(Path::new("/etc/secret/x"), Mode::from_raw_mode(0o700)).unwrap_err();
        assert!(error.is(Errno::NOTDIR), "{error}");
    }

    #[test]
    fn files_are_made_once() {
        let (dir, root) = tree();
        let mode = Mode::from_raw_mode(0o644);
        root.ensure_file(Path::new("/new/dir/file"), mode).unwrap();
        assert!(dir.path().join("root/new/dir/file").is_file());
        let fd = root.ensure_file(Path::new("/etc/secret"), mode).unwrap();
        assert_eq!(stat(fd).unwrap().st_size, 6);
        symlink("/run/made", dir.path().join("root/etc/dangling")).unwrap();
        root.ensure_file(Path::new("/etc/dangling"), mode).unwrap();
        assert!(dir.path().join("root/run/made").is_file());
    }

    #[test]
    fn reading_is_bounded_and_only_of_files() {
        let (_dir, root) = tree();
        assert!(
            root.read_limited(Path::new("/etc/secret"), 5).unwrap_err().to_string().contains("larger than 5")
        );
        assert!(root.read_limited(Path::new("/etc"), 5).is_err());
    }

    #[test]
    fn proc_is_recognised() {
        assert!(is_proc(std::fs::File::open("/proc/self/status").unwrap()).unwrap());
        let (dir, _root) = tree();
        assert!(require_proc(std::fs::File::open(dir.path()).unwrap()).is_err());
    }

    #[test]
    fn descriptors_are_opened_again() {
        let (_dir, root) = tree();
        let path_only = root.resolve(Path::new("/etc/secret")).unwrap();
        let file = std::fs::File::from(reopen(&path_only, OFlags::RDONLY).unwrap());
        assert_eq!(std::io::read_to_string(file).unwrap(), "inside");
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(reopen_through(&proc, &path_only, OFlags::RDONLY).is_ok());
    }
}
