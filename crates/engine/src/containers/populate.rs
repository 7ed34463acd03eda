//! Filling new volumes with what the image has at their place (source: moby `daemon/create_unix.go`, populateVolumes).
//! Paths of the container are resolved inside its root, never followed out of it.

use super::{Container, Containers, mounts, record::MountPoint, rootfs::resolve_user};
use crate::{
    Error, Result,
    blocking::blocking,
    volumes::{Filling, Mounted},
};
use rustix::fs::{OFlags, Stat};
use std::{
    ffi::OsStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};
use wharf_archive::{Attributes, Options, Owner, PackOptions};
use wharf_spec::plan::IdMaps;
use wharf_sys::{fs::copy_xattrs, path::Root};

/// A volume that may want filling.
struct Wanted {
    point: MountPoint,
    /// The directory of the image at its place.
    content: Option<(OwnedFd, Stat)>,
    owner: NewOwner,
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

impl Containers {
    /// Fills the volumes of a new container that are empty. Its layer is mounted for it only when there is something to
    /// fill, and a volume only when there is something to put into it.
    ///
    /// # Errors
    /// When the layer or a volume cannot be mounted or the content not be copied.
    pub(super) async fn populate_volumes(&self, container: &Arc<Container>) -> Result<()> {
        let points = candidates(container);
        if points.is_empty() {
            return Ok(());
        }
        let (layers, id) = (self.parts().images.layers().clone(), container.id.clone());
        let (mount, own) = (layers.clone(), id.clone());
        let root = blocking(move || mount.mount(&own)).await?;
        let populated = self.populate_all(container, root, points).await;
        let unmounted = blocking(move || layers.unmount(&id)).await;
        populated.and(unmounted)
    }

