//! Version 1: one directory for each hierarchy, Docker's own units.

use super::file::{make_dir, read, read_number, write, write_if_there};
use super::{Hierarchy, Warning, devices};
use crate::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wharf_spec::plan::{DeviceLimit, Resources};

/// A group's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dir {
    pub(super) controllers: Vec<String>,
    /// The hierarchy's mount point.
    pub(super) root: PathBuf,
    pub(super) path: PathBuf,
}

impl Dir {
    pub(super) fn new(hierarchy: &Hierarchy, path: &str) -> Dir {
        let root = hierarchy.mountpoint.clone();
        Dir { controllers: hierarchy.controllers.clone(), path: root.join(path), root }
    }

    /// The directory at `path` below this one.
    pub(super) fn joined(&self, path: &str) -> Dir {
        let to = if path.is_empty() { self.path.clone() } else { self.path.join(path) };
        Dir { path: to, ..self.clone() }
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// Makes the group in every hierarchy.
pub(super) fn create(dirs: &[Dir]) -> Result<()> {
    for dir in dirs {
        let cpuset = dir.has("cpuset");
        let existed = make_with_parents(&dir.root, &dir.path, cpuset)?;
        if existed && read(&dir.path, "cgroup.procs").is_ok_and(|text| !text.trim().is_empty()) {
            return Err(Error::call("mkdir", dir.path.display().to_string(), Errno::EXIST));
        }
    }
    Ok(())
}

/// mkdir with parents below the hierarchy's root; whether it was there already. A new cpuset group has no
/// CPUs and takes no processes until it gets its parent's.
fn make_with_parents(root: &Path, dir: &Path, cpuset: bool) -> Result<bool> {
    let made = match make_dir(dir) {
        Err(error) if error.is(Errno::NOENT) && dir != root => {
            let parent = dir.parent().unwrap_or(root);
            make_with_parents(root, parent, cpuset)?;
            make_dir(dir)?
        }
        other => other?,
    };
    if cpuset {
        inherit_cpuset(root, dir)?;
    }
    Ok(!made)
}

/// The share of realtime processes in every group down to a path: no group may have more than the one above it.
pub(super) fn share_realtime(all: &[Hierarchy], path: &str, period: i64, runtime: i64) -> Result<()> {
    let hierarchy = all.iter().find(|hierarchy| hierarchy.controllers.iter().any(|name| name == "cpu"));
    let hierarchy =
        hierarchy.ok_or_else(|| Error::malformed("realtime groups", "there is no cpu controller"))?;
    let mut dir = hierarchy.mountpoint.clone();
    for part in path.split('/') {
        dir.push(part);
        make_dir(&dir)?;
        for (file, value) in [("cpu.rt_period_us", period), ("cpu.rt_runtime_us", runtime)] {
            if value != 0 {
                write(&dir, file, &value.to_string())?;
            }
        }
    }
    Ok(())
}

/// Parents first: somebody else may have made one and left it empty.
fn inherit_cpuset(root: &Path, dir: &Path) -> Result<()> {
    let Some(parent) = dir.parent().filter(|_| dir != root) else { return Ok(()) };
    let is_empty = |dir: &Path, name: &str| read(dir, name).map(|text| text.trim().is_empty());
    if !is_empty(dir, "cpuset.cpus")? && !is_empty(dir, "cpuset.mems")? {
        return Ok(());
    }
    inherit_cpuset(root, parent)?;
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if read(dir, name)?.trim().is_empty() {
            let inherited = read(parent, name)?;
            write(dir, name, inherited.trim())?;
        }
    }
    Ok(())
}

/// Opens every `tasks` file for writing.
pub(super) fn open_tasks(dirs: &[Dir]) -> Result<Vec<OwnedFd>> {
    use crate::Context;
    use rustix::fs::{Mode, OFlags};
    let open = |dir: &Dir| {
        let path = dir.path.join("tasks");
        rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .on("open", || path.display().to_string())
    };
    dirs.iter().map(open).collect()
}

/// A value for one file of one controller.
struct Setting {
    controller: &'static str,
    file: &'static str,
    value: Option<String>,
}

/// Sets the limits.
pub(super) fn apply(dirs: &[Dir], resources: &Resources) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    for setting in simple_settings(resources) {
        let Some(value) = setting.value else { continue };
        match dirs.iter().find(|dir| dir.has(setting.controller)) {
            Some(dir) => write_if_there(&dir.path, setting.file, &value, &mut warnings)?,
            None => warnings.push(missing(setting.controller, setting.file)),
        }
    }
    let mut with = |controller: &'static str, wanted: bool, set: Setter| match dirs
        .iter()
        .find(|dir| dir.has(controller))
    {
        Some(dir) => set(&dir.path, resources, &mut warnings),
        None => {
            if wanted {
                warnings.push(missing(controller, "limits"));
            }
            Ok(())
        }
    };
    with("cpu", wants_cpu(resources), set_cpu)?;
    with("memory", resources.memory.is_some() || resources.memory_swap.is_some(), set_memory)?;
    with("blkio", wants_blkio(resources), set_blkio)?;
    with("hugetlb", !resources.hugepage_limits.is_empty(), set_hugetlb)?;
    with("net_prio", !resources.network_priorities.is_empty(), set_network_priorities)?;
    with("rdma", !resources.rdma.is_empty(), set_rdma)?;
    with("devices", !resources.devices.is_empty(), set_devices)?;
    Ok(warnings)
}

