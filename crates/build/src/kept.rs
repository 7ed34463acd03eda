//! Contexts that outlive a build, so that a client sends what has changed since.
//!
//! Files on disk, `<contexts>/<digest of the id>/`: `files/`, what the client sent; `known`, digests of files that were
//! read. A context is locked (`flock` on its directory) while it is built from, and gone from its place while it changes.

use crate::{Error, Result, Scratch, checksum::Known};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};
use wharf_archive::{Extractor, Options, Owner, Reader};
use wharf_sys::path::Root;

const FILES: &str = "files";
const KNOWN: &str = "known";

/// A context on disk that nobody changes meanwhile.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    _lock: File,
}

impl Kept {
    /// Takes one to build from; `None` where there is none. Waits while one is looked at or changed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let lock = locked(path, FlockOperation::LockShared)?;
        let kept = lock.map(|lock| Self { path: path.to_owned(), _lock: lock });
        let now = std::time::SystemTime::now();
        if let Some(kept) = &kept {
            kept._lock.set_modified(now).map_err(Error::io("set times of", path.display()))?;
        }
        Ok(kept)
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.path.join(FILES)
    }

    pub(crate) fn known(&self) -> Known {
        std::fs::read(self.path.join(KNOWN)).map(|text| Known::from_bytes(&text)).unwrap_or_default()
    }

    /// Writes digests down. Of several builds at once the last one's stay: they are the same.
    pub(crate) fn remember(&self, known: &[u8]) -> std::io::Result<()> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let new = self.path.join(format!("{KNOWN}.{number}"));
        std::fs::write(&new, known)?;
        std::fs::rename(new, self.path.join(KNOWN))
    }
}

/// A change of a context: what is to be removed, and an archive of what is to be written.
pub struct Update<'u, R> {
    /// The context that is changed, or nothing for a new one.
    pub from: Option<&'u Path>,
    /// Names.
    pub removed: &'u [String],
    /// Files.
    pub archive: R,
    /// Where the context is made meanwhile.
    pub scratch: &'u Path,
    /// Where it is afterwards.
    pub to: &'u Path,
}

impl<R: Read> Update<'_, R> {
    /// Makes the new context out of the old one, which is gone then, whatever happens. Gives false, and nothing was done,
    /// where the old one is not there or is built from.
    ///
    /// # Errors
    /// When the archive is none, or the disk fails.
    pub fn apply(self) -> Result<bool> {
        let scratch = Scratch::new(self.scratch)?;
        let home = scratch.path();
        // Held until the end: nobody takes it from its new place before all is there.
        let _lock = match self.from {
            None => None,
            Some(from) => {
                let Some(lock) = locked(from, FlockOperation::NonBlockingLockExclusive)? else {
                    return Ok(false);
                };
                std::fs::rename(from, home).map_err(Error::io("rename", from.display()))?;
                Some(lock)
            }
        };
        let files = home.join(FILES);
        match std::fs::create_dir(&files) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.map_err(Error::io("mkdir", files.display()))?,
        }
        let known = std::fs::read(home.join(KNOWN)).map(|text| Known::from_bytes(&text)).unwrap_or_default();
        let root = Root::open(&files)?;
        for name in self.removed {
            remove(&root, name)?;
            known.forget(name);
        }
        unpack(self.archive, &files, &known)?;
        if let Some(known) = known.to_bytes() {
            let path = home.join(KNOWN);
            std::fs::write(&path, known).map_err(Error::io("write", path.display()))?;
        }
        std::fs::create_dir_all(self.to.parent().unwrap_or(Path::new("/")))
            .map_err(Error::io("mkdir", self.to.display()))?;
        std::fs::rename(home, self.to).map_err(Error::io("rename", self.to.display()))?;
        Ok(true)
    }
}

/// Removes a context that nobody builds from; says whether it did.
///
/// # Errors
/// When the disk fails.
pub fn remove_kept(path: &Path, scratch: &Path) -> Result<bool> {
    let Some(_lock) = locked(path, FlockOperation::NonBlockingLockExclusive)? else { return Ok(false) };
    let scratch = Scratch::new(scratch)?;
    std::fs::rename(path, scratch.path()).map_err(Error::io("rename", path.display()))?;
    Ok(true)
}

