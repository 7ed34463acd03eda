//! The files of a run directory that the shim writes (see `wharf_spec::shim`).

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::io::{self, Write};
use wharf_spec::shim::ExitRecord;
use wharf_sys::fault;

/// The socket's name.
pub(super) const SOCKET: &str = "shim.sock";

/// The run directory.
#[derive(Debug)]
pub(super) struct Records {
    dir: OwnedFd,
    /// The inode of our socket file: a successor for the same container may have put its own in its place.
    socket: Option<u64>,
}

impl Records {
    pub(super) fn new(dir: OwnedFd) -> Records {
        Records { dir, socket: None }
    }

    pub(super) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// `<pid> <start time in clock ticks since boot>\n`: together they name a process for good.
    pub(super) fn write_pid(&self, name: &str, pid: i32) -> io::Result<()> {
        let start = wharf_sys::process::start_time(pid).unwrap_or(0);
        self.replace(name, format!("{pid} {start}\n").as_bytes())
    }

    /// The exit, as JSON.
    pub(super) fn write_exit(&self, record: &ExitRecord) -> io::Result<()> {
        self.replace("exit", &serde_json::to_vec(record)?)
    }

    /// Readers see the old file or the new one. Not synced: the directory does not outlive the kernel.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fault::point("shim.record")?;
        let temporary = format!(".{name}.tmp");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(self.dir.as_fd(), &temporary, flags, Mode::from_raw_mode(0o600))?;
        std::fs::File::from(fd).write_all(bytes)?;
        Ok(rustix::fs::renameat(&self.dir, &temporary, &self.dir, name)?)
    }

    /// Whether the run directory is still there. A daemon that gives a start up removes it first and kills
    /// afterwards what there is: whoever comes later sees it here.
    pub(super) fn are_wanted(&self) -> bool {
        self.socket_inode().is_some()
    }

    /// The socket that is there now is ours.
    pub(super) fn own_socket(&mut self) {
        self.socket = self.socket_inode();
    }

    fn socket_inode(&self) -> Option<u64> {
        Some(rustix::fs::statat(&self.dir, SOCKET, AtFlags::SYMLINK_NOFOLLOW).ok()?.st_ino)
    }

    /// Removes our socket, if it is still ours.
    pub(super) fn remove_socket(&self) {
        if self.socket.is_some() && self.socket == self.socket_inode() {
            self.remove(SOCKET);
        }
    }

    pub(super) fn remove(&self, name: &str) {
        // Gone already is as good.
        let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_spec::shim::Timestamp;

    #[test]
    fn files_are_as_agreed() {
        let dir = std::env::temp_dir().join(format!("wharf-records-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let records = Records::new(std::fs::File::open(&dir).unwrap().into());
        records.write_pid("shim.pid", std::process::id() as i32).unwrap();
        let text = std::fs::read_to_string(dir.join("shim.pid")).unwrap();
        let (pid, start) = text.trim_end().split_once(' ').unwrap();
        assert_eq!(pid, std::process::id().to_string());
        assert!(start.parse::<u64>().unwrap() > 0);
        let at = Timestamp { seconds: 5, nanos: 6 };
        let exit = ExitRecord { code: 137, at, oom_killed: true, log_bytes_lost: 1 };
        records.write_exit(&exit).unwrap();
        let back: ExitRecord = serde_json::from_slice(&std::fs::read(dir.join("exit")).unwrap()).unwrap();
        assert_eq!(back, exit);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
