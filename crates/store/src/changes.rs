//! What a container changed: `docker diff` (source: moby `go-archive/changes.go`, `changes_unix.go`).
//!
//! Docker mounts the container's layer and its parent and compares them. Here the layer's own directory is
//! walked: what is not in it did not change.

use crate::{
    Result,
    union::{Union, entries, is_directory, is_opaque, is_whiteout, lossy, open_child},
};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Contents, metadata, or something below it: 0 in the API, `C`.
    Modified,
    /// 1, `A`.
    Added,
    /// 2, `D`.
    Deleted,
}

/// A changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute, in the container.
    pub path: Vec<u8>,
    /// How.
    pub kind: ChangeKind,
}

/// As many levels as a path can name; each holds descriptors.
const MAX_DEPTH: usize = 300;

/// The changes in a layer's directory against what is below it, parents before children.
pub(crate) fn changes(layer: OwnedFd, lower: &Union) -> Result<Vec<Change>> {
    let mut walk = Walk { changes: Vec::new() };
    walk.directory(&layer, b"", lower, 0)?;
    Ok(walk.changes)
}

struct Walk {
    changes: Vec<Change>,
}

impl Walk {
    fn push(&mut self, path: &[u8], kind: ChangeKind) {
        self.changes.push(Change { path: path.to_vec(), kind });
    }

    fn directory(&mut self, upper: &OwnedFd, path: &[u8], lower: &Union, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(lossy("readdir", path)(Errno::NAMETOOLONG));
        }
        let mut names: Vec<Vec<u8>> =
            entries(upper).map_err(lossy("readdir", path))?.into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        for name in &names {
            self.entry(upper, path, name, lower, depth)?;
        }
        if is_opaque(upper).map_err(lossy("getxattr", path))? {
            // What is below does not show through.
            for name in lower.names()? {
                if names.binary_search(&name).is_err() {
                    self.push(&join(path, &name), ChangeKind::Deleted);
                }
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        upper: &OwnedFd,
        path: &[u8],
        name: &[u8],
        lower: &Union,
        depth: usize,
    ) -> Result<()> {
        let path = join(path, name);
        let stat = match fs::statat(upper, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(lossy("stat", &path))?,
        };
        let below = lower.child(name)?;
        if is_whiteout(&stat) {
            if below.is_some() {
                self.push(&path, ChangeKind::Deleted);
            }
            return Ok(());
        }
        let start = self.changes.len();
        let differs = match &below {
            None => {
                self.push(&path, ChangeKind::Added);
                true
            }
            Some(old) => {
                let differs = stat_differs(&old.stat, &stat)
                    || capability(old.parent.as_fd(), name) != capability(upper.as_fd(), name);
                if differs {
                    self.push(&path, ChangeKind::Modified);
                }
                differs
            }
        };
        if !is_directory(&stat) {
            return Ok(());
        }
        let open = match open_child(upper, name) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(lossy("open", &path))?,
        };
        let lower = below.and_then(|found| found.directory).unwrap_or_default();
        self.directory(&open, &path, &lower, depth + 1)?;
        if !differs && self.changes.len() > start {
            // A directory with changes in it is changed.
            self.changes.insert(start, Change { path, kind: ChangeKind::Modified });
        }
        Ok(())
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    [parent, b"/", name].concat()
}

/// Size and time of directories say nothing.
fn stat_differs(old: &Stat, new: &Stat) -> bool {
    old.st_mode != new.st_mode
        || old.st_uid != new.st_uid
        || old.st_gid != new.st_gid
        || old.st_rdev != new.st_rdev
        || (!is_directory(old) && (!same_time(old, new) || old.st_size != new.st_size))
}

/// Archives have whole seconds: a time without nanoseconds equals any time of its second.
fn same_time(a: &Stat, b: &Stat) -> bool {
    a.st_mtime == b.st_mtime
        && (a.st_mtime_nsec == b.st_mtime_nsec || a.st_mtime_nsec == 0 || b.st_mtime_nsec == 0)
}

/// File capabilities, if any.
fn capability(directory: BorrowedFd<'_>, name: &[u8]) -> Option<Vec<u8>> {
    let stat = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::openat(directory, name, flags, Mode::empty()).ok()?;
    let mut value = [0u8; 64];
    let length = fs::fgetxattr(&file, "security.capability", &mut value[..]).ok()?;
    Some(value[..length].to_vec())
}
