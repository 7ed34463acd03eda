//! Descriptors, manifests and indexes, in OCI's and in Docker's form: the two differ in media types only.
//!
//! Source: OCI image-spec `descriptor.md`, `manifest.md`, `image-index.md`; distribution
//! `docs/spec/manifest-v2-2.md`. Unknown fields are ignored. The caller bounds the size of what is parsed.

use crate::{Digest, ErrorKind, Platform};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::collections::BTreeMap;

/// Media types, as constants.
pub mod media_type {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, uncompressed.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// OCI empty JSON, the config of an artifact.
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker plugin config.
    pub const DOCKER_PLUGIN_CONFIG: &str = "application/vnd.docker.plugin.v1+json";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer, uncompressed (on disk and in saved archives only).
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer, zstd.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    /// Docker layer that may not be distributed (Windows base images).
    pub const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    /// Docker image manifest, schema 1: no longer taken.
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    /// The same, signed.
    pub const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

    /// Whether it is an image manifest, OCI's or Docker's.
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
    }

    /// Whether it is an index or a manifest list.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, OCI_INDEX | DOCKER_MANIFEST_LIST)
    }
}

/// What content is, how long, and by which digest it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Bytes; from 0 to `i64::MAX`.
    #[serde(deserialize_with = "size")]
    pub size: u64,
    /// Other places that have it (foreign layers).
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// In an index: what the manifest runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// In an index: what kind of artifact the manifest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor without annotations, addresses and platform.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}

/// The manifest of one image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// OCI allows it to be left out.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub media_type: String,
    /// What kind of artifact it is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image config, whose digest is the image's id.
    pub config: Descriptor,
    /// Layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// What this manifest says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, one for each platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u32,
    /// OCI allows it to be left out.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub media_type: String,
    /// What kind of artifact it is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// What this index says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ParseManifestError {
    /// Not the JSON that the media type promises.
    #[error("error parsing manifest")]
    Json(#[from] serde_json::Error),
    /// A schema 1 manifest, which nobody should use any more.
    #[error(
        "[DEPRECATION NOTICE] Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. More information at https://docs.docker.com/go/deprecated-image-specs/"
    )]
    Schema1,
    /// A media type that is neither a manifest nor an index.
    #[error("unsupported manifest media type {0:?}")]
    MediaType(String),
    /// The document says of itself another media type than its sender: it could be read in two ways
    /// (CVE-2021-41190).
    #[error("mediaType in manifest should be '{expected}' not '{found}'")]
    Mismatch {
        /// What the sender says.
        expected: String,
        /// What the document says.
        found: String,
    },
    /// The document has fields of both forms (CVE-2021-41190).
    #[error("manifest has both image and index fields")]
    Ambiguous,
    /// Not version 2.
    #[error("unsupported manifest schema version {0}")]
    Version(u32),
}

impl ParseManifestError {
    /// What it means to a client: the registry, not the request, is at fault.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::System
    }
}

/// A manifest of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
pub enum Manifest {
    /// Of one image.
    Image(ImageManifest),
    /// Of several.
    Index(ImageIndex),
}

/// The fields that tell the forms apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    schema_version: u32,
    #[serde(default, deserialize_with = "null_is_default")]
    media_type: String,
    config: Option<de::IgnoredAny>,
    layers: Option<de::IgnoredAny>,
    fs_layers: Option<de::IgnoredAny>,
    manifests: Option<de::IgnoredAny>,
}

