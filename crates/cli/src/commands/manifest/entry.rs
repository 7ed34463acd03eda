//! One image of a list: what is shown of it, and what is kept (docker/cli: `cli/manifest/types`).

use super::json;
use crate::{
    error::{Error, Result},
    format::indent::{Escape, indent},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wharf_registry::{FetchedManifest, digest_of};
use wharf_spec::{Digest, ImageRef, Manifest, Platform, media_type};

/// As docker/cli's `types.ImageManifest`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    #[serde(rename = "Ref")]
    reference: String,
    pub(super) descriptor: Descriptor,
    /// The manifest in base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    raw: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema_v2_manifest: Option<Box<RawValue>>,
    #[serde(rename = "OCIManifest", default, skip_serializing_if = "Option::is_none")]
    oci_manifest: Option<Box<RawValue>>,
}

/// As OCI's.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
}

impl Entry {
    /// Of what a registry gave.
    pub(super) fn new(reference: &ImageRef, fetched: &FetchedManifest, platform: Platform) -> Result<Self> {
        let text = String::from_utf8_lossy(&fetched.bytes).into_owned();
        let manifest = RawValue::from_string(text).map_err(|error| Error::text(error.to_string()))?;
        let is_docker = fetched.media_type == media_type::DOCKER_MANIFEST;
        let (schema_v2_manifest, oci_manifest) =
            if is_docker { (Some(manifest), None) } else { (None, Some(manifest)) };
        Ok(Self {
            reference: reference.to_string(),
            descriptor: Descriptor {
                media_type: fetched.media_type.clone(),
                digest: fetched.digest,
                size: fetched.bytes.len() as u64,
                platform: Some(platform),
            },
            raw: STANDARD.encode(&fetched.bytes),
            schema_v2_manifest,
            oci_manifest,
        })
    }

    /// The image's name.
    pub(super) fn reference(&self) -> Result<ImageRef> {
        super::reference(&self.reference)
    }

    /// Whether the manifest itself is kept, as older versions of docker's CLI did not.
    pub(super) fn is_whole(&self) -> bool {
        !self.raw.is_empty()
    }

    /// The manifest as it came, which is checked.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let bytes = STANDARD.decode(&self.raw).map_err(|error| Error::text(error.to_string()))?;
        let (expected, got) = (self.descriptor.digest, digest_of(&bytes));
        if expected == got {
            return Ok(bytes);
        }
        let image = &self.reference;
        Err(Error::text(format!("internal digest mismatch for {image}: expected {expected}, got {got}")))
    }

    /// Config and layers.
    pub(super) fn blobs(&self) -> Result<Vec<Digest>> {
        let manifest = Manifest::parse(&self.descriptor.media_type, &self.bytes()?);
        match manifest.map_err(|error| Error::text(error.to_string()))? {
            Manifest::Image(image) => {
                Ok(std::iter::once(&image.config).chain(&image.layers).map(|blob| blob.digest).collect())
            }
            Manifest::Index(_) => Err(Error::text(format!("{} is a manifest list", self.reference))),
        }
    }

    /// The manifest for reading.
    pub(super) fn text(&self) -> Result<String> {
        let manifest = self.schema_v2_manifest.as_ref().or(self.oci_manifest.as_ref());
        let manifest = manifest.ok_or_else(|| Error::text(format!("{} has no payload", self.reference)))?;
        Ok(indent(manifest.get(), "\t", Escape::No))
    }
}

/// As distribution's manifest lists are written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    media_type: &'a str,
    size: u64,
    digest: Digest,
    platform: Platform,
}

/// A list for a repository: its media type and its text. All images have to be of the same registry.
pub(super) fn list(entries: &[Entry], target: &ImageRef) -> Result<(&'static str, String)> {
    for entry in entries {
        let (from, to) = (entry.reference()?, target.domain());
        if from.domain() != to {
            return Err(Error::text(format!(
                "cannot use source images from a different registry than the target image: {} != {to}",
                from.domain()
            )));
        }
    }
    let is_oci = entries.first().is_some_and(|entry| entry.descriptor.media_type == media_type::OCI_MANIFEST);
    let media_type = if is_oci { media_type::OCI_INDEX } else { media_type::DOCKER_MANIFEST_LIST };
    let manifests = entries.iter().map(|entry| &entry.descriptor).map(|descriptor| Item {
        media_type: &descriptor.media_type,
        size: descriptor.size,
        digest: descriptor.digest,
        platform: descriptor.platform.clone().unwrap_or_default(),
    });
    let list = List { schema_version: 2, media_type, manifests: manifests.collect() };
    Ok((media_type, indent(&json(&list)?, "   ", Escape::Html)))
}
