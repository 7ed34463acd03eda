//! A container's root file system as the engine sees it: users looked up, volumes filled. Everything here
//! blocks. Paths of the container are resolved inside its root, never followed out of it.

use super::{Container, record::MountPoint};
use crate::{Error, Result, images::Layers};
use rustix::fs::{Mode, OFlags};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};
use wharf_archive::{Options, PackOptions};
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

/// Fills new volumes with what the image has at their place (source: moby `daemon/create_unix.go`,
/// populateVolumes). The layer is mounted for it only when there is something to fill.
///
/// # Errors
/// When the layer cannot be mounted or the content not be copied.
pub(super) fn populate_volumes(layers: &Layers, container: &Container) -> Result<()> {
    let points: Vec<MountPoint> = container.with(|state| {
        let wanted = |p: &&MountPoint| p.kind == "volume" && p.copy_data && !p.source.is_empty();
        state.record.mount_points.values().filter(wanted).cloned().collect()
    });
    if points.is_empty() {
        return Ok(());
    }
    let mounted = layers.mount(&container.id)?;
    let filled = points.iter().try_for_each(|point| populate(&mounted, point));
    let unmounted = layers.unmount(&container.id);
    filled.and(unmounted)
}

fn populate(mounted: &Path, point: &MountPoint) -> Result<()> {
    let root = Root::open(mounted).map_err(|e| store_error("open root file system", mounted, e))?;
    let inside = Path::new(&point.destination);
    let Ok(from) = root.resolve(inside) else { return Ok(()) };
    let stat = rustix::fs::fstat(&from).map_err(|e| Error::Io {
        step: "stat",
        path: inside.into(),
        source: e.into(),
    })?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(Error::Refused(format!(
            "cannot mount volume over existing file, file exists {}",
            mounted.join(inside.strip_prefix("/").unwrap_or(inside)).display()
        )));
    }
    let volume = Path::new(&point.source);
    let empty = std::fs::read_dir(volume)
        .map_err(|source| Error::Io { step: "read volume", path: volume.into(), source })?
        .next()
        .is_none();
    if !empty {
        return Ok(());
    }
    copy_tree(&from, &stat, volume)
}

/// Copies a directory's content, and its owner and mode: packed on one thread, unpacked on another.
fn copy_tree(from: &OwnedFd, stat: &rustix::fs::Stat, to: &Path) -> Result<()> {
    let io = |step| move |source: std::io::Error| Error::Io { step, path: to.into(), source };
    let archive = |error: wharf_archive::Error| io("fill volume")(std::io::Error::other(error));
    let target = File::open(to).map_err(io("open volume"))?;
    let from = wharf_sys::path::reopen(from, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
        .map_err(|e| io("open image directory")(std::io::Error::other(e)))?;
    let (reader, writer) = std::io::pipe().map_err(io("make pipe"))?;
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing =
            scope.spawn(|| wharf_archive::pack(from.as_fd(), PackOptions::default(), writer).map(drop));
        let unpacked = wharf_archive::unpack(reader, target.as_fd(), Options::default());
        (packing.join(), unpacked)
    });
    unpacked.map_err(archive)?;
    packed.map_err(|_| Error::Panicked)?.map_err(archive)?;
    std::os::unix::fs::chown(to, Some(stat.st_uid), Some(stat.st_gid)).map_err(io("chown volume"))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(stat.st_mode & 0o7777);
    std::fs::set_permissions(to, mode).map_err(io("chmod volume"))
}

fn store_error(step: &'static str, path: &Path, error: wharf_sys::Error) -> Error {
    Error::Io { step, path: path.into(), source: std::io::Error::other(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn trees_are_copied_with_owner_and_mode() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let dir = std::env::temp_dir().join(format!("wharf-copy-{}", std::process::id()));
        fs::create_dir_all(dir.join("from/sub")).unwrap();
        fs::create_dir_all(dir.join("to")).unwrap();
        fs::write(dir.join("from/sub/file"), "x").unwrap();
        fs::set_permissions(dir.join("from"), fs::Permissions::from_mode(0o1770)).unwrap();
        let from: OwnedFd = File::open(dir.join("from")).unwrap().into();
        let stat = rustix::fs::fstat(&from).unwrap();
        copy_tree(&from, &stat, &dir.join("to")).unwrap();
        assert_eq!(fs::read(dir.join("to/sub/file")).unwrap(), b"x");
        assert_eq!(fs::metadata(dir.join("to")).unwrap().mode() & 0o7777, 0o1770);
        fs::remove_dir_all(&dir).unwrap();
    }

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
