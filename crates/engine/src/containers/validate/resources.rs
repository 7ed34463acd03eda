//! Limits (source: moby `daemon/daemon_unix.go`, verifyPlatformContainerResources).

use super::{Against, Purpose};
use crate::{
    Error, Result,
    error::invalid,
    system::{Kernel, parse_list},
};
use wharf_api::container::HostConfig;

/// moby's linuxMinMemory: 6 MB.
const MIN_MEMORY: i64 = 6 << 20;

/// What a create is refused for before anything else is looked at (source: moby
/// `daemon/internal/runconfig/hostconfig_unix.go`, validateQoS and validateResources).
pub(super) fn check_request(kernel: &Kernel, host: &HostConfig) -> Result<()> {
    if host.io_maximum_bandwidth != 0 {
        return invalid("invalid option: QoS maximum bandwidth configuration is not supported on linux");
    }
    if host.io_maximum_iops != 0 {
        return invalid("invalid option: QoS maximum IOPs configuration is not supported on linux");
    }
    let (period, runtime) = (host.cpu_realtime_period, host.cpu_realtime_runtime);
    if (period != 0 || runtime != 0) && !kernel.cpu_realtime {
        return invalid("kernel does not support CPU real-time scheduler");
    }
    if period != 0 && runtime != 0 && runtime > period {
        return invalid("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    if kernel.cpu_shares && host.cpu_shares < 0 {
        return invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            host.cpu_shares
        ));
    }
    Ok(())
}

/// Checks limits; those that the kernel cannot set are taken out with a warning.
pub(super) fn check(against: &Against<'_>, host: &mut HostConfig) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    check_memory(against, host, &mut warnings)?;
    check_rest_of_memory(against.kernel, host, &mut warnings)?;
    check_cpu(against.kernel, host, &mut warnings)?;
    check_cpuset(against.kernel, host, &mut warnings)?;
    check_blkio(against.kernel, host, &mut warnings)?;
    Ok(warnings)
}

const NO_MEMORY: &str = "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.";
const NO_SWAP: &str = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.";
const NO_RESERVATION: &str = "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.";
const NO_SWAPPINESS: &str = "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.";
const OOM_OFF: &str = "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.";
const NO_PIDS: &str = "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.";

