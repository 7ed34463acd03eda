//! Removing a directory tree of any depth with a bounded number of descriptors.

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

/// Directories open at once. Deeper ones are moved up to the top and removed from there.
const MAX_OPEN: usize = 64;

/// Removes a directory and all that is below it, following nothing. What is not there is no error, nor
/// what others remove meanwhile.
///
/// # Errors
/// The system's, such as for a mount point inside.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let top = match open_directory(parent, name) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return ignore_missing(fs::unlinkat(parent, name, AtFlags::empty()));
        }
        other => other?,
    };
    let mut moved = 0;
    loop {
        empty(&top, &mut moved)?;
        match fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            // Something was moved to the top.
            Err(Errno::NOTEMPTY) => {}
            other => return ignore_missing(other),
        }
    }
}

/// Empties a directory, but for what was too deep, which is in it under a new name afterwards.
fn empty(top: &OwnedFd, moved: &mut u64) -> Result<(), Errno> {
    let mut stack: Vec<(OwnedFd, Vec<Vec<u8>>)> = vec![(open_directory(top.as_fd(), b".")?, vec![])];
    stack[0].1 = remove_files(stack[0].0.as_fd())?;
    let mut names: Vec<Vec<u8>> = Vec::new();
    loop {
        let depth = stack.len();
        let Some((directory, children)) = stack.last_mut() else { return Ok(()) };
        match children.pop() {
            Some(child) if depth >= MAX_OPEN => move_up(directory.as_fd(), &child, top, moved)?,
            Some(child) => match open_directory(directory.as_fd(), &child) {
                Ok(open) => {
                    let children = remove_files(open.as_fd())?;
                    names.push(child);
                    stack.push((open, children));
                }
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            },
            None => {
                stack.pop();
                if let (Some((parent, _)), Some(name)) = (stack.last(), names.pop()) {
                    ignore_missing(fs::unlinkat(parent, name.as_slice(), AtFlags::REMOVEDIR))?;
                }
            }
        }
    }
}

/// Moves a directory to the top, under a name that is free there.
fn move_up(from: BorrowedFd<'_>, name: &[u8], top: &OwnedFd, moved: &mut u64) -> Result<(), Errno> {
    loop {
        *moved += 1;
        let new = format!(".removing-{moved}");
        match fs::renameat_with(from, name, top, new.as_str(), fs::RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => return ignore_missing(other),
        }
    }
}

/// Removes what is no directory, and names the directories.
fn remove_files(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut directories = Vec::new();
    for entry in fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error),
            },
            known => known,
        };
        if kind == FileType::Directory {
            directories.push(name.to_vec());
        } else {
            ignore_missing(fs::unlinkat(directory, name, AtFlags::empty()))?;
        }
    }
    Ok(directories)
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    fs::openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn ignore_missing(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let top = std::env::temp_dir().join(format!("wharf-remove-{}", std::process::id()));
        std::fs::create_dir(&top).unwrap();
        let root = fs::open(&top, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        fs::mkdirat(&root, "tree", Mode::RWXU).unwrap();
        let mut current = open_directory(root.as_fd(), b"tree").unwrap();
        for _ in 0..5000 {
            fs::mkdirat(&current, "d", Mode::RWXU).unwrap();
            fs::symlinkat("/etc", &current, "link").unwrap();
            current = open_directory(current.as_fd(), b"d").unwrap();
        }
        remove_tree(root.as_fd(), b"tree").unwrap();
        remove_tree(root.as_fd(), b"tree").unwrap();
        assert!(std::fs::read_dir(&top).unwrap().next().is_none());
        std::fs::remove_dir(&top).unwrap();
        assert!(std::path::Path::new("/etc/passwd").exists());
    }
}
