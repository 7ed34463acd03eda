//! How a container runs on its host (source: moby `api/types/container/hostconfig.go`).

use super::{CgroupSpec, CgroupnsMode, IpcMode, NetworkMode, PidMode, UsernsMode, UtsMode};
use crate::{StringMap, de, mount::Mount, port::Port};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Ports of the container and where they are published. `None` is a port exposed and not published.
pub type PortMap = BTreeMap<Port, Option<Vec<PortBinding>>>;

// Go embeds `Resources` in `HostConfig` and in the update request, which makes one flat object of each.
// serde's flatten would do so too but loses the case-insensitive keys, so the fields are written once here.
macro_rules! with_resources {
    ($(#[$meta:meta])* pub struct $name:ident { { $($before:tt)* } resources { $($after:tt)* } }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            $($before)*
            /// Relative weight of processor time.
            pub cpu_shares: i64,
            /// Memory limit in bytes.
            pub memory: i64,
            /// Processors in units of 1e-9.
            pub nano_cpus: i64,
            /// The cgroup that gets the container's.
            pub cgroup_parent: String,
            /// Relative weight of disk access, 10 to 1000.
            pub blkio_weight: u16,
            /// The same per device.
            pub blkio_weight_device: Option<Vec<WeightDevice>>,
            /// Bytes read per second, per device.
            pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
            /// Bytes written per second, per device.
            pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
            /// Reads per second, per device.
            #[serde(rename = "BlkioDeviceReadIOps")]
            pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
            /// Writes per second, per device.
            #[serde(rename = "BlkioDeviceWriteIOps")]
            pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
            /// Period of the processor quota in microseconds.
            pub cpu_period: i64,
            /// Processor time per period in microseconds.
            pub cpu_quota: i64,
            /// Period of real-time scheduling in microseconds.
            pub cpu_realtime_period: i64,
            /// Real-time per period in microseconds.
            pub cpu_realtime_runtime: i64,
            /// Processors to use, such as `0-2,4`.
            pub cpuset_cpus: String,
            /// Memory nodes to use.
            pub cpuset_mems: String,
            /// Devices of the host to show.
            pub devices: Option<Vec<DeviceMapping>>,
            /// Rules of the device cgroup, such as `c 42:* rmw`.
            pub device_cgroup_rules: Option<Vec<String>>,
            /// Devices by driver, such as GPUs.
            pub device_requests: Option<Vec<DeviceRequest>>,
            /// Memory soft limit in bytes.
            pub memory_reservation: i64,
            /// Memory and swap together in bytes; -1 is unlimited.
            pub memory_swap: i64,
            /// 0 to 100; -1 and `None` leave it to the host.
            pub memory_swappiness: Option<i64>,
            /// Whether the OOM killer spares the container.
            pub oom_kill_disable: Option<bool>,
            /// Most processes; 0, -1 and `None` are no limit (`None` in an update: no change).
            pub pids_limit: Option<i64>,
            /// Resource limits of processes.
            pub ulimits: Option<Vec<Ulimit>>,
            /// Windows only.
            pub cpu_count: i64,
            /// Windows only.
            pub cpu_percent: i64,
            /// Windows only.
            #[serde(rename = "IOMaximumIOps")]
            pub io_maximum_iops: u64,
            /// Windows only.
            #[serde(rename = "IOMaximumBandwidth")]
            pub io_maximum_bandwidth: u64,
            $($after)*
        }
    };
}

with_resources! {
    /// The request to change a container's limits or restart policy.
    pub struct UpdateRequest {
        {}
        resources {
            /// The new restart policy, when it has a name.
            pub restart_policy: RestartPolicy,
            /// Ports to publish besides, at a running container at once. An extension of Wharf's.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub publish_add: Option<PortMap>,
            /// Ports to publish no more: all of a container's port where no place on the host is named. An extension of
            /// Wharf's.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub publish_remove: Option<PortMap>,
        }
    }
}

