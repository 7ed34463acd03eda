//! Starting a program of the host: with one more descriptor than the standard three, or with signals as a
//! program expects them.

use rustix::fd::{AsFd, AsRawFd};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Starts a command whose process has `fd` open as `number` too, besides its standard streams.
pub fn spawn_with_fd(command: &mut Command, fd: impl AsFd, number: i32) -> io::Result<Child> {
    // Takes the number if it is free, so that std's own pipe, which tells of a failed execve, does not get
    // it. Where it is taken by something that lasts, the pipe cannot get it either.
    let _placeholder = rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), number)?;
    let raw = fd.as_fd().as_raw_fd();
    let place = move || {
        let done = if raw == number {
            // SAFETY: fcntl with F_SETFD touches no memory and is async-signal-safe.
            unsafe { libc::fcntl(raw, libc::F_SETFD, 0) }
        } else {
            // SAFETY: dup2 on numbers touches no memory and is async-signal-safe.
            unsafe { libc::dup2(raw, number) }
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure makes one async-signal-safe call and allocates nothing.
    unsafe { command.pre_exec(place) };
    command.spawn()
}

/// Starts a command whose process has no signal blocked or ignored, whatever the caller blocks and ignores.
pub fn spawn_with_default_signals(command: &mut Command) -> io::Result<Child> {
    let reset = || super::reset_signals().map_err(|_| io::Error::last_os_error());
    // SAFETY: the closure makes system calls that are async-signal-safe and allocates nothing unless one
    // fails, which with valid signal numbers none does.
    unsafe { command.pre_exec(reset) };
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    /// One that no other test's descriptors come near.
    const NUMBER: i32 = 150;

    #[test]
    fn the_descriptor_arrives_under_its_number() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before ").unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo here >> /proc/self/fd/150"]);
        assert!(spawn_with_fd(&mut command, &file, NUMBER).unwrap().wait().unwrap().success());
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before here\n");
        assert!(spawn_with_fd(&mut Command::new("/nosuch/program"), &file, NUMBER).is_err());
    }

    #[test]
    fn no_signal_is_blocked_or_ignored() {
        // On a thread of its own, whose mask the child inherits; the disposition is the whole process's.
        std::thread::spawn(|| {
            crate::process::ignore_signal(12).unwrap();
            crate::process::block_signals(&[10]).unwrap();
            let mut command = Command::new("/bin/cat");
            command.arg("/proc/self/status").stdout(std::process::Stdio::piped());
            let output = spawn_with_default_signals(&mut command).unwrap().wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
                assert!(text.contains(line), "{text}");
            }
        })
        .join()
        .unwrap();
    }
}
