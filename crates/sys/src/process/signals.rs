//! Signal masks and dispositions of the calling thread and process.

use crate::raw::check;
use crate::{Context, Result};

/// The kernel's signal set has 64 bits; signal n is bit n - 1.
const SET_BYTES: usize = 8;
/// The last signal number.
const LAST_SIGNAL: i32 = 64;

/// Sets the calling thread's mask of blocked signals and returns the old one; bit n - 1 is signal n.
pub fn set_signal_mask(mask: u64) -> Result<u64> {
    change_mask(libc::SIG_SETMASK, mask)
}

/// Blocks further signals (by number) in the calling thread and returns the old mask.
pub fn block_signals(signals: &[i32]) -> Result<u64> {
    change_mask(libc::SIG_BLOCK, signals.iter().fold(0, |mask, signal| mask | 1 << (signal - 1)))
}

fn change_mask(how: i32, mask: u64) -> Result<u64> {
    let mut old = 0u64;
    // SAFETY: both sets are live and of the size given.
    let value = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &mask, &mut old, SET_BYTES) };
    check(value).map(|_| old).on("rt_sigprocmask", || format!("{mask:x}"))
}

/// Puts everything about signals into the state a new program expects: nothing blocked, nothing ignored.
pub fn reset_signals() -> Result<()> {
    for signal in 1..=LAST_SIGNAL {
        // SIGKILL and SIGSTOP cannot be set: nothing to reset there.
        let _ = set_disposition(signal, libc::SIG_DFL);
    }
    set_signal_mask(0).map(drop)
}

/// Ignores a signal in this process.
pub fn ignore_signal(signal: i32) -> Result<()> {
    set_disposition(signal, libc::SIG_IGN)
}

/// Has the signals that people end programs with end this process, even if it is the first of its pid
/// namespace, where they would be dropped otherwise. Undone by execve.
pub fn exit_on_termination_signals() {
    extern "C" fn exit(signal: libc::c_int) {
        // SAFETY: _exit may be called from a signal handler, touches no memory and does not return.
        unsafe { libc::_exit(128 + signal) }
    }
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: the handler has the right type and calls nothing that a handler may not. Where it cannot be
        // set, things are as they were.
        unsafe { libc::signal(signal, exit as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
}

/// The call itself, since libc keeps two signals for itself and would leave them as they were inherited.
fn set_disposition(signal: i32, disposition: libc::sighandler_t) -> Result<()> {
    // The kernel's struct sigaction differs between architectures in what follows the handler; it is zero
    // here.
    let action = [disposition, 0, 0, 0];
    let old = std::ptr::null_mut::<usize>();
    // SAFETY: `action` is at least as long as the kernel's struct; SIG_DFL and SIG_IGN run no code of ours.
    let value = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), old, SET_BYTES) };
    check(value).map(drop).on("rt_sigaction", || signal.to_string())
}
