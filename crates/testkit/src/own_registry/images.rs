//! Images that the registry has without anybody having pushed them.

use super::{OwnRegistry, sha256};
use anyhow::Result;
use serde_json::{Value, json};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

impl OwnRegistry {
    /// Serves an image of these uncompressed layers; the digests of their blobs.
    ///
    /// # Errors
    /// Never; JSON can be written.
    pub fn put_image(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> Result<Vec<String>> {
        self.put_platforms(repository, tag, &[("amd64", layers)])?;
        Ok(layers.iter().map(|layer| sha256(layer)).collect())
    }

    /// Serves an index of an image for each architecture, or a plain image if there is only one.
    ///
    /// # Errors
    /// Never; JSON can be written.
    pub fn put_platforms(&self, repository: &str, tag: &str, images: &[(&str, &[Vec<u8>])]) -> Result<()> {
        let mut manifests = Vec::new();
        for (architecture, layers) in images {
            let diff_ids: Vec<String> = layers.iter().map(|layer| sha256(layer)).collect();
            let config = serde_json::to_vec(&json!({
                "architecture": architecture,
                "os": "linux",
                "config": {"Cmd": ["true"]},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            }))?;
            let descriptors: Vec<Value> = layers.iter().map(|layer| descriptor(OCI_LAYER, layer)).collect();
            let manifest = serde_json::to_vec(&json!({
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": descriptor(OCI_CONFIG, &config),
                "layers": descriptors,
            }))?;
            for blob in layers.iter().chain([&config]) {
                self.state().blobs.insert(sha256(blob), blob.clone());
            }
            let mut entry = descriptor(OCI_MANIFEST, &manifest);
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            manifests.push((entry, manifest));
        }
        for (_, manifest) in &manifests {
            self.put_manifest(repository, &sha256(manifest), OCI_MANIFEST, manifest);
        }
        if let [(_, manifest)] = &manifests[..] {
            self.put_manifest(repository, tag, OCI_MANIFEST, manifest);
        } else {
            let entries: Vec<&Value> = manifests.iter().map(|(entry, _)| entry).collect();
            let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
            self.put_manifest(repository, tag, OCI_INDEX, &serde_json::to_vec(&index)?);
        }
        Ok(())
    }

    /// Serves anything as a manifest.
    pub fn put_manifest(&self, repository: &str, reference: &str, kind: &str, bytes: &[u8]) {
        let manifest = (kind.to_owned(), bytes.to_vec());
        self.state().manifests.insert(format!("{repository}/{reference}"), manifest);
    }
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": sha256(bytes), "size": bytes.len()})
}
