//! Version 2: one directory, and Docker's v1 words converted.

use super::file::{make_dir, open_dir, read, write, write_if_there};
use super::{Warning, devices};
use crate::{Context, Error, Result};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wharf_spec::plan::Resources;

/// Makes the group and hands all controllers down to it from the root.
pub(super) fn create(root: &Path, dir: &Path) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    let mut current = root.to_owned();
    let below = dir.strip_prefix(root).unwrap_or(dir);
    let mut existed = false;
    for part in below.components() {
        hand_down(&current, &mut warnings);
        current = current.join(part);
        existed = !make_dir(&current)?;
    }
    if existed && read(dir, "cgroup.procs").is_ok_and(|text| !text.trim().is_empty()) {
        return Err(Error::call("mkdir", dir.display().to_string(), Errno::EXIST));
    }
    Ok(warnings)
}

/// Enables in the children of a group what the group has itself. One by one, since one refused controller (a
/// realtime process under `cpu`, a group with processes) would take the others with it.
fn hand_down(dir: &Path, warnings: &mut Vec<Warning>) {
    let available = read(dir, "cgroup.controllers").unwrap_or_default();
    let enabled = read(dir, "cgroup.subtree_control").unwrap_or_default();
    let has = |name: &str| enabled.split_ascii_whitespace().any(|known| known == name);
    let missing: Vec<&str> = available.split_ascii_whitespace().filter(|name| !has(name)).collect();
    let all = missing.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    if missing.is_empty() || write(dir, "cgroup.subtree_control", &all).is_ok() {
        return;
    }
    for name in missing {
        if let Err(error) = write(dir, "cgroup.subtree_control", &format!("+{name}")) {
            warnings.push(format!("control group controller {name} is not available: {error}"));
        }
    }
}

/// Sets the limits.
pub(super) fn apply(dir: &Path, resources: &Resources) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    for (file, value) in settings(resources)? {
        // Swap accounting may be off: no swap or unlimited swap is then what there is anyway.
        if file == "memory.swap.max" && (value == "0" || value == "max") && !dir.join(&file).exists() {
            continue;
        }
        write_if_there(dir, &file, &value, &mut warnings)?;
    }
    set_io_weight(dir, resources, &mut warnings)?;
    if !resources.devices.is_empty() {
        let group = open_dir(dir)?;
        devices::attach(&group, &resources.devices).on_cgroup(dir)?;
    }
    for (file, value) in &resources.unified {
        if file.contains('/') {
            return Err(Error::malformed(
                format!("unified resource {file:?}"),
                "must be a file name (no slashes)",
            ));
        }
        write(dir, file, value)?;
    }
    Ok(warnings)
}

/// Adds the group to an error about its device program.
trait OnCgroup<T> {
    fn on_cgroup(self, dir: &Path) -> Result<T>;
}

impl<T> OnCgroup<T> for Result<T, Errno> {
    fn on_cgroup(self, dir: &Path) -> Result<T> {
        self.on("bpf", || format!("device rules of {}", dir.display()))
    }
}

/// Limits as files of cgroup v2 and their values, in the order they are to be written; without weights of I/O and
/// device rules.
///
/// # Errors
/// When limits contradict each other.
pub fn settings(resources: &Resources) -> Result<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut set = |file: &str, value: String| all.push((file.to_owned(), value));
    if let Some(weight) = resources.cpu_shares.and_then(weight_of_shares) {
        set("cpu.weight", weight.to_string());
    }
    if let Some(bandwidth) = bandwidth(resources.cpu_quota, resources.cpu_period) {
        set("cpu.max", bandwidth);
    }
    if let Some(burst) = resources.cpu_burst {
        set("cpu.max.burst", burst.to_string());
    }
    if let Some(idle) = resources.cpu_idle {
        set("cpu.idle", idle.to_string());
    }
    for (file, value) in [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            set(file, value.clone());
        }
    }
    let (memory, swap) = (resources.memory.unwrap_or(0), resources.memory_swap.unwrap_or(0));
    if let Some(swap) = swap_only(memory, swap)? {
        set("memory.swap.max", or_max(swap));
    }
    if memory != 0 {
        set("memory.max", or_max(memory));
    }
    if let Some(low) = resources.memory_reservation.filter(|low| *low != 0) {
        set("memory.low", or_max(low));
    }
    if let Some(limit) = resources.pids_limit {
        set("pids.max", or_max(if limit == 0 { 1 } else { limit }));
    }
    let throttles = [
        ("rbps", &resources.blkio_read_bps),
        ("wbps", &resources.blkio_write_bps),
        ("riops", &resources.blkio_read_iops),
        ("wiops", &resources.blkio_write_iops),
    ];
    for (key, limits) in throttles {
        for limit in limits {
            set("io.max", format!("{}:{} {key}={}", limit.major, limit.minor, limit.value));
        }
    }
    for (size, limit) in &resources.hugepage_limits {
        set(&format!("hugetlb.{size}.max"), limit.to_string());
    }
    for (device, limits) in &resources.rdma {
        set("rdma.max", format!("{device} {limits}"));
    }
    Ok(all)
}

fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// Shares (2 to 262144, default 1024) as a weight (1 to 10000, default 100): a quadratic function of the
/// logarithm that meets all three points (source: opencontainers/cgroups `ConvertCPUSharesToCgroupV2Value`).
fn weight_of_shares(shares: u64) -> Option<u64> {
    match shares {
        0 => None,
        1..=2 => Some(1),
        262_144.. => Some(10_000),
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            Some(10f64.powf(exponent).ceil() as u64)
        }
    }
}

/// `cpu.max`: quota and period, either may be unset (0 or `None`).
fn bandwidth(quota: Option<i64>, period: Option<u64>) -> Option<String> {
    let (quota, period) = (quota.unwrap_or(0), period.unwrap_or(0));
    if quota == 0 && period == 0 {
        return None;
    }
    let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
    let period = if period == 0 { 100_000 } else { period };
    Some(format!("{quota} {period}"))
}

/// Docker's memory + swap as swap alone; `None` leaves it (source: opencontainers/cgroups
/// `ConvertMemorySwapToCgroupV2Value`).
fn swap_only(memory: i64, swap: i64) -> Result<Option<i64>> {
    let refuse = |problem: &str| Err(Error::malformed("memory limits", problem));
    match (memory, swap) {
        (-1, 0) | (_, -1) => Ok(Some(-1)),
        (_, 0) => Ok(None),
        (-1, swap) => Ok(Some(swap)),
        (0, _) => refuse("unable to set swap limit without memory limit"),
        (memory, _) if memory < 0 => refuse("invalid memory value"),
        (memory, swap) if swap < memory => refuse("memory+swap limit should be >= memory limit"),
        (memory, swap) => Ok(Some(swap - memory)),
    }
}

/// BFQ's own weights where it is used, else `io.weight` scaled from 10..1000 to 1..10000. A device whose
/// scheduler takes no weights is a warning, as for the runtimes that say nothing of it.
fn set_io_weight(dir: &Path, resources: &Resources, warnings: &mut Vec<Warning>) -> Result<()> {
    let bfq = dir.join("io.bfq.weight").exists();
    let file = if bfq { "io.bfq.weight" } else { "io.weight" };
    let scaled = |weight: u64| if bfq { weight } else { io_weight(weight) };
    if let Some(weight) = resources.blkio_weight.filter(|weight| *weight != 0) {
        write_if_there(dir, file, &scaled(weight.into()).to_string(), warnings)?;
    }
    for limit in &resources.blkio_weight_device {
        let value = format!("{}:{} {}", limit.major, limit.minor, scaled(limit.value));
        match write_if_there(dir, file, &value, warnings) {
            Err(error) if error.is(Errno::OPNOTSUPP) => {
                warnings.push(format!("no weight for device {}:{}: {error}", limit.major, limit.minor));
            }
            other => other?,
        }
    }
    Ok(())
}

fn io_weight(weight: u64) -> u64 {
    1 + weight.saturating_sub(10) * 9999 / 990
}

/// Freezes and waits for `frozen 1` in `cgroup.events`, whose change wakes a poll.
pub(super) fn freeze(dir: &Path) -> Result<()> {
    write(dir, "cgroup.freeze", "1")?;
    let events: PathBuf = dir.join("cgroup.events");
    let watch = crate::event::watch_modified(&events)?;
    for _ in 0..FREEZE_WAITS {
        if read(dir, "cgroup.events")?.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        crate::event::wait_readable(&watch, Some(Duration::from_millis(100)))?;
        crate::event::drain(&watch)?;
    }
    Err(Error::malformed(dir.display().to_string(), "unable to freeze"))
}

/// Waits of 100 ms at most: ten seconds, as runc.
const FREEZE_WAITS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::plan::DeviceLimit;

    #[test]
    fn conversions_are_those_of_runc() {
        let weights = [(0, None), (2, Some(1)), (1024, Some(100)), (262_144, Some(10_000)), (512, Some(59))];
        for (shares, weight) in weights {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        assert_eq!(bandwidth(Some(50_000), None).unwrap(), "50000 100000");
        assert_eq!(bandwidth(Some(-1), Some(5000)).unwrap(), "max 5000");
        assert_eq!(bandwidth(None, None), None);
        assert_eq!(swap_only(100, 300).unwrap(), Some(200));
        assert_eq!(swap_only(100, 100).unwrap(), Some(0));
        assert_eq!(swap_only(-1, 0).unwrap(), Some(-1));
        assert_eq!(swap_only(100, -1).unwrap(), Some(-1));
        assert_eq!(swap_only(100, 0).unwrap(), None);
        assert!(swap_only(0, 100).is_err() && swap_only(200, 100).is_err());
        assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000));
    }

    #[test]
    fn settings_are_complete_and_in_order() {
        let limit = DeviceLimit { major: 8, minor: 0, value: 1000 };
        let resources = Resources {
            memory: Some(1 << 20),
            memory_swap: Some(1 << 21),
            pids_limit: Some(-1),
            blkio_read_bps: vec![limit],
            hugepage_limits: vec![("2MB".into(), 4096)],
            ..Resources::default()
        };
        let all: Vec<String> =
            settings(&resources).unwrap().iter().map(|(file, value)| format!("{file}={value}")).collect();
        let expected = [
            "memory.swap.max=1048576",
            "memory.max=1048576",
            "pids.max=max",
            "io.max=8:0 rbps=1000",
            "hugetlb.2MB.max=4096",
        ];
        assert_eq!(all, expected);
    }
}
