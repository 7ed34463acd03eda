//! `GET /containers/{id}/stats` (source: moby `daemon/stats.go`, `daemon/stats_unix.go`).

use super::{Container, Containers};
use crate::{Error, Result, blocking::blocking};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use wharf_api::{container as api, time::Time};
use wharf_sys::cgroup::{BlkioEntry, Hierarchies, Stats};

/// Between two samples.
const PERIOD: Duration = Duration::from_secs(1);
/// USER_HZ, the unit of /proc/stat.
const TICK_NANOS: u64 = 10_000_000;

/// How often a client wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StatsMode {
    /// Every second, until it goes away or the container does.
    #[default]
    Stream,
    /// Once, with the sample of a second before to compare with.
    Twice,
    /// Once, at once.
    OneShot,
}

impl Containers {
    /// What a container uses. One that does not run uses nothing.
    ///
    /// # Errors
    /// `No such container: ...`.
    pub async fn stats(
        &self,
        id_or_name: &str,
        mode: StatsMode,
    ) -> Result<BoxStream<'static, Result<api::StatsResponse>>> {
        let container = self.get(id_or_name)?;
        let engine = self.clone();
        if mode == StatsMode::OneShot || (mode == StatsMode::Twice && !container.is_running()) {
            let sample = self.sample(&container).await;
            return Ok(stream::once(async { sample }).boxed());
        }
        if mode == StatsMode::Twice {
            let first = self.sample(&container).await?;
            tokio::time::sleep(PERIOD).await;
            let second = self.sample(&container).await.map(|second| after(&first, second));
            return Ok(stream::once(async { second }).boxed());
        }
        let samples = stream::unfold(None::<api::StatsResponse>, move |previous| {
            let (engine, container) = (engine.clone(), Arc::clone(&container));
            async move {
                if previous.is_some() {
                    tokio::time::sleep(PERIOD).await;
                }
                if container.with(|state| state.removed) {
                    return None;
                }
                match engine.sample(&container).await {
                    Ok(sample) => {
                        let shown = match &previous {
                            Some(previous) => after(previous, sample.clone()),
                            None => sample.clone(),
                        };
                        Some((Ok(shown), Some(sample)))
                    }
                    Err(error) => Some((Err(error), previous)),
                }
            }
        });
        Ok(samples.boxed())
    }

    async fn sample(&self, container: &Arc<Container>) -> Result<api::StatsResponse> {
        let mut shown = api::StatsResponse {
            id: container.id.to_string(),
            name: format!("/{}", container.name()),
            os_type: "linux".into(),
            ..api::StatsResponse::default()
        };
        if !container.with(|state| state.status.has_process()) {
            return Ok(shown);
        }
        let path = super::plan::cgroup_path(self.config(), &container.host_config(), &container.id);
        let (networks, pid) = (self.parts().networks.clone(), container.pid());
        let has_own_network = !container.host_config().network_mode.is_host();
        blocking(move || {
            let failed = |e| Error::Io {
                step: "read stats of",
                path: path.clone().into(),
                source: std::io::Error::other(e),
            };
            let group = hierarchies().and_then(|all| all.group(&path)).map_err(failed)?;
            // It may end while we look.
            let Ok(stats) = group.stats() else { return Ok(shown) };
            shown.read = Time::now();
            fill(&mut shown, &stats);
            if has_own_network {
                shown.networks = networks.stats(pid).unwrap_or_default();
            }
            Ok(shown)
        })
        .await
    }
}

/// Found once: with many containers the list of mounts is long, and each has a sample every second.
fn hierarchies() -> wharf_sys::Result<&'static Hierarchies> {
    static FOUND: OnceLock<Hierarchies> = OnceLock::new();
    match FOUND.get() {
        Some(found) => Ok(found),
        None => Hierarchies::detect().map(|found| FOUND.get_or_init(|| found)),
    }
}

/// The sample, with the one before it.
fn after(previous: &api::StatsResponse, mut sample: api::StatsResponse) -> api::StatsResponse {
    sample.preread = previous.read;
    sample.precpu_stats = previous.cpu_stats.clone();
    sample
}

fn fill(shown: &mut api::StatsResponse, stats: &Stats) {
    shown.cpu_stats = cpu(stats);
    shown.memory_stats = memory(stats);
    shown.pids_stats = api::PidsStats { current: stats.pids.current, limit: limit(stats.pids.limit) };
    shown.blkio_stats.io_service_bytes_recursive = Some(blkio(&stats.blkio_bytes));
    shown.blkio_stats.io_serviced_recursive = Some(blkio(&stats.blkio_operations));
}

/// No limit is no key.
fn limit(value: u64) -> u64 {
    if value == u64::MAX { 0 } else { value }
}

fn cpu(stats: &Stats) -> api::CpuStats {
    let cpu = &stats.cpu;
    api::CpuStats {
        cpu_usage: api::CpuUsage {
            total_usage: cpu.total,
            percpu_usage: cpu.per_cpu.clone(),
            usage_in_kernelmode: cpu.system,
            usage_in_usermode: cpu.user,
        },
        system_cpu_usage: system_cpu_nanos(),
        online_cpus: u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1),
        throttling_data: api::ThrottlingData {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: cpu.throttled_time,
        },
    }
}

fn memory(stats: &Stats) -> api::MemoryStats {
    let memory = &stats.memory;
    api::MemoryStats {
        usage: memory.usage,
        max_usage: memory.max_usage,
        stats: memory.details.iter().cloned().collect(),
        failcnt: memory.failures,
        // No limit is shown as all the memory there is.
        limit: memory.limit.min(crate::system::memory_total()),
    }
}

fn blkio(entries: &[BlkioEntry]) -> Vec<api::BlkioStatEntry> {
    let entry = |e: &BlkioEntry| api::BlkioStatEntry {
        major: e.major,
        minor: e.minor,
        op: e.operation.clone(),
        value: e.value,
    };
    entries.iter().map(entry).collect()
}

/// What all processors together have spent since the machine started: the first line of /proc/stat.
fn system_cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or("");
    // user nice system idle iowait irq softirq; what follows is counted in these already.
    let ticks = line.split_ascii_whitespace().skip(1).take(7).filter_map(|n| n.parse::<u64>().ok());
    ticks.sum::<u64>().saturating_mul(TICK_NANOS)
}
