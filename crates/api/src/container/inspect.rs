//! Everything about one container.

use super::{Config, HostConfig, PortMap};
use crate::{StringMap, is_zero, network::EndpointSettings, time::Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wharf_spec::Descriptor;

/// The answer to an inspect (source: moby `api/types/container/container.go`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct InspectResponse {
    /// The id.
    pub id: String,
    /// When it was made.
    pub created: Time,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its state.
    pub state: State,
    /// The image's id.
    pub image: String,
    /// File of the host behind /etc/resolv.conf.
    pub resolv_conf_path: String,
    /// File of the host behind /etc/hostname.
    pub hostname_path: String,
    /// File of the host behind /etc/hosts.
    pub hosts_path: String,
    /// The log file of the json-file driver.
    pub log_path: String,
    /// The name with a slash before it.
    pub name: String,
    /// How often the restart policy started it again.
    pub restart_count: i64,
    /// The storage driver.
    pub driver: String,
    /// `linux`.
    pub platform: String,
    /// SELinux label of mounts.
    pub mount_label: String,
    /// SELinux label of processes.
    pub process_label: String,
    /// AppArmor profile.
    pub app_armor_profile: String,
    /// Processes started besides the first.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// How it runs on this host.
    pub host_config: HostConfig,
    /// What the storage driver says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    /// What a snapshotter says instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Bytes written, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    /// Bytes in all, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
    /// What runs.
    pub config: Config,
    /// Networks and ports.
    pub network_settings: NetworkSettings,
    /// The platform's manifest (1.48 and up).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    pub status: String,
    /// Whether there is a process, be it paused.
    pub running: bool,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether it waits for the next start.
    pub restarting: bool,
    /// Whether the kernel killed a process for lack of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Whether its removal failed.
    pub dead: bool,
    /// Process id on the host, 0 when it does not run.
    pub pid: i64,
    /// How it ended last.
    pub exit_code: i64,
    /// Why it could not start.
    pub error: String,
    /// Last start; zero for never.
    pub started_at: Time,
    /// Last end; zero for never.
    pub finished_at: Time,
    /// Health, when there is a health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// Health of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy` or `none`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last results, oldest first.
    pub log: Option<Vec<HealthcheckResult>>,
}

/// One health check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthcheckResult {
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub end: Time,
    /// 0 healthy, 1 unhealthy, others are errors.
    pub exit_code: i64,
    /// What it printed.
    pub output: String,
}

/// A mount as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs`, `image`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Name of the volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Driver of the volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// The options given, such as `ro` or `z`.
    pub mode: String,
    /// Whether it can be written.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// Propagation of mounts.
    pub propagation: String,
}

/// A storage driver and its data.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverData {
    /// The driver's own keys.
    pub data: Option<StringMap>,
    /// Its name.
    pub name: String,
}

/// Storage of a container kept by a snapshotter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// The root file system.
    #[serde(rename = "RootFS", skip_serializing_if = "Option::is_none")]
    pub root_fs: Option<StorageRootFs>,
}

/// The root file system of a container kept by a snapshotter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StorageRootFs {
    /// The snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<StorageSnapshot>,
}

/// A snapshotter.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StorageSnapshot {
    /// Its name.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
}

/// Networks and ports of a container. The eight optional fields repeat the default bridge's endpoint for
/// API versions below 1.52.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// Id of the network namespace.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Path of the network namespace.
    pub sandbox_key: String,
    /// Published ports.
    pub ports: PortMap,
    /// See [`NetworkSettings`].
    #[serde(rename = "EndpointID", skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<String>,
    /// See [`NetworkSettings`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// See [`NetworkSettings`].
    #[serde(rename = "GlobalIPv6Address", skip_serializing_if = "Option::is_none")]
    pub global_ipv6_address: Option<String>,
    /// See [`NetworkSettings`].
    #[serde(rename = "GlobalIPv6PrefixLen", skip_serializing_if = "Option::is_none")]
    pub global_ipv6_prefix_len: Option<i64>,
    /// See [`NetworkSettings`].
    #[serde(rename = "IPAddress", skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    /// See [`NetworkSettings`].
    #[serde(rename = "IPPrefixLen", skip_serializing_if = "Option::is_none")]
    pub ip_prefix_len: Option<i64>,
    /// See [`NetworkSettings`].
    #[serde(rename = "IPv6Gateway", skip_serializing_if = "Option::is_none")]
    pub ipv6_gateway: Option<String>,
    /// See [`NetworkSettings`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Endpoints by the network's name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_dockers() {
        let value = serde_json::to_value(InspectResponse::default()).unwrap();
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut want: Vec<&str> = "AppArmorProfile Args Config Created Driver ExecIDs HostConfig HostnamePath HostsPath \
            Id Image LogPath MountLabel Mounts Name NetworkSettings Path Platform ProcessLabel ResolvConfPath RestartCount \
            State"
            .split_whitespace()
            .collect();
        want.sort_unstable();
        assert_eq!(keys, want);
        assert_eq!(value["ExecIDs"], serde_json::Value::Null);
        assert_eq!(value["Args"], serde_json::json!([]));
        assert_eq!(value["State"]["StartedAt"], "0001-01-01T00:00:00Z");
        assert_eq!(
            value["NetworkSettings"],
            serde_json::json!({"SandboxID": "", "SandboxKey": "", "Ports": {}, "Networks": {}})
        );
        let config = &value["Config"];
        assert_eq!(config.as_object().unwrap().len(), 16, "{config}");
    }
}
