//! Digests of what would be copied: names, kinds, modes, owners, links, attributes and content, not times (source: moby
//! `daemon/builder/remotecontext/internal/tarsum`).

use crate::{Error, Result};
use ring::digest::{Context, SHA256};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use std::{
    collections::HashMap,
    ffi::{CStr, OsStr},
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    sync::{Mutex, MutexGuard, PoisonError},
};
use wharf_archive::Stamp;

const BUFFER: usize = 256 << 10;
/// Directories below each other; deeper ones are no context.
const MAX_DEPTH: usize = 4096;

/// Digests of a tree's files that were read before, by names and what `stat` said then.
///
/// As text, one entry ends with a zero byte: the stamp, a tab, the digest, a tab, the name.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    files: HashMap<String, (Stamp, String)>,
    is_changed: bool,
}

impl Known {
    /// From what [`Self::to_bytes`] gave; what is something else is nothing.
    pub(crate) fn from_bytes(text: &[u8]) -> Self {
        let entry = |entry: &str| {
            let mut fields = entry.splitn(3, '\t');
            let (stamp, digest) = (fields.next()?.parse().ok()?, fields.next()?.to_owned());
            Some((fields.next()?.to_owned(), (stamp, digest)))
        };
        let text = String::from_utf8_lossy(text);
        let files = text.split_terminator('\0').filter_map(entry).collect();
        Self(Mutex::new(Files { files, is_changed: false }))
    }

    /// As text, if it is another one than it was.
    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        let known = self.lock();
        let text =
            |(name, (stamp, digest)): (&String, &(Stamp, String))| format!("{stamp}\t{digest}\t{name}\0");
        known.is_changed.then(|| known.files.iter().map(text).collect::<String>().into_bytes())
    }

    /// Forgets a file, because it is another one.
    pub(crate) fn forget(&self, name: &str) {
        let mut known = self.lock();
        known.is_changed |= known.files.remove(name).is_some();
    }

    fn get(&self, name: &str, stamp: &Stamp) -> Option<String> {
        self.lock().files.get(name).filter(|(known, _)| known == stamp).map(|(_, digest)| digest.clone())
    }

    fn put(&self, name: &str, stamp: Stamp, digest: &str) {
        let mut known = self.lock();
        known.files.insert(name.to_owned(), (stamp, digest.to_owned()));
        known.is_changed = true;
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Digests of files of one tree.
pub(crate) struct Checksums<'k> {
    buffer: Vec<u8>,
    /// Left out.
    excluded: wharf_dockerfile::Patterns,
    /// Read before.
    known: Option<&'k Known>,
}

impl<'k> Checksums<'k> {
    pub(crate) fn new(excluded: wharf_dockerfile::Patterns, known: Option<&'k Known>) -> Self {
        Self { buffer: vec![0; BUFFER], excluded, known }
    }

    /// `file:<digest>` of a file that is not a directory, by the name it has in its tree.
    pub(crate) fn file(&mut self, parent: BorrowedFd<'_>, last: &OsStr, name: &str) -> Result<String> {
        Ok(format!("file:{}", self.entry(parent, last, name)?))
    }

    /// `dir:<digest>` of a directory.
    pub(crate) fn directory(&mut self, directory: OwnedFd, name: &str) -> Result<String> {
        let mut entries = Vec::new();
        self.below(directory, name, "", &mut entries, 0)?;
        entries.sort_unstable();
        Ok(combined("dir", &entries))
    }

