//! Scheduling, placement and personality of a `config.json` (sources: OCI runtime-spec, config.md and
//! config-linux.md; runc `libcontainer/configs/config.go`, `specconv`, `configs/validate`).

use super::{Linux, OciResult, config, invalid};
use wharf_spec::tuning::{IoPriority, MemoryPolicy, Scheduler, Tuning};

/// Policies at their numbers (source: linux/sched.h).
const POLICIES: [&str; 7] =
    ["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];

/// Flags, each the bit of its place.
const FLAGS: [&str; 7] = [
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];

/// Memory policies at their numbers (source: linux/mempolicy.h).
pub(super) const MEMORY_MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// Their flags.
pub(super) const MEMORY_FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// More CPUs or memory nodes than any kernel is built for.
const MOST: u32 = 8192;

/// Everything of a process and of its container that is about this.
pub(super) fn tuning(process: &config::Process, linux: Option<&Linux>) -> OciResult<Tuning> {
    let affinity = process.exec_cpu_affinity.clone().unwrap_or_default();
    let cpus = |field: &str, list: &str| {
        numbers(list).or_else(|problem| invalid(format!("bad CPUAffinity.{field}: {problem}")))
    };
    let memory = linux.and_then(|linux| linux.memory_policy.as_ref());
    let personality = linux.and_then(|linux| linux.personality.as_ref());
    Ok(Tuning {
        scheduler: process.scheduler.as_ref().map(scheduler).transpose()?,
        io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
        initial_cpus: cpus("Initial", &affinity.initial)?,
        final_cpus: cpus("Final", &affinity.last)?,
        memory_policy: memory.map(memory_policy).transpose()?,
        personality: personality.map(domain).transpose()?,
    })
}

fn scheduler(from: &config::Scheduler) -> OciResult<Scheduler> {
    let policy = from.policy.as_str();
    let Some(number) = POLICIES.iter().position(|name| *name == policy) else {
        return match policy {
            "" => invalid("scheduler policy is required"),
            _ => invalid(format!("invalid scheduler policy: {policy}")),
        };
    };
    if matches!(policy, "SCHED_OTHER" | "SCHED_BATCH") && !(-20..=19).contains(&from.nice) {
        return invalid(format!("invalid scheduler.nice: {} when scheduler.policy is {policy}", from.nice));
    }
    if from.priority != 0 && !matches!(policy, "SCHED_FIFO" | "SCHED_RR") {
        return invalid("scheduler.priority can only be specified for SchedFIFO or SchedRR policy");
    }
    if policy != "SCHED_DEADLINE" && (from.runtime, from.deadline, from.period) != (0, 0, 0) {
        return invalid("scheduler runtime/deadline/period can only be specified for SchedDeadline policy");
    }
    let Ok(priority) = u32::try_from(from.priority) else {
        return invalid(format!("invalid scheduler.priority: {}", from.priority));
    };
    let mut flags = 0;
    for flag in &from.flags {
        match FLAGS.iter().position(|name| name == flag) {
            Some(bit) => flags |= 1 << bit,
            None => return invalid(format!("invalid scheduler flag: {flag}")),
        }
    }
    Ok(Scheduler {
        policy: number as u32,
        flags,
        nice: from.nice,
        priority,
        runtime: from.runtime,
        deadline: from.deadline,
        period: from.period,
    })
}

fn io_priority(from: &config::IoPriority) -> OciResult<IoPriority> {
    let level = match u32::try_from(from.priority) {
        Ok(level @ 0..=7) => level,
        _ => return invalid(format!("invalid ioPriority.Priority: {}", from.priority)),
    };
    match ["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"].iter().position(|n| *n == from.class) {
        Some(class) => Ok(IoPriority { class: class as u32 + 1, level }),
        None => invalid(format!("invalid ioPriority.Class: {:?}", from.class)),
    }
}

fn memory_policy(from: &config::MemoryPolicy) -> OciResult<MemoryPolicy> {
    let Some(mode) = MEMORY_MODES.iter().position(|name| *name == from.mode) else {
        return invalid(format!("invalid memory policy mode {:?}", from.mode));
    };
    let nodes = match numbers(&from.nodes) {
        Ok(nodes) => nodes,
        Err(problem) => return invalid(format!("invalid memory policy nodes {:?}: {problem}", from.nodes)),
    };
    match from.mode.as_str() {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if !nodes.is_empty() => {
            return invalid(format!("memory policy mode requires 0 nodes but got {}", nodes.len()));
        }
        "MPOL_DEFAULT" | "MPOL_LOCAL" | "MPOL_PREFERRED" => {}
        _ if nodes.is_empty() => return invalid("memory policy mode requires at least one node but got 0"),
        _ => {}
    }
    let mut bits = mode as u32;
    for flag in &from.flags {
        match MEMORY_FLAGS.iter().find(|(name, _)| name == flag) {
            Some((_, bit)) => bits |= bit,
            None => return invalid(format!("invalid memory policy flag {flag:?}")),
        }
    }
    Ok(MemoryPolicy { mode: bits, nodes })
}

fn domain(from: &config::Personality) -> OciResult<u32> {
    match from.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => invalid(format!("invalid personality domain {other}")),
    }
}

