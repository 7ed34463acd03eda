//! Filling a volume with files: all of them are there, or none.
//!
//! They are made in a directory beside the data and moved into place when they are whole. What a crash leaves is thrown
//! away or moved on.
//!
//! Files on disk: `<volume>/_filling/`, being made; `<volume>/_filled/`, whole, on their way to `<volume>/_data`. In a
//! volume that is a mount of its own they are `.wharf-filling` and `.wharf-filled` in the data itself.

use crate::{Error, Result};
use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags},
    io::Errno,
};
use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use wharf_sys::fault;

/// Where files are made before they are a volume's: on the same mount, so that they can be renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Staging {
    /// Beside the data, where no container sees them.
    Beside,
    /// In the data, which is a mount of its own.
    Inside,
}

/// A volume that is being filled, locked against others who would fill it. Dropped before its end it is empty again.
pub(crate) struct Filling {
    place: Place,
    files: OwnedFd,
}

impl Filling {
    /// Begins to fill the volume whose data is here, once nobody else does; `None` when it has something in it. Blocks.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn begin(data: &Path, staging: Staging) -> Result<Option<Self>> {
        let place = Place::open(data, staging)?;
        rustix::fs::flock(&place.lock, FlockOperation::LockExclusive).map_err(failed("lock volume", data))?;
        place.settle()?;
        if !place.is_empty()? {
            return Ok(None);
        }
        let filling = &place.filling;
        rustix::fs::mkdir(filling, Mode::RWXU).map_err(failed("mkdir", filling))?;
        let files = open_directory(filling).map_err(failed("open", filling))?;
        Ok(Some(Self { place, files }))
    }

    /// The directory that gets the files. Its own owner and mode become the volume's.
    pub(crate) fn files(&self) -> BorrowedFd<'_> {
        self.files.as_fd()
    }

    /// The files are whole: they become the volume's.
    ///
    /// # Errors
    /// When the disk fails. Up to the first one that is moved the volume is empty then.
    pub(crate) fn finish(self) -> Result<()> {
        let Place { filling, filled, .. } = &self.place;
        fault::point("volume.fill")
            .and_then(|()| fs::rename(filling, filled))
            .map_err(|source| Error::Io { step: "fill volume", path: filled.clone(), source })?;
        fault::death("volume.filled");
        self.place.move_up()
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.place.filling) {
            tracing::warn!(%error, "what was to fill a volume stays until it is next filled");
        }
    }
}

/// What a crash left of filling a volume is thrown away or brought to its end. Blocks.
///
/// # Errors
/// When the disk fails.
pub(super) fn settle(data: &Path) -> Result<()> {
    let beside = |name| data.with_file_name(name);
    if beside(BESIDE[0]).exists() || beside(BESIDE[1]).exists() {
        Place::open(data, Staging::Beside)?.settle()?;
    }
    Ok(())
}

const BESIDE: [&str; 2] = ["_filling", "_filled"];
const INSIDE: [&str; 2] = [".wharf-filling", ".wharf-filled"];

/// Where a volume is filled.
struct Place {
    data: PathBuf,
    filling: PathBuf,
    filled: PathBuf,
    /// The directory of both, for `flock`: a process that dies gives it back.
    lock: OwnedFd,
}

impl Place {
    fn open(data: &Path, staging: Staging) -> Result<Self> {
        let (dir, [filling, filled]) = match staging {
            Staging::Beside => (data.parent().unwrap_or(data), BESIDE),
            Staging::Inside => (data, INSIDE),
        };
        let lock = open_directory(dir).map_err(failed("open volume", dir))?;
        Ok(Self { data: data.into(), filling: dir.join(filling), filled: dir.join(filled), lock })
    }

    fn settle(&self) -> Result<()> {
        if self.filled.exists() {
            self.move_up()?;
        }
        remove_tree(&self.filling)
    }

    fn is_empty(&self) -> Result<bool> {
        let mut entries = fs::read_dir(&self.data).map_err(|source| Error::Io {
            step: "read volume",
            path: self.data.clone(),
            source,
        })?;
        Ok(entries.next().is_none())
    }

