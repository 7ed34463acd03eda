//! The daemon itself: version, info, disk usage (source: moby `api/types/system`).

use crate::{StringMap, build_cache::CacheRecord, container, image, is_zero, time::Time, volume};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The answer to `/version`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VersionResponse {
    /// The product.
    pub platform: PlatformInfo,
    /// A Docker version, which clients compare.
    pub version: String,
    /// Newest API version.
    pub api_version: String,
    /// Oldest API version.
    #[serde(rename = "MinAPIVersion", skip_serializing_if = "String::is_empty")]
    pub min_api_version: String,
    /// GOOS.
    pub os: String,
    /// GOARCH.
    pub arch: String,
    /// The programs it is made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    /// Commit that it was built from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    /// Language version; a key that clients expect.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub go_version: String,
    /// The kernel's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kernel_version: String,
    /// Experimental features on.
    #[serde(skip_serializing_if = "is_zero")]
    pub experimental: bool,
    /// When it was built.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build_time: String,
}

/// The product.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PlatformInfo {
    /// Its name.
    pub name: String,
}

/// One of the programs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// More about it.
    #[serde(skip_serializing_if = "StringMap::is_empty")]
    pub details: StringMap,
}

/// The answer to `/info`. The two `Option`s of bridge-nf are for versions below 1.50.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// Id of this daemon.
    #[serde(rename = "ID")]
    pub id: String,
    /// Containers in all.
    pub containers: i64,
    /// Running.
    pub containers_running: i64,
    /// Paused.
    pub containers_paused: i64,
    /// Neither.
    pub containers_stopped: i64,
    /// Images.
    pub images: i64,
    /// Storage driver.
    pub driver: String,
    /// What it says, name and value.
    pub driver_status: Vec<[String; 2]>,
    /// Drivers there are.
    pub plugins: PluginsInfo,
    /// Memory can be limited.
    pub memory_limit: bool,
    /// Swap can be limited.
    pub swap_limit: bool,
    /// Processor time can be limited: period.
    pub cpu_cfs_period: bool,
    /// Processor time can be limited: quota.
    pub cpu_cfs_quota: bool,
    /// Processor shares work.
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    /// Processors can be chosen.
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    /// Processes can be limited.
    pub pids_limit: bool,
    /// The host forwards IPv4.
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    /// Bridged IPv4 passes the firewall; always false, below 1.50.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge_nf_iptables: Option<bool>,
    /// Bridged IPv6 passes the firewall; always false, below 1.50.
    #[serde(rename = "BridgeNfIp6tables", skip_serializing_if = "Option::is_none")]
    pub bridge_nf_ip6tables: Option<bool>,
    /// Debugging is on.
    pub debug: bool,
    /// Open file descriptors.
    #[serde(rename = "NFd")]
    pub n_fd: i64,
    /// The OOM killer can be switched off.
    pub oom_kill_disable: bool,
    /// Tasks; goroutines in Docker.
    #[serde(rename = "NGoroutines")]
    pub n_goroutines: i64,
    /// The daemon's clock.
    pub system_time: Time,
    /// Default log driver.
    pub logging_driver: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroup_version: String,
    /// Clients that listen to events.
    #[serde(rename = "NEventsListener")]
    pub n_events_listener: i64,
    /// The kernel's version.
    pub kernel_version: String,
    /// The distribution.
    pub operating_system: String,
    /// Its version.
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    /// `linux`.
    #[serde(rename = "OSType")]
    pub os_type: String,
    /// As `uname -m` says.
    pub architecture: String,
    /// Docker Hub's address.
    pub index_server_address: String,
    /// Registries.
    pub registry_config: Option<RegistryConfig>,
    /// Processors.
    #[serde(rename = "NCPU")]
    pub ncpu: i64,
    /// Bytes of memory.
    pub mem_total: i64,
    /// Swarm: resources by name.
    pub generic_resources: Option<Vec<serde_json::Value>>,
    /// Where the data are.
    pub docker_root_dir: String,
    /// Proxy for http.
    pub http_proxy: String,
    /// Proxy for https.
    pub https_proxy: String,
    /// Hosts without proxy.
    pub no_proxy: String,
    /// The host's name.
    pub name: String,
    /// Labels of the daemon.
    pub labels: Vec<String>,
    /// Experimental features on.
    pub experimental_build: bool,
    /// A Docker version, which clients compare.
    pub server_version: String,
    /// OCI runtimes by name.
    pub runtimes: BTreeMap<String, Runtime>,
    /// The default among them.
    pub default_runtime: String,
    /// Swarm.
    pub swarm: SwarmInfo,
    /// Containers outlive the daemon.
    pub live_restore_enabled: bool,
    /// Windows only.
    pub isolation: String,
    /// The init program.
    pub init_binary: String,
    /// Version of containerd, or of what does its work.
    pub containerd_commit: Commit,
    /// Version of the runtime.
    pub runc_commit: Commit,
    /// Version of the init program.
    pub init_commit: Commit,
    /// `name=seccomp,profile=builtin`, ...
    pub security_options: Vec<String>,
    /// Not used.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub product_license: String,
    /// Where subnets of new networks come from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default_address_pools: Vec<AddressPool>,
    /// The firewall (1.49 and up).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_backend: Option<FirewallInfo>,
    /// Directories of CDI specifications.
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Vec<String>,
    /// CDI devices (1.50 and up).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discovered_devices: Vec<DeviceInfo>,
    /// containerd (1.46 and up).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containerd: Option<ContainerdInfo>,
    /// What is missing or unsafe; `None` where all is well.
    pub warnings: Option<Vec<String>>,
}