/// `0-2,5` as numbers, each once, in order; what is wrong with it otherwise.
fn numbers(list: &str) -> Result<Vec<u32>, String> {
    let number = |text: &str| {
        let number = text.trim().parse::<u32>().map_err(|error| format!("{text:?}: {error}"))?;
        if number < MOST { Ok(number) } else { Err(format!("{number} is out of range")) }
    };
    let mut all = std::collections::BTreeSet::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(format!("invalid range {part:?}"));
        }
        all.extend(first..=last);
    }
    Ok(all.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(process: &str, linux: &str) -> Result<Tuning, String> {
        let linux: Linux = serde_json::from_str(linux).unwrap();
        tuning(&serde_json::from_str(process).unwrap(), Some(&linux)).map_err(|error| error.to_string())
    }

    #[test]
    fn words_become_the_kernels_numbers() {
        let process = r#"{"scheduler":{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_DL_OVERRUN"],"runtime":1,
            "deadline":2,"period":3},"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":4},
            "execCPUAffinity":{"initial":"0-1, 3,","final":"2"}}"#;
        let linux = r#"{"personality":{"domain":"LINUX32"},
            "memoryPolicy":{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES"]}}"#;
        let got = convert(process, linux).unwrap();
        let scheduler =
            Scheduler { policy: 6, flags: 4, runtime: 1, deadline: 2, period: 3, ..Scheduler::default() };
        assert_eq!(got.scheduler, Some(scheduler));
        assert_eq!(got.io_priority, Some(IoPriority { class: 2, level: 4 }));
        assert_eq!((got.initial_cpus, got.final_cpus), (vec![0, 1, 3], vec![2]));
        assert_eq!(got.memory_policy, Some(MemoryPolicy { mode: 0x8002, nodes: vec![0] }));
        assert_eq!(got.personality, Some(8));
        assert_eq!(convert("{}", "{}").unwrap(), Tuning::default());
    }

    #[test]
    fn what_runc_refuses_is_refused() {
        for (process, linux, text) in [
            (r#"{"scheduler":{}}"#, "{}", "scheduler policy is required"),
            (r#"{"scheduler":{"policy":"X"}}"#, "{}", "invalid scheduler policy: X"),
            (
                r#"{"scheduler":{"policy":"SCHED_BATCH","nice":20}}"#,
                "{}",
                "invalid scheduler.nice: 20 when scheduler.policy is SCHED_BATCH",
            ),
            (
                r#"{"scheduler":{"policy":"SCHED_IDLE","priority":1}}"#,
                "{}",
                "scheduler.priority can only be specified for SchedFIFO or SchedRR policy",
            ),
            (r#"{"scheduler":{"policy":"SCHED_RR","flags":["F"]}}"#, "{}", "invalid scheduler flag: F"),
            (
                r#"{"ioPriority":{"class":"IOPRIO_CLASS_RT","priority":8}}"#,
                "{}",
                "invalid ioPriority.Priority: 8",
            ),
            (r#"{"ioPriority":{"class":"BE"}}"#, "{}", "invalid ioPriority.Class: \"BE\""),
            (r#"{"execCPUAffinity":{"final":"3-1"}}"#, "{}", "bad CPUAffinity.Final: invalid range \"3-1\""),
            ("{}", r#"{"personality":{"domain":"BSD"}}"#, "invalid personality domain BSD"),
            ("{}", r#"{"memoryPolicy":{}}"#, "invalid memory policy mode \"\""),
            (
                "{}",
                r#"{"memoryPolicy":{"mode":"MPOL_DEFAULT","nodes":"0-7"}}"#,
                "memory policy mode requires 0 nodes but got 8",
            ),
            (
                "{}",
                r#"{"memoryPolicy":{"mode":"MPOL_BIND"}}"#,
                "memory policy mode requires at least one node but got 0",
            ),
        ] {
            assert_eq!(convert(process, linux).unwrap_err(), text);
        }
        let far = convert("{}", r#"{"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0-98765"}}"#).unwrap_err();
        assert!(far.starts_with("invalid memory policy nodes \"0-98765\""), "{far}");
    }
}
