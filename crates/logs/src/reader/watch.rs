//! An inotify watch on a log's directory: it sees writes to the current file and rotations.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::path::Path;

/// The watch.
#[derive(Debug)]
pub(super) struct Watch {
    fd: OwnedFd,
    /// The caller was told to wait: there may be events to throw away.
    waited: bool,
}

impl Watch {
    /// `None` when the kernel has no more of them for us.
    pub(super) fn new(log: &Path) -> Option<Watch> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, log.parent()?, events).ok()?;
        Some(Watch { fd, waited: false })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn wait_next(&mut self) {
        self.waited = true;
    }

    /// Before files are looked at again, so that later events wake us again.
    pub(super) fn drain_if_waited(&self) {
        let mut buffer = [0u8; 4096];
        while self.waited && rustix::io::read(&self.fd, &mut buffer[..]).is_ok_and(|n| n > 0) {}
    }
}