/// Drivers by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PluginsInfo {
    /// Volume drivers.
    pub volume: Vec<String>,
    /// Network drivers.
    pub network: Vec<String>,
    /// Authorization plugins.
    pub authorization: Option<Vec<String>>,
    /// Log drivers.
    pub log: Vec<String>,
}

/// Registries. The two fields of non-distributable artifacts are for versions below 1.47.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RegistryConfig {
    /// Always null, below 1.47: the unit value is JSON's null.
    #[serde(rename = "AllowNondistributableArtifactsCIDRs", skip_serializing_if = "Option::is_none")]
    pub allow_nondistributable_artifacts_cidrs: Option<()>,
    /// Always null, below 1.47.
    #[serde(rename = "AllowNondistributableArtifactsHostnames", skip_serializing_if = "Option::is_none")]
    pub allow_nondistributable_artifacts_hostnames: Option<()>,
    /// Networks whose registries need no TLS.
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Vec<String>,
    /// Registries by name.
    pub index_configs: BTreeMap<String, IndexInfo>,
    /// Mirrors of Docker Hub.
    pub mirrors: Option<Vec<String>>,
}

/// A registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IndexInfo {
    /// Its name.
    pub name: String,
    /// Its mirrors.
    pub mirrors: Vec<String>,
    /// Whether it needs TLS.
    pub secure: bool,
    /// Docker Hub.
    pub official: bool,
}

/// An OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Runtime {
    /// Its path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Arguments before its command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runtime_args: Vec<String>,
    /// containerd's shim.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime_type: String,
    /// The shim's options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, serde_json::Value>,
    /// What it says (1.44 and up).
    #[serde(skip_serializing_if = "StringMap::is_empty")]
    pub status: StringMap,
}

/// State of the swarm; here always that there is none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwarmInfo {
    /// Id of this node.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Address of this node.
    pub node_addr: String,
    /// `inactive`, ...
    pub local_node_state: String,
    /// Whether this node is a manager.
    pub control_available: bool,
    /// What is wrong.
    pub error: String,
    /// Managers.
    pub remote_managers: Option<Vec<serde_json::Value>>,
}

