//! Resource usage of a container (source: moby `api/types/container/stats.go`). Times are nanoseconds.

use crate::{is_zero, time::Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One reading, with the one before it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatsResponse {
    /// The container's id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The container's name with a slash before it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `linux`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_type: String,
    /// When it was read; zero for a container that does not run.
    pub read: Time,
    /// Processor.
    pub cpu_stats: CpuStats,
    /// Memory.
    pub memory_stats: MemoryStats,
    /// Network interfaces by name in the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, NetworkStats>,
    /// Processes.
    pub pids_stats: PidsStats,
    /// Disks.
    pub blkio_stats: BlkioStats,
    /// Windows only.
    pub num_procs: u32,
    /// Windows only.
    pub storage_stats: StorageStats,
    /// When the reading before was made.
    pub preread: Time,
    /// Processor then.
    pub precpu_stats: CpuStats,
}

/// Processor usage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuStats {
    /// The container's.
    pub cpu_usage: CpuUsage,
    /// The host's.
    #[serde(skip_serializing_if = "is_zero")]
    pub system_cpu_usage: u64,
    /// Processors that are on.
    #[serde(skip_serializing_if = "is_zero")]
    pub online_cpus: u32,
    /// How often the quota held the container up.
    pub throttling_data: ThrottlingData,
}

/// Processor time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// In all.
    pub total_usage: u64,
    /// Per processor, on cgroup v1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_usage: Vec<u64>,
    /// In the kernel.
    pub usage_in_kernelmode: u64,
    /// Outside of the kernel.
    pub usage_in_usermode: u64,
}

/// Effects of the processor quota.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ThrottlingData {
    /// Periods.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// For how long.
    pub throttled_time: u64,
}

/// Memory usage in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryStats {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// At most, on cgroup v1.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_usage: u64,
    /// The kernel's own list, memory.stat.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stats: BTreeMap<String, u64>,
    /// How often the limit was hit.
    #[serde(skip_serializing_if = "is_zero")]
    pub failcnt: u64,
    /// The limit, or the host's memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Disk access per device and kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStats {
    /// Bytes.
    pub io_service_bytes_recursive: Option<Vec<BlkioStatEntry>>,
    /// Operations.
    pub io_serviced_recursive: Option<Vec<BlkioStatEntry>>,
    /// Waiting operations.
    pub io_queue_recursive: Option<Vec<BlkioStatEntry>>,
    /// Time of service.
    pub io_service_time_recursive: Option<Vec<BlkioStatEntry>>,
    /// Time of waiting.
    pub io_wait_time_recursive: Option<Vec<BlkioStatEntry>>,
    /// Merged operations.
    pub io_merged_recursive: Option<Vec<BlkioStatEntry>>,
    /// Time of the device.
    pub io_time_recursive: Option<Vec<BlkioStatEntry>>,
    /// Sectors.
    pub sectors_recursive: Option<Vec<BlkioStatEntry>>,
}

/// One figure of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BlkioStatEntry {
    /// Device major number.
    pub major: u64,
    /// Device minor number.
    pub minor: u64,
    /// `read`, `write`, ...
    pub op: String,
    /// The figure.
    pub value: u64,
}

/// Windows only: always empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageStats {
    /// Reads.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_count_normalized: u64,
    /// Bytes read.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_size_bytes: u64,
    /// Writes.
    #[serde(skip_serializing_if = "is_zero")]
    pub write_count_normalized: u64,
    /// Bytes written.
    #[serde(skip_serializing_if = "is_zero")]
    pub write_size_bytes: u64,
}

/// Traffic of one interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkStats {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Packets dropped on receipt.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Packets dropped on sending.
    pub tx_dropped: u64,
    /// Windows only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint_id: String,
    /// Windows only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instance_id: String,
}

/// Number of processes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PidsStats {
    /// Now.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// At most.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}
