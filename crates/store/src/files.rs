//! Small files: written to a temporary name and renamed, read with a limit.

use crate::{Error, Result};
use rustix::{
    fs::{self, Mode, OFlags},
    rand::{GetRandomFlags, getrandom},
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use wharf_sys::fault;

/// Whether the bytes are on the disk before the name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// fsync before the rename.
    Now,
    /// Left to the kernel, or to [`crate::durability`].
    Later,
}

/// Writes a file in one step: readers see the old bytes or the new ones.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> Result<()> {
    let temporary = path.with_file_name(format!(
        ".tmp-{}-{}",
        path.file_name().unwrap_or_default().to_string_lossy(),
        &random_id()[..12]
    ));
    let written = write_new(&temporary, bytes, mode, sync).and_then(|()| rename(&temporary, path));
    if written.is_err() {
        // The first error is the one that tells.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Gives a file or directory its name, on the same file system.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fault::point("store.rename").and_then(|()| std::fs::rename(from, to)).map_err(Error::file("rename", to))
}

/// Writes a file that nobody reads yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> Result<()> {
    let mut file = create(path, mode)?;
    fault::point("store.write").and_then(|()| file.write_all(bytes)).map_err(Error::file("write", path))?;
    if sync == Sync::Now {
        file.sync_data().map_err(Error::file("fsync", path))?;
    }
    Ok(())
}

/// Makes an empty file, whatever the umask.
pub(crate) fn create(path: &Path, mode: u32) -> Result<File> {
    fault::point("store.create").map_err(Error::file("create", path))?;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .map_err(Error::file("create", path))?;
    fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(Error::file("chmod", path))?;
    Ok(file)
}

/// A small file's bytes; at most 64 MiB.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    const LIMIT: u64 = 64 << 20;
    let file = File::open(path).map_err(Error::file("open", path))?;
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(Error::file("read", path))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Error::Damaged { path: path.into(), what: "larger than 64 MiB".into() });
    }
    Ok(bytes)
}

/// A small file's text without surrounding white space.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let bytes = read(path)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Error::Damaged { path: path.into(), what: "not UTF-8".into() })?;
    Ok(text.trim().to_owned())
}

/// `None` when the file is not there.
pub(crate) fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads and parses.
pub(crate) fn read_parsed<T>(path: &Path) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text = read_text(path)?;
    text.parse().map_err(|error: T::Err| Error::Damaged { path: path.into(), what: error.to_string() })
}

/// Makes a directory if it is missing; parents must be there.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<()> {
    fault::point("store.mkdir").map_err(Error::file("mkdir", path))?;
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .map_err(Error::file("chmod", path)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path.parent().unwrap_or(path)).map_err(Error::file("mkdir", path))?;
            std::fs::DirBuilder::new().mode(mode).create(path).map_err(Error::file("mkdir", path))
        }
        Err(error) => Err(Error::file("mkdir", path)(error)),
    }
}

/// A user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// As [`make_directory`], and gives it to somebody, also when it exists. `None` leaves it to whoever makes it.
pub(crate) fn make_directory_of(path: &Path, mode: u32, owner: Option<Owner>) -> Result<()> {
    make_directory(path, mode)?;
    match owner {
        None => Ok(()),
        Some(Owner { uid, gid }) => {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(Error::file("chown", path))
        }
    }
}

/// Opens a directory for the `*at` calls.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::file("open", path))
}

/// Gives a file that cannot be read another name, which it returns.
pub(crate) fn put_aside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut numbered = (1..).map(|number| path.with_file_name(format!("{name}.damaged-{number}")));
    let free = numbered.find(|path| !path.exists()).expect("a number is free");
    std::fs::rename(path, &free).map_err(Error::file("rename", path))?;
    Ok(free)
}

/// Waits until the names in a directory are on the disk.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    fs::fsync(open_directory(path)?).map_err(Error::file("fsync", path))
}

/// Removes a directory tree; one that is not there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    fault::point("store.remove").map_err(Error::file("remove", path))?;
    match open_directory(parent) {
        Ok(parent) => {
            wharf_archive::remove_tree(parent.as_fd(), name.as_bytes()).map_err(Error::file("remove", path))
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Names in a directory; none when it is not there. Names that are no UTF-8 are none of ours.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("readdir", path)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::file("readdir", path))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// Removes what a crash left of [`replace`].
pub(crate) fn remove_temporaries(directory: &Path) -> Result<()> {
    for name in names(directory)?.into_iter().filter(|name| name.starts_with(".tmp-")) {
        // Ours or Docker's: both only rename it away.
        let _ = std::fs::remove_file(directory.join(name));
    }
    Ok(())
}

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut done = 0;
    while done < N {
        done += getrandom(&mut bytes[done..], GetRandomFlags::empty())
            .expect("getrandom(2) is in every kernel since 3.17");
    }
    bytes
}

/// 64 random hex characters.
pub(crate) fn random_id() -> String {
    wharf_spec::Digest::from_bytes(random()).hex()
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fault::point("store.unlink").and_then(|()| std::fs::remove_file(path)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("unlink", path)(error)),
        _ => Ok(()),
    }
}

/// Whether a text from a file may name a directory below `overlay2`: a random id, or one of BuildKit's (source:
/// moby `builder/builder-next/adapters/snapshot`; buildkit `identity.NewID`), which become layers under their
/// own names.
pub(crate) fn is_cache_id(text: &str) -> bool {
    let is_buildkits =
        text.len() == 25 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    is_buildkits || is_mount_id(text)
}

/// `^[a-f0-9]{64}(-init)?$` (source: moby `daemon/internal/layer/filestore.go` `isValidID`).
pub(crate) fn is_mount_id(text: &str) -> bool {
    let hex = text.strip_suffix("-init").unwrap_or(text);
    wharf_spec::Digest::from_hex(hex).is_ok()
}