type Setter = fn(&Path, &Resources, &mut Vec<Warning>) -> Result<()>;

fn missing(controller: &str, file: &str) -> Warning {
    format!("this machine has no {controller} control group: {file} not set")
}

/// Everything that is one number in one file.
fn simple_settings(resources: &Resources) -> Vec<Setting> {
    fn text<T: ToString>(value: Option<T>) -> Option<String> {
        value.map(|value| value.to_string())
    }
    let setting = |controller, file, value| Setting { controller, file, value };
    let oom = resources.oom_kill_disable.filter(|disable| *disable).map(|_| "1".to_owned());
    // With 0 nothing could be forked either, but systemd knows no such value (source: opencontainers/cgroups).
    let pids =
        resources.pids_limit.map(|limit| if limit < 0 { "max".to_owned() } else { limit.max(1).to_string() });
    let not_empty = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    vec![
        setting("cpu", "cpu.cfs_burst_us", text(resources.cpu_burst)),
        setting("cpu", "cpu.idle", text(resources.cpu_idle)),
        setting("net_cls", "net_cls.classid", text(resources.network_class)),
        setting("cpuset", "cpuset.cpus", not_empty(&resources.cpuset_cpus)),
        setting("cpuset", "cpuset.mems", not_empty(&resources.cpuset_mems)),
        setting(
            "memory",
            "memory.soft_limit_in_bytes",
            text(resources.memory_reservation.filter(|limit| *limit != 0)),
        ),
        setting("memory", "memory.swappiness", text(resources.memory_swappiness)),
        setting("memory", "memory.oom_control", oom),
        setting("pids", "pids.max", pids),
    ]
}

fn wants_cpu(resources: &Resources) -> bool {
    let Resources { cpu_shares, cpu_quota, cpu_period, cpu_rt_runtime, cpu_rt_period, .. } = resources;
    (cpu_shares.is_some() || cpu_quota.is_some() || cpu_period.is_some())
        || (cpu_rt_runtime.is_some() || cpu_rt_period.is_some())
}

