//! Scheduling, placement and personality of the calling thread.

use crate::raw::check;
use crate::{Context, Result};
use wharf_spec::tuning::{IoPriority, MemoryPolicy, Scheduler};

/// `struct sched_attr` (source: linux/sched/types.h), in its first and shortest form.
#[repr(C)]
struct SchedulerAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets CPU scheduling (sched_setattr(2)).
pub fn set_scheduler(wanted: &Scheduler) -> Result<()> {
    let attributes = SchedulerAttributes {
        size: size_of::<SchedulerAttributes>() as u32,
        policy: wanted.policy,
        flags: wanted.flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    };
    // SAFETY: the attributes are live, have the kernel's layout and tell their size.
    let value = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &attributes, 0) };
    check(value).map(drop).on("sched_setattr", || format!("policy {}", wanted.policy))
}

/// Sets I/O scheduling (ioprio_set(2)).
pub fn set_io_priority(wanted: IoPriority) -> Result<()> {
    /// IOPRIO_WHO_PROCESS
    const PROCESS: i32 = 1;
    /// IOPRIO_CLASS_SHIFT
    const CLASS_SHIFT: u32 = 13;
    let word = wanted.class << CLASS_SHIFT | wanted.level;
    // SAFETY: integers only.
    let value = unsafe { libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, word) };
    check(value).map(drop).on("ioprio_set", || format!("class {} level {}", wanted.class, wanted.level))
}

/// Lets the caller run on these CPUs only (sched_setaffinity(2)).
pub fn set_cpus(cpus: &[u32]) -> Result<()> {
    set_mask(&bits(cpus))
}

/// Lets the caller run on every CPU that its control group has.
pub fn set_all_cpus() -> Result<()> {
    /// More CPUs than any kernel is built for.
    const CPUS: usize = 8192;
    set_mask(&[u64::MAX; CPUS / 64])
}

fn set_mask(mask: &[u64]) -> Result<()> {
    // SAFETY: pointer and length in bytes are of one live slice.
    let value = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr()) };
    check(value).map(drop).on("sched_setaffinity", || "self")
}

/// Sets where memory is taken from (set_mempolicy(2)).
pub fn set_memory_policy(wanted: &MemoryPolicy) -> Result<()> {
    let mask = bits(&wanted.nodes);
    // The kernel takes one bit less than it is told of, and no mask only without an address.
    let (address, count) = match wanted.nodes.is_empty() {
        true => (std::ptr::null(), 0),
        false => (mask.as_ptr(), mask.len() * 64 + 1),
    };
    // SAFETY: null, or a live mask with as many bits as are read.
    let value = unsafe { libc::syscall(libc::SYS_set_mempolicy, wanted.mode, address, count) };
    check(value).map(drop).on("set_mempolicy", || format!("mode {:#x}", wanted.mode))
}

/// Sets the execution domain (personality(2)).
pub fn set_personality(domain: u32) -> Result<()> {
    // SAFETY: integers only.
    let value = unsafe { libc::syscall(libc::SYS_personality, u64::from(domain)) };
    check(value).map(drop).on("personality", || domain.to_string())
}

/// Numbers as bits of words, never none.
fn bits(numbers: &[u32]) -> Vec<u64> {
    let most = numbers.iter().max().copied().unwrap_or(0) as usize;
    let mut words = vec![0u64; most / 64 + 1];
    for number in numbers {
        words[*number as usize / 64] |= 1 << (number % 64);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_bits() {
        assert_eq!(bits(&[]), [0]);
        assert_eq!(bits(&[0, 2, 64]), [0b101, 1]);
    }

    /// In a thread of their own: they are the thread's for good.
    #[test]
    fn they_take_effect_on_the_thread() {
        std::thread::spawn(|| {
            set_cpus(&[0]).unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
            set_all_cpus().unwrap();
            set_io_priority(IoPriority { class: 3, level: 0 }).unwrap();
            set_scheduler(&Scheduler { policy: libc::SCHED_BATCH as u32, nice: 19, ..Scheduler::default() })
                .unwrap();
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
            assert_eq!((fields[16], fields[38]), ("19", "3"), "{stat}");
            set_memory_policy(&MemoryPolicy { mode: 3, nodes: vec![0] }).unwrap();
            set_memory_policy(&MemoryPolicy { mode: 0, nodes: Vec::new() }).unwrap();
            set_personality(8).unwrap();
            let release = rustix::system::uname();
            assert_ne!(release.machine().to_str().unwrap(), "x86_64");
            assert!(set_scheduler(&Scheduler { policy: 99, ..Scheduler::default() }).is_err());
        })
        .join()
        .unwrap();
    }
}
