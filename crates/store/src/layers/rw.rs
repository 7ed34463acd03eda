//! Containers' layers: an init layer on the image, a writable one on that.

use super::{Layers, Unpacked};
use crate::{
    Change, Error, GraphData, Result, changes, files, init,
    union::{Union, tree_size},
};
use std::{
    io::{BufWriter, Write},
    os::fd::AsFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use wharf_archive::{PackOptions, WriteWhiteouts, pack};
use wharf_spec::{ChainId, ContainerId};

/// How much goes into a pipe at once.
const PIECE: usize = 64 << 10;

/// A container's writable layer.
#[derive(Debug)]
pub struct RwLayer {
    /// Name of its directory below `overlay2`.
    pub mount_id: String,
    /// The init layer's.
    pub init_id: Option<String>,
    /// The image's top layer; `None` for an image without layers.
    pub parent: Option<ChainId>,
    /// How often it was mounted. Its lock is held while mounting and unmounting.
    users: Mutex<usize>,
}

impl RwLayer {
    pub(super) fn new(mount_id: String, init_id: Option<String>, parent: Option<ChainId>) -> Self {
        Self { mount_id, init_id, parent, users: Mutex::new(0) }
    }

    fn users(&self) -> MutexGuard<'_, usize> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layers {
    /// Makes a container's layers on an image's top layer.
    ///
    /// # Errors
    /// When the container has some already, the image's layer is not there, or the disk fails; nothing is
    /// left then.
    pub fn create_rw(
        self: &Arc<Self>,
        container: &ContainerId,
        parent: Option<ChainId>,
        limit: Option<u64>,
    ) -> Result<Arc<RwLayer>> {
        let mount_id = files::random_id();
        let init_id = format!("{mount_id}-init");
        self.create_mount(container, RwLayer::new(mount_id, Some(init_id), parent), limit)
    }

    /// The same without the files that every container has of us: a step of a build sees and keeps only those of images.
    ///
    /// # Errors
    /// As [`Self::create_rw`].
    pub fn create_bare(self: &Arc<Self>, step: &ContainerId, parent: ChainId) -> Result<Arc<RwLayer>> {
        self.create_mount(step, RwLayer::new(files::random_id(), None, Some(parent)), None)
    }

    fn create_mount(
        self: &Arc<Self>,
        container: &ContainerId,
        layer: RwLayer,
        limit: Option<u64>,
    ) -> Result<Arc<RwLayer>> {
        let parent = layer.parent;
        let hold = parent.map(|parent| self.get(parent)).transpose()?;
        let layer = Arc::new(layer);
        {
            let mut state = self.state();
            if state.mounts.contains_key(container) {
                return Err(Error::MountExists(container.to_string()));
            }
            state.mounts.insert(container.clone(), layer.clone());
        }
        // The record comes first: what it names can be found and removed after a crash.
        let made = (self.records.write_mount(container, &layer))
            .and_then(|()| self.make_rw(&layer, hold.as_deref()))
            .and_then(|()| limit.map_or(Ok(()), |bytes| self.limit_rw(&layer, bytes)));
        match made {
            Ok(()) => {
                // The mount is a hold of its own, counted at start like this too.
                if let Some(parent) = parent {
                    self.hold(parent);
                }
                Ok(layer)
            }
            Err(error) => {
                self.state().mounts.remove(container);
                if let Err(error) = self.remove_directories(container, &layer) {
                    tracing::warn!(%container, %error, "could not remove a container's layer");
                }
                Err(error)
            }
        }
    }

    fn make_rw(&self, layer: &RwLayer, parent: Option<&super::Layer>) -> Result<()> {
        let mut below = parent.map(|parent| parent.cache_id.as_str());
        if let Some(init_id) = &layer.init_id {
            self.overlay.create(init_id)?;
            if let Some(parent) = below {
                self.overlay.set_parent(init_id, parent)?;
            }
            let lower = Union::open(&self.overlay.lower_directories(init_id)?)?;
            init::fill(&files::open_directory(&self.overlay.diff(init_id))?, &lower, self.overlay.root())?;
            below = Some(init_id);
        }
        self.overlay.create(&layer.mount_id)?;
        below.map_or(Ok(()), |below| self.overlay.set_parent(&layer.mount_id, below))
    }

    /// Limits what can be written: the layer is still empty, and what comes into it counts.
    fn limit_rw(&self, layer: &RwLayer, bytes: u64) -> Result<()> {
        let directories = self.overlay.writable(&layer.mount_id);
        self.quotas.limit(self.overlay.home(), &directories, bytes)
    }

    /// Whether layers can be limited here.
    ///
    /// # Errors
    /// [`Error::NoQuota`] where the file system has no project quotas.
    pub fn check_quota(&self) -> Result<()> {
        self.quotas.check(self.overlay.home())
    }

    /// A container's layer.
    ///
    /// # Errors
    /// When it has none.
    pub fn rw(&self, container: &ContainerId) -> Result<Arc<RwLayer>> {
        let layer = self.state().mounts.get(container).cloned();
        layer.ok_or_else(|| Error::NoMount(container.to_string()))
    }

    /// Containers that have a layer.
    pub fn rw_containers(&self) -> Vec<ContainerId> {
        self.state().mounts.keys().cloned().collect()
    }

    /// Mounts a container's file system on the host and gives the path. Every mount is paired with an
    /// [`Layers::unmount_rw`].
    ///
    /// # Errors
    /// When the container has no layer or the mount fails.
    pub fn mount_rw(&self, container: &ContainerId) -> Result<PathBuf> {
        let layer = self.rw(container)?;
        let mut users = layer.users();
        let path = self.overlay.mount(&layer.mount_id)?;
        *users += 1;
        Ok(path)
    }

    /// Gives a mount back; the last one removes it.
    ///
    /// # Errors
    /// When the mount cannot be removed.
    pub fn unmount_rw(&self, container: &ContainerId) -> Result<()> {
        let layer = self.rw(container)?;
        let mut users = layer.users();
        *users = users.saturating_sub(1);
        if *users > 0 { Ok(()) } else { self.overlay.unmount(&layer.mount_id) }
    }

    /// Removes a container's layer with all it holds, mounted or not.
    ///
    /// # Errors
    /// When it has none or something cannot be removed; the rest can be removed by another call then.
    pub fn remove_rw(&self, container: &ContainerId) -> Result<()> {
        let layer = self.rw(container)?;
        let users = layer.users();
        self.remove_directories(container, &layer)?;
        let removed = self.state().mounts.remove(container);
        drop(users);
        match (removed, layer.parent) {
            (Some(_), Some(parent)) => self.release(parent),
            _ => Ok(()),
        }
    }

    fn remove_directories(&self, container: &ContainerId, layer: &RwLayer) -> Result<()> {
        self.overlay.remove(&layer.mount_id)?;
        if let Some(init_id) = &layer.init_id {
            self.overlay.remove(init_id)?;
        }
        self.records.remove_mount(container)
    }

    /// Where the container's directories are.
    ///
    /// # Errors
    /// When it has no layer.
    pub fn rw_graph_data(&self, container: &ContainerId) -> Result<GraphData> {
        self.overlay.graph_data(&self.rw(container)?.mount_id)
    }

    /// Bytes that the container wrote.
    ///
    /// # Errors
    /// When it has no layer or that cannot be read.
    pub fn rw_size(&self, container: &ContainerId) -> Result<u64> {
        tree_size(files::open_directory(&self.overlay.diff(&self.rw(container)?.mount_id))?)
    }

    /// What the container changed.
    ///
    /// # Errors
    /// When it has no layer or that cannot be read.
    pub fn rw_changes(&self, container: &ContainerId) -> Result<Vec<Change>> {
        let layer = self.rw(container)?;
        let lower = Union::open(&self.overlay.lower_directories(&layer.mount_id)?)?;
        changes::changes(files::open_directory(&self.overlay.diff(&layer.mount_id))?, &lower)
    }

    /// Extracts what the container changed as a layer of its own, to be put on its image's: a commit.
    ///
    /// # Errors
    /// When it has no layer, that cannot be read, or the disk fails. Nothing is left then.
    pub fn unpack_rw(self: &Arc<Self>, container: &ContainerId) -> Result<Unpacked> {
        self.unpack_written(|writer| {
            self.write_rw_diff(container, BufWriter::with_capacity(PIECE, writer))?
                .flush()
                .map_err(|source| Error::Write { what: "a layer's archive".into(), source })
        })
    }

    /// Writes what the container changed as a layer's archive.
    pub(crate) fn write_rw_diff<W: Write>(&self, container: &ContainerId, out: W) -> Result<W> {
        let diff = files::open_directory(&self.overlay.diff(&self.rw(container)?.mount_id))?;
        let options = PackOptions {
            whiteouts: WriteWhiteouts::Convert,
            ids: self.ids.clone(),
            ..PackOptions::default()
        };
        Ok(pack(diff.as_fd(), options, out)?)
    }
}
