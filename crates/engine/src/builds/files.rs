//! An image's files as an archive, for builds whose outcome is files.

use super::Builds;
use crate::{
    Error, Result,
    blocking::blocking,
    images::{ByteStream, Layers, StreamWriter},
    random,
};
use std::{fs::File, io::Write, os::fd::AsFd, path::PathBuf};
use wharf_archive::{PackOptions, pack};
use wharf_spec::ContainerId;

/// A layer for a while, on which an image is mounted.
struct Mounted {
    layers: Layers,
    id: ContainerId,
    path: PathBuf,
}

impl Builds {
    /// An image's files, without what containers get besides.
    ///
    /// # Errors
    /// When there is no such image or it cannot be mounted. What fails later ends the stream.
    pub async fn files(&self, image: &str) -> Result<ByteStream> {
        let image = self.0.images.resolve(image, None).await?;
        let layers = self.0.images.layers().clone();
        let ids = self.0.config.ids();
        let (mut writer, stream) = StreamWriter::new();
        if image.config.diff_ids().is_empty() {
            let empty = wharf_archive::Writer::new(Vec::new()).finish();
            let empty = empty.map_err(|error| Error::Build(error.into()))?;
            tokio::task::spawn_blocking(move || writer.write_all(&empty).and_then(|()| writer.flush()));
            return Ok(stream);
        }
        let mounted = blocking(move || Mounted::new(layers, &image.id)).await?;
        tokio::task::spawn_blocking(move || {
            let root = match File::open(&mounted.path) {
                Ok(root) => root,
                Err(error) => return writer.fail(error),
            };
            match pack(root.as_fd(), PackOptions { ids, ..PackOptions::default() }, writer) {
                Ok(mut writer) => drop(writer.flush()),
                Err(error) => tracing::warn!(%error, "an image's files broke off"),
            }
        });
        Ok(stream)
    }
}

impl Mounted {
    fn new(layers: Layers, image: &wharf_spec::ImageId) -> Result<Self> {
        let id = ContainerId::from_random(random::bytes32());
        layers.create_bare(&id, Some(image))?;
        match layers.mount(&id) {
            Ok(path) => Ok(Self { layers, id, path }),
            Err(error) => {
                layers.remove(&id).ok();
                Err(error)
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let removed = self.layers.unmount(&self.id).and_then(|()| self.layers.remove(&self.id));
        if let Err(error) = removed {
            tracing::warn!(layer = %self.id, %error, "a layer of a build stays until the next start");
        }
    }
}