fn set_cpu(dir: &Path, resources: &Resources, warnings: &mut Vec<Warning>) -> Result<()> {
    if let Some(shares) = resources.cpu_shares.filter(|shares| *shares != 0) {
        set_shares(dir, shares, warnings)?;
    }
    let text = |value: Option<i64>| value.filter(|value| *value != 0).map(|value| value.to_string());
    let period = |value: Option<u64>| value.filter(|value| *value != 0).map(|value| value.to_string());
    let fair = [
        ("cpu.cfs_period_us", period(resources.cpu_period)),
        ("cpu.cfs_quota_us", text(resources.cpu_quota)),
    ];
    let realtime = [
        ("cpu.rt_period_us", period(resources.cpu_rt_period)),
        ("cpu.rt_runtime_us", text(resources.cpu_rt_runtime)),
    ];
    set_bandwidth(dir, fair, warnings)?;
    set_bandwidth(dir, realtime, warnings)
}

/// The kernel takes any number and keeps what it can: said in runc's words when that is another one.
fn set_shares(dir: &Path, shares: u64, warnings: &mut Vec<Warning>) -> Result<()> {
    const FILE: &str = "cpu.shares";
    write_if_there(dir, FILE, &shares.to_string(), warnings)?;
    let kept = read_number(dir, FILE).unwrap_or(shares);
    match kept.cmp(&shares) {
        Ordering::Equal => Ok(()),
        Ordering::Less => {
            Err(Error::malformed("cpu.shares", format!("the maximum allowed cpu-shares is {kept}")))
        }
        Ordering::Greater => {
            Err(Error::malformed("cpu.shares", format!("the minimum allowed cpu-shares is {kept}")))
        }
    }
}

/// Period, then time in each; when the kernel refuses the period because it does not fit the old time, the
/// other way round.
fn set_bandwidth(
    dir: &Path,
    [(period_file, period), (time_file, time)]: [(&str, Option<String>); 2],
    warnings: &mut Vec<Warning>,
) -> Result<()> {
    let mut retry_period = None;
    if let Some(period) = period {
        match write_if_there(dir, period_file, &period, warnings) {
            Err(error) if error.is(Errno::INVAL) && time.is_some() => retry_period = Some(period),
            other => other?,
        }
    }
    if let Some(time) = time {
        write_if_there(dir, time_file, &time, warnings)?;
    }
    match retry_period {
        Some(period) => write_if_there(dir, period_file, &period, warnings),
        None => Ok(()),
    }
}

const LIMIT: &str = "memory.limit_in_bytes";
const SWAP: &str = "memory.memsw.limit_in_bytes";

/// Memory must never be above memory + swap: the order depends on the direction of the change.
fn set_memory(dir: &Path, resources: &Resources, warnings: &mut Vec<Warning>) -> Result<()> {
    let memory = resources.memory.filter(|limit| *limit != 0);
    let mut swap = resources.memory_swap.filter(|limit| *limit != 0);
    if memory == Some(-1) && swap.is_none() && dir.join(SWAP).exists() {
        swap = Some(-1);
    }
    let swap_first = match (memory, swap) {
        (Some(_), Some(swap)) => {
            let current = read_number(dir, LIMIT).unwrap_or(u64::MAX);
            swap == -1 || current < swap as u64
        }
        _ => false,
    };
    let set_swap = |warnings: &mut Vec<Warning>| match swap {
        Some(limit) => write_if_there(dir, SWAP, &limit.to_string(), warnings),
        None => Ok(()),
    };
    if swap_first {
        set_swap(warnings)?;
    }
    if let Some(limit) = memory {
        write_if_there(dir, LIMIT, &limit.to_string(), warnings)
            .map_err(|error| explain_busy(dir, limit, error))?;
    }
    if swap_first { Ok(()) } else { set_swap(warnings) }
}

/// EBUSY means the limit is below what is used: say so, in runc's words.
fn explain_busy(dir: &Path, limit: i64, error: Error) -> Error {
    if !error.is(Errno::BUSY) {
        return error;
    }
    let usage = read_number(dir, "memory.usage_in_bytes").unwrap_or(0);
    let peak = read_number(dir, "memory.max_usage_in_bytes").unwrap_or(0);
    Error::malformed(
        format!("unable to set memory limit to {limit}"),
        format!("current usage: {usage}, peak usage: {peak}"),
    )
}

