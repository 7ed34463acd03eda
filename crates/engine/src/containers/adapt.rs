//! Defaults of a container's host settings (source: moby `daemon/daemon_unix.go`, adaptContainerSettings, and
//! `daemon/create_unix.go`, createContainerOSSpecificSettings).

use super::Index;
use crate::{
    Config,
    config::Reloadable,
    system::{CgroupVersion, Kernel},
};
use std::path::Path;
use wharf_api::container as api;

/// Paths that every container's `/proc` and `/sys` hide (source: moby `daemon/pkg/oci/defaults.go`).
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Fills in what the request left open. Nothing here fails.
pub(super) fn adapt(engine: &Config, kernel: &Kernel, index: &Index, host: &mut api::HostConfig) {
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    if host.shm_size == 0 {
        host.shm_size = engine.live.get().default_shm_size;
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode = engine.live.get().default_ipc_mode.as_str().into();
    }
    if host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = default_cgroupns(&engine.live.get(), kernel, host.privileged).into();
    }
    share_by_id(index, host);
    // Docker labels nothing where namespaces are shared with the host (SELinux).
    let labelled = host.security_opt.iter().flatten().any(|o| o.starts_with("label"));
    if (host.ipc_mode.is_host() || host.pid_mode.is_host() || host.privileged) && !labelled {
        host.security_opt.get_or_insert_default().push("label=disable".into());
    }
    host.oom_kill_disable.get_or_insert(false);
    host.port_bindings.get_or_insert_default();
    if !host.privileged {
        host.masked_paths.get_or_insert_with(masked_paths);
        host.readonly_paths.get_or_insert_with(|| READONLY.map(str::to_owned).to_vec());
    }
    if host.network_mode.is_empty() || host.network_mode.is_default() {
        host.network_mode = "bridge".into();
    }
}

fn default_cgroupns<'a>(engine: &'a Reloadable, kernel: &Kernel, privileged: bool) -> &'a str {
    let v2 = kernel.cgroup_version == CgroupVersion::V2;
    match &engine.default_cgroupns_mode {
        _ if privileged && !v2 => "host",
        Some(mode) => mode,
        None if v2 => "private",
        None => "host",
    }
}

/// `container:name` becomes `container:id`, so that renaming the other one changes nothing. One that does not
/// exist is left for the start to complain about.
fn share_by_id(index: &Index, host: &mut api::HostConfig) {
    let by_id = |name: Option<&str>| {
        let other = name.and_then(|name| index.get(name).ok())?;
        Some(format!("container:{}", other.id))
    };
    if let Some(mode) = by_id(host.pid_mode.container()) {
        host.pid_mode = mode.as_str().into();
    }
    if let Some(mode) = by_id(host.ipc_mode.container()) {
        host.ipc_mode = mode.as_str().into();
    }
    if let Some(mode) = by_id(host.network_mode.container()) {
        host.network_mode = mode.as_str().into();
    }
}

/// The default list, and the thermal throttling counters of processors that have them
/// (GHSA-6fw5-f8r9-fgfm).
fn masked_paths() -> Vec<String> {
    let mut all = MASKED.map(str::to_owned).to_vec();
    for cpu in 0.. {
        let dir = format!("/sys/devices/system/cpu/cpu{cpu}");
        if !Path::new(&dir).exists() {
            break;
        }
        let throttle = format!("{dir}/thermal_throttle");
        if Path::new(&throttle).exists() {
            all.push(throttle);
        }
    }
    all
}
