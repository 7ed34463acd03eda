//! Limits, in the words of the plan (source: moby `daemon/daemon_unix.go`, getMemoryResources and its
//! neighbours, and `daemon/oci_linux.go`, WithResources).

use crate::{Error, Result};
use rustix::fs::{major, minor, stat};
use wharf_api::container as api;
use wharf_spec::plan::{DeviceLimit, Resources};

/// The limits of a container or of an update of it; device rules are the caller's.
///
/// # Errors
/// When a block device that a limit names does not exist.
pub(crate) fn resources(host: &api::HostConfig) -> Result<Resources> {
    let positive = |n: i64| (n > 0).then_some(n);
    let text = |s: &String| (!s.is_empty()).then(|| s.clone());
    let (cpu_period, cpu_quota) = cpu_bandwidth(host);
    Ok(Resources {
        memory: positive(host.memory),
        memory_reservation: positive(host.memory_reservation),
        // -1, unlimited, is what the cgroup has anyway; an update needs it said.
        memory_swap: (host.memory_swap > 0 || host.memory_swap == -1).then_some(host.memory_swap),
        memory_swappiness: host.memory_swappiness.and_then(|n| u64::try_from(n).ok()),
        oom_kill_disable: host.oom_kill_disable.filter(|disable| *disable),
        cpu_shares: u64::try_from(host.cpu_shares).ok().filter(|n| *n > 0),
        cpu_quota,
        cpu_period,
        cpu_rt_runtime: positive(host.cpu_realtime_runtime),
        cpu_rt_period: u64::try_from(host.cpu_realtime_period).ok().filter(|n| *n > 0),
        cpuset_cpus: text(&host.cpuset_cpus),
        cpuset_mems: text(&host.cpuset_mems),
        pids_limit: host.pids_limit.map(|n| if n <= 0 { -1 } else { n }),
        blkio_weight: (host.blkio_weight != 0).then_some(host.blkio_weight),
        blkio_weight_device: weights(host.blkio_weight_device.as_deref())?,
        blkio_read_bps: throttles(host.blkio_device_read_bps.as_deref())?,
        blkio_write_bps: throttles(host.blkio_device_write_bps.as_deref())?,
        blkio_read_iops: throttles(host.blkio_device_read_iops.as_deref())?,
        blkio_write_iops: throttles(host.blkio_device_write_iops.as_deref())?,
        ..Resources::default()
    })
}

/// `NanoCpus` is a quota of a period of 100 ms.
fn cpu_bandwidth(host: &api::HostConfig) -> (Option<u64>, Option<i64>) {
    const PERIOD: i64 = 100_000;
    if host.nano_cpus > 0 {
        let quota = i128::from(host.nano_cpus) * i128::from(PERIOD) / 1_000_000_000;
        return (Some(PERIOD.unsigned_abs()), i64::try_from(quota).ok());
    }
    let period = u64::try_from(host.cpu_period).ok().filter(|n| *n != 0);
    (period, (host.cpu_quota != 0).then_some(host.cpu_quota))
}

fn weights(devices: Option<&[api::WeightDevice]>) -> Result<Vec<DeviceLimit>> {
    let limit = |d: &api::WeightDevice| device_limit(&d.path, u64::from(d.weight));
    devices.unwrap_or_default().iter().map(limit).collect()
}

fn throttles(devices: Option<&[api::ThrottleDevice]>) -> Result<Vec<DeviceLimit>> {
    devices.unwrap_or_default().iter().map(|d| device_limit(&d.path, d.rate)).collect()
}

fn device_limit(path: &str, value: u64) -> Result<DeviceLimit> {
    let found = stat(path).map_err(|e| Error::Io { step: "stat", path: path.into(), source: e.into() })?;
    Ok(DeviceLimit { major: major(found.st_rdev), minor: minor(found.st_rdev), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_translated() {
        let host = api::HostConfig {
            memory: 64 << 20,
            memory_swap: -1,
            nano_cpus: 1_500_000_000,
            pids_limit: Some(0),
            cpuset_cpus: "0".into(),
            blkio_device_read_bps: Some(vec![api::ThrottleDevice { path: "/dev/null".into(), rate: 7 }]),
            ..Default::default()
        };
        let got = resources(&host).unwrap();
        assert_eq!((got.memory, got.memory_swap), (Some(64 << 20), Some(-1)));
        assert_eq!((got.cpu_period, got.cpu_quota), (Some(100_000), Some(150_000)));
        assert_eq!((got.pids_limit, got.cpu_shares), (Some(-1), None));
        assert_eq!(got.blkio_read_bps, [DeviceLimit { major: 1, minor: 3, value: 7 }]);
        assert_eq!(resources(&api::HostConfig::default()).unwrap(), Resources::default());
        let missing = api::HostConfig {
            blkio_weight_device: Some(vec![api::WeightDevice { path: "/dev/nosuch".into(), weight: 10 }]),
            ..Default::default()
        };
        assert_eq!(
            resources(&missing).unwrap_err().to_string(),
            "stat /dev/nosuch: no such file or directory"
        );
    }
}
