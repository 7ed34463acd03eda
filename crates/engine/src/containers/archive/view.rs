//! A container's file system as its processes see it, open: the root of a running one, or the root file
//! system with its mounts put together for the copy (source: moby `daemon/containerfs_linux.go`).

use super::super::{Container, mounts, record::MountPoint, validate_path};
use crate::{Error, Result, error::invalid, images::Layers};
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};
use std::{
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
    sync::Arc,
};
use wharf_spec::{ContainerId, plan::IdMaps};
use wharf_sys::{
    mount::{Recursion, attach, attach_at, clone_tree},
    mountns,
    path::{Root, file_type, reopen},
};

/// As many links as Docker follows in one path (moby/sys `symlink`).
const MAX_LINKS: usize = 255;

/// What is mounted in a container.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) destination: PathBuf,
    pub(super) source: PathBuf,
    /// Says what no path says: an image, or a part of it or of a volume.
    pub(super) point: Option<MountPoint>,
    /// What is mounted, open, where the container does not run.
    pub(super) tree: Option<Arc<OwnedFd>>,
    pub(super) writable: bool,
    /// It can be reached through the view's root.
    pub(super) is_attached: bool,
}

/// A container's file system. A layer that was mounted for it is given back at the end.
pub(super) struct View {
    pub(super) root: Root,
    pub(super) mounts: Vec<Place>,
    pub(super) readonly_rootfs: bool,
    /// Where passwd and group files are.
    pub(super) merged: PathBuf,
    /// Whom the host knows as the owners of files.
    pub(super) ids: Option<Arc<IdMaps>>,
    /// Holds the mounts of a container that does not run.
    pub(super) namespace: Option<OwnedFd>,
    pub(super) mounted: Option<(Layers, ContainerId)>,
}

/// A path of a container, split into what is resolved and what is named.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) parent: OwnedFd,
    /// `.` for the directory itself.
    pub(super) name: Vec<u8>,
    /// What its copy is called.
    pub(super) shown: String,
}

/// Whether a path may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Writable,
    ReadonlyRootfs,
    ReadonlyVolume,
}

impl Drop for View {
    fn drop(&mut self) {
        self.namespace = None;
        if let Some((layers, id)) = self.mounted.take()
            && let Err(error) = layers.unmount(&id)
        {
            tracing::warn!(container = %id, %error, "root file system stays mounted");
        }
    }
}

/// Blocks.
pub(super) fn open(layers: Layers, container: &Container, ids: Option<Arc<IdMaps>>) -> Result<View> {
    let id = container.id.clone();
    let merged = layers.mount(&id)?;
    let mounted = Some((layers.clone(), id));
    let readonly_rootfs = container.host_config().readonly_rootfs;
    let pid = container.with(|state| state.status.run().map(|run| run.pid));
    let mut mounts = places(container);
    let opened = match pid {
        Some(pid) => {
            mounts.iter_mut().for_each(|place| place.is_attached = true);
            Root::open(Path::new(&format!("/proc/{pid}/root"))).map(|root| (root, None))
        }
        None if mounts.is_empty() => Root::open(&merged).map(|root| (root, None)),
        None => assemble(&layers, &merged, &mut mounts).map(|(root, namespace)| (root, Some(namespace))),
    };
    // Made in any case: what was mounted is given back with it.
    let failed = |source| Error::Io { step: "open root file system", path: merged.clone(), source };
    match opened {
        Ok((root, namespace)) => Ok(View { root, mounts, readonly_rootfs, merged, ids, namespace, mounted }),
        Err(error) => {
            if let Some((layers, id)) = mounted {
                layers.unmount(&id)?;
            }
            Err(failed(io::Error::other(error)))
        }
    }
}

/// Volumes, and the files of the network.
fn places(container: &Container) -> Vec<Place> {
    let place = |destination: &str, source: &str, writable| Place {
        destination: destination.into(),
        source: source.into(),
        point: None,
        tree: None,
        writable,
        is_attached: false,
    };
    container.with(|state| {
        let record = &state.record;
        let points = record.mount_points.values().filter(|point| !point.source.is_empty());
        let mut places: Vec<Place> = points
            .map(|point| Place {
                point: mounts::is_tree(point).then(|| point.clone()),
                ..place(&point.destination, &point.source, point.rw)
            })
            .collect();
        let files = [
            ("/etc/resolv.conf", &record.resolv_conf_path),
            ("/etc/hostname", &record.hostname_path),
            ("/etc/hosts", &record.hosts_path),
        ];
        for (destination, source) in files {
            let is_own = !places.iter().any(|place| place.destination == Path::new(destination));
            if is_own && Path::new(source).is_file() {
                places.push(place(destination, source, true));
            }
        }
        places.sort_by_key(|place| place.destination.components().count());
        places
    })
}