    /// The owner first: whoever finds the first file finds the directory as it is to be.
    fn move_up(&self) -> Result<()> {
        let io = |step| move |source: std::io::Error| Error::Io { step, path: self.filled.clone(), source };
        let found = fs::symlink_metadata(&self.filled).map_err(io("stat"))?;
        std::os::unix::fs::chown(&self.data, Some(found.uid()), Some(found.gid()))
            .map_err(io("chown volume"))?;
        fs::set_permissions(&self.data, found.permissions()).map_err(io("chmod volume"))?;
        let from = open_directory(&self.filled).map_err(failed("open", &self.filled))?;
        let to = open_directory(&self.data).map_err(failed("open volume", &self.data))?;
        wharf_sys::fs::copy_xattrs(&from, &to, |_| true)
            .map_err(|error| io("copy attributes")(std::io::Error::other(error)))?;
        for entry in fs::read_dir(&self.filled).map_err(io("read"))? {
            let name = entry.map_err(io("read"))?.file_name();
            match rustix::fs::renameat_with(&from, &name, &to, &name, RenameFlags::NOREPLACE) {
                // What a container has made there meanwhile is what it wants.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(failed("fill volume", &self.filled)(error)),
            }
            fault::death("volume.moved");
        }
        remove_tree(&self.filled)
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn failed(step: &'static str, path: &Path) -> impl Fn(Errno) -> Error + use<> {
    let path = path.to_owned();
    move |errno| Error::Io { step, path: path.clone(), source: errno.into() }
}

fn remove_tree(path: &Path) -> Result<()> {
    match rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        _ => {
            fs::remove_dir_all(path).map_err(|source| Error::Io { step: "remove", path: path.into(), source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn volume() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("_data");
        fs::create_dir(&data).unwrap();
        (dir, data)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_there_at_the_end_only() {
        let (dir, data) = volume();
        let filling = Filling::begin(&data, Staging::Beside).unwrap().unwrap();
        fs::write(dir.path().join("_filling/a"), "x").unwrap();
        assert!(names(&data).is_empty());
        fs::set_permissions(dir.path().join("_filling"), fs::Permissions::from_mode(0o1750)).unwrap();
        filling.finish().unwrap();
        assert_eq!((names(&data), names(dir.path())), (vec!["a".to_owned()], vec!["_data".to_owned()]));
        assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o1750);
        assert!(Filling::begin(&data, Staging::Beside).unwrap().is_none(), "it is not empty");
    }

    #[test]
    fn a_mount_is_filled_from_within() {
        let (_dir, data) = volume();
        let filling = Filling::begin(&data, Staging::Inside).unwrap().unwrap();
        fs::write(data.join(".wharf-filling/a"), "x").unwrap();
        filling.finish().unwrap();
        assert_eq!(names(&data), ["a"]);
        fs::remove_file(data.join("a")).unwrap();
        fs::create_dir_all(data.join(".wharf-filling/half")).unwrap();
        drop(Filling::begin(&data, Staging::Inside).unwrap().unwrap());
        assert!(names(&data).is_empty());
    }

    #[test]
    fn what_breaks_off_leaves_nothing() {
        let (dir, data) = volume();
        drop(Filling::begin(&data, Staging::Beside).unwrap().unwrap());
        assert_eq!((names(&data).len(), names(dir.path())), (0, vec!["_data".to_owned()]));
    }

    #[test]
    fn what_a_crash_left_is_thrown_away_or_brought_to_its_end() {
        let (dir, data) = volume();
        fs::create_dir_all(dir.path().join("_filling/half")).unwrap();
        settle(&data).unwrap();
        assert_eq!((names(&data).len(), names(dir.path())), (0, vec!["_data".to_owned()]));
        fs::create_dir_all(dir.path().join("_filled/b")).unwrap();
        fs::write(dir.path().join("_filled/a"), "image").unwrap();
        fs::write(data.join("a"), "container").unwrap();
        settle(&data).unwrap();
        assert_eq!(
            (names(&data), names(dir.path())),
            (vec!["a".into(), "b".into()], vec!["_data".to_owned()])
        );
        assert_eq!(fs::read_to_string(data.join("a")).unwrap(), "container");
    }
}
