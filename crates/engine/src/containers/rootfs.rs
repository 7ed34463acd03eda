//! A container's root file system as the engine sees it: users looked up. Everything here blocks.
//! Paths of the container are resolved inside its root, never followed out of it.

use crate::{Error, Result};
use rustix::fs::{Mode, OFlags};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};
use wharf_spec::user::{self, User};
use wharf_sys::path::Root;

/// Who a process runs as, by the container's own passwd and group files.
///
/// # Errors
/// `unable to find user ...`, which Docker answers with status 500 when a container starts.
pub(crate) fn resolve_user(root: &Path, spec: &str, group_add: &[String]) -> Result<User> {
    let root = Root::open(root).map_err(|e| store_error("open root file system", root, e))?;
    let (mut passwd, mut group) = (open(&root, "/etc/passwd"), open(&root, "/etc/group"));
    let refused = |e: user::UserError| Error::Refused(e.to_string());
    let mut found = user::resolve(spec, as_dyn(&mut passwd), as_dyn(&mut group)).map_err(refused)?;
    if !group_add.is_empty() {
        let mut group = open(&root, "/etc/group");
        let more = user::resolve_groups(group_add, as_dyn(&mut group)).map_err(refused)?;
        found.additional_gids.extend(more);
    }
    Ok(found)
}

fn as_dyn(file: &mut Option<BufReader<File>>) -> Option<&mut dyn BufRead> {
    file.as_mut().map(|f| f as &mut dyn BufRead)
}

/// A regular file of the container, or none. A pipe or device in its place is none: it would block or worse.
fn open(root: &Root, path: &str) -> Option<BufReader<File>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(root.open_file(Path::new(path), flags, Mode::empty()).ok()?);
    file.metadata().ok()?.is_file().then(|| BufReader::new(file))
}

fn store_error(step: &'static str, path: &Path, error: wharf_sys::Error) -> Error {
    Error::Io { step, path: path.into(), source: std::io::Error::other(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn users_are_the_containers_own() {
        let dir = std::env::temp_dir().join(format!("wharf-rootfs-{}", std::process::id()));
        fs::create_dir_all(dir.join("etc/real")).unwrap();
        fs::write(dir.join("etc/real/passwd"), "wharfy:x:4321:4322::/home/w:/bin/sh\n").unwrap();
        fs::write(dir.join("etc/group"), "staff:x:77:wharfy\nmore:x:78:\n").unwrap();
        // Absolute links stay inside the root.
        symlink("/etc/real/passwd", dir.join("etc/passwd")).unwrap();
        let user = resolve_user(&dir, "wharfy", &["more".into(), "99".into()]).unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (4321, 4322, "/home/w"));
        assert_eq!(user.additional_gids, [77, 78, 99]);
        // The host has a root, this image has none by that name.
        assert!(resolve_user(&dir, "root", &[]).is_err());
        fs::remove_file(dir.join("etc/passwd")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("etc/passwd"), Mode::RWXU).unwrap();
        assert_eq!(resolve_user(&dir, "5", &[]).unwrap().uid, 5);
        fs::remove_dir_all(&dir).unwrap();
    }
}
