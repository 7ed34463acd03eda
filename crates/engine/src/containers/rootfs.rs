//! A container's root file system as the engine sees it: users looked up, volumes filled. Everything here
//! blocks. Paths of the container are resolved inside its root, never followed out of it.

use super::{Container, mounts, record::MountPoint};
use crate::{Config, Error, Result, images::Layers};
use rustix::fs::{Mode, OFlags, Stat};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};
use wharf_archive::{Options, Owner, PackOptions};
use wharf_spec::{
    plan::IdMaps,
    user::{self, User},
};
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
pub(super) fn populate_volumes(engine: &Config, layers: &Layers, container: &Container) -> Result<()> {
    let points: Vec<MountPoint> = container.with(|state| {
        let wanted = |p: &&MountPoint| {
            p.kind == "volume" && (p.copy_data || mounts::wants_chown(p)) && !p.source.is_empty()
        };
        state.record.mount_points.values().filter(wanted).cloned().collect()
    });
    if points.is_empty() {
        return Ok(());
    }
    let mounted = layers.mount(&container.id)?;
    let ids = engine.ids_of(&container.host_config());
    let user = container.with(|state| state.record.config.user.clone());
    let filled = points.iter().try_for_each(|point| populate(&mounted, point, &user, ids.as_deref()));
    let unmounted = layers.unmount(&container.id);
    filled.and(unmounted)
}

fn populate(mounted: &Path, point: &MountPoint, user: &str, ids: Option<&IdMaps>) -> Result<()> {
    let volume = Path::new(&point.source);
    let empty = std::fs::read_dir(volume)
        .map_err(|source| Error::Io { step: "read volume", path: volume.into(), source })?
        .next()
        .is_none();
    let found = find_content(mounted, point)?;
    if !empty {
        return Ok(());
    }
    let owner = new_owner(mounted, point, user, ids)?;
    match found {
        Some((from, stat)) => copy_tree(&from, &stat, volume, &owner),
        None => owner.root.map_or(Ok(()), |root| give(volume, root)),
    }
}

/// What the image has where a volume will be.
fn find_content(mounted: &Path, point: &MountPoint) -> Result<Option<(OwnedFd, Stat)>> {
    if !point.copy_data {
        return Ok(None);
    }
    let root = Root::open(mounted).map_err(|e| store_error("open root file system", mounted, e))?;
    let inside = Path::new(&point.destination);
    let Ok(from) = root.resolve(inside) else { return Ok(None) };
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
    Ok(Some((from, stat)))
}

/// Whom a volume that is filled belongs to.
#[derive(Debug, Clone, Default)]
struct NewOwner {
    /// The volume's directory; as in the image where there is none.
    root: Option<(u32, u32)>,
    /// All that is in it.
    all: Owner,
    /// The image's files have the host's ids, the volume is to have the container's.
    ids: Option<Arc<IdMaps>>,
}

/// With `U` everything belongs to the container's user. In a volume with mapped ids the container's numbers are on
/// the disk, else the host's.
fn new_owner(mounted: &Path, point: &MountPoint, user: &str, ids: Option<&IdMaps>) -> Result<NewOwner> {
    let keeps = mounts::keeps_container_ids(point);
    let own = ids.filter(|_| keeps).map(|ids| Arc::new(ids.clone()));
    if !mounts::wants_chown(point) {
        let root = own.is_some().then_some((0, 0));
        return Ok(NewOwner { root, all: Owner::Archive, ids: own });
    }
    let user = resolve_user(mounted, user, &[])?;
    let (uid, gid) = match ids.filter(|_| !keeps) {
        None => (user.uid, user.gid),
        Some(ids) => ids.to_host(user.uid, user.gid).map_err(|e| Error::Refused(e.to_string()))?,
    };
    Ok(NewOwner { root: Some((uid, gid)), all: Owner::Fixed { uid, gid }, ids: own })
}

/// Copies a directory's content, and its owner and mode: packed on one thread, unpacked on another.
fn copy_tree(from: &OwnedFd, stat: &Stat, to: &Path, owner: &NewOwner) -> Result<()> {
    let io = |step| move |source: std::io::Error| Error::Io { step, path: to.into(), source };
    let archive = |error: wharf_archive::Error| io("fill volume")(std::io::Error::other(error));
    let target = File::open(to).map_err(io("open volume"))?;
    let from = wharf_sys::path::reopen(from, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
        .map_err(|e| io("open image directory")(std::io::Error::other(e)))?;
    let (reader, writer) = std::io::pipe().map_err(io("make pipe"))?;
    let packing = PackOptions { ids: owner.ids.clone(), ..PackOptions::default() };
    let unpacking = Options { owner: owner.all, ..Options::default() };
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing = scope.spawn(|| wharf_archive::pack(from.as_fd(), packing, writer).map(drop));
        let unpacked = wharf_archive::unpack(reader, target.as_fd(), unpacking);
        (packing.join(), unpacked)
    });
    unpacked.map_err(archive)?;
    packed.map_err(|_| Error::Panicked)?.map_err(archive)?;
    let of_image = (stat.st_uid, stat.st_gid);
    let mapped = owner.ids.as_ref().and_then(|ids| ids.to_container(stat.st_uid, stat.st_gid).ok());
    let chowned = owner.root.filter(|_| owner.all != Owner::Archive);
    give(to, chowned.or(mapped).unwrap_or(of_image))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(stat.st_mode & 0o7777);
    std::fs::set_permissions(to, mode).map_err(io("chmod volume"))
}

fn give(volume: &Path, (uid, gid): (u32, u32)) -> Result<()> {
    let io = |source| Error::Io { step: "chown volume", path: volume.into(), source };
    std::os::unix::fs::chown(volume, Some(uid), Some(gid)).map_err(io)
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
        copy_tree(&from, &stat, &dir.join("to"), &NewOwner::default()).unwrap();
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
