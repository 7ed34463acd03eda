//! A specification as it stands in its file (source: CDI `specs-go/config.go`). Unknown fields are errors there.

use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// One file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Spec {
    /// The version of CDI that it is written for.
    #[serde(deserialize_with = "text")]
    pub(super) cdi_version: String,
    /// `vendor/class` of its devices.
    #[serde(deserialize_with = "text")]
    pub(super) kind: String,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "list")]
    pub(super) devices: Vec<Device>,
    /// What a container needs that has any of its devices.
    pub(super) container_edits: Edits,
}

/// One device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Device {
    #[serde(deserialize_with = "text")]
    pub(super) name: String,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    /// What a container needs that has it.
    pub(super) container_edits: Edits,
}

/// Changes to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Edits {
    #[serde(deserialize_with = "list")]
    pub(super) env: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) device_nodes: Vec<DeviceNode>,
    #[serde(deserialize_with = "list")]
    pub(super) net_devices: Vec<NetDevice>,
    #[serde(deserialize_with = "list")]
    pub(super) hooks: Vec<Hook>,
    #[serde(deserialize_with = "list")]
    pub(super) mounts: Vec<Mount>,
    pub(super) intel_rdt: Option<IntelRdt>,
    #[serde(rename = "additionalGids", deserialize_with = "list")]
    pub(super) additional_gids: Vec<u32>,
}

/// A device node of the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct DeviceNode {
    #[serde(deserialize_with = "text")]
    pub(super) path: String,
    #[serde(deserialize_with = "text")]
    pub(super) host_path: String,
    #[serde(rename = "type", deserialize_with = "text")]
    pub(super) kind: String,
    pub(super) major: i64,
    pub(super) minor: i64,
    pub(super) file_mode: Option<u32>,
    #[serde(deserialize_with = "text")]
    pub(super) permissions: String,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// An interface of the host that becomes the container's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct NetDevice {
    #[serde(deserialize_with = "text")]
    pub(super) host_interface_name: String,
    #[serde(deserialize_with = "text")]
    pub(super) name: String,
}

/// A program that is run around the container's life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Hook {
    #[serde(deserialize_with = "text")]
    pub(super) hook_name: String,
    #[serde(deserialize_with = "text")]
    pub(super) path: String,
    #[serde(deserialize_with = "list")]
    pub(super) args: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) env: Vec<String>,
    pub(super) timeout: Option<i64>,
}

/// Something of the host in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Mount {
    #[serde(deserialize_with = "text")]
    pub(super) host_path: String,
    #[serde(deserialize_with = "text")]
    pub(super) container_path: String,
    #[serde(deserialize_with = "list")]
    pub(super) options: Vec<String>,
    #[serde(rename = "type", deserialize_with = "text")]
    pub(super) kind: String,
}

/// Shares of caches and memory bandwidth.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct IntelRdt {
    #[serde(rename = "closID", deserialize_with = "text")]
    pub(super) clos_id: String,
    #[serde(rename = "l3CacheSchema", deserialize_with = "text")]
    pub(super) l3_cache_schema: String,
    #[serde(deserialize_with = "text")]
    pub(super) mem_bw_schema: String,
    pub(super) schemata: Option<Vec<String>>,
    pub(super) enable_monitoring: bool,
}

/// A text. What YAML takes for a number or a switch, as in `name: 0`, is meant as its text (source:
/// sigs.k8s.io/yaml, which CDI's library reads files with).
fn text<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bool(bool),
        Int(i64),
        Float(f64),
        Nothing(()),
    }
    Ok(match Form::deserialize(d)? {
        Form::Text(text) => text,
        Form::Bool(yes) => yes.to_string(),
        Form::Int(number) => number.to_string(),
        Form::Float(number) => number.to_string(),
        Form::Nothing(()) => String::new(),
    })
}

/// A list, where `null` is an empty one as in Go.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(d)?.unwrap_or_default())
}
