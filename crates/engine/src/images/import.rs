//! `POST /images/create?fromSrc=-` (source: moby `daemon/images/image_import.go`).

use super::{ImportImage, Inner, store_error, tag::repository_and_tag};
use crate::{Error, Result};
use std::io::Read;
use wharf_archive::Decompressor;
use wharf_spec::{History, ImageConfig, ImageId, Platform, RootFs, RunConfig};

impl Inner {
    pub(super) fn import(&self, archive: impl Read + Send, options: &ImportImage) -> Result<ImageId> {
        let reference = repository_and_tag(&options.repository, &options.tag)?;
        if !options.changes.is_empty() {
            return Err(Error::NotImplemented("changes of an imported image"));
        }
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        if platform.os != "linux" {
            return Err(Error::Invalid(format!("operating system is not supported: {}", platform.os)));
        }
        let archive = Decompressor::new(archive).map_err(|error| store_error(error.into()))?;
        let unpacked = self.store.layers.unpack(archive).map_err(store_error)?;
        // Held until the image holds it.
        let layer = self.store.layers.register(unpacked, None).map_err(store_error)?;
        let created = Some(jiff::Timestamp::now().to_string());
        let config = ImageConfig {
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            comment: options.message.clone(),
            config: Some(RunConfig::default()),
            created: created.clone(),
            history: vec![History { created, comment: options.message.clone(), ..History::default() }],
            rootfs: Some(RootFs { diff_ids: vec![layer.diff_id], ..RootFs::default() }),
            ..ImageConfig::default()
        };
        let image = self.store.images.create(&config.to_json()).map_err(store_error)?;
        if let Some(reference) = reference {
            self.add_tag(image.id, &reference)?;
        }
        self.emit("import", image.id, &image.id.to_string());
        Ok(image.id)
    }
}
