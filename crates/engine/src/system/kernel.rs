//! What the kernel and its cgroups can do (source: moby `pkg/sysinfo`).

use crate::{Result, blocking::blocking};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Which cgroup hierarchy limits are set in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupVersion {
    V1,
    V2,
}

/// Abilities, each named as Docker's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) cgroup_version: CgroupVersion,
    pub(crate) memory_limit: bool,
    pub(crate) swap_limit: bool,
    pub(crate) memory_reservation: bool,
    pub(crate) memory_swappiness: bool,
    pub(crate) oom_kill_disable: bool,
    pub(crate) cpu_shares: bool,
    pub(crate) cpu_cfs: bool,
    pub(crate) cpu_realtime: bool,
    pub(crate) cpuset: bool,
    /// Processors that a container may use, such as `0-1`.
    pub(crate) cpus: String,
    /// Memory nodes that a container may use.
    pub(crate) mems: String,
    pub(crate) pids_limit: bool,
    pub(crate) blkio_weight: bool,
    pub(crate) blkio_weight_device: bool,
    pub(crate) blkio_throttle: bool,
    pub(crate) cgroup_namespaces: bool,
    pub(crate) apparmor: bool,
    pub(crate) seccomp: bool,
    /// How many processors are online.
    pub(crate) processors: usize,
}

impl Kernel {
    /// Looks once; what is found later by hot-plug counts after the next start.
    pub(crate) async fn detect() -> Result<Self> {
        blocking(|| Ok(detect(&Roots::find()))).await
    }

    /// Whether packets go from one network to another.
    pub(crate) fn ipv4_forwarding() -> bool {
        fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|text| text.trim() != "0")
    }
}

/// Where the hierarchies are mounted.
struct Roots {
    /// The v2 hierarchy, if it has controllers.
    unified: Option<PathBuf>,
    /// v1: controller and mount point.
    v1: Vec<(String, PathBuf)>,
}

impl Roots {
    fn find() -> Self {
        let mut roots = Self { unified: None, v1: Vec::new() };
        for mount in wharf_sys::mount::mountinfo().unwrap_or_default() {
            let target = mount.target;
            match mount.fs_type.as_str() {
                "cgroup2" => {
                    let controllers = fs::read_to_string(target.join("cgroup.controllers"));
                    if controllers.is_ok_and(|text| !text.trim().is_empty()) {
                        roots.unified = Some(target);
                    }
                }
                "cgroup" => {
                    for option in mount.super_options.split(',') {
                        roots.v1.push((option.to_owned(), target.clone()));
                    }
                }
                _ => {}
            }
        }
        roots
    }

    fn v1(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|(name, _)| name == controller).map(|(_, path)| path.as_path())
    }

    fn has(&self, controller: &str, file: &str) -> bool {
        self.v1(controller).is_some_and(|dir| dir.join(file).exists())
    }
}

fn detect(roots: &Roots) -> Kernel {
    // A v2 hierarchy beside a v1 one (the "hybrid" layout) has no controllers of its own.
    let v2 = roots.unified.as_deref().filter(|_| roots.v1("memory").is_none());
    let mut kernel = match v2 {
        Some(unified) => detect_v2(unified),
        None => detect_v1(roots),
    };
    kernel.cgroup_namespaces = Path::new("/proc/self/ns/cgroup").exists();
    kernel.apparmor = Path::new("/sys/kernel/security/apparmor").exists();
    kernel.seccomp = fs::read_to_string("/proc/self/status").is_ok_and(|s| s.contains("\nSeccomp:"));
    kernel.processors = std::thread::available_parallelism().map_or(1, usize::from);
    kernel
}

fn nothing(cgroup_version: CgroupVersion) -> Kernel {
    Kernel {
        cgroup_version,
        memory_limit: false,
        swap_limit: false,
        memory_reservation: false,
        memory_swappiness: false,
        oom_kill_disable: false,
        cpu_shares: false,
        cpu_cfs: false,
        cpu_realtime: false,
        cpuset: false,
        cpus: String::new(),
        mems: String::new(),
        pids_limit: false,
        blkio_weight: false,
        blkio_weight_device: false,
        blkio_throttle: false,
        cgroup_namespaces: false,
        apparmor: false,
        seccomp: false,
        processors: 1,
    }
}