/// A version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// The version.
    #[serde(rename = "ID")]
    pub id: String,
    /// The same, below 1.49.
    #[serde(rename = "Expected", skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// A pool of subnets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AddressPool {
    /// The prefix they are cut from.
    pub base: String,
    /// The length of their prefixes.
    pub size: i64,
}

/// The firewall.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FirewallInfo {
    /// `nftables`, `iptables`, `iptables+firewalld`, ...
    pub driver: String,
    /// More about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub info: Vec<[String; 2]>,
}

/// A device found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceInfo {
    /// `cdi`.
    pub source: String,
    /// Its name.
    #[serde(rename = "ID")]
    pub id: String,
}

/// containerd.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerdInfo {
    /// Its socket.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// The namespaces used.
    pub namespaces: ContainerdNamespaces,
}

/// Namespaces of containerd.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerdNamespaces {
    /// `moby`.
    pub containers: String,
    /// `plugins.moby`.
    pub plugins: String,
}

/// What takes up the disk, of one kind of object (1.52 and up).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Usage<T> {
    /// How many are in use.
    #[serde(skip_serializing_if = "is_zero")]
    pub active_count: i64,
    /// Each of them, on request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<T>,
    /// Bytes that a prune would free.
    #[serde(skip_serializing_if = "is_zero")]
    pub reclaimable: i64,
    /// How many there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub total_count: i64,
    /// Bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub total_size: i64,
}

impl<T> Default for Usage<T> {
    fn default() -> Self {
        Self { active_count: 0, items: Vec::new(), reclaimable: 0, total_count: 0, total_size: 0 }
    }
}

/// The answer to `/system/df`: the first five fields up to 1.52, the others from 1.52.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiskUsage {
    /// Bytes of all layers.
    #[serde(skip_serializing_if = "is_zero")]
    pub layers_size: i64,
    /// Images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<image::Summary>>,
    /// Containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<Vec<container::Summary>>,
    /// Volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Vec<volume::Volume>>,
    /// The builder's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache: Option<Vec<CacheRecord>>,
    /// Images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_usage: Option<Usage<image::Summary>>,
    /// Containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_usage: Option<Usage<container::Summary>>,
    /// Volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<Usage<volume::Volume>>,
    /// The builder's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache_usage: Option<Usage<CacheRecord>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of a real daemon's /info at 1.55, those that depend on the host aside.
    const KEYS: &str = "Architecture CPUSet CPUShares CgroupDriver CgroupVersion Containers ContainersPaused \
        ContainersRunning ContainersStopped CpuCfsPeriod CpuCfsQuota Debug DefaultRuntime DockerRootDir Driver \
        ExperimentalBuild GenericResources HttpProxy HttpsProxy ID IPv4Forwarding Images IndexServerAddress InitBinary \
        Isolation KernelVersion Labels LiveRestoreEnabled LoggingDriver MemTotal MemoryLimit NCPU NEventsListener NFd \
        NGoroutines Name NoProxy OSType OSVersion OomKillDisable OperatingSystem PidsLimit Plugins ServerVersion SwapLimit \
        SystemTime CDISpecDirs ContainerdCommit DriverStatus InitCommit RegistryConfig RuncCommit Runtimes \
        SecurityOptions Swarm Warnings";

    #[test]
    fn info_has_dockers_keys() {
        let info = Info { cgroup_version: "1".into(), ..Info::default() };
        let value = serde_json::to_value(info).unwrap();
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let mut want: Vec<&str> = KEYS.split_whitespace().collect();
        want.sort_unstable();
        assert_eq!(keys, want);
        assert_eq!(value["GenericResources"], serde_json::Value::Null);
        assert_eq!(value["Plugins"]["Authorization"], serde_json::Value::Null);
    }

    #[test]
    fn unused_kinds_are_empty_objects() {
        let usage = DiskUsage { volume_usage: Some(Usage::default()), ..Default::default() };
        assert_eq!(serde_json::to_string(&usage).unwrap(), r#"{"VolumeUsage":{}}"#);
    }
}
