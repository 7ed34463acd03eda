//! `update`: changes the limits of a container while it runs.

use super::error::{CliError, CliResult};
use super::{Context, bundle, flags};
use lexopt::prelude::*;
use std::io::Read;
use std::path::Path;
use wharf_runtime::oci::{self, BlockIo, Cpu, Memory, Pids, Resources};
use wharf_spec::plan;

pub(super) fn main(parser: &mut lexopt::Parser, context: &Context) -> CliResult<u8> {
    let mut wanted = Resources::default();
    let mut file = None;
    let mut arguments = flags::Arguments::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("resources") | Short('r') => file = Some(flags::text(parser)?),
            Long(name) if OPTIONS.contains(&name) => {
                let name = name.to_owned();
                let value = flags::text(parser)?;
                set(&mut wanted, &name, &value)?;
            }
            other => arguments.take(other)?,
        }
    }
    let mut container = context.store.load(&arguments.only_id("update")?)?;
    if let Some(file) = file.filter(|file| !file.is_empty()) {
        wanted = read(&file)?;
    }
    let mut warnings = Vec::new();
    let mut limits = oci::resources_to_plan(&wanted, &mut warnings)?;
    // Device rules are not changed by an update, as in runc.
    limits.devices.clear();
    let _lock = container.lock()?;
    warnings.extend(container.cgroup()?.apply(&limits)?);
    warnings.iter().for_each(|warning| context.log.warn(warning));
    merge(&mut container.record.plan.cgroup.resources, limits);
    container.save()?;
    Ok(0)
}

const OPTIONS: [&str; 16] = [
    "blkio-weight",
    "cpu-period",
    "cpu-quota",
    "cpu-burst",
    "cpu-share",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cpuset-cpus",
    "cpuset-mems",
    "kernel-memory",
    "kernel-memory-tcp",
    "memory",
    "cpu-idle",
    "memory-reservation",
    "memory-swap",
    "pids-limit",
];

fn read(file: &str) -> CliResult<Resources> {
    let json = if file == "-" {
        let mut json = Vec::new();
        std::io::stdin().read_to_end(&mut json).map_err(|source| CliError::io("standard input", source))?;
        json
    } else {
        let document = bundle::read_document(Path::new(file))?;
        document.ok_or_else(|| CliError::text(format!("{file} is too large")))?
    };
    serde_json::from_slice(&json).map_err(|error| CliError::text(error.to_string()))
}

/// Sets what one option is about. An empty value leaves it as it is.
fn set(wanted: &mut Resources, name: &str, value: &str) -> CliResult<()> {
    if value.is_empty() {
        return Ok(());
    }
    let cpu = wanted.cpu.get_or_insert_with(Cpu::default);
    match name {
        "cpu-period" => cpu.period = Some(number(name, value)?),
        "cpu-quota" => cpu.quota = Some(number(name, value)?),
        "cpu-burst" => cpu.burst = Some(number(name, value)?),
        "cpu-share" => cpu.shares = Some(number(name, value)?),
        "cpu-rt-period" => cpu.realtime_period = Some(number(name, value)?),
        "cpu-rt-runtime" => cpu.realtime_runtime = Some(number(name, value)?),
        "cpu-idle" => cpu.idle = Some(number(name, value)?),
        "cpuset-cpus" => cpu.cpus = value.to_owned(),
        "cpuset-mems" => cpu.mems = value.to_owned(),
        "blkio-weight" => {
            wanted.block_io.get_or_insert_with(BlockIo::default).weight = Some(number(name, value)?);
        }
        "pids-limit" => wanted.pids.get_or_insert_with(Pids::default).limit = Some(number(name, value)?),
        _ => set_memory(wanted.memory.get_or_insert_with(Memory::default), name, value)?,
    }
    Ok(())
}

fn set_memory(memory: &mut Memory, name: &str, value: &str) -> CliResult<()> {
    let bytes = || CliError::text(format!("invalid value for {name}: invalid size: '{value}'"));
    let bytes = Some(bytes_of(value).ok_or_else(bytes)?);
    match name {
        "memory" => memory.limit = bytes,
        "memory-swap" => memory.swap = bytes,
        "memory-reservation" => memory.reservation = bytes,
        "kernel-memory" => memory.kernel = bytes,
        _ => memory.kernel_tcp = bytes,
    }
    Ok(())
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str, value: &str) -> CliResult<T> {
    value.parse().map_err(|error| CliError::text(format!("invalid value for {name}: {error}")))
}

/// `-1`, or a number with a unit of 1024: `512m`, `1.5GiB`, `10kb` (source: docker/go-units `RAMInBytes`).
fn bytes_of(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit = unit.trim_start_matches(' ').to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    let value = number.parse::<f64>().ok()? * 1024f64.powi(power as i32);
    (value < i64::MAX as f64).then_some(value as i64)
}

/// Keeps what is known of the limits in step: what was set now replaces what was set before.
fn merge(kept: &mut plan::Resources, new: plan::Resources) {
    fn replace<T>(kept: &mut Option<T>, new: Option<T>) {
        if new.is_some() {
            *kept = new;
        }
    }
    replace(&mut kept.memory, new.memory);
    replace(&mut kept.memory_reservation, new.memory_reservation);
    replace(&mut kept.memory_swap, new.memory_swap);
    replace(&mut kept.memory_swappiness, new.memory_swappiness);
    replace(&mut kept.cpu_shares, new.cpu_shares);
    replace(&mut kept.cpu_quota, new.cpu_quota);
    replace(&mut kept.cpu_period, new.cpu_period);
    replace(&mut kept.cpu_rt_runtime, new.cpu_rt_runtime);
    replace(&mut kept.cpu_rt_period, new.cpu_rt_period);
    replace(&mut kept.cpuset_cpus, new.cpuset_cpus);
    replace(&mut kept.cpuset_mems, new.cpuset_mems);
    replace(&mut kept.pids_limit, new.pids_limit);
    replace(&mut kept.blkio_weight, new.blkio_weight);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("-1", Some(-1)),
            ("1024", Some(1024)),
            ("512m", Some(512 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("10kb", Some(10240)),
            ("32 Mb", Some(32 << 20)),
            ("", None),
            ("m", None),
            ("5x", None),
            ("-5", None),
        ] {
            assert_eq!(bytes_of(text), bytes, "{text}");
        }
    }

    #[test]
    fn options_set_what_they_are_named_after() {
        let mut wanted = Resources::default();
        for (name, value) in
            [("memory", "64m"), ("cpu-quota", "-1"), ("pids-limit", "9"), ("cpuset-cpus", "0")]
        {
            set(&mut wanted, name, value).unwrap();
        }
        let limits = oci::resources_to_plan(&wanted, &mut Vec::new()).unwrap();
        assert_eq!((limits.memory, limits.cpu_quota, limits.pids_limit), (Some(64 << 20), Some(-1), Some(9)));
        assert!(set(&mut wanted, "cpu-share", "x").is_err());
        assert!(set(&mut wanted, "memory", "lots").is_err());
    }
}