fn detect_v1(roots: &Roots) -> Kernel {
    let set = |file| {
        let dir = roots.v1("cpuset");
        dir.map_or_else(String::new, |dir| read_line(&dir.join(file)))
    };
    Kernel {
        memory_limit: roots.v1("memory").is_some(),
        swap_limit: roots.has("memory", "memory.memsw.limit_in_bytes"),
        memory_reservation: roots.has("memory", "memory.soft_limit_in_bytes"),
        memory_swappiness: roots.has("memory", "memory.swappiness"),
        oom_kill_disable: roots.has("memory", "memory.oom_control"),
        cpu_shares: roots.has("cpu", "cpu.shares"),
        // The root group has no cfs files on newer kernels, though groups below it do.
        cpu_cfs: roots.has("cpu", "cpu.cfs_quota_us") || roots.v1("cpu").is_some(),
        cpu_realtime: roots.has("cpu", "cpu.rt_period_us"),
        cpuset: roots.v1("cpuset").is_some(),
        cpus: set("cpuset.cpus"),
        mems: set("cpuset.mems"),
        pids_limit: roots.v1("pids").is_some(),
        blkio_weight: roots.has("blkio", "blkio.weight"),
        blkio_weight_device: roots.has("blkio", "blkio.weight_device"),
        blkio_throttle: roots.has("blkio", "blkio.throttle.read_bps_device"),
        ..nothing(CgroupVersion::V1)
    }
}

fn detect_v2(unified: &Path) -> Kernel {
    let controllers = read_line(&unified.join("cgroup.controllers"));
    let has = |name: &str| controllers.split(' ').any(|c| c == name);
    Kernel {
        memory_limit: has("memory"),
        swap_limit: has("memory") && limits_swap(unified),
        memory_reservation: has("memory"),
        cpu_shares: has("cpu"),
        cpu_cfs: has("cpu"),
        cpuset: has("cpuset"),
        cpus: read_line(&unified.join("cpuset.cpus.effective")),
        mems: read_line(&unified.join("cpuset.mems.effective")),
        pids_limit: has("pids"),
        blkio_weight: has("io") && weighs_io(unified),
        blkio_weight_device: has("io") && weighs_io(unified),
        blkio_throttle: has("io"),
        ..nothing(CgroupVersion::V2)
    }
}

/// Whether groups have a limit of swap. The root group never has one: where that is ours, any group below it
/// says so, and without one the kernel that can swap is believed (source: moby
/// `pkg/sysinfo/cgroup2_linux.go`, getSwapLimitV2).
fn limits_swap(unified: &Path) -> bool {
    const FILE: &str = "memory.swap.max";
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    if !own.is_empty() {
        return unified.join(own).join(FILE).exists();
    }
    let groups = fs::read_dir(unified).into_iter().flatten().flatten().map(|entry| entry.path());
    // Only a group that has memory limits can tell.
    let mut limited = groups.filter(|group| group.join("memory.max").exists());
    limited.next().map_or_else(|| Path::new("/proc/swaps").exists(), |group| group.join(FILE).exists())
}

/// Whether there are weights of I/O, which only the cost model and the BFQ scheduler have. Docker says yes to all
/// of v2, and then the container does not start.
fn weighs_io(unified: &Path) -> bool {
    let groups = fs::read_dir(unified).into_iter().flatten().flatten();
    unified.join("io.cost.qos").exists()
        || groups.into_iter().any(|g| g.path().join("io.bfq.weight").exists())
}

fn read_line(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// A list of numbers such as `0-2,4` (source: cpuset(7), "List format"; moby `pkg/sysinfo`, parseUintList).
///
/// # Errors
/// What is wrong with it, in Docker's words. Numbers beyond 8192 are refused: no kernel has so many.
pub(crate) fn parse_list(text: &str) -> Result<BTreeSet<u32>, String> {
    const MOST: u32 = 8192;
    let number = |word: &str| word.parse::<u32>().map_err(|_| format!("invalid format: {text}"));
    let mut all = BTreeSet::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(format!("invalid format: {text}"));
        }
        if last > MOST {
            return Err(format!("value of out range, maximum is {MOST}"));
        }
        all.extend(first..=last);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed() {
        let list = |text| parse_list(text).map(|set| set.into_iter().collect::<Vec<_>>());
        assert_eq!(list("0-2,4,03"), Ok(vec![0, 1, 2, 3, 4]));
        assert_eq!(list(""), Ok(vec![]));
        for bad in ["a", "1-", "3-1", ",", "-1", "1-2-3"] {
            assert_eq!(list(bad), Err(format!("invalid format: {bad}")));
        }
        assert_eq!(list("0-99999"), Err("value of out range, maximum is 8192".into()));
    }

    #[test]
    fn this_machine_is_understood() {
        let kernel = detect(&Roots::find());
        assert!(kernel.processors >= 1);
        if kernel.cpuset {
            assert!(parse_list(&kernel.cpus).is_ok_and(|set| !set.is_empty()), "{}", kernel.cpus);
        }
    }
}