with_resources! {
    /// Everything about a container that concerns its host.
    pub struct HostConfig {
        {
            /// Volumes and paths of the host, `source:target[:options]`.
            pub binds: Option<Vec<String>>,
            /// File that the client wrote the id to.
            #[serde(rename = "ContainerIDFile")]
            pub container_id_file: String,
            /// Where the output goes.
            pub log_config: LogConfig,
            /// Network mode.
            pub network_mode: NetworkMode,
            /// Published ports.
            pub port_bindings: Option<PortMap>,
            /// When to start again.
            pub restart_policy: RestartPolicy,
            /// Whether the container goes when it ends.
            pub auto_remove: bool,
            /// Driver for the volumes of `binds`.
            pub volume_driver: String,
            /// Containers whose mounts to take over, `name[:ro]`.
            pub volumes_from: Option<Vec<String>>,
            /// First size of the terminal: height, width.
            #[serde(deserialize_with = "de::pair")]
            pub console_size: [u64; 2],
            /// Metadata handed to the runtime.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub annotations: StringMap,
            /// Capabilities to add.
            #[serde(deserialize_with = "de::strslice")]
            pub cap_add: Option<Vec<String>>,
            /// Capabilities to drop.
            #[serde(deserialize_with = "de::strslice")]
            pub cap_drop: Option<Vec<String>>,
            /// Cgroup namespace.
            pub cgroupns_mode: CgroupnsMode,
            /// DNS servers.
            #[serde(deserialize_with = "de::addresses")]
            pub dns: Option<Vec<String>>,
            /// DNS options.
            pub dns_options: Option<Vec<String>>,
            /// DNS search domains.
            pub dns_search: Option<Vec<String>>,
            /// Lines of /etc/hosts, `name:address`.
            pub extra_hosts: Option<Vec<String>>,
            /// Supplementary groups.
            pub group_add: Option<Vec<String>>,
            /// IPC namespace.
            pub ipc_mode: IpcMode,
            /// Cgroup of another container.
            pub cgroup: CgroupSpec,
            /// Links to other containers, `name:alias`.
            pub links: Option<Vec<String>>,
            /// Preference of the OOM killer, -1000 to 1000.
            pub oom_score_adj: i64,
            /// Process namespace.
            pub pid_mode: PidMode,
            /// Whether the container may do what root may.
            pub privileged: bool,
            /// Whether every exposed port is published.
            pub publish_all_ports: bool,
            /// Whether the root file system is read-only.
            pub readonly_rootfs: bool,
            /// Security options, `key=value`.
            pub security_opt: Option<Vec<String>>,
            /// Options of the storage driver.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub storage_opt: StringMap,
            /// tmpfs mounts: target and options.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub tmpfs: StringMap,
            /// Host name namespace.
            #[serde(rename = "UTSMode")]
            pub uts_mode: UtsMode,
            /// User namespace.
            pub userns_mode: UsernsMode,
            /// Bytes of /dev/shm.
            pub shm_size: i64,
            /// Kernel parameters.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub sysctls: StringMap,
            /// The OCI runtime's name.
            #[serde(skip_serializing_if = "String::is_empty")]
            pub runtime: String,
            /// Windows only.
            pub isolation: String,
        }
        resources {
            /// Mounts in the structured form.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            pub mounts: Vec<Mount>,
            /// Paths to hide; `None` is the default list, an empty list hides nothing.
            pub masked_paths: Option<Vec<String>>,
            /// Paths to make read-only; `None` is the default list.
            pub readonly_paths: Option<Vec<String>>,
            /// Whether an init process runs first; `None` is the daemon's default.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub init: Option<bool>,
        }
    }
}

/// A log driver and its options.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// The driver; empty is the daemon's default.
    #[serde(rename = "Type")]
    pub driver: String,
    /// Its options.
    pub config: Option<StringMap>,
}

