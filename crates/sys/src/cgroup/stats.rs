//! What a group uses, in raw numbers: what Docker's `stats` is made of.

use super::Cgroup;
use super::file::{find_key, read, read_key, read_number};
use crate::Result;
use std::path::Path;

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "one field per controller")]
pub struct Stats {
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    pub pids: PidsStats,
    /// Bytes transferred per device and operation (`read`, `write`, and v1's `sync`, `async`, `discard`,
    /// `total`).
    pub blkio_bytes: Vec<BlkioEntry>,
    /// Operations likewise.
    pub blkio_operations: Vec<BlkioEntry>,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "self-evident")]
pub struct CpuStats {
    pub total: u64,
    /// Per processor; empty on v2.
    pub per_cpu: Vec<u64>,
    pub user: u64,
    pub system: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Used now, page cache included.
    pub usage: u64,
    /// The most ever used (v1; on v2 from kernel 5.19).
    pub max_usage: u64,
    /// How often the limit was hit.
    pub failures: u64,
    /// The limit; `u64::MAX` or v1's huge number for none.
    pub limit: u64,
    /// The lines of `memory.stat`.
    pub details: Vec<(String, u64)>,
}

/// Numbers of processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "self-evident")]
pub struct PidsStats {
    pub current: u64,
    /// `u64::MAX` for none.
    pub limit: u64,
}

/// A counter of one device and operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "self-evident")]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    pub operation: String,
    pub value: u64,
}

/// USER_HZ, in which v1 counts user and system time.
const TICK_NANOS: u64 = 10_000_000;

pub(super) fn read_v1(group: &Cgroup) -> Result<Stats> {
    let mut stats = Stats::default();
    if let Some(dir) = group.dir("cpuacct") {
        stats.cpu.total = read_number(dir, "cpuacct.usage").unwrap_or(0);
        let per_cpu = read(dir, "cpuacct.usage_percpu").unwrap_or_default();
        stats.cpu.per_cpu =
            per_cpu.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect();
        let times = read(dir, "cpuacct.stat").unwrap_or_default();
        stats.cpu.user = find_key(&times, "user").unwrap_or(0) * TICK_NANOS;
        stats.cpu.system = find_key(&times, "system").unwrap_or(0) * TICK_NANOS;
    }
    if let Some(dir) = group.dir("cpu") {
        let text = read(dir, "cpu.stat").unwrap_or_default();
        stats.cpu.periods = find_key(&text, "nr_periods").unwrap_or(0);
        stats.cpu.throttled_periods = find_key(&text, "nr_throttled").unwrap_or(0);
        stats.cpu.throttled_time = find_key(&text, "throttled_time").unwrap_or(0);
    }
    if let Some(dir) = group.dir("memory") {
        stats.memory = MemoryStats {
            usage: read_number(dir, "memory.usage_in_bytes").unwrap_or(0),
            max_usage: read_number(dir, "memory.max_usage_in_bytes").unwrap_or(0),
            failures: read_number(dir, "memory.failcnt").unwrap_or(0),
            limit: read_number(dir, "memory.limit_in_bytes").unwrap_or(u64::MAX),
            details: key_values(&read(dir, "memory.stat").unwrap_or_default()),
        };
    }
    if let Some(dir) = group.dir("pids") {
        stats.pids = read_pids(dir);
    }
    if let Some(dir) = group.dir("blkio") {
        stats.blkio_bytes =
            v1_blkio(dir, ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"]);
        stats.blkio_operations =
            v1_blkio(dir, ["blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"]);
    }
    Ok(stats)
}

pub(super) fn read_v2(dir: &Path) -> Result<Stats> {
    let cpu = read(dir, "cpu.stat").unwrap_or_default();
    let nanos = |key: &str| find_key(&cpu, key).unwrap_or(0) * 1000;
    let (blkio_bytes, blkio_operations) = v2_blkio(&read(dir, "io.stat").unwrap_or_default());
    Ok(Stats {
        cpu: CpuStats {
            total: nanos("usage_usec"),
            per_cpu: Vec::new(),
            user: nanos("user_usec"),
            system: nanos("system_usec"),
            periods: find_key(&cpu, "nr_periods").unwrap_or(0),
            throttled_periods: find_key(&cpu, "nr_throttled").unwrap_or(0),
            throttled_time: nanos("throttled_usec"),
        },
        memory: MemoryStats {
            usage: read_number(dir, "memory.current").unwrap_or(0),
            max_usage: read_number(dir, "memory.peak").unwrap_or(0),
            failures: read_key(dir, "memory.events", "max").unwrap_or(0),
            limit: read_number(dir, "memory.max").unwrap_or(u64::MAX),
            details: key_values(&read(dir, "memory.stat").unwrap_or_default()),
        },
        pids: read_pids(dir),
        blkio_bytes,
        blkio_operations,
    })
}

fn read_pids(dir: &Path) -> PidsStats {
    PidsStats {
        current: read_number(dir, "pids.current").unwrap_or(0),
        limit: read_number(dir, "pids.max").unwrap_or(u64::MAX),
    }
}

fn key_values(text: &str) -> Vec<(String, u64)> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Lines such as `8:0 Read 1282048`, of the first of the files that has any.
fn v1_blkio(dir: &Path, files: [&str; 2]) -> Vec<BlkioEntry> {
    let parse = |name: &str| {
        let text = read(dir, name).unwrap_or_default();
        text.lines().filter_map(v1_blkio_line).collect::<Vec<_>>()
    };
    files.into_iter().map(parse).find(|entries| !entries.is_empty()).unwrap_or_default()
}

fn v1_blkio_line(line: &str) -> Option<BlkioEntry> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    Some(BlkioEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        operation: words.next()?.to_ascii_lowercase(),
        value: words.next()?.parse().ok()?,
    })
}

/// Lines such as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn v2_blkio(text: &str) -> (Vec<BlkioEntry>, Vec<BlkioEntry>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut bytes, "read"),
                "wbytes" => (&mut bytes, "write"),
                "rios" => (&mut operations, "read"),
                "wios" => (&mut operations, "write"),
                _ => continue,
            };
            let Ok(value) = value.parse() else { continue };
            list.push(BlkioEntry { major, minor, operation: operation.to_owned(), value });
        }
    }
    (bytes, operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_counters_of_both_versions() {
        let entry = v1_blkio_line("8:16 Write 42").unwrap();
        assert_eq!((entry.major, entry.minor, entry.operation.as_str(), entry.value), (8, 16, "write", 42));
        assert_eq!(v1_blkio_line("Total 3"), None);
        let (bytes, operations) = v2_blkio("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\nnonsense\n");
        assert_eq!(bytes.iter().map(|entry| entry.value).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(operations[1].operation, "write");
    }
}
