//! Volumes (source: moby `api/types/volume`).

use crate::{StringMap, is_zero, time::Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    /// When it was made.
    #[serde(skip_serializing_if = "Time::is_zero")]
    pub created_at: Time,
    /// Its driver.
    pub driver: String,
    /// Labels.
    pub labels: Option<StringMap>,
    /// Its directory on the host.
    pub mountpoint: String,
    /// Its name.
    pub name: String,
    /// Options of the driver.
    pub options: Option<StringMap>,
    /// `local` or `global`.
    pub scope: String,
    /// What the driver says.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub status: BTreeMap<String, serde_json::Value>,
    /// Size and use, where disk usage was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<UsageData>,
}

/// Size and use of a volume; -1 is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UsageData {
    /// Containers that use it.
    pub ref_count: i64,
    /// Bytes.
    pub size: i64,
}

/// The request to make a volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateRequest {
    /// Swarm: what a cluster volume is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_volume_spec: Option<serde_json::Value>,
    /// Its driver; empty is `local`.
    #[serde(skip_serializing_if = "is_zero")]
    pub driver: String,
    /// Options of the driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_opts: Option<StringMap>,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<StringMap>,
    /// Its name; empty is a random one.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
}

/// The answer to a list.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListResponse {
    /// The volumes.
    pub volumes: Vec<Volume>,
    /// Drivers that did not answer.
    pub warnings: Option<Vec<String>>,
}

/// The answer to a prune.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneReport {
    /// Names.
    pub volumes_deleted: Vec<String>,
    /// Bytes.
    pub space_reclaimed: u64,
}
