//! Platforms: operating system, architecture, variant.

use serde::{Deserialize, Serialize};

/// What an image runs on (source: OCI image-spec, image-index.md, "platform").
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH: `amd64`, `arm64`, ...
    pub architecture: String,
    /// GOOS: `linux`.
    pub os: String,
    /// Such as `v8`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}