    fn below(
        &mut self,
        directory: OwnedFd,
        name: &str,
        inner: &str,
        entries: &mut Vec<String>,
        depth: usize,
    ) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(io("read", name)(rustix::io::Errno::NAMETOOLONG));
        }
        let names = rustix::fs::Dir::read_from(&directory).map_err(io("read", name))?;
        for found in names {
            let found = found.map_err(io("read", name))?;
            let last = found.file_name();
            if matches!(last.to_bytes(), b"." | b"..") {
                continue;
            }
            let text = String::from_utf8_lossy(last.to_bytes());
            let (whole, inside) = (join(name, &text), join(inner, &text));
            if self.excluded.excludes(&inside) && !self.excluded.has_exceptions() {
                continue;
            }
            if !self.excluded.excludes(&inside) {
                entries.push(self.entry(directory.as_fd(), OsStr::from_bytes(last.to_bytes()), &whole)?);
            }
            if is_directory(&directory, last, found.file_type()).map_err(io("stat", &whole))? {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = rustix::fs::openat(&directory, last, flags, Mode::empty());
                self.below(below.map_err(io("open", &whole))?, &whole, &inside, entries, depth + 1)?;
            }
        }
        Ok(())
    }

    /// One entry, its content included.
    fn entry(&mut self, parent: BorrowedFd<'_>, last: &OsStr, name: &str) -> Result<String> {
        let stat = rustix::fs::statat(parent, last, AtFlags::SYMLINK_NOFOLLOW).map_err(io("stat", name))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let stamp = Stamp::of(&stat);
        let known = self.known.filter(|_| kind.is_file());
        if let Some(digest) = known.and_then(|known| known.get(name, &stamp)) {
            return Ok(digest);
        }
        let mut digest = Context::new(&SHA256);
        digest.update(head(name, kind, &stat).as_bytes());
        if kind.is_symlink() {
            let target = wharf_sys::path::readlink_at(parent, last).map_err(io("readlink", name))?;
            digest.update(target.as_os_str().as_bytes());
        }
        if kind.is_file() {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = rustix::fs::openat(parent, last, flags, Mode::empty()).map_err(io("open", name))?;
            attributes(&file, &mut digest).map_err(io("read attributes of", name))?;
            self.content(File::from(file), &mut digest).map_err(Error::io("read", name))?;
        }
        let digest = hex(digest);
        if let Some(known) = known {
            known.put(name, stamp, &digest);
        }
        Ok(digest)
    }

    fn content(&mut self, mut file: File, digest: &mut Context) -> std::io::Result<()> {
        loop {
            match file.read(&mut self.buffer)? {
                0 => return Ok(()),
                count => digest.update(&self.buffer[..count]),
            }
        }
    }
}

/// Of several digests; one stands for itself.
pub(crate) fn combined_sources(digests: &[String]) -> String {
    match digests {
        [one] => one.clone(),
        several => combined("multi", several),
    }
}

fn combined(kind: &str, digests: &[String]) -> String {
    let mut digest = Context::new(&SHA256);
    digest.update(digests.join(",").as_bytes());
    format!("{kind}:{}", hex(digest))
}

/// Digest of bytes, in hexadecimal.
pub(crate) fn of_bytes(parts: &[&[u8]]) -> String {
    let mut digest = Context::new(&SHA256);
    for part in parts {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    hex(digest)
}

/// Digest of a file's bytes, in hexadecimal.
pub(crate) fn of_reader(reader: &mut impl Read) -> std::io::Result<String> {
    let (mut digest, mut buffer) = (Context::new(&SHA256), vec![0; BUFFER]);
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hex(digest)),
            count => digest.update(&buffer[..count]),
        }
    }
}

fn hex(digest: Context) -> String {
    digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn head(name: &str, kind: FileType, stat: &Stat) -> String {
    let size = if kind.is_file() { stat.st_size } else { 0 };
    let device = if kind.is_char_device() || kind.is_block_device() { stat.st_rdev } else { 0 };
    format!("{name}\0{:o} {} {} {size} {device}\0", stat.st_mode, stat.st_uid, stat.st_gid)
}

/// Capabilities and the like, in order of their names.
fn attributes(file: &OwnedFd, digest: &mut Context) -> Result<(), rustix::io::Errno> {
    let mut names = [0_u8; 4096];
    let length = match rustix::fs::flistxattr(file, &mut names[..]) {
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    let mut names: Vec<&[u8]> =
        names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    for name in names {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::fgetxattr(file, OsStr::from_bytes(name), &mut value[..])?;
        digest.update(name);
        digest.update(&value[..length]);
    }
    Ok(())
}

fn is_directory(parent: &OwnedFd, last: &CStr, kind: FileType) -> Result<bool, rustix::io::Errno> {
    match kind {
        FileType::Unknown => {
            let stat = rustix::fs::statat(parent, last, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
        }
        kind => Ok(kind.is_dir()),
    }
}

pub(crate) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

fn io(step: &'static str, path: &str) -> impl FnOnce(rustix::io::Errno) -> Error {
    let failed = Error::io(step, path);
    move |errno| failed(errno.into())
}
