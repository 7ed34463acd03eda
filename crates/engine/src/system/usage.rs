//! `GET /system/df`

use super::System;
use crate::{Result, containers::ListOptions, images::ListImages};
use wharf_api::{container, image, volume};

/// What takes up the disk, by kind. The forms of old and new API versions are made of it by the daemon.
#[derive(Debug, Default)]
pub struct DiskUsage {
    /// Images, with what they share; empty when not asked for.
    pub images: Vec<image::Summary>,
    /// Containers with the sizes of their layers; empty when not asked for.
    pub containers: Vec<container::Summary>,
    /// Volumes with their sizes; empty when not asked for.
    pub volumes: Vec<volume::Volume>,
    /// Bytes of all image layers, each once.
    pub layers_size: i64,
}

/// Which kinds are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kinds of objects")]
pub struct UsageKinds {
    pub images: bool,
    pub containers: bool,
    pub volumes: bool,
}

impl System {
    /// Measures what is asked for.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn disk_usage(&self, kinds: UsageKinds) -> Result<DiskUsage> {
        let mut usage = DiskUsage::default();
        if kinds.images {
            let all = ListImages { all: true, shared_size: true, ..ListImages::default() };
            usage.images = self.0.images.list(all).await?;
            usage.layers_size = self.0.images.layers_size();
        }
        if kinds.containers {
            let all = ListOptions { all: true, size: true, ..ListOptions::default() };
            usage.containers = self.0.containers.list(all).await?;
        }
        if kinds.volumes {
            usage.volumes = self.0.containers.parts().volumes.usage().await?;
        }
        Ok(usage)
    }
}