fn check_memory(against: &Against<'_>, host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    // -1 stands for the kernel's own value (source: moby `daemon/daemon_unix.go`, fixMemorySwappiness).
    if host.memory_swappiness == Some(-1) {
        host.memory_swappiness = None;
    }
    if host.memory != 0 && host.memory < MIN_MEMORY {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if host.memory > 0 && !against.kernel.memory_limit {
        warnings.push(NO_MEMORY.into());
        (host.memory, host.memory_swap) = (0, -1);
    }
    if host.memory > 0 && host.memory_swap != -1 && !against.kernel.swap_limit {
        warnings.push(NO_SWAP.into());
        host.memory_swap = -1;
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory == 0 && host.memory_swap > 0 && against.purpose == Purpose::Create {
        return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    Ok(())
}

fn check_rest_of_memory(kernel: &Kernel, host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    if host.memory_swappiness.is_some() && !kernel.memory_swappiness {
        warnings.push(NO_SWAPPINESS.into());
        host.memory_swappiness = None;
    }
    if let Some(swappiness) = host.memory_swappiness.filter(|n| !(0..=100).contains(n)) {
        return invalid(format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100"));
    }
    if host.memory_reservation > 0 && !kernel.memory_reservation {
        warnings.push(NO_RESERVATION.into());
        host.memory_reservation = 0;
    }
    if host.memory_reservation > 0 && host.memory_reservation < MIN_MEMORY {
        return invalid("Minimum memory reservation allowed is 6MB");
    }
    if host.memory > 0 && host.memory_reservation > 0 && host.memory < host.memory_reservation {
        return invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if host.oom_kill_disable.is_some() && !kernel.oom_kill_disable {
        if host.oom_kill_disable == Some(true) {
            warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".into());
        }
        host.oom_kill_disable = None;
    }
    if host.oom_kill_disable == Some(true) && host.memory == 0 {
        warnings.push(OOM_OFF.into());
    }
    if host.pids_limit.is_some() && !kernel.pids_limit {
        if host.pids_limit > Some(0) {
            warnings.push(NO_PIDS.into());
        }
        host.pids_limit = None;
    }
    Ok(())
}

fn check_cpu(kernel: &Kernel, host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if host.nano_cpus > 0 && !kernel.cpu_cfs {
        return invalid(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        );
    }
    let processors = i64::try_from(kernel.processors).unwrap_or(i64::MAX);
    if host.nano_cpus < 0 || host.nano_cpus > processors.saturating_mul(1_000_000_000) {
        return invalid(format!(
            "range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available"
        ));
    }
    if host.cpu_shares > 0 && !kernel.cpu_shares {
        warnings.push(
            "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.".into(),
        );
        host.cpu_shares = 0;
    }
    if (host.cpu_period != 0 || host.cpu_quota != 0) && !kernel.cpu_cfs {
        warnings.push("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.".into());
        (host.cpu_period, host.cpu_quota) = (0, 0);
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if host.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".into());
        host.cpu_percent = 0;
    }
    Ok(())
}

fn check_cpuset(kernel: &Kernel, host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    let wanted = !host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty();
    if wanted && !kernel.cpuset {
        warnings.push(
            "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.".into(),
        );
        host.cpuset_cpus.clear();
        host.cpuset_mems.clear();
    }
    for (what, name, asked, there) in [
        ("CPUs", "cpus", &host.cpuset_cpus, &kernel.cpus),
        ("memory nodes", "mems", &host.cpuset_mems, &kernel.mems),
    ] {
        let bad = |why| Error::Invalid(format!("Invalid value {asked} for cpuset {name}: {why}"));
        let wanted = parse_list(asked).map_err(bad)?;
        if !wanted.is_subset(&parse_list(there).unwrap_or_default()) {
            return invalid(format!(
                "Requested {what} are not available - requested {asked}, available: {there}"
            ));
        }
    }
    Ok(())
}

fn check_blkio(kernel: &Kernel, host: &mut HostConfig, warnings: &mut Vec<String>) -> Result<()> {
    if host.blkio_weight > 0 && !kernel.blkio_weight {
        warnings.push(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
                .into(),
        );
        host.blkio_weight = 0;
    }
    if host.blkio_weight > 0 && !(10..=1000).contains(&host.blkio_weight) {
        return invalid("Range of blkio weight is from 10 to 1000");
    }
    if host.io_maximum_bandwidth != 0 || host.io_maximum_iops != 0 {
        return invalid(
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps",
        );
    }
    if host.blkio_weight_device.as_ref().is_some_and(|l| !l.is_empty()) && !kernel.blkio_weight_device {
        warnings.push("Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.".into());
        host.blkio_weight_device = Some(Vec::new());
    }
    if kernel.blkio_throttle {
        return Ok(());
    }
    let lists = [
        (&mut host.blkio_device_read_bps, "BPS Block I/O read limit", "Block I/O BPS read limit"),
        (&mut host.blkio_device_write_bps, "BPS Block I/O write limit", "Block I/O BPS write limit"),
        (&mut host.blkio_device_read_iops, "IOPS Block read limit", "Block I/O IOPS read limit"),
        (&mut host.blkio_device_write_iops, "IOPS Block write limit", "Block I/O IOPS write limit"),
    ];
    for (list, what, discarded) in lists {
        if list.as_ref().is_some_and(|l| !l.is_empty()) {
            warnings.push(format!(
                "Your kernel does not support {what} or the cgroup is not mounted. {discarded} discarded."
            ));
            *list = Some(Vec::new());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, system::CgroupVersion};

    fn kernel() -> Kernel {
        Kernel {
            cgroup_version: CgroupVersion::V1,
            memory_limit: true,
            swap_limit: true,
            memory_reservation: true,
            memory_swappiness: true,
            oom_kill_disable: true,
            cpu_shares: true,
            cpu_cfs: true,
            cpu_realtime: false,
            cpuset: true,
            cpus: "0-1".into(),
            mems: "0".into(),
            pids_limit: true,
            blkio_weight: false,
            blkio_weight_device: false,
            blkio_throttle: true,
            cgroup_namespaces: true,
            apparmor: false,
            seccomp: true,
            processors: 2,
        }
    }

    fn run(kernel: &Kernel, mut host: HostConfig) -> Result<(HostConfig, Vec<String>), String> {
        let engine = Config::default();
        let against = Against { engine: &engine, kernel, purpose: Purpose::Create };
        check(&against, &mut host).map(|warnings| (host, warnings)).map_err(|e| e.to_string())
    }

    #[test]
    fn errors_are_dockers() {
        let default = HostConfig::default;
        let cases = [
            (HostConfig { memory: 1024, ..default() }, "Minimum memory limit allowed is 6MB"),
            (
                HostConfig { memory: 64 << 20, memory_swap: 32 << 20, ..default() },
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                HostConfig { nano_cpus: -1, ..default() },
                "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
            ),
            (
                HostConfig { cpuset_cpus: "0-999".into(), ..default() },
                "Requested CPUs are not available - requested 0-999, available: 0-1",
            ),
            (
                HostConfig { cpuset_mems: "7".into(), ..default() },
                "Requested memory nodes are not available - requested 7, available: 0",
            ),
            (
                HostConfig { cpuset_cpus: "x".into(), ..default() },
                "Invalid value x for cpuset cpus: invalid format: x",
            ),
            (
                HostConfig { cpu_quota: 999, ..default() },
                "CPU cfs quota can not be less than 1ms (i.e. 1000)",
            ),
        ];
        for (host, message) in cases {
            assert_eq!(run(&kernel(), host).unwrap_err(), message);
        }
    }

    #[test]
    fn a_request_is_refused_first() {
        let default = HostConfig::default;
        let realtime = Kernel { cpu_realtime: true, ..kernel() };
        let refused = |kernel: &Kernel, host| check_request(kernel, &host).unwrap_err().to_string();
        let period = HostConfig { cpu_realtime_period: 100, ..default() };
        assert_eq!(refused(&kernel(), period.clone()), "kernel does not support CPU real-time scheduler");
        assert!(check_request(&realtime, &period).is_ok());
        assert_eq!(
            refused(&realtime, HostConfig { cpu_realtime_runtime: 101, ..period }),
            "cpu real-time runtime cannot be higher than cpu real-time period"
        );
        assert_eq!(
            refused(&kernel(), HostConfig { cpu_shares: -1, ..default() }),
            "invalid CPU shares (-1): value must be a positive integer"
        );
        assert_eq!(
            refused(&kernel(), HostConfig { io_maximum_iops: 1, ..default() }),
            "invalid option: QoS maximum IOPs configuration is not supported on linux"
        );
    }

    #[test]
    fn what_the_kernel_cannot_do_is_taken_out() {
        let host = HostConfig { blkio_weight: 500, memory: 64 << 20, ..Default::default() };
        let (host, warnings) = run(&kernel(), host).unwrap();
        assert_eq!((host.blkio_weight, warnings.len()), (0, 1));
        let poor = Kernel { memory_limit: false, swap_limit: false, pids_limit: false, ..kernel() };
        let host = HostConfig { memory: 64 << 20, pids_limit: Some(5), ..Default::default() };
        let (host, warnings) = run(&poor, host).unwrap();
        assert_eq!((host.memory, host.memory_swap, host.pids_limit), (0, -1, None));
        assert_eq!(warnings, [NO_MEMORY, NO_PIDS]);
    }
}