/// When a container is started again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// Empty, `no`, `always`, `unless-stopped` or `on-failure`.
    pub name: String,
    /// With `on-failure`: how often; 0 is without limit.
    pub maximum_retry_count: i64,
}

/// Where one port is published.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Address of the host; empty is all of them.
    #[serde(deserialize_with = "de::address")]
    pub host_ip: String,
    /// Port or range of ports of the host; empty or 0 is any free one.
    pub host_port: String,
}

/// A limit of processes (source: docker/go-units `Ulimit`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// The name without `RLIMIT_`, in lower case.
    pub name: String,
    /// Hard limit; -1 is none.
    pub hard: i64,
    /// Soft limit; -1 is none.
    pub soft: i64,
}

/// A device of the host that the container sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    /// Path on the host.
    pub path_on_host: String,
    /// Path in the container.
    pub path_in_container: String,
    /// Of `r`, `w`, `m`.
    pub cgroup_permissions: String,
}

/// Devices that a driver is to provide.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceRequest {
    /// The driver.
    pub driver: String,
    /// How many; -1 is all.
    pub count: i64,
    /// Which.
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Option<Vec<String>>,
    /// What they must be able to: any of these lists, all of the list.
    pub capabilities: Option<Vec<Vec<String>>>,
    /// Options of the driver.
    pub options: Option<StringMap>,
}

/// A device and its weight.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    /// Path of the device.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A device and its limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    /// Path of the device.
    pub path: String,
    /// Bytes or operations per second.
    pub rate: u64,
}

impl RestartPolicy {
    /// Whether the container is never started again.
    pub fn is_none(&self) -> bool {
        self.name.is_empty() || self.name == "no"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gojson;

    /// The keys of a real daemon's HostConfig for a container made without options.
    const KEYS: &str = "AutoRemove Binds BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps \
        BlkioDeviceWriteIOps BlkioWeight BlkioWeightDevice CapAdd CapDrop Cgroup CgroupParent CgroupnsMode ConsoleSize \
        ContainerIDFile CpuCount CpuPercent CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpuShares CpusetCpus \
        CpusetMems DeviceCgroupRules DeviceRequests Devices Dns DnsOptions DnsSearch ExtraHosts GroupAdd \
        IOMaximumBandwidth IOMaximumIOps IpcMode Isolation Links LogConfig MaskedPaths Memory MemoryReservation MemorySwap \
        MemorySwappiness NanoCpus NetworkMode OomKillDisable OomScoreAdj PidMode PidsLimit PortBindings Privileged \
        PublishAllPorts ReadonlyPaths ReadonlyRootfs RestartPolicy SecurityOpt ShmSize UTSMode Ulimits UsernsMode \
        VolumeDriver VolumesFrom";

    #[test]
    fn keys_are_dockers() {
        let value = serde_json::to_value(HostConfig::default()).unwrap();
        let mut keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, KEYS.split_whitespace().collect::<Vec<_>>());
        let text = gojson::to_vec(&HostConfig::default()).unwrap();
        assert!(
            text.starts_with(br#"{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":null}"#)
        );
    }

    #[test]
    fn a_host_config_survives_the_disk() {
        let mut host = HostConfig {
            binds: Some(vec![]),
            masked_paths: Some(vec![]),
            init: Some(false),
            runtime: "runc".into(),
            console_size: [24, 80],
            memory: 1 << 40,
            ..HostConfig::default()
        };
        host.port_bindings = Some(BTreeMap::from([
            (
                Port::new(80, "tcp"),
                Some(vec![PortBinding { host_ip: "::1".into(), host_port: "1-2".into() }]),
            ),
            (Port::new(81, "tcp"), None),
        ]));
        let text = gojson::to_vec(&host).unwrap();
        assert_eq!(gojson::from_slice::<HostConfig>(&text).unwrap(), host);
    }
}