fn wants_blkio(resources: &Resources) -> bool {
    let lists = [
        &resources.blkio_weight_device,
        &resources.blkio_read_bps,
        &resources.blkio_write_bps,
        &resources.blkio_read_iops,
        &resources.blkio_write_iops,
    ];
    resources.blkio_weight.is_some() || lists.iter().any(|list| !list.is_empty())
}

fn set_blkio(dir: &Path, resources: &Resources, warnings: &mut Vec<Warning>) -> Result<()> {
    // With the BFQ scheduler (and without CFQ, gone since 5.0) the files have another name.
    let bfq = dir.join("blkio.bfq.weight").exists();
    let (weight, weight_device) = match bfq {
        true => ("blkio.bfq.weight", "blkio.bfq.weight_device"),
        false => ("blkio.weight", "blkio.weight_device"),
    };
    if let Some(value) = resources.blkio_weight.filter(|value| *value != 0) {
        write_if_there(dir, weight, &value.to_string(), warnings)?;
    }
    let lists: [(&str, &[DeviceLimit]); 5] = [
        (weight_device, &resources.blkio_weight_device),
        ("blkio.throttle.read_bps_device", &resources.blkio_read_bps),
        ("blkio.throttle.write_bps_device", &resources.blkio_write_bps),
        ("blkio.throttle.read_iops_device", &resources.blkio_read_iops),
        ("blkio.throttle.write_iops_device", &resources.blkio_write_iops),
    ];
    for (file, limits) in lists {
        for limit in limits {
            let value = format!("{}:{} {}", limit.major, limit.minor, limit.value);
            write_if_there(dir, file, &value, warnings)?;
        }
    }
    Ok(())
}

fn set_hugetlb(dir: &Path, resources: &Resources, warnings: &mut Vec<Warning>) -> Result<()> {
    for (size, limit) in &resources.hugepage_limits {
        let file = format!("hugetlb.{size}.limit_in_bytes");
        write_if_there(dir, &file, &limit.to_string(), warnings)?;
    }
    Ok(())
}

fn set_network_priorities(dir: &Path, resources: &Resources, warnings: &mut Vec<Warning>) -> Result<()> {
    let mut lines = resources.network_priorities.iter().map(|(name, priority)| format!("{name} {priority}"));
    lines.try_for_each(|line| write_if_there(dir, "net_prio.ifpriomap", &line, warnings))
}

fn set_rdma(dir: &Path, resources: &Resources, warnings: &mut Vec<Warning>) -> Result<()> {
    let mut lines = resources.rdma.iter().map(|(device, limits)| format!("{device} {limits}"));
    lines.try_for_each(|line| write_if_there(dir, "rdma.max", &line, warnings))
}

fn set_devices(dir: &Path, resources: &Resources, _warnings: &mut Vec<Warning>) -> Result<()> {
    for rule in &resources.devices {
        let file = if rule.allow { "devices.allow" } else { "devices.deny" };
        write(dir, file, &devices::rule_text(rule))?;
    }
    Ok(())
}

/// Asks for FROZEN until the kernel has stopped everything; new processes may hold it up, so it is thawed now
/// and then and asked again, as runc does.
pub(super) fn freeze(dir: &Path) -> Result<()> {
    for round in 0..1000 {
        if round % 50 == 49 {
            write(dir, "freezer.state", "THAWED")?;
            std::thread::sleep(Duration::from_millis(10));
        }
        write(dir, "freezer.state", "FROZEN")?;
        if round % 25 == 24 {
            std::thread::sleep(Duration::from_micros(10));
        }
        match read(dir, "freezer.state")?.trim() {
            "FROZEN" => return Ok(()),
            "FREEZING" => {}
            other => return Err(Error::malformed("freezer.state", format!("unexpected state {other}"))),
        }
    }
    Err(Error::malformed(dir.display().to_string(), "unable to freeze"))
}
