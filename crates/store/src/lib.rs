//! What is on disk below the data root for images: byte-compatible with Docker's `overlay2` graph driver.
//!
//! Role: layers, images, references, what the registry knows of them, blobs. Containers get their
//! writable layers here; their records are `engine`'s.
//!
//! Entry points: [`Store::open`], then [`Store::sweep`]; [`check`] for a data root that is not in use;
//! [`bolt::BoltFile`] for Docker's databases. Everything is synchronous and safe to call from many threads; whoever
//! has an event loop calls it on a thread that may block.
//!
//! Files, below the data root (each module says more):
//! ```text
//! image/overlay2/repositories.json                   references
//! image/overlay2/imagedb/{content,metadata}/sha256/  images
//! image/overlay2/layerdb/{sha256,tmp,mounts}/        layers
//! image/overlay2/distribution/                       distribution
//! overlay2/{l,<cache id>}/                           overlay
//! wharf/content/{ingest,sha256}/                     content: blobs that Docker keeps nowhere
//! ```
//!
//! Invariants: what has its final name is complete, since it was renamed there; what a digest names is
//! checked against it before it is served; a layer that an image, a container, a child layer or a
//! [`LayerRef`] stands on is not removed. A data root is opened by one process at a time; `daemon` holds
//! the lock.
#![forbid(unsafe_code)]

mod ahead;
pub mod bolt;
mod changes;
mod check;
mod content;
mod crc64;
mod digest;
mod distribution;
mod durability;
mod error;
mod files;
mod images;
mod init;
mod layers;
mod overlay;
mod quota;
mod references;
mod sweep;
pub mod tarsplit;
#[cfg(test)]
mod tests;
mod union;

pub use changes::{Change, ChangeKind};
pub use check::{Depth, Finding, Report, check};
pub use content::{Content, HashingWriter, Ingest};
pub use digest::{Hashing, chain_id, chain_ids, sha256};
pub use distribution::{Distribution, V2Metadata};
pub use error::Error;
pub use images::{Image, Images};
pub use layers::{Layer, LayerRef, Layers, MAX_DEPTH, RwLayer, Unpacked};
pub use overlay::GraphData;
pub use references::{Force, Names, References};

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use wharf_spec::plan::IdMaps;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An open data root.
pub struct Store {
    /// Layers, read-only and writable.
    pub layers: Arc<Layers>,
    /// Image configs and what Docker notes about them.
    pub images: Images,
    /// Names of images.
    pub references: References,
    /// What was pulled from and pushed to where.
    pub distribution: Distribution,
    /// Blobs.
    pub content: Content,
    data_root: PathBuf,
}

impl Store {
    /// Opens a data root, made if missing, and repairs what a crash left. The lock against a second daemon
    /// is the caller's.
    ///
    /// # Errors
    /// When the root cannot be read or written. Damaged layers and images are logged and left out; a damaged
    /// `repositories.json` is put aside.
    pub fn open(data_root: &Path) -> Result<Self> {
        Self::open_mapped(data_root, None)
    }

    /// As [`Store::open`], for containers in user namespaces with these ids: files in layers belong to the host's
    /// ids of their owners, and so do directories that a container's root has to reach.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_mapped(data_root: &Path, ids: Option<Arc<IdMaps>>) -> Result<Self> {
        let image_root = data_root.join("image/overlay2");
        files::make_directory(&data_root.join("image"), 0o700)?;
        files::make_directory(&image_root, 0o700)?;
        let layers = Arc::new(Layers::open(data_root, &image_root.join("layerdb"), ids)?);
        let images = Images::open(&image_root.join("imagedb"), layers.clone())?;
        let references = References::open(&image_root.join("repositories.json"))?;
        let distribution = Distribution::open(&image_root.join("distribution"))?;
        let content = Content::open(&data_root.join("wharf/content"))?;
        Ok(Self { layers, images, references, distribution, content, data_root: data_root.into() })
    }
}
