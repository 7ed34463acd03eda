//! A bbolt file that one daemon holds.

use super::{Bucket, decode, encode};
use crate::{Error, Result, files};
use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::IntoRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

/// No file of Docker's is nearly as large.
const LARGEST: u64 = 256 << 20;
/// So many open files may wait for [`BoltFile::sync`].
const MOST_REPLACED: usize = 64;
/// Both meta pages with any usual page size.
const META_PAGES: usize = 128 << 10;

/// A bbolt file, locked with flock(2) as bbolt locks it, so that no other daemon opens it.
///
/// A change is a new file that is locked before it takes the name, so that whoever opens the name finds a locked
/// file at any time. Somebody may have opened the file just before and wait for its lock: the old one is unlocked
/// only after the new one is on the disk, and after its meta pages are overwritten, so that the waiter finds no
/// database instead of an outdated one.
#[derive(Debug)]
pub struct BoltFile {
    path: PathBuf,
    mode: u32,
    current: File,
    replaced: Vec<File>,
}

/// What [`BoltFile::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub file: BoltFile,
    /// What is in it.
    pub root: Bucket,
    /// The file could not be read, and an empty one has its place.
    pub damage: Option<Damage>,
}

/// A file that could not be read.
#[derive(Debug)]
pub struct Damage {
    /// Why.
    pub what: String,
    /// Where it is now.
    pub kept_as: PathBuf,
}

impl BoltFile {
    /// Opens and locks a file, made with this mode if missing. One that cannot be read is put aside.
    ///
    /// # Errors
    /// [`Error::Locked`] when another daemon has it; when it cannot be read or made.
    pub fn open(path: &Path, mode: u32) -> Result<Opened> {
        files::remove_temporaries(path.parent().unwrap_or(Path::new(".")))?;
        let current = lock(path, mode)?;
        let mut bytes = Vec::new();
        (&current).take(LARGEST + 1).read_to_end(&mut bytes).map_err(Error::file("read", path))?;
        let mut file = Self { path: path.into(), mode, current, replaced: Vec::new() };
        if bytes.is_empty() {
            let root = Bucket::default();
            file.replace(&root)?;
            return Ok(Opened { file, root, damage: None });
        }
        let decoded = match bytes.len() as u64 > LARGEST {
            true => Err("too large".to_owned()),
            false => decode(&bytes),
        };
        match decoded {
            Ok(root) => Ok(Opened { file, root, damage: None }),
            Err(what) => {
                let kept_as = files::put_aside(path)?;
                let root = Bucket::default();
                file.replace(&root)?;
                Ok(Opened { file, root, damage: Some(Damage { what, kept_as }) })
            }
        }
    }

    /// Replaces what is in the file, in one step. It is on the disk after [`Self::sync`]; a crash of this process
    /// loses nothing.
    ///
    /// # Errors
    /// When it cannot be written; the file is then as it was.
    pub fn replace(&mut self, root: &Bucket) -> Result<()> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = self.path.with_file_name(format!(".tmp-{name}-{}", &files::random_id()[..12]));
        let new = self.put(&temporary, root).inspect_err(|_| {
            // The first error is the one that tells.
            let _ = std::fs::remove_file(&temporary);
        })?;
        self.replaced.push(std::mem::replace(&mut self.current, new));
        if self.replaced.len() < MOST_REPLACED { Ok(()) } else { self.sync() }
    }

    fn put(&self, temporary: &Path, root: &Bucket) -> Result<File> {
        let mut new = files::create(temporary, self.mode)?;
        new.write_all(&encode(root)).map_err(Error::file("write", temporary))?;
        if !wharf_sys::fs::try_lock(&new)? {
            return Err(Error::Locked(temporary.into()));
        }
        std::fs::rename(temporary, &self.path).map_err(Error::file("rename", &self.path))?;
        Ok(new)
    }

    /// Waits until what was written is on the disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&mut self) -> Result<()> {
        self.pending()?.wait()
    }

    /// As [`Self::sync`], to wait for while the file is used on.
    ///
    /// # Errors
    /// When there are too many open files.
    pub fn pending(&mut self) -> Result<Pending> {
        let current = self.current.try_clone().map_err(Error::file("dup", &self.path))?;
        Ok(Pending { path: self.path.clone(), current, replaced: std::mem::take(&mut self.replaced) })
    }
}

/// Something written that is to be waited for.
#[derive(Debug)]
#[must_use = "a file that was replaced is unlocked too early"]
pub struct Pending {
    path: PathBuf,
    current: File,
    replaced: Vec<File>,
}

impl Pending {
    /// Waits until it is on the disk, then gives up the files that were replaced.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn wait(self) -> Result<()> {
        self.current.sync_all().map_err(Error::file("fsync", &self.path))?;
        files::sync_directory(self.path.parent().unwrap_or(Path::new(".")))?;
        for file in self.replaced {
            match file.metadata().map_err(Error::file("stat", &self.path))?.nlink() {
                0 => invalidate(&file).map_err(Error::file("invalidate", &self.path))?,
                // Somebody's copy stays as it is, and locked as long as this process is there.
                _ => drop(file.into_raw_fd()),
            }
        }
        Ok(())
    }
}

impl Drop for BoltFile {
    fn drop(&mut self) {
        // Unlocking what was replaced is only safe once it is invalid, see above; nobody is left to be told.
        let _ = self.sync();
    }
}

/// Opens a path and locks what has that name then.
fn lock(path: &Path, mode: u32) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(mode);
    let file = options.open(path).map_err(Error::file("open", path))?;
    let opened = file.metadata().map_err(Error::file("stat", path))?;
    let locked = wharf_sys::fs::try_lock(&file)?;
    let named = std::fs::metadata(path).map_err(Error::file("stat", path))?;
    if !locked || (opened.dev(), opened.ino()) != (named.dev(), named.ino()) {
        return Err(Error::Locked(path.into()));
    }
    Ok(file)
}

/// Makes a file that has no name any more one that bbolt refuses.
fn invalidate(file: &File) -> std::io::Result<()> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(META_PAGES).min(META_PAGES);
    file.write_all_at(&vec![0; length], 0)
}
