//! Installing a system call filter (source: seccomp(2)). Compiling one is `runtime::seccomp`'s business.

use crate::raw::{check, own};
use crate::{Context, Error, Result};
use rustix::fd::OwnedFd;

/// One instruction of a classic BPF program (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SockFilter {
    /// Operation.
    pub code: u16,
    /// Instructions skipped when true.
    pub jt: u8,
    /// Instructions skipped when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// `SECCOMP_FILTER_FLAG_LOG`: actions other than ALLOW may be logged.
pub const FLAG_LOG: u32 = 2;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: no speculative store bypass mitigation for this filter's sake.
pub const FLAG_SPEC_ALLOW: u32 = 4;

/// The most instructions a program can have (BPF_MAXINSNS).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    filter: *const SockFilter,
}

/// Puts the calling thread, and what it becomes by execve and fork, under the filter, for good. Needs
/// no_new_privs or CAP_SYS_ADMIN. `flags` are `FLAG_*`.
pub fn install(program: &[SockFilter], flags: u32) -> Result<()> {
    set_filter(program, flags).map(drop)
}

/// The same for a filter that asks somebody about calls: whoever holds the descriptor decides (source:
/// seccomp_unotify(2)).
pub fn install_with_listener(program: &[SockFilter], flags: u32) -> Result<OwnedFd> {
    /// SECCOMP_FILTER_FLAG_NEW_LISTENER
    const NEW_LISTENER: u32 = 8;
    let fd = set_filter(program, flags | NEW_LISTENER)?;
    own(fd).on("seccomp", || "listener")
}

fn set_filter(program: &[SockFilter], flags: u32) -> Result<libc::c_long> {
    if program.is_empty() || program.len() > MAX_INSTRUCTIONS {
        let problem = format!("{} instructions, 1 to {MAX_INSTRUCTIONS} are possible", program.len());
        return Err(Error::malformed("seccomp filter", problem));
    }
    let raw = Program { length: program.len() as u16, filter: program.as_ptr() };
    // SAFETY: `raw` points to as many live instructions as it says; the kernel copies and checks them.
    let value = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw) };
    check(value).on("seccomp", || format!("{} instructions", program.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_takes_effect_on_the_thread() {
        let errno = |k: u32| SockFilter { code: 0x06, jt: 0, jf: 0, k };
        let program = [
            SockFilter { code: 0x20, jt: 0, jf: 0, k: 0 },
            SockFilter { code: 0x15, jt: 0, jf: 1, k: libc::SYS_getppid as u32 },
            errno(0x0005_0000 | libc::EOWNERDEAD as u32),
            errno(0x7fff_0000),
        ];
        let thread = std::thread::spawn(move || {
            install(&program, 0).unwrap();
            // SAFETY: getppid takes no arguments.
            let value = unsafe { libc::syscall(libc::SYS_getppid) };
            (value, crate::raw::last_errno())
        });
        assert_eq!(thread.join().unwrap(), (-1, rustix::io::Errno::OWNERDEAD));
        assert!(install(&[], 0).is_err());
        assert!(install(&[errno(0); 5000], 0).is_err());
    }
}