    async fn populate_all(
        &self,
        container: &Arc<Container>,
        root: PathBuf,
        points: Vec<MountPoint>,
    ) -> Result<()> {
        let ids = self.config().ids_of(&container.host_config());
        let user = container.with(|state| state.record.config.user.clone());
        let wanted = blocking(move || {
            let wanted = points.into_iter().map(|point| look(&root, point, &user, ids.as_deref()));
            wanted.collect::<Result<Vec<_>>>()
        })
        .await?;
        for wanted in
            wanted.into_iter().filter(|wanted| wanted.content.is_some() || wanted.owner.root.is_some())
        {
            let (volumes, name) = (&self.parts().volumes, wanted.point.name.clone());
            let mounted = volumes.mount(&name, &container.id).await;
            let mounted = mounted.map_err(|error| error.context("failed to populate volume"))?;
            let filled = blocking(move || wanted.fill(&mounted)).await;
            volumes.unmount(&name, &container.id).await;
            filled?;
        }
        Ok(())
    }
}

fn candidates(container: &Container) -> Vec<MountPoint> {
    let wanted = |p: &&MountPoint| p.kind == "volume" && (p.copy_data || mounts::wants_chown(p));
    container.with(|state| state.record.mount_points.values().filter(wanted).cloned().collect())
}

/// What the image has for a volume, and whom it is to belong to. Blocks, as all below.
fn look(root: &Path, point: MountPoint, user: &str, ids: Option<&IdMaps>) -> Result<Wanted> {
    let content = find_content(root, &point)?;
    let owner = new_owner(root, &point, user, ids)?;
    Ok(Wanted { point, content, owner })
}

fn find_content(mounted: &Path, point: &MountPoint) -> Result<Option<(OwnedFd, Stat)>> {
    if !point.copy_data {
        return Ok(None);
    }
    let failed = |step, path: &Path| {
        let path = path.to_owned();
        move |error: wharf_sys::Error| Error::Io { step, path, source: std::io::Error::other(error) }
    };
    let root = Root::open(mounted).map_err(failed("open root file system", mounted))?;
    let inside = Path::new(&point.destination);
    let Ok(from) = root.resolve(inside) else { return Ok(None) };
    let stat = wharf_sys::path::stat(&from).map_err(failed("stat", inside))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Ok(Some((from, stat)));
    }
    // A `VOLUME`; what was asked for by name fails when it is mounted.
    if point.spec.kind.is_empty() {
        let place = mounted.join(inside.strip_prefix("/").unwrap_or(inside));
        let text = format!("cannot mount volume over existing file, file exists {}", place.display());
        return Err(Error::Refused(text));
    }
    Ok(None)
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

impl Wanted {
    fn fill(&self, mounted: &Mounted) -> Result<()> {
        let volume = mounted.path.as_path();
        let Some(filling) = Filling::begin(volume, mounted.staging)? else { return Ok(()) };
        let Some((from, stat)) = &self.content else {
            drop(filling);
            return self.owner.root.map_or(Ok(()), |root| give(volume, root));
        };
        copy_tree(from, stat, filling.files(), &self.owner).map_err(|error| Error::Io {
            step: "fill volume",
            path: volume.into(),
            source: error,
        })?;
        filling.finish()
    }
}

/// Copies a directory's content, and its own owner, mode and attributes: packed on one thread, unpacked on another.
fn copy_tree(from: &OwnedFd, stat: &Stat, to: BorrowedFd<'_>, owner: &NewOwner) -> std::io::Result<()> {
    let other = std::io::Error::other::<wharf_sys::Error>;
    let from =
        wharf_sys::path::reopen(from, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC).map_err(other)?;
    let (reader, writer) = std::io::pipe()?;
    let packing =
        PackOptions { ids: owner.ids.clone(), attributes: Attributes::All, ..PackOptions::default() };
    let unpacking = Options { owner: owner.all, ..Options::default() };
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing = scope.spawn(|| wharf_archive::pack(from.as_fd(), packing, writer).map(drop));
        let unpacked = wharf_archive::unpack(reader, to, unpacking);
        (packing.join(), unpacked)
    });
    unpacked.map_err(std::io::Error::other)?;
    packed.map_err(|_| std::io::Error::other("a worker panicked"))?.map_err(std::io::Error::other)?;
    let is_overlays = |name: &OsStr| name.to_string_lossy().contains(".overlay.");
    copy_xattrs(&from, to, |name| !is_overlays(name)).map_err(other)?;
    let of_image = (stat.st_uid, stat.st_gid);
    let mapped = owner.ids.as_ref().and_then(|ids| ids.to_container(stat.st_uid, stat.st_gid).ok());
    let chowned = owner.root.filter(|_| owner.all != Owner::Archive);
    let (uid, gid) = chowned.or(mapped).unwrap_or(of_image);
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::fchown(to, Some(uid), Some(gid))?;
    Ok(rustix::fs::fchmod(to, rustix::fs::Mode::from_raw_mode(stat.st_mode & 0o7777))?)
}

fn give(volume: &Path, (uid, gid): (u32, u32)) -> Result<()> {
    let io = |source| Error::Io { step: "chown volume", path: volume.into(), source };
    std::os::unix::fs::chown(volume, Some(uid), Some(gid)).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::{self, File},
        os::unix::fs::{MetadataExt, PermissionsExt},
    };

    #[test]
    fn trees_are_copied_with_owner_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::create_dir_all(&target).unwrap();
        fs::write(source.join("sub/file"), "x").unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o1770)).unwrap();
        let from: OwnedFd = File::open(&source).unwrap().into();
        wharf_sys::fs::set_xattr(&from, "user.note".as_ref(), b"kept").unwrap();
        let stat = rustix::fs::fstat(&from).unwrap();
        let to: OwnedFd = File::open(&target).unwrap().into();
        copy_tree(&from, &stat, to.as_fd(), &NewOwner::default()).unwrap();
        assert_eq!(fs::read(target.join("sub/file")).unwrap(), b"x");
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o1770);
        assert_eq!(wharf_sys::fs::get_xattr(&to, "user.note".as_ref()).unwrap().unwrap(), b"kept");
    }
}
