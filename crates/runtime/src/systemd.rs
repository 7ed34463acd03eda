//! Scopes of systemd: where it is the init system of a machine with cgroup v2, the tree is its own, and it makes
//! a container's group when it is asked to (source: systemd's "Control Group APIs and Delegation"; properties as
//! opencontainers/cgroups `systemd/v2.go`).
//!
//! A scope cannot be made without a process in it, and the container's own is to be born in it: a placeholder
//! holds it open until then. Inside, with `Delegate=yes`, the group is ours, and its files are written as
//! everywhere; systemd is told the limits nevertheless, since it writes those it knows anew when it reloads.

mod dbus;

use crate::error::{Error, Result, Step};
use crate::spawn::{self, Spawned};
use dbus::{Call, CallError, Connection, Value, Writer};
use wharf_spec::plan::{Resources, Scope};
use wharf_sys::cgroup::v2_settings;
use wharf_sys::process::{CloneOptions, SingleThreaded, set_parent_death_signal};

const SOCKET: &str = "/run/systemd/private";

/// A process that keeps a scope from being empty; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Placeholder(Spawned);

impl Drop for Placeholder {
    fn drop(&mut self) {
        self.0.kill();
    }
}

type Property = (&'static str, Value);

/// Makes a scope with these limits.
pub(crate) fn start(scope: &Scope, resources: &Resources, proof: SingleThreaded) -> Result<Placeholder> {
    let unit = scope.unit();
    let placeholder = Placeholder(sleeper(proof)?);
    let pid = placeholder.0.pid.unsigned_abs();
    let mut properties = scope_properties(scope, pid);
    properties.extend(limits(resources)?);
    let mut systemd = connect()?;
    let started = match systemd.run_job(start_unit(&unit, &properties)) {
        // Left by a container of this name that ended badly or a moment ago.
        Err(CallError::Refused(name, _)) if name.ends_with(".UnitExists") => {
            end(&mut systemd, &unit);
            systemd.run_job(start_unit(&unit, &properties))
        }
        other => other,
    };
    started.map_err(|error| refused(format!("unable to start unit {unit:?}: {error}")))?;
    Ok(placeholder)
}

/// Ends a scope whose processes have ended, or are to end. One that is gone is fine.
///
/// # Errors
/// When systemd cannot be asked.
pub fn delete_scope(scope: &Scope) -> Result<()> {
    end(&mut connect()?, &scope.unit());
    Ok(())
}

/// Tells systemd the limits that it may write again.
///
/// # Errors
/// When it refuses them.
pub fn update_scope(scope: &Scope, resources: &Resources) -> Result<()> {
    let (unit, properties) = (scope.unit(), limits(resources)?);
    if properties.is_empty() {
        return Ok(());
    }
    let mut body = Writer::default();
    body.text(&unit);
    // Until the next boot: a scope does not live longer.
    body.flag(true);
    write_properties(&mut body, &properties);
    let call = Call { member: "SetUnitProperties", signature: "sba(sv)", body };
    connect()?
        .call(call)
        .map_err(|error| refused(format!("unable to set unit properties of {unit:?}: {error}")))
}

fn connect() -> Result<Connection> {
    Connection::open(SOCKET).map_err(|error| refused(format!("cannot reach systemd at {SOCKET}: {error}")))
}

fn refused(problem: String) -> Error {
    Error::refused("unable to apply cgroup configuration", problem)
}

fn sleeper(proof: SingleThreaded) -> Result<Spawned> {
    let (held, holds) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| wharf_sys::Error::call("pipe", "placeholder", errno))
        .step(|| "clone")?;
    match spawn::direct(proof, &CloneOptions::default())? {
        Some(spawned) => Ok(spawned),
        None => {
            // Whichever comes first: its parent's death, before or after it is heard of, or the kill.
            let _ = set_parent_death_signal(spawn::libc_sigkill());
            drop(holds);
            let _ = rustix::io::retry_on_intr(|| rustix::io::read(&held, &mut [0u8; 1]));
            wharf_sys::process::exit(0)
        }
    }
}

fn scope_properties(scope: &Scope, pid: u32) -> Vec<Property> {
    let text = |text: &str| Value::Text(text.to_owned());
    vec![
        ("Description", Value::Text(format!("libcontainer container {}", scope.name))),
        ("Slice", text(&scope.slice)),
        ("Delegate", Value::Bool(true)),
        ("PIDs", Value::U32s(vec![pid])),
        ("MemoryAccounting", Value::Bool(true)),
        ("CPUAccounting", Value::Bool(true)),
        ("IOAccounting", Value::Bool(true)),
        ("TasksAccounting", Value::Bool(true)),
        ("DefaultDependencies", Value::Bool(false)),
        // A container that was killed for memory leaves no failed unit behind.
        ("CollectMode", text("inactive-or-failed")),
    ]
}

