//! Reading and writing control files: one write each, never created, never truncated.

use super::Warning;
use crate::{Context, Error, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;

/// Writes a value into a control file that must exist.
pub(super) fn write(dir: &Path, name: &str, value: &str) -> Result<()> {
    let path = dir.join(name);
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(&path, flags, Mode::empty()).on("open", || path.display().to_string())?;
    let written = rustix::io::retry_on_intr(|| rustix::io::write(&fd, value.as_bytes()));
    written.map(drop).on("write", || format!("{value:?} to {}", path.display()))
}

/// As [`write`]; a file that is not there is a warning in `warnings`.
pub(super) fn write_if_there(dir: &Path, name: &str, value: &str, warnings: &mut Vec<Warning>) -> Result<()> {
    match write(dir, name, value) {
        Err(Error::Call { call: "open", source: Errno::NOENT | Errno::ACCESS, .. }) => {
            warnings.push(format!("this kernel has no {name} for control groups: {value} is not set"));
            Ok(())
        }
        other => other,
    }
}

/// The whole text of a control file.
pub(super) fn read(dir: &Path, name: &str) -> Result<String> {
    let path = dir.join(name);
    std::fs::read_to_string(&path).on("read", || path.display().to_string())
}

/// A control file with one number in it; `max` and -1 are `u64::MAX`, a missing file is `None`.
pub(super) fn read_number(dir: &Path, name: &str) -> Option<u64> {
    let text = read(dir, name).ok()?;
    match text.trim() {
        "max" | "-1" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The value of `key` in a file of `key value` lines.
pub(super) fn read_key(dir: &Path, name: &str, key: &str) -> Option<u64> {
    find_key(&read(dir, name).ok()?, key)
}

/// The value of `key` in text of `key value` lines.
pub(super) fn find_key(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Opens a directory.
pub(super) fn open_dir(dir: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).on("open", || dir.display().to_string())
}

/// Makes a directory; one that exists is fine (`false`).
pub(super) fn make_dir(dir: &Path) -> Result<bool> {
    match rustix::fs::mkdir(dir, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(Error::call("mkdir", dir.display().to_string(), errno)),
    }
}
