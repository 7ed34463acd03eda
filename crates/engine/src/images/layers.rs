//! Writable layers of containers. Everything here blocks: call it through `blocking()`.

use super::store_error;
use crate::{Error, Result};
use rustix::{
    fs::{AtFlags, FileType},
    io::Errno,
};
use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};
use wharf_api::{StringMap, container::FilesystemChange};
use wharf_spec::{ContainerId, ImageId};
use wharf_store::{ChangeKind, GraphData, Store};
use wharf_sys::{
    mount::{Recursion, clone_tree},
    path::Root,
};

/// The handle of writable layers: cheap to clone.
#[derive(Clone)]
pub struct Layers {
    store: Arc<Store>,
    /// What a container may write that says nothing of it; 0 is everything.
    default_size: u64,
}

/// Bytes of a container's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerSizes {
    /// Written by the container.
    pub rw: i64,
    /// With its image.
    pub root: i64,
}

impl Layers {
    pub(super) fn new(store: Arc<Store>, default_size: u64) -> Self {
        Self { store, default_size }
    }

    /// Makes the writable layer of a container on an image, with Docker's init layer between them.
    ///
    /// # Errors
    /// When a layer is missing or the disk is full; nothing is left then. For a size where the file system has no
    /// project quotas, and unknown options.
    pub fn create(&self, id: &ContainerId, image: Option<&ImageId>, options: &StringMap) -> Result<()> {
        let size = size(options, self.default_size)?;
        let top = match image {
            None => None,
            Some(image) => self.store.images.get(*image).map_err(store_error)?.chain_id,
        };
        self.store.layers.create_rw(id, top, size).map(drop).map_err(store_error)
    }

    /// Makes one for a step of a build, with an image's files and no others (but there must be something below).
    ///
    /// # Errors
    /// When the image is not there or the disk fails.
    pub fn create_bare(&self, id: &ContainerId, image: Option<&ImageId>) -> Result<()> {
        let image = image.map(|image| self.store.images.get(*image).map_err(store_error)).transpose()?;
        let layers = &self.store.layers;
        let made = match image.and_then(|image| image.chain_id) {
            None => layers.create_rw(id, None, None),
            Some(top) => layers.create_bare(id, top),
        };
        made.map(drop).map_err(store_error)
    }

    /// Removes what a container got to mount something on and is empty: empty directories and files (source: buildkit
    /// `executor/stubs.go`). What images have there is not in its own layer.
    ///
    /// # Errors
    /// When there is no such layer.
    pub fn forget_mount_points(&self, id: &ContainerId, targets: &[String]) -> Result<()> {
        if targets.is_empty() {
            return Ok(());
        }
        let upper = self.store.layers.rw_graph_data(id).map_err(store_error)?.upper;
        let root = Root::open(&upper).map_err(|error| store_error(error.into()))?;
        for target in targets {
            // One that is not empty or not there stays as it is.
            let _ = forget_empty(&root, Path::new(target));
        }
        Ok(())
    }

    /// Mounts it on the host and counts the use; returns where.
    ///
    /// # Errors
    /// When the mount fails.
    pub fn mount(&self, id: &ContainerId) -> Result<PathBuf> {
        self.store.layers.mount_rw(id).map_err(store_error)
    }

    /// A detached clone of the mounted layer, for a shim.
    ///
    /// # Errors
    /// When it is not mounted.
    pub fn open_tree(&self, id: &ContainerId) -> Result<OwnedFd> {
        let merged = self.store.layers.rw_graph_data(id).map_err(store_error)?.merged;
        clone_tree(&merged, Recursion::Single).map_err(|error| store_error(error.into()))
    }

    /// An image's files: a read-only mount that is attached nowhere.
    ///
    /// # Errors
    /// When the image is not there, has no files, or the mount fails.
    pub fn image_tree(&self, image: &ImageId) -> Result<OwnedFd> {
        let image = self.store.images.get(*image).map_err(store_error)?;
        let chain = image.chain_id.ok_or_else(|| Error::Refused("the image has no layers".into()))?;
        self.store.layers.tree(chain).map_err(store_error)
    }

    /// Where an image's topmost files are; `None` for one without layers.
    ///
    /// # Errors
    /// When the image is not there.
    pub fn image_directory(&self, image: &ImageId) -> Result<Option<PathBuf>> {
        let image = self.store.images.get(*image).map_err(store_error)?;
        let data = image.chain_id.map(|chain| self.store.layers.graph_data(chain)).transpose();
        Ok(data.map_err(store_error)?.map(|data| data.upper))
    }

