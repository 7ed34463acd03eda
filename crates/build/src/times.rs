//! Times of files, for builds that are to be the same again (reproducible-builds.org, `SOURCE_DATE_EPOCH`).

use crate::{Error, Result};
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps},
    io::Errno,
};
use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

/// Makes no file below a directory, nor the directory, later than a time in seconds since 1970.
///
/// # Errors
/// When it cannot be read or changed.
pub fn no_later_than(directory: &Path, epoch: i64) -> Result<()> {
    let io = |errno: Errno| Error::io("set times below", directory.display())(errno.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut stack = vec![rustix::fs::open(directory, flags, Mode::empty()).map_err(io)?];
    while let Some(open) = stack.pop() {
        clamp_all(&open, epoch, &mut stack).map_err(io)?;
    }
    Ok(())
}

/// What is in a directory and the directory; those below it are left to do.
fn clamp_all(directory: &OwnedFd, epoch: i64, stack: &mut Vec<OwnedFd>) -> Result<(), Errno> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() == b".." {
            continue;
        }
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_mtime > epoch || (stat.st_mtime == epoch && stat.st_mtime_nsec > 0) {
            let then = Timespec { tv_sec: epoch, tv_nsec: 0 };
            let times = Timestamps { last_access: then, last_modification: then };
            rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if FileType::from_raw_mode(stat.st_mode).is_dir() && name.to_bytes() != b"." {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            stack.push(rustix::fs::openat(directory.as_fd(), name, flags, Mode::empty())?);
        }
    }
    Ok(())
}
