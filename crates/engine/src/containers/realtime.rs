//! The share of realtime processes in the groups above containers, which `--cpu-rt-period` and `--cpu-rt-runtime` of
//! the daemon give: a container's own share must fit into it (cgroup v1 only).

use super::{Containers, plan};
use crate::{
    Config, Error, Result, blocking::blocking, config::CgroupDriver, system::CgroupVersion, system::Kernel,
};
use wharf_api::container::HostConfig;
use wharf_spec::ContainerId;
use wharf_sys::cgroup::Hierarchies;

/// What the daemon was told and this machine cannot do (source: moby `daemon/command/daemon_linux.go`,
/// validateCPURealtimeOptions).
///
/// # Errors
/// In Docker's words.
pub(super) fn check(config: &Config, kernel: &Kernel) -> Result<()> {
    let v2 = kernel.cgroup_version == CgroupVersion::V2;
    if config.cgroup_driver == CgroupDriver::Systemd && !v2 {
        return Err(Error::Invalid("native.cgroupdriver=systemd needs cgroup v2 in Wharf".into()));
    }
    let problem = match config.realtime {
        (0, 0) => return Ok(()),
        _ if v2 => "not implemented for cgroup v2",
        _ if kernel.cpu_realtime => return Ok(()),
        _ => "not supported by the kernel",
    };
    Err(Error::Invalid(format!("daemon-scoped cpu-rt-period and cpu-rt-runtime are {problem}")))
}

impl Containers {
    /// Gives every group above a container its share (source: moby `daemon/daemon_unix.go`, initCPURtController).
    pub(super) async fn share_realtime(&self, id: &ContainerId, host: &HostConfig) -> Result<()> {
        let (period, runtime) = self.config().realtime;
        if (period, runtime) == (0, 0) {
            return Ok(());
        }
        let path = plan::cgroup_path(self.config(), host, id);
        blocking(move || {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            Hierarchies::detect()
                .and_then(|all| all.share_realtime(parent, period, runtime))
                .map_err(|e| Error::Refused(format!("unable to init CPU RT controller: {e}")))
        })
        .await
    }
}