    /// Ends one use; the last one unmounts it. A layer that is not mounted is no error, nor one that is not
    /// there.
    ///
    /// # Errors
    /// When the mount cannot be detached.
    pub fn unmount(&self, id: &ContainerId) -> Result<()> {
        ignore_missing(self.store.layers.unmount_rw(id))
    }

    /// Unmounts what a crash left mounted: every container's layer but those of these, which run.
    ///
    /// # Errors
    /// When a mount cannot be detached; the others are still tried.
    pub fn unmount_all_but(&self, running: &[ContainerId]) -> Result<()> {
        let ended = self.containers().into_iter().filter(|id| !running.contains(id));
        ended.map(|id| self.unmount(&id)).fold(Ok(()), Result::and)
    }

    /// Removes it. One that is not there is no error.
    ///
    /// # Errors
    /// When it cannot be unmounted or removed.
    pub fn remove(&self, id: &ContainerId) -> Result<()> {
        ignore_missing(self.store.layers.remove_rw(id))
    }

    /// How large it is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sizes(&self, id: &ContainerId) -> Result<LayerSizes> {
        let layers = &self.store.layers;
        let rw = layers.rw_size(id).map_err(store_error)?;
        let parent = layers.rw(id).map_err(store_error)?.parent;
        let root = rw + parent.map_or(0, |parent| layers.stack_size(parent));
        Ok(LayerSizes { rw: signed(rw), root: signed(root) })
    }

    /// `GraphDriver.Data` of an inspect, empty when there is no layer.
    pub fn driver_data(&self, id: &ContainerId) -> StringMap {
        let Ok(data) = self.store.layers.rw_graph_data(id) else { return StringMap::new() };
        let mut map = driver_data(&data);
        map.insert("ID".into(), id.to_string());
        map
    }

    /// What the container changed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn changes(&self, id: &ContainerId) -> Result<Vec<FilesystemChange>> {
        let changes = self.store.layers.rw_changes(id).map_err(store_error)?;
        let to_api = |change: wharf_store::Change| FilesystemChange {
            kind: match change.kind {
                ChangeKind::Modified => 0,
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
            },
            path: String::from_utf8_lossy(&change.path).into_owned(),
        };
        Ok(changes.into_iter().map(to_api).collect())
    }

    /// Containers that have a layer.
    fn containers(&self) -> Vec<ContainerId> {
        self.store.layers.rw_containers()
    }
}

/// Docker's keys. A layer without lowers has none.
pub(super) fn driver_data(data: &GraphData) -> StringMap {
    let text = |path: &PathBuf| path.display().to_string();
    let mut map = StringMap::from([
        ("MergedDir".to_owned(), text(&data.merged)),
        ("UpperDir".to_owned(), text(&data.upper)),
        ("WorkDir".to_owned(), text(&data.work)),
    ]);
    if !data.lower.is_empty() {
        let lowers: Vec<String> = data.lower.iter().map(text).collect();
        map.insert("LowerDir".into(), lowers.join(":"));
    }
    map
}

/// How much a container may write; `None` is everything (source: moby `daemon/graphdriver/overlay2/overlay.go`,
/// `CreateReadWrite` and `parseStorageOpt`).
fn size(options: &StringMap, default: u64) -> Result<Option<u64>> {
    let mut size = default;
    for (key, value) in options {
        if !key.eq_ignore_ascii_case("size") {
            return Err(Error::Refused(format!("Unknown option {}", key.to_lowercase())));
        }
        size = crate::containers::plan::bytes(value)
            .ok_or_else(|| Error::Refused(format!("invalid size: '{value}'")))?;
    }
    Ok((size > 0).then_some(size))
}

fn ignore_missing(result: wharf_store::Result<()>) -> Result<()> {
    match result {
        Err(wharf_store::Error::NoMount(_)) => Ok(()),
        other => other.map_err(store_error),
    }
}

/// Sizes in the API are signed.
pub(super) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Removes an empty file or directory.
fn forget_empty(root: &Root, path: &Path) -> std::result::Result<(), Errno> {
    let (parent, name) = root.parent_of(path).map_err(|_| Errno::NOENT)?;
    let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR),
        FileType::RegularFile if stat.st_size == 0 => rustix::fs::unlinkat(&parent, name, AtFlags::empty()),
        _ => Err(Errno::NOTEMPTY),
    }
}
