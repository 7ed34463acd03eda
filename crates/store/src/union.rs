//! What overlayfs would show, found out without mounting it: some questions about a stack of directories
//! are cheaper to answer than a mount is to make and to remove.

use crate::{Error, Result, files};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// One directory of the union: those that are merged in it, topmost first. None of them: no directory.
#[derive(Clone, Default)]
pub(crate) struct Union {
    layers: Vec<Arc<OwnedFd>>,
}

/// A name in a union.
pub(crate) struct Found {
    pub(crate) stat: Stat,
    /// In which directory it stands.
    pub(crate) parent: Arc<OwnedFd>,
    /// What is merged, when it is a directory.
    pub(crate) directory: Option<Union>,
}

impl Found {
    pub(crate) fn is_directory(&self) -> bool {
        self.directory.is_some()
    }
}

impl Union {
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self> {
        let layers = paths.iter().map(|path| files::open_directory(path).map(Arc::new));
        Ok(Self { layers: layers.collect::<Result<_>>()? })
    }

    pub(crate) fn child(&self, name: &[u8]) -> Result<Option<Found>> {
        let mut found: Option<Found> = None;
        for layer in &self.layers {
            let stat = match fs::statat(&**layer, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(lossy("stat", name)(error)),
            };
            if is_whiteout(&stat) || (found.is_some() && !is_directory(&stat)) {
                break;
            }
            if !is_directory(&stat) {
                return Ok(Some(Found { stat, parent: layer.clone(), directory: None }));
            }
            let open = open_child(layer.as_fd(), name).map_err(lossy("open", name))?;
            let is_last = is_opaque(&open).map_err(lossy("getxattr", name))?;
            let here = found.get_or_insert_with(|| Found {
                stat,
                parent: layer.clone(),
                directory: Some(Self::default()),
            });
            here.directory.get_or_insert_default().layers.push(Arc::new(open));
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    /// Visible names, sorted.
    pub(crate) fn names(&self) -> Result<Vec<Vec<u8>>> {
        let mut seen: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for layer in &self.layers {
            for (name, kind) in entries(&**layer).map_err(lossy("readdir", b"."))? {
                if seen.contains_key(&name) {
                    continue;
                }
                let hidden = kind == FileType::CharacterDevice
                    && fs::statat(&**layer, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                        .is_ok_and(|stat| is_whiteout(&stat));
                seen.insert(name, !hidden);
            }
        }
        Ok(seen.into_iter().filter(|(_, visible)| *visible).map(|(name, _)| name).collect())
    }
}

/// Names and kinds in a directory, unsorted.
pub(crate) fn entries(directory: impl AsFd) -> Result<Vec<(Vec<u8>, FileType)>, Errno> {
    let mut all = Vec::new();
    for entry in fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            all.push((name.to_vec(), entry.file_type()));
        }
    }
    Ok(all)
}

pub(crate) fn open_child(directory: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(directory, name, flags, Mode::empty())
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// A deletion (source: kernel overlayfs.rst, "whiteouts and opaque directories").
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(crate) fn is_opaque(directory: impl AsFd) -> Result<bool, Errno> {
    let mut value = [0u8; 2];
    match fs::fgetxattr(directory, wharf_archive::OPAQUE_XATTR, &mut value[..]) {
        Ok(length) => Ok(value.get(..length) == Some(b"y")),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// For `map_err`, with a name relative to some layer.
pub(crate) fn lossy(operation: &'static str, name: &[u8]) -> impl FnOnce(Errno) -> Error {
    Error::file(operation, String::from_utf8_lossy(name).into_owned())
}

/// Bytes of all inodes that are no directories, each counted once: what Docker calls a layer's size
/// (source: moby `daemon/internal/directory/directory_unix.go`).
pub(crate) fn tree_size(root: OwnedFd) -> Result<u64> {
    let mut seen = std::collections::HashSet::new();
    let mut size = 0;
    let mut stack = vec![root];
    while let Some(directory) = stack.pop() {
        for (name, kind) in entries(&directory).map_err(lossy("readdir", b"."))? {
            if kind == FileType::Directory {
                match open_child(&directory, &name) {
                    Ok(open) => stack.push(open),
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(lossy("open", &name)(error)),
                }
                continue;
            }
            match fs::statat(&directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if is_directory(&stat) => {}
                Ok(stat) if stat.st_nlink < 2 || seen.insert(stat.st_ino) => {
                    size += u64::try_from(stat.st_size).unwrap_or(0);
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(lossy("stat", &name)(error)),
            }
        }
    }
    Ok(size)
}
