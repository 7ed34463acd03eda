//! `events`: what a container uses and when the kernel kills for memory, as lines of JSON.

use super::error::{CliError, CliResult};
use super::store::{Container, Status};
use super::{Context, flags, print};
use lexopt::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::time::Duration;
use wharf_sys::cgroup::{BlkioEntry, Stats};
use wharf_sys::event;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

pub(super) fn main(parser: &mut lexopt::Parser, context: &Context) -> CliResult<u8> {
    let (mut once, mut interval) = (false, DEFAULT_INTERVAL);
    let mut arguments = flags::Arguments::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("stats") => once = flags::switch(parser)?,
            Long("interval") => interval = duration(&flags::text(parser)?)?,
            other => arguments.take(other)?,
        }
    }
    let container = context.store.load(&arguments.only_id("events")?)?;
    if container.status()? == Status::Stopped {
        return Err(CliError::text(format!("container with id {} is not running", container.id)));
    }
    if once { print_stats(&container) } else { follow(&container, interval) }
}

/// One line, in runc's order.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

fn tell(event: &Event<'_>) -> CliResult<u8> {
    let line = serde_json::to_string(event).map_err(|error| CliError::text(error.to_string()))?;
    print(&(line + "\n"))
}

fn print_stats(container: &Container) -> CliResult<u8> {
    let stats = container.cgroup()?.stats()?;
    let data = document(&stats);
    tell(&Event { kind: "stats", id: &container.id, data: Some(data) })
}

/// Until the container ends.
fn follow(container: &Container, interval: Duration) -> CliResult<u8> {
    let group = container.cgroup()?;
    let watch = group.watch_oom()?;
    let mut kills = group.oom_kills().unwrap_or(0);
    while container.is_alive() {
        if !event::wait_readable(&watch, Some(interval))? {
            print_stats(container)?;
            continue;
        }
        watch.drain()?;
        // The watch also wakes when the group goes away.
        let Ok(now) = group.oom_kills() else { break };
        if now > kills {
            tell(&Event { kind: "oom", id: &container.id, data: None })?;
        }
        kills = now;
    }
    Ok(0)
}

/// Go's durations, as far as anybody writes them here: `5s`, `500ms`, `1m`, `1m30s`.
fn duration(text: &str) -> CliResult<Duration> {
    let wrong = || CliError::text("duration interval must be greater than 0");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(unit_at);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        rest = tail;
    }
    if total.is_zero() { Err(wrong()) } else { Ok(total) }
}

/// The form of runc `types/events.go`.
fn document(stats: &Stats) -> Value {
    let no_limit = |value: u64| if value == u64::MAX { 0 } else { value };
    let details: Map<String, Value> =
        stats.memory.details.iter().map(|(key, value)| (key.clone(), (*value).into())).collect();
    let detail = |key: &str| stats.memory.details.iter().find(|(k, _)| k == key).map_or(0, |(_, v)| *v);
    json!({
        "cpu": {
            "usage": {
                "total": stats.cpu.total,
                "percpu": stats.cpu.per_cpu,
                "kernel": stats.cpu.system,
                "user": stats.cpu.user,
            },
            "throttling": {
                "periods": stats.cpu.periods,
                "throttledPeriods": stats.cpu.throttled_periods,
                "throttledTime": stats.cpu.throttled_time,
            },
        },
        "memory": {
            "cache": detail("cache").max(detail("file")),
            "usage": {
                "limit": stats.memory.limit,
                "usage": stats.memory.usage,
                "max": stats.memory.max_usage,
                "failcnt": stats.memory.failures,
            },
            "raw": details,
        },
        "pids": { "current": stats.pids.current, "limit": no_limit(stats.pids.limit) },
        "blkio": {
            "ioServiceBytesRecursive": entries(&stats.blkio_bytes),
            "ioServicedRecursive": entries(&stats.blkio_operations),
        },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn entries(entries: &[BlkioEntry]) -> Vec<Value> {
    let one =
        |e: &BlkioEntry| json!({ "major": e.major, "minor": e.minor, "op": e.operation, "value": e.value });
    entries.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        for bad in ["", "0s", "5", "-1s", "1x", "s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_form_is_runcs() {
        let mut stats = Stats::default();
        stats.memory.details.push(("cache".into(), 7));
        stats.pids.limit = u64::MAX;
        let document = document(&stats);
        assert_eq!(document["memory"]["cache"], 7);
        assert_eq!(document["pids"]["limit"], 0, "no limit");
        assert!(document["cpu"]["usage"]["total"].is_u64());
    }
}