/// Puts a stopped container's mounts onto its root, where nobody else sees them. A mount whose destination is
/// not there is left out: nothing is made in the container for a look at it (CVE-2026-41568).
fn assemble(
    layers: &Layers,
    merged: &Path,
    mounts: &mut [Place],
) -> Result<(Root, OwnedFd), wharf_sys::Error> {
    for place in &mut *mounts {
        place.tree = open_tree(place, layers).map(Arc::new);
    }
    mountns::private(|| {
        attach_at(clone_tree(merged, Recursion::Single)?, merged)?;
        let root = Root::open(merged)?;
        for place in mounts {
            let Ok(target) = root.resolve(&place.destination) else { continue };
            let Some(source) = &place.tree else { continue };
            let fits = file_type(source)? == file_type(&target)?;
            place.is_attached = fits && attach(source, &target).is_ok();
        }
        Ok(root)
    })
}

/// What is mounted at a place; nothing when it is not there.
fn open_tree(place: &Place, layers: &Layers) -> Option<OwnedFd> {
    match &place.point {
        Some(point) => mounts::open_tree(point, layers).ok(),
        None => clone_tree(&place.source, Recursion::Tree).ok(),
    }
}

impl View {
    /// The root that a path belongs to, the path in it, and whether it can be written.
    fn place(&self, path: &Path) -> Result<(Root, PathBuf, Access), wharf_sys::Error> {
        let inside = self.mounts.iter().filter(|place| path.starts_with(&place.destination));
        let nearest = inside.max_by_key(|place| place.destination.components().count());
        let Some(place) = nearest else {
            let access = if self.readonly_rootfs { Access::ReadonlyRootfs } else { Access::Writable };
            return Ok((self.root.try_clone()?, path.to_owned(), access));
        };
        let access = if place.writable { Access::Writable } else { Access::ReadonlyVolume };
        if place.is_attached {
            return Ok((self.root.try_clone()?, path.to_owned(), access));
        }
        let gone = |errno| wharf_sys::Error::call("open", path.to_string_lossy(), errno);
        let tree = place.tree.as_ref().ok_or_else(|| gone(Errno::NOENT))?;
        let root =
            tree.try_clone().map_err(|error| gone(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        let rest = path.strip_prefix(&place.destination).unwrap_or(Path::new(""));
        Ok((Root::from_fd(root), Path::new("/").join(rest), access))
    }

    /// The last part of the path is not followed, unless a slash or `/.` ends it.
    pub(super) fn open_named(&self, path: &str) -> Result<Named, wharf_sys::Error> {
        let clean = PathBuf::from(validate_path(path));
        let (root, inside, _) = self.place(&clean)?;
        let base = clean.file_name().map_or("/", |n| n.to_str().unwrap_or("/"));
        let shown = if path == "." || path.ends_with("/.") { "." } else { base };
        if inside == Path::new("/") || follows(path) {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let parent = root.open_file(&inside, flags, Mode::empty())?;
            return Ok(Named { parent, name: b".".to_vec(), shown: shown.to_owned() });
        }
        let (parent, name) = root.parent_of(&inside)?;
        Ok(Named { parent, name: name.as_encoded_bytes().to_vec(), shown: shown.to_owned() })
    }

    /// A directory to extract to. What the path leads to through links decides whether it may be written.
    pub(super) fn open_directory(
        &self,
        path: &str,
        failed: impl Fn(wharf_sys::Error) -> Error,
    ) -> Result<OwnedFd> {
        let clean = PathBuf::from(validate_path(path));
        let (root, inside, _) = self.place(&clean).map_err(&failed)?;
        let found = root.resolve(&inside).map_err(&failed)?;
        if !file_type(&found).is_ok_and(|kind| kind == FileType::Directory) {
            return invalid("extraction point is not a directory");
        }
        let (_, _, access) = self.place(&self.evaluate(&clean)).map_err(&failed)?;
        match access {
            Access::Writable => {}
            Access::ReadonlyRootfs => return invalid("container rootfs is marked read-only"),
            Access::ReadonlyVolume => return invalid("mounted volume is marked read-only"),
        }
        reopen(&found, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC).map_err(failed)
    }

    /// Where a path leads when all its links are followed, as far as there is something
    /// (source: moby/sys `symlink.FollowSymlinkInScope`). For people and clients: what is opened is resolved by
    /// the kernel.
    pub(super) fn evaluate(&self, path: &Path) -> PathBuf {
        let mut done = PathBuf::from("/");
        let mut left: Vec<PathBuf> = parts(path);
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == Path::new("..") {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            match self.root.read_link(&next) {
                Ok(target) if links < MAX_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    left.extend(parts(&target));
                }
                _ => done = next,
            }
        }
        done
    }
}

/// The names of a path, the last first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    names.rev().map(|part| PathBuf::from(part.as_os_str())).collect()
}

fn follows(path: &str) -> bool {
    path.ends_with('/') || path == "." || path.ends_with("/.")
}

/// What the kernel refused, in the words of Go's calls.
pub(super) fn not_there(call: &str, path: &str, error: &wharf_sys::Error) -> Option<Error> {
    let why = match error.errno() {
        Some(Errno::NOTDIR) => "not a directory",
        Some(Errno::LOOP) => "too many levels of symbolic links",
        Some(Errno::NAMETOOLONG) => "file name too long",
        _ => return None,
    };
    let call = if call.is_empty() { String::new() } else { format!("{call} {path}: ") };
    Some(Error::Refused(format!("{call}{why}")))
}