/// The lock of a context that is there.
fn locked(path: &Path, operation: FlockOperation) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        other => other.map_err(|errno| Error::io("open", path.display())(errno.into()))?,
    };
    let file = File::from(open);
    if rustix::fs::flock(&file, operation).is_err() {
        return Ok(None);
    }
    // It may have left between the two.
    let is_same = std::fs::metadata(path).is_ok_and(|there| {
        use std::os::unix::fs::MetadataExt;
        file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
    });
    Ok(is_same.then_some(file))
}

fn remove(root: &Root, name: &str) -> Result<()> {
    if !wharf_archive::is_local(name.as_bytes()) {
        return Err(Error::Invalid(format!("invalid name {name:?}")));
    }
    let missing =
        |error: &wharf_sys::Error| error.is(rustix::io::Errno::NOENT) || error.is(rustix::io::Errno::NOTDIR);
    let path = format!("/{name}");
    let (parent, last): (_, &OsStr) = match root.parent_of(Path::new(&path)) {
        Err(error) if missing(&error) => return Ok(()),
        other => other?,
    };
    let removed = wharf_archive::remove_tree(parent.as_fd(), last.as_bytes());
    removed.map_err(|errno| Error::io("remove", name)(errno.into()))
}

fn unpack(archive: impl Read, files: &Path, known: &Known) -> Result<()> {
    let directory = File::open(files).map_err(Error::io("open", files.display()))?;
    let options = Options { owner: Owner::Fixed { uid: 0, gid: 0 }, ..Options::default() };
    let mut reader = Reader::new(archive);
    let mut extractor = Extractor::new(directory.as_fd(), options)?;
    while let Some(header) = reader.next_entry()? {
        known.forget(&String::from_utf8_lossy(&wharf_archive::clean(&header.name)));
        extractor.entry(&header, reader.content())?;
    }
    extractor.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, select::select};
    use wharf_archive::{PackOptions, Packer};
    use wharf_dockerfile::Patterns;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut packer = Packer::new(Vec::new(), PackOptions::default());
        for (name, text) in files {
            packer.content(name.as_bytes(), 0o644, text.as_bytes()).unwrap();
        }
        packer.finish().unwrap()
    }

    fn digest(at: &Path) -> String {
        let context = Context::of_kept(Kept::open(at).unwrap().unwrap()).unwrap();
        select(context.root(), ".", &Patterns::default(), Some(context.known())).unwrap()[0].digest.clone()
    }

    #[test]
    fn a_context_changes_and_its_digests_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let (scratch, one, two) = (dir.path().join("tmp"), dir.path().join("c/1"), dir.path().join("c/2"));
        let update = |from: Option<&Path>, removed: &[&str], files: &[(&str, &str)], to: &Path| {
            let removed: Vec<String> = removed.iter().map(|name| name.to_string()).collect();
            let archive = archive(files);
            Update { from, removed: &removed, archive: &archive[..], scratch: &scratch, to }.apply()
        };
        assert!(update(None, &[], &[("a", "1"), ("d/b", "1"), ("d/c", "1")], &one).unwrap());
        let before = digest(&one);
        assert_eq!(digest(&one), before);
        let known = std::fs::read_to_string(one.join(KNOWN)).unwrap();
        assert_eq!(known.split_terminator('\0').count(), 3);
        // What is known is not read again.
        std::fs::write(one.join(KNOWN), known.replace(&digest_of(&known, "a"), &"0".repeat(64))).unwrap();
        assert_ne!(digest(&one), before);
        let held = Kept::open(&one).unwrap().unwrap();
        assert!(!update(Some(&one), &[], &[], &two).unwrap(), "it is built from");
        drop(held);
        assert!(update(Some(&one), &["d/c", "nosuch/x"], &[("a", "2")], &two).unwrap());
        assert!(Kept::open(&one).unwrap().is_none());
        assert_eq!(std::fs::read(two.join("files/a")).unwrap(), b"2");
        assert!(!two.join("files/d/c").exists());
        assert!(digest(&two) != before && digest(&two) == digest(&two));
        assert!(update(Some(&two), &["../../x"], &[], &one).is_err());
        assert!(std::fs::read_dir(&scratch).unwrap().next().is_none());
        assert!(update(None, &[], &[("a", "1")], &one).unwrap() && remove_kept(&one, &scratch).unwrap());
        assert!(!remove_kept(&one, &scratch).unwrap());
    }

    fn digest_of(known: &str, name: &str) -> String {
        let entry = known.split_terminator('\0').find(|entry| entry.ends_with(&format!("\t{name}"))).unwrap();
        entry.split('\t').nth(1).unwrap().to_owned()
    }
}
