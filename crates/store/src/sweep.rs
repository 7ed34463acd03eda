//! What a crash left that no single file tells of: looked for at start, before anything is done with the store.
//!
//! Removed are: images that were to get a name and have none, containers' layers without a container, layers on
//! which nothing stands, directories and short names below `overlay2` that belong to no layer. What may be
//! needed by something that could not be read stays.

use crate::{Error, Result, Store};
use std::path::PathBuf;
use wharf_spec::ImageId;

impl Store {
    /// Adds an image and gives it its names, as one step: when naming fails, an image that is new here is gone
    /// again, and one that a crash left without its names is removed at start.
    ///
    /// # Errors
    /// As [`crate::Images::create`], and what `name` fails with.
    pub fn create_named<T, E: From<Error>>(
        &self,
        raw: &[u8],
        name: impl FnOnce(ImageId) -> Result<T, E>,
    ) -> Result<T, E> {
        let id = ImageId(crate::sha256(raw));
        let is_new = self.images.set_unnamed(id)?;
        let image = self.images.create(raw);
        let named = image.map_err(E::from).and_then(|image| name(image.id));
        match &named {
            _ if !is_new => {}
            Ok(_) => self.images.set_named(id)?,
            // Another pull may have named it meanwhile.
            Err(_) if !self.references.of(id).is_empty() => self.images.set_named(id)?,
            Err(_) => self.take_back(id),
        }
        named
    }

    fn take_back(&self, id: ImageId) {
        let gone = match self.images.delete(id) {
            Err(Error::NoImage(_)) => self.images.forget(id),
            other => other.map(drop),
        };
        if let Err(error) = gone {
            tracing::warn!(image = %id, %error, "an image stays without a name until the next start");
        }
    }

    /// Removes what a crash left. To be called once, after [`Store::open`] and before the store is used; whoever
    /// keeps holds on layers that no image or container has takes them before.
    ///
    /// # Errors
    /// When the data root cannot be read, or something cannot be removed.
    pub fn sweep(&self) -> Result<()> {
        self.remove_unnamed_images()?;
        self.images.sweep()?;
        self.distribution.sweep()?;
        self.layers.remove_ownerless_mounts(&self.data_root.join("containers"))?;
        if !self.layers.is_complete()? || !self.images.is_complete() {
            tracing::warn!("what seems unused stays: there are layers or images that could not be read");
            return Ok(());
        }
        if dockers_build_cache(&self.data_root).exists() {
            tracing::debug!("layers that seem unused stay: Docker's build cache may hold them");
        } else {
            for layer in self.layers.remove_unused()? {
                tracing::info!(%layer, "removed a layer on which nothing stands");
            }
        }
        self.layers.remove_strays()
    }

    /// Writes anew what can be derived from what is there: how layers are linked to each other. Names of images
    /// that are gone are removed; those of an image that is damaged tell what to pull again.
    ///
    /// # Errors
    /// When a layer's directory is missing or the disk fails.
    pub fn mend(&self) -> Result<()> {
        self.layers.mend()?;
        self.references.retain(|image| self.images.has_config(image))
    }

    fn remove_unnamed_images(&self) -> Result<()> {
        for id in self.images.unnamed() {
            let chain = self.images.get(id)?.chain_id;
            let has_container = chain.is_some_and(|chain| self.layers.is_mounted_on(chain));
            let has_children = !self.images.children(id).is_empty();
            if has_container || has_children || !self.references.of(id).is_empty() {
                self.images.set_named(id)?;
                continue;
            }
            self.images.delete(id)?;
            tracing::info!(image = %id, "removed an image that a crash left without a name");
        }
        Ok(())
    }
}

/// Where BuildKit in Docker notes which layers it holds.
pub(crate) fn dockers_build_cache(data_root: &std::path::Path) -> PathBuf {
    data_root.join("buildkit/snapshots.db")
}
