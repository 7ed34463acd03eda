//! What registries know of layers (source: moby `daemon/internal/distribution/metadata`).
//!
//! ```text
//! distribution/diffid-by-digest/sha256/<blob>         sha256:<layer>
//! distribution/v2metadata-by-diffid/sha256/<layer>    [{"Digest":..,"SourceRepository":..,"HMAC":..}]
//! ```
//! All of it is a cache: what is missing or damaged costs a transfer, nothing else.

use crate::{Result, files, files::Sync};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use wharf_spec::{DiffId, Digest};

/// Newest are kept.
const MAX_METADATA: usize = 50;

/// Where a layer's blob is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct V2Metadata {
    /// Of the compressed blob.
    #[serde(rename = "Digest")]
    pub digest: Digest,
    /// `docker.io/library/alpine`.
    #[serde(rename = "SourceRepository", default)]
    pub source_repository: String,
    /// Hex, over digest and repository, keyed by the credentials it was found with; empty without.
    #[serde(rename = "HMAC", default)]
    pub hmac: String,
}

/// The directory `distribution`.
pub struct Distribution {
    by_digest: PathBuf,
    by_layer: PathBuf,
}

impl Distribution {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        files::make_directory(root, 0o700)?;
        let by_digest = root.join("diffid-by-digest/sha256");
        let by_layer = root.join("v2metadata-by-diffid/sha256");
        Ok(Self { by_digest, by_layer })
    }

    /// Removes what writes left that were cut off.
    ///
    /// # Errors
    /// When a directory cannot be read or a file not be removed.
    pub(crate) fn sweep(&self) -> Result<()> {
        [&self.by_digest, &self.by_layer]
            .into_iter()
            .try_for_each(|directory| files::remove_temporaries(directory))
    }

    /// The layer that a compressed blob gives.
    pub fn layer_of(&self, blob: &Digest) -> Option<DiffId> {
        files::read_parsed(&self.by_digest.join(blob.hex())).ok()
    }

    /// Where a layer's blob is, newest last.
    pub fn blobs_of(&self, layer: DiffId) -> Vec<V2Metadata> {
        let raw = files::read(&self.by_layer.join(layer.hex())).unwrap_or_default();
        serde_json::from_slice(&raw).unwrap_or_default()
    }

    /// Notes where a layer's blob was found or put.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn add(&self, layer: DiffId, metadata: V2Metadata) -> Result<()> {
        let blob = self.by_digest.join(metadata.digest.hex());
        let mut all = self.blobs_of(layer);
        all.retain(|known| *known != metadata);
        all.push(metadata);
        let surplus = all.len().saturating_sub(MAX_METADATA);
        all.drain(..surplus);
        self.write(&self.by_layer.join(layer.hex()), &wharf_spec::to_go_json(&all))?;
        self.write(&blob, layer.to_string().as_bytes())
    }

    /// Notes which layer a compressed blob gives, from wherever it came.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn note_layer(&self, blob: &Digest, layer: DiffId) -> Result<()> {
        self.write(&self.by_digest.join(blob.hex()), layer.to_string().as_bytes())
    }

    /// Forgets a place where a blob is no more.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove(&self, layer: DiffId, metadata: &V2Metadata) -> Result<()> {
        let mut all = self.blobs_of(layer);
        all.retain(|known| known != metadata);
        self.write(&self.by_layer.join(layer.hex()), &wharf_spec::to_go_json(&all))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        if let Some(directory) = path.parent()
            && !directory.exists()
        {
            files::make_directory(directory, 0o755)?;
        }
        files::replace(path, bytes, 0o644, Sync::Later)
    }
}
