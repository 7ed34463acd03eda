//! Starting a program of the host with one more descriptor than the standard three.

use rustix::fd::{AsFd, AsRawFd};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// Starts a command whose process has `fd` open as `number` too, besides its standard streams.
pub fn spawn_with_fd(command: &mut Command, fd: impl AsFd, number: i32) -> io::Result<Child> {
    // Takes the number if it is free, so that std's own pipe, which tells of a failed execve, does not get it.
    let _placeholder = std::fs::File::open("/dev/null")?;
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

    #[test]
    fn the_descriptor_arrives_under_its_number() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before ").unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo here >&7"]);
        assert!(spawn_with_fd(&mut command, &file, 7).unwrap().wait().unwrap().success());
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before here\n");
        assert!(spawn_with_fd(&mut Command::new("/nosuch/program"), &file, 7).is_err());
    }
}
