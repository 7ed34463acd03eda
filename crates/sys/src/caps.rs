//! Capability sets of the calling thread as masks: bit n is capability n (source: capabilities(7)).

use crate::raw::{check, prctl};
use crate::{Context, Result};
use rustix::io::Errno;
use std::sync::OnceLock;

/// CAP_SYS_ADMIN, for asking [`own`].
pub const SYS_ADMIN: u32 = 21;
/// CAP_SYS_RESOURCE.
pub const SYS_RESOURCE: u32 = 24;

/// The three sets of capget(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the sets of capabilities(7)")]
pub struct Sets {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3
const VERSION: u32 = 0x2008_0522;

/// The calling thread's sets.
pub fn own() -> Result<Sets> {
    let header = Header { version: VERSION, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: header and data are live and of the sizes that this version of the call uses.
    let value = unsafe { libc::syscall(libc::SYS_capget, &header, data.as_mut_ptr()) };
    check(value).on("capget", || "self")?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(Sets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Whether the calling thread may use the capability now.
pub fn has(capability: u32) -> bool {
    own().is_ok_and(|sets| sets.effective >> capability & 1 == 1)
}

/// Sets the calling thread's sets (capset(2)).
pub fn set(sets: &Sets) -> Result<()> {
    let header = Header { version: VERSION, pid: 0 };
    let half = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: header and data are live and of the sizes that this version of the call uses.
    let value = unsafe { libc::syscall(libc::SYS_capset, &header, data.as_ptr()) };
    check(value).map(drop).on("capset", || format!("{sets:x?}"))
}

/// The number of the last capability this kernel has.
pub fn last() -> u32 {
    static LAST: OnceLock<u32> = OnceLock::new();
    let known = |capability: &u32| prctl(libc::PR_CAPBSET_READ, (*capability).into(), 0).is_ok();
    *LAST.get_or_init(|| (0..64).take_while(known).last().unwrap_or(0))
}

/// Mask of all capabilities this kernel has.
pub fn all() -> u64 {
    u64::MAX >> (63 - last())
}

/// The calling thread's bounding set.
pub fn bounding() -> u64 {
    let has = |capability: u64| matches!(prctl(libc::PR_CAPBSET_READ, capability, 0), Ok(1));
    (0..64).filter(|capability| has(*capability)).fold(0, |mask, capability| mask | 1 << capability)
}

/// Drops from the bounding set whatever is not in `keep`. Needs CAP_SETPCAP.
pub fn limit_bounding(keep: u64) -> Result<()> {
    for capability in 0..64u64 {
        if keep >> capability & 1 == 1 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Ok(_) => {}
            // Beyond the last capability.
            Err(Errno::INVAL) => break,
            Err(errno) => {
                return Err(errno).on("prctl(PR_CAPBSET_DROP)", || format!("capability {capability}"));
            }
        }
    }
    Ok(())
}

/// Makes the ambient set exactly `mask`; its members must be permitted and inheritable.
pub fn set_ambient(mask: u64) -> Result<()> {
    let clear = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0);
    clear.map(drop).on("prctl(PR_CAP_AMBIENT)", || "clear")?;
    for capability in (0..64u64).filter(|capability| mask >> capability & 1 == 1) {
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability)
            .map(drop)
            .on("prctl(PR_CAP_AMBIENT)", || format!("capability {capability}"))?;
    }
    Ok(())
}

/// Keeps the permitted set over a change of all user ids to non-zero (PR_SET_KEEPCAPS), until execve.
pub fn keep_over_setuid(keep: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, keep.into(), 0).map(drop).on("prctl(PR_SET_KEEPCAPS)", || "self")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Capabilities belong to threads: whatever `body` does ends with its thread.
    fn on_thread(body: impl FnOnce() + Send + 'static) {
        if let Err(panic) = std::thread::spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    }

    #[test]
    fn sets_agree_with_proc() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let sets = own().unwrap();
        assert_eq!(sets.effective, line("CapEff:"));
        assert_eq!(sets.permitted, line("CapPrm:"));
        assert_eq!(bounding(), line("CapBnd:"));
        let last_text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
        assert_eq!(last().to_string(), last_text.trim());
        assert_eq!(all().count_ones(), last() + 1);
    }

    #[test]
    fn dropping_takes_effect() {
        on_thread(|| {
            let keep = 0b1 | 1 << 8;
            limit_bounding(keep).unwrap();
            assert_eq!(bounding(), keep);
            set(&Sets { effective: 0b1, permitted: 0b1, inheritable: 0b1 }).unwrap();
            assert_eq!(own().unwrap(), Sets { effective: 0b1, permitted: 0b1, inheritable: 0b1 });
            set_ambient(0b1).unwrap();
            assert!(set_ambient(0b10).is_err());
            assert!(!has(SYS_ADMIN));
        });
    }
}
