//! The builder's cache (source: moby `api/types/build`).

use crate::time::Time;
use serde::{Deserialize, Serialize};

/// One record of the cache.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CacheRecord {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The records it is made from. The blank in the key is Docker's.
    #[serde(rename = " Parents", skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// `regular`, `source.local`, `exec.cachemount`, ...
    #[serde(rename = "Type")]
    pub kind: String,
    /// What it holds.
    pub description: String,
    /// Whether a build uses it now.
    pub in_use: bool,
    /// Whether an image has it too.
    pub shared: bool,
    /// Bytes.
    pub size: i64,
    /// When it was made.
    pub created_at: Time,
    /// When a build used it last.
    pub last_used_at: Option<Time>,
    /// How often builds used it.
    pub usage_count: i64,
}

/// The answer to a prune.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneReport {
    /// Ids; `None` where there were none.
    pub caches_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}
