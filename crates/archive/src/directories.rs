//! Open parent directories below a root, none of which can be outside it.

use crate::{Error, path};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use std::{collections::HashMap, sync::Arc};
use wharf_spec::plan::IdMaps;

/// How many stay open; archives are written directory by directory.
const KEPT: usize = 64;

/// As many as Linux follows in one path (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Mode of directories that an archive implies but does not hold (moby `ImpliedDirectoryMode`).
const IMPLIED_MODE: u32 = 0o755;

pub(crate) struct Directories {
    root: Arc<OwnedFd>,
    /// What an archive implies belongs to the root of these.
    ids: Option<Arc<IdMaps>>,
    open: HashMap<Vec<u8>, Arc<OwnedFd>>,
}

impl Directories {
    pub(crate) fn new(root: BorrowedFd<'_>, ids: Option<Arc<IdMaps>>) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::openat(root, ".", flags, Mode::empty()).map_err(Error::file("open", b"."))?;
        Ok(Self { root: Arc::new(root), ids, open: HashMap::new() })
    }

    /// Opens a directory, made with its parents when missing.
    pub(crate) fn get(&mut self, name: &[u8]) -> Result<Arc<OwnedFd>, Error> {
        if let Some(open) = self.cached(name) {
            return Ok(open);
        }
        let directory = match open_in(self.root.as_fd(), name) {
            Err(Errno::NOENT) => self.make(name)?,
            other => other.map_err(Error::file("open", name))?,
        };
        Ok(self.keep(name, directory))
    }

    /// Opens a directory that exists.
    pub(crate) fn find(&mut self, name: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        match self.cached(name) {
            Some(open) => Ok(open),
            None => {
                let directory = open_in(self.root.as_fd(), name)?;
                Ok(self.keep(name, directory))
            }
        }
    }

    /// Keeps a directory that was just made or found under this name, no link: what is in it comes next.
    pub(crate) fn put(&mut self, name: &[u8], directory: OwnedFd) {
        self.keep(name, directory);
    }

    /// After something was removed: a name may mean another directory now.
    pub(crate) fn forget(&mut self) {
        self.open.clear();
    }

    fn cached(&self, name: &[u8]) -> Option<Arc<OwnedFd>> {
        if name.is_empty() { Some(self.root.clone()) } else { self.open.get(name).cloned() }
    }

    fn keep(&mut self, name: &[u8], directory: OwnedFd) -> Arc<OwnedFd> {
        if self.open.len() >= KEPT {
            self.open.clear();
        }
        let directory = Arc::new(directory);
        self.open.insert(name.to_vec(), directory.clone());
        directory
    }

    /// Makes what is missing, component by component. A link to nothing leads to where it points, as it
    /// would in a chroot.
    fn make(&self, name: &[u8]) -> Result<OwnedFd, Error> {
        let mut todo: Vec<Vec<u8>> = components(name);
        let mut done: Vec<u8> = Vec::new();
        let mut current = open_in(self.root.as_fd(), b".").map_err(Error::file("open", b"."))?;
        let mut links = 0;
        while let Some(component) = todo.pop() {
            let next = join(&done, &component);
            match open_in(self.root.as_fd(), &next) {
                Ok(open) => (current, done) = (open, next),
                Err(Errno::NOENT) => match make_one(current.as_fd(), &component, &next)? {
                    Some(open) => {
                        self.give_to_root(&open, &next)?;
                        (current, done) = (open, next);
                    }
                    None => {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Error::file("open", name)(Errno::LOOP));
                        }
                        let target = dangling_target(current.as_fd(), &component, &done)?;
                        todo.extend(components(&target));
                        done.clear();
                        current = open_in(self.root.as_fd(), b".").map_err(Error::file("open", b"."))?;
                    }
                },
                Err(error) => return Err(Error::file("open", &next)(error)),
            }
        }
        Ok(current)
    }

    fn give_to_root(&self, directory: &OwnedFd, name: &[u8]) -> Result<(), Error> {
        let Some((uid, gid)) = self.ids.as_ref().and_then(|ids| ids.root().ok()) else { return Ok(()) };
        fs::fchown(directory, Some(fs::Uid::from_raw(uid)), Some(fs::Gid::from_raw(gid)))
            .map_err(Error::file("chown", name))
    }
}

/// Last first, to be popped.
fn components(name: &[u8]) -> Vec<Vec<u8>> {
    let parts = name.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.rev().map(<[u8]>::to_vec).collect()
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// `None` when a link that leads nowhere has the name.
fn make_one(parent: BorrowedFd<'_>, name: &[u8], whole: &[u8]) -> Result<Option<OwnedFd>, Error> {
    match fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let stat =
                fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::file("stat", whole))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                return Ok(None);
            }
        }
        Err(error) => return Err(Error::file("mkdir", whole)(error)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = fs::openat(parent, name, flags, Mode::empty()).map_err(Error::file("open", whole))?;
    fs::fchmod(&open, Mode::from_raw_mode(IMPLIED_MODE)).map_err(Error::file("chmod", whole))?;
    Ok(Some(open))
}

/// Where a link points, from the root, never above it.
fn dangling_target(parent: BorrowedFd<'_>, name: &[u8], done: &[u8]) -> Result<Vec<u8>, Error> {
    let target = fs::readlinkat(parent, name, Vec::new()).map_err(Error::file("readlink", name))?;
    let target = target.as_bytes();
    // The leading slash makes `clean` drop each `..` that would climb over the root.
    let rooted = if target.starts_with(b"/") { target.to_vec() } else { [b"/", done, b"/", target].concat() };
    Ok(path::clean(&rooted))
}

/// Links inside are followed as if the root were `/`.
fn open_in(root: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    fs::openat2(
        root,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}
