//! What a process may have of the kernel besides its identity and limits, all of it rarely asked for.
//!
//! Only OCI documents ask for it, never the daemon: none of this travels in a plan that is written down or sent
//! (source: OCI runtime-spec, config.md "Linux Process", config-linux.md "Personality", "Memory Policy").

/// Scheduling, placement and personality of one process. The default changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tuning {
    /// CPU scheduling (sched_setattr(2)).
    pub scheduler: Option<Scheduler>,
    /// I/O scheduling (ioprio_set(2)).
    pub io_priority: Option<IoPriority>,
    /// CPUs of a further process while it is brought into the container; empty: as they are.
    pub initial_cpus: Vec<u32>,
    /// CPUs of a further process once it is there; empty: all that its control group has.
    pub final_cpus: Vec<u32>,
    /// Where its memory is taken from (set_mempolicy(2)).
    pub memory_policy: Option<MemoryPolicy>,
    /// Execution domain (personality(2)).
    pub personality: Option<u32>,
}

/// CPU scheduling, in the kernel's numbers (source: `struct sched_attr`, linux/sched/types.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the fields of sched_setattr(2)")]
pub struct Scheduler {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// I/O scheduling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_*`: 1 realtime, 2 best effort, 3 idle.
    pub class: u32,
    /// 0 (first) to 7.
    pub level: u32,
}

/// Where memory is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// `MPOL_*` with its `MPOL_F_*` bits.
    pub mode: u32,
    /// Numbers of memory nodes.
    pub nodes: Vec<u32>,
}
