//! Containers (source: moby `api/types/container`).

mod config;
mod exec;
mod host;
mod inspect;
mod modes;
mod stats;
mod summary;

pub use config::{Config, CreateRequest, CreateResponse, HealthConfig};
pub use exec::{ExecCreateRequest, ExecInspect, ExecProcessConfig, ExecStartRequest};
pub use host::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, PortBinding, PortMap, RestartPolicy, ThrottleDevice,
    Ulimit, UpdateRequest, WeightDevice,
};
pub use inspect::{
    DriverData, Health, HealthcheckResult, InspectResponse, MountPoint, NetworkSettings, State, Storage,
    StorageRootFs, StorageSnapshot,
};
pub use modes::{CgroupSpec, CgroupnsMode, IpcMode, NetworkMode, PidMode, UsernsMode, UtsMode};
pub use stats::{
    BlkioStatEntry, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, StatsResponse,
    StorageStats, ThrottlingData,
};
pub use summary::{
    FilesystemChange, HealthSummary, NetworkSettingsSummary, PathStat, PortSummary, PruneReport, Summary,
    SummaryHostConfig, TopResponse, UpdateResponse, WaitExitError, WaitResponse,
};