/// The limits that systemd has properties for.
fn limits(resources: &Resources) -> Result<Vec<Property>> {
    let settings = v2_settings(resources).step(|| "unable to apply cgroup configuration")?;
    Ok(settings.iter().flat_map(|(file, value)| properties_of(file, value)).collect())
}

fn properties_of(file: &str, value: &str) -> Vec<Property> {
    let number = |text: &str| Value::U64(text.parse().unwrap_or(u64::MAX));
    let name = match file {
        "cpu.max" => return cpu_quota(value),
        "cpuset.cpus" => return vec![("AllowedCPUs", Value::Bytes(bits(value)))],
        "cpuset.mems" => return vec![("AllowedMemoryNodes", Value::Bytes(bits(value)))],
        "cpu.weight" => "CPUWeight",
        "memory.max" => "MemoryMax",
        "memory.low" => "MemoryLow",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        _ => return Vec::new(),
    };
    vec![(name, number(value))]
}

/// Quota and period as microseconds of a second, in full percents.
fn cpu_quota(value: &str) -> Vec<Property> {
    let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
    let period = period.parse::<u64>().unwrap_or(100_000).max(1);
    let per_second = match quota.parse::<u64>() {
        Ok(quota) => (quota.saturating_mul(1_000_000) / period).next_multiple_of(10_000),
        Err(_) => u64::MAX,
    };
    vec![("CPUQuotaPeriodUSec", Value::U64(period)), ("CPUQuotaPerSecUSec", Value::U64(per_second))]
}

/// A list such as `0-2,5` as bits, the first number the lowest bit of the first byte.
fn bits(list: &str) -> Vec<u8> {
    /// More than any kernel has.
    const MOST: usize = 8192;
    let mut bytes = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) else {
            continue;
        };
        for number in first..=last.min(MOST) {
            if bytes.len() <= number / 8 {
                bytes.resize(number / 8 + 1, 0);
            }
            bytes[number / 8] |= 1 << (number % 8);
        }
    }
    bytes
}

fn write_properties(body: &mut Writer, properties: &[Property]) {
    body.array(8, |all| {
        for (name, value) in properties {
            all.structure();
            all.text(name);
            all.variant(value);
        }
    });
}

fn start_unit(unit: &str, properties: &[Property]) -> Call {
    let mut body = Writer::default();
    body.text(unit);
    body.text("replace");
    write_properties(&mut body, properties);
    // No further units.
    body.array(8, |_| {});
    Call { member: "StartTransientUnit", signature: "ssa(sv)a(sa(sv))", body }
}

/// Stops a unit and forgets that it failed. It may be gone already, or go by itself.
fn end(systemd: &mut Connection, unit: &str) {
    let mut body = Writer::default();
    body.text(unit);
    body.text("replace");
    let _ = systemd.run_job(Call { member: "StopUnit", signature: "ss", body });
    let mut body = Writer::default();
    body.text(unit);
    let _ = systemd.call(Call { member: "ResetFailedUnit", signature: "s", body });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_properties() {
        let resources = Resources {
            memory: Some(64 << 20),
            memory_swap: Some(-1),
            cpu_shares: Some(1024),
            cpu_quota: Some(12_345),
            cpu_period: Some(100_000),
            pids_limit: Some(-1),
            cpuset_cpus: Some("0-2,9".into()),
            ..Resources::default()
        };
        let mut got = limits(&resources).unwrap();
        got.sort_by_key(|(name, _)| *name);
        let wanted = [
            ("AllowedCPUs", Value::Bytes(vec![0b111, 0b10])),
            ("CPUQuotaPerSecUSec", Value::U64(130_000)),
            ("CPUQuotaPeriodUSec", Value::U64(100_000)),
            ("CPUWeight", Value::U64(100)),
            ("MemoryMax", Value::U64(64 << 20)),
            ("MemorySwapMax", Value::U64(u64::MAX)),
            ("TasksMax", Value::U64(u64::MAX)),
        ];
        assert_eq!(got, wanted);
        assert!(limits(&Resources::default()).unwrap().is_empty());
    }
}
