//! Images (source: moby `api/types/image`).

use crate::{
    Set, StringMap,
    container::{DriverData, HealthConfig},
    is_zero,
    port::Port,
    time::Time,
};
use serde::{Deserialize, Serialize};
use wharf_spec::{Descriptor, Digest, Platform};

/// One line of a list of images.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Summary {
    /// Containers that use it; -1 is not counted.
    pub containers: i64,
    /// When it was made, in seconds since the Unix epoch.
    pub created: i64,
    /// Its id.
    pub id: String,
    /// Labels.
    pub labels: Option<StringMap>,
    /// Id of the image it was built on by the classic builder.
    pub parent_id: String,
    /// The manifest or index (1.48 and up, with a containerd image store).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// What an index has (1.47 and up, on request).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<ManifestSummary>,
    /// `name@digest`. `None` is null, which Docker shows below 1.43 and in disk usage.
    pub repo_digests: Option<Vec<String>>,
    /// `name:tag`.
    pub repo_tags: Option<Vec<String>>,
    /// Bytes shared with other images; -1 is not counted.
    pub shared_size: i64,
    /// Bytes in all.
    pub size: i64,
    /// The same, below 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
}

/// One image of an index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ManifestSummary {
    /// Digest of the manifest.
    #[serde(rename = "ID")]
    pub id: Digest,
    /// The manifest.
    pub descriptor: Descriptor,
    /// Whether all of it is here.
    pub available: bool,
    /// Bytes.
    pub size: ManifestSize,
    /// `image`, `attestation` or `unknown`.
    pub kind: String,
    /// Of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ImageProperties>,
    /// Of an attestation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<AttestationProperties>,
}

/// Bytes of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManifestSize {
    /// Of the blobs.
    pub content: i64,
    /// Of blobs and unpacked layers.
    pub total: i64,
}

/// An image of an index.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageProperties {
    /// What it runs on.
    pub platform: Platform,
    /// Bytes unpacked.
    pub size: UnpackedSize,
    /// Containers that use it.
    pub containers: Vec<String>,
}

/// Bytes of unpacked layers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UnpackedSize {
    /// Bytes.
    pub unpacked: i64,
}

/// An attestation of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AttestationProperties {
    /// The manifest that it is about.
    #[serde(rename = "For")]
    pub subject: Digest,
}

/// The answer to an inspect, as of 1.52. Older versions get more keys from the daemon.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct InspectResponse {
    /// Its id.
    pub id: String,
    /// `name:tag`.
    pub repo_tags: Vec<String>,
    /// `name@digest`.
    pub repo_digests: Vec<String>,
    /// Message of the one who made it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// When it was made, as its config says; `None` when that says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// Who made it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// What it runs.
    pub config: Option<ImageConfig>,
    /// GOARCH.
    pub architecture: String,
    /// Variant of the architecture.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// GOOS.
    pub os: String,
    /// Windows only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Bytes.
    pub size: i64,
    /// What the storage driver says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    /// Layers.
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    /// What is known here only.
    pub metadata: Metadata,
    /// The manifest or index (1.48 and up, with a containerd image store).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// What an index has (1.48 and up, on request).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<ManifestSummary>,
    /// Id of the image it was built on by the classic builder.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent: String,
    /// Version of the builder.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    /// What only old versions show; the daemon writes it.
    #[serde(skip)]
    pub legacy: LegacyInspect,
}

/// What an inspect tells clients below 1.45 besides.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LegacyInspect {
    /// The container it was committed from.
    pub container: String,
    /// What ran in that container.
    pub container_config: crate::container::Config,
}

/// What an image runs (source: docker-image-spec `DockerOCIImageConfig`): no key for what is empty.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user[:group]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports that it listens on.
    #[serde(skip_serializing_if = "Set::is_empty")]
    pub exposed_ports: Set<Port>,
    /// Environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Entry point.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Paths that get a volume.
    #[serde(skip_serializing_if = "Set::is_empty")]
    pub volumes: Set<String>,
    /// Directory to start in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(skip_serializing_if = "StringMap::is_empty")]
    pub labels: StringMap,
    /// The signal that asks to stop.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Windows only.
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    /// Health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// ONBUILD triggers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// The shell of shell-form instructions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// Layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Digests of the uncompressed layers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// What is known of an image here only.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Metadata {
    /// When it was tagged last; zero for never.
    pub last_tag_time: Time,
}

/// One step of an image's history.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HistoryItem {
    /// A message.
    pub comment: String,
    /// When, in seconds since the Unix epoch.
    pub created: i64,
    /// The command.
    pub created_by: String,
    /// The image's id, or `<missing>`.
    pub id: String,
    /// Bytes of the layer.
    pub size: i64,
    /// `name:tag`; `None` where there are none.
    pub tags: Option<Vec<String>>,
}

/// One effect of a delete.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteItem {
    /// The image or layer that is gone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deleted: String,
    /// The name that is gone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub untagged: String,
}

/// The answer to a prune.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneReport {
    /// `None` where nothing was deleted.
    pub images_deleted: Option<Vec<DeleteItem>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// One result of a search.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    /// How many like it.
    pub star_count: i64,
    /// Docker's own.
    pub is_official: bool,
    /// The repository.
    pub name: String,
    /// Always false today.
    pub is_automated: bool,
    /// What it says of itself.
    pub description: String,
}

/// The answer to a distribution inspect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DistributionInspect {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// What it runs on.
    pub platforms: Option<Vec<Platform>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_image_has_an_empty_config() {
        let inspect = InspectResponse { config: Some(ImageConfig::default()), ..Default::default() };
        assert_eq!(
            serde_json::to_string(&inspect).unwrap(),
            "{\"Id\":\"\",\"RepoTags\":[],\"RepoDigests\":[],\"Config\":{},\"Architecture\":\"\",\"Os\":\"\",\"Size\":0,\
             \"RootFS\":{},\"Metadata\":{\"LastTagTime\":\"0001-01-01T00:00:00Z\"}}"
        );
    }
}
