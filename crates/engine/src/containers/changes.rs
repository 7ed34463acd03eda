//! `GET /containers/{id}/changes` and `GET /containers/{id}/export`

use super::{Container, Containers};
use crate::{
    Error, Result,
    blocking::blocking,
    images::{ByteStream, StreamWriter},
    state::Verb,
};
use rustix::fs::{Mode, OFlags, openat};
use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};
use wharf_api::container::FilesystemChange;
use wharf_archive::{Devices, PackOptions, pack};
use wharf_spec::plan::MountAttrs;
use wharf_sys::mount::{AttrChange, Recursion, clone_tree, set_attrs};

impl Containers {
    /// What a container has added, changed and deleted in its file system.
    ///
    /// # Errors
    /// When its layer cannot be read.
    pub async fn changes(&self, id_or_name: &str) -> Result<Vec<FilesystemChange>> {
        let container = self.get(id_or_name)?;
        let layers = self.parts().images.layers().clone();
        blocking(move || layers.changes(&container.id)).await
    }

    /// A container's file system as a tar archive.
    ///
    /// # Errors
    /// When it is dead or cannot be mounted. What fails later ends the stream.
    pub async fn export(&self, id_or_name: &str) -> Result<ByteStream> {
        let container = self.get(id_or_name)?;
        container.check(Verb::Export)?;
        let mounted = {
            let _one_verb = container.lifecycle.lock().await;
            self.open_rootfs(&container).await?
        };
        let (writer, stream) = StreamWriter::new();
        let (engine, owner) = (self.clone(), Arc::clone(&container));
        let ids = self.config().ids();
        tokio::spawn(async move {
            let packed = tokio::task::spawn_blocking(move || {
                let Rootfs { root, devices } = mounted;
                let packed =
                    pack(root.as_fd(), PackOptions { devices, ids, ..PackOptions::default() }, writer);
                match packed {
                    Ok(mut writer) => drop(writer.flush()),
                    Err(error) => tracing::warn!(%error, "export broke off"),
                }
            });
            packed.await.ok();
            engine.close_rootfs(&owner).await;
        });
        self.emit_plain(&container, "export");
        Ok(stream)
    }

    /// Mounts a container's file system, running or not, and opens it.
    async fn open_rootfs(&self, container: &Container) -> Result<Rootfs> {
        let (layers, id) = (self.parts().images.layers().clone(), container.id.clone());
        blocking(move || {
            let path = layers.mount(&id)?;
            Rootfs::open(&path).map_err(|source| {
                layers.unmount(&id).ok();
                Error::Io { step: "open root file system", path, source }
            })
        })
        .await
    }

    async fn close_rootfs(&self, container: &Container) {
        let (layers, id) = (self.parts().images.layers().clone(), container.id.clone());
        if let Err(error) = blocking(move || layers.unmount(&id)).await {
            tracing::warn!(container = %container.id, %error, "root file system stays mounted");
        }
    }
}

/// A container's file system, open.
struct Rootfs {
    root: OwnedFd,
    devices: Devices,
}

impl Rootfs {
    /// By a mount of its own that refuses devices, where the kernel can make one (5.12).
    fn open(path: &Path) -> io::Result<Self> {
        match without_devices(path) {
            Some(root) => Ok(Self { root, devices: Devices::Refused }),
            None => Ok(Self { root: File::open(path)?.into(), devices: Devices::Open }),
        }
    }
}

fn without_devices(path: &Path) -> Option<OwnedFd> {
    let mount = clone_tree(path, Recursion::Single).ok()?;
    let change = AttrChange { set: MountAttrs::NODEV, ..AttrChange::default() };
    set_attrs(&mount, &change, Recursion::Single).ok()?;
    // The descriptor of a clone stands for a path only.
    openat(&mount, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
}