impl Manifest {
    /// Parses a document. `media_type` is what its sender said; empty or not a manifest type, the document
    /// itself decides.
    ///
    /// # Errors
    /// When the document is malformed, ambiguous or of a kind that is not supported.
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, ParseManifestError> {
        let probe: Probe = serde_json::from_slice(bytes)?;
        let stated = sender_media_type(media_type)?;
        if probe.schema_version == 1 || probe.fs_layers.is_some() {
            return Err(ParseManifestError::Schema1);
        }
        if probe.schema_version != 2 {
            return Err(ParseManifestError::Version(probe.schema_version));
        }
        if let Some(expected) = stated
            && !probe.media_type.is_empty()
            && probe.media_type != expected
        {
            return Err(ParseManifestError::Mismatch {
                expected: expected.to_owned(),
                found: probe.media_type,
            });
        }
        if probe.manifests.is_some() && (probe.config.is_some() || probe.layers.is_some()) {
            return Err(ParseManifestError::Ambiguous);
        }
        match stated.unwrap_or(&probe.media_type) {
            kind if media_type::is_index(kind) => Ok(Self::Index(serde_json::from_slice(bytes)?)),
            kind if media_type::is_manifest(kind) => Ok(Self::Image(serde_json::from_slice(bytes)?)),
            "" if probe.manifests.is_some() => Ok(Self::Index(serde_json::from_slice(bytes)?)),
            "" => Ok(Self::Image(serde_json::from_slice(bytes)?)),
            other => Err(ParseManifestError::MediaType(other.chars().take(100).collect())),
        }
    }
}

/// The manifest type a sender stated, without parameters. Generic types (a file server's
/// `application/octet-stream`) state nothing.
fn sender_media_type(header: &str) -> Result<Option<&str>, ParseManifestError> {
    let kind = header.split(';').next().unwrap_or_default().trim();
    match kind {
        media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_SIGNED => Err(ParseManifestError::Schema1),
        _ if media_type::is_manifest(kind) || media_type::is_index(kind) => Ok(Some(kind)),
        _ => Ok(None),
    }
}

fn size<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    u64::try_from(i64::deserialize(d)?).map_err(|_| de::Error::custom("negative size"))
}

/// Go reads `null` as the zero value.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn image(media_type: &str, extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"mediaType":"c","digest":"{DIGEST}","size":7}},
                "layers":[{{"mediaType":"l","digest":"{DIGEST}","size":9,"annotations":null,"later":1}}]{extra}}}"#
        )
    }

    #[test]
    fn image_manifests_of_both_kinds_are_read() {
        for kind in [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST] {
            let header = format!("{kind}; charset=utf-8");
            let Manifest::Image(m) = Manifest::parse(&header, image(kind, "").as_bytes()).unwrap() else {
                panic!("no image")
            };
            assert_eq!((m.config.size, m.layers[0].size), (7, 9));
        }
        assert!(matches!(
            Manifest::parse("application/octet-stream", image("", "").as_bytes()),
            Ok(Manifest::Image(_))
        ));
    }

    #[test]
    fn an_index_knows_its_platforms() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","digest":"{DIGEST}","size":1,
                "platform":{{"architecture":"arm64","os":"linux","variant":"v8","os.version":"1"}}}}]}}"#
        );
        let Manifest::Index(index) = Manifest::parse(media_type::OCI_INDEX, text.as_bytes()).unwrap() else {
            panic!("no index")
        };
        let platform = index.manifests[0].platform.as_ref().unwrap();
        assert_eq!((platform.to_string().as_str(), platform.os_version.as_str()), ("linux/arm64/v8", "1"));
    }

    #[test]
    fn documents_with_two_meanings_are_refused() {
        let both = image("", r#","manifests":[]"#);
        assert!(matches!(Manifest::parse("", both.as_bytes()), Err(ParseManifestError::Ambiguous)));
        let other = image(media_type::OCI_INDEX, "");
        assert!(matches!(
            Manifest::parse(media_type::OCI_MANIFEST, other.as_bytes()),
            Err(ParseManifestError::Mismatch { .. })
        ));
        let schema1 = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(Manifest::parse("", schema1.as_bytes()), Err(ParseManifestError::Schema1)));
        assert!(matches!(Manifest::parse("", b"{}"), Err(ParseManifestError::Version(0))));
    }

    #[test]
    fn sizes_are_bounded() {
        for size in ["-1", "9223372036854775808", "1.5", "\"1\""] {
            let text = format!(r#"{{"mediaType":"m","digest":"{DIGEST}","size":{size}}}"#);
            assert!(serde_json::from_str::<Descriptor>(&text).is_err(), "{size}");
        }
    }
}
