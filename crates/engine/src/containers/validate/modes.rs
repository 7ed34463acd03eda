//! Modes and the rest of what only Linux has (source: moby `daemon/daemon_unix.go`,
//! verifyPlatformContainerSettings).

use super::Against;
use crate::{Error, Result, error::invalid, system::Kernel};
use wharf_api::container::HostConfig;

pub(super) fn check(against: &Against<'_>, host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    if !host.ipc_mode.is_valid() {
        return invalid(format!("invalid IPC mode: {}", host.ipc_mode));
    }
    if !host.pid_mode.is_valid() {
        return invalid(format!("invalid PID mode: {}", host.pid_mode));
    }
    if host.shm_size < 0 {
        return invalid("SHM size can not be less than 0");
    }
    if !host.uts_mode.is_valid() {
        return invalid(format!("invalid UTS mode: {}", host.uts_mode));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    let network = &host.network_mode;
    if !network.is_host() && !network.is_none() && !Kernel::ipv4_forwarding() {
        warnings.push("IPv4 forwarding is disabled. Networking will not work.".into());
    }
    if network.is_host() && host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    if !host.cgroup_parent.is_empty() {
        against.engine.cgroup_driver.check_parent(&host.cgroup_parent).map_err(Error::Invalid)?;
    }
    if host.runtime.is_empty() {
        host.runtime.clone_from(&against.engine.default_runtime);
    }
    crate::containers::plan::check_runtime(against.engine, &host.runtime)?;
    for destination in host.tmpfs.keys() {
        crate::containers::mounts::check_target(destination)?;
    }
    if !host.cgroupns_mode.is_valid() {
        return invalid(format!("invalid cgroup namespace mode: {}", host.cgroupns_mode));
    }
    if host.cgroupns_mode.as_str() == "private" && !against.kernel.cgroup_namespaces {
        warnings.push(
            "Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.".into(),
        );
    }
    Ok(())
}
