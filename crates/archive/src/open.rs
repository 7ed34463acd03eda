//! Opening a file whose name is somebody else's.

use crate::metadata::proc_path;
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{self, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// Opens a regular file below a directory for reading. Links inside lead nowhere outside. What is no regular file
/// is not opened: a device node from an image, or one that a container put in a file's place a moment ago, is a
/// device of this machine.
///
/// # Errors
/// The system's; `EINVAL` for anything but a regular file.
pub fn open_regular(directory: impl AsFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let looked_at = OFlags::PATH | OFlags::CLOEXEC | flags;
    let inode = fs::openat2(directory, name, looked_at, Mode::empty(), resolve)?;
    if FileType::from_raw_mode(fs::fstat(&inode)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    // The same inode, whatever has the name by now.
    fs::open(proc_path(inode.as_fd()), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        fs::mknodat(&root, "null", FileType::CharacterDevice, Mode::RUSR, fs::makedev(1, 3)).unwrap();
        fs::mknodat(&root, "fifo", FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        std::os::unix::fs::symlink("/file", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/null", dir.path().join("to-null")).unwrap();
        for name in ["null", "fifo", "dir", "to-null"] {
            let opened = open_regular(&root, name.as_bytes(), OFlags::empty());
            assert_eq!(opened.err(), Some(Errno::INVAL), "{name}");
        }
        assert!(open_regular(&root, b"file", OFlags::NOFOLLOW).is_ok());
        assert!(open_regular(&root, b"link", OFlags::empty()).is_ok());
        assert!(open_regular(&root, b"link", OFlags::NOFOLLOW).is_err());
    }
}
