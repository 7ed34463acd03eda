//! `GET /containers/{id}/changes` and `GET /containers/{id}/export`

use super::{Container, Containers};
use crate::{
    Error, Result,
    blocking::blocking,
    images::{ByteStream, StreamWriter},
    state::Verb,
};
use std::{fs::File, io::Write, os::fd::AsFd, sync::Arc};
use wharf_api::container::FilesystemChange;
use wharf_archive::{PackOptions, pack};

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
        let options = PackOptions { ids: self.config().ids(), ..PackOptions::default() };
        tokio::spawn(async move {
            let packed = tokio::task::spawn_blocking(move || {
                let packed = pack(mounted.as_fd(), options, writer);
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
    async fn open_rootfs(&self, container: &Container) -> Result<File> {
        let (layers, id) = (self.parts().images.layers().clone(), container.id.clone());
        blocking(move || {
            let path = layers.mount(&id)?;
            File::open(&path).map_err(|source| {
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
