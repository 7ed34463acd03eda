//! Writable layers of containers. Everything here blocks: call it through `blocking()`.

use crate::{Config, Error, Result};
use std::{os::fd::OwnedFd, path::PathBuf};
use wharf_api::{StringMap, container::FilesystemChange};
use wharf_spec::{ContainerId, ImageId};

/// The handle of writable layers: cheap to clone.
#[derive(Clone)]
pub struct Layers(());

/// Bytes of a container's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerSizes {
    /// Written by the container.
    pub rw: i64,
    /// With its image.
    pub root: i64,
}

impl Layers {
    pub(crate) fn open(_config: &Config) -> Result<Self> {
        Ok(Self(()))
    }

    /// Makes the writable layer of a container on an image, with Docker's init layer between them.
    ///
    /// # Errors
    /// When a layer is missing or the disk is full; nothing is left then.
    pub fn create(&self, _id: &ContainerId, _image: Option<&ImageId>, _options: &StringMap) -> Result<()> {
        Err(Error::NotImplemented("container layers"))
    }

    /// Mounts it on the host and counts the use; returns where.
    ///
    /// # Errors
    /// When the mount fails.
    pub fn mount(&self, _id: &ContainerId) -> Result<PathBuf> {
        Err(Error::NotImplemented("container layers"))
    }

    /// A detached clone of the mounted layer, for a shim.
    ///
    /// # Errors
    /// When it is not mounted.
    pub fn open_tree(&self, _id: &ContainerId) -> Result<OwnedFd> {
        Err(Error::NotImplemented("container layers"))
    }

    /// Ends one use; the last one unmounts it. A layer that is not mounted is no error.
    ///
    /// # Errors
    /// When the mount cannot be detached.
    pub fn unmount(&self, _id: &ContainerId) -> Result<()> {
        Err(Error::NotImplemented("container layers"))
    }

    /// Removes it. One that is not there is no error.
    ///
    /// # Errors
    /// When it cannot be unmounted or removed.
    pub fn remove(&self, _id: &ContainerId) -> Result<()> {
        Err(Error::NotImplemented("container layers"))
    }

    /// How large it is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn sizes(&self, _id: &ContainerId) -> Result<LayerSizes> {
        Err(Error::NotImplemented("container layers"))
    }

    /// `GraphDriver.Data` of an inspect.
    pub fn driver_data(&self, _id: &ContainerId) -> StringMap {
        StringMap::new()
    }

    /// What the container changed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn changes(&self, _id: &ContainerId) -> Result<Vec<FilesystemChange>> {
        Err(Error::NotImplemented("container changes"))
    }
}
