//! Starting a program of the host with one more descriptor than the standard three.

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
}
