//! A process's standard input: what clients send, in the order it came.

use super::queue::Queue;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// Whether an input is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Condition {
    /// It stays as it is.
    Good,
    /// Nothing will be written any more: its reader is gone, or it was ended and all is written.
    Done,
}

/// The writing end, or nothing once it is closed.
#[derive(Debug, Default)]
pub(super) struct Input {
    fd: Option<OwnedFd>,
    queue: Queue,
    /// No more will come: closed when everything is written.
    ending: bool,
    /// Waited for in the poller.
    pub(super) is_polled: bool,
}

impl Input {
    /// `fd` is non-blocking; `None` for a process without input.
    pub(super) fn new(fd: Option<OwnedFd>) -> Input {
        Input { fd, ..Input::default() }
    }

    pub(super) fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }

    pub(super) fn is_open(&self) -> bool {
        self.fd.is_some()
    }

    /// Whether clients may be read: what they send is taken at once. A closed input takes everything, as
    /// nobody will ever read it.
    pub(super) fn has_room(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the descriptor's readiness matters.
    pub(super) fn is_waiting(&self) -> bool {
        self.fd.is_some() && !self.queue.is_empty()
    }

    /// Passes bytes on, keeping what is not taken at once.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Condition {
        let Some(fd) = self.fd.as_ref().filter(|_| !self.ending) else { return Condition::Good };
        let taken = if self.queue.is_empty() { write_now(fd, bytes) } else { Ok(0) };
        match taken {
            Ok(count) => self.queue.push(&bytes[count..]),
            Err(_) => return Condition::Done,
        }
        Condition::Good
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) -> Condition {
        let Some(fd) = &self.fd else { return Condition::Good };
        if self.queue.write_to(fd).is_err() || (self.ending && self.queue.is_empty()) {
            return Condition::Done;
        }
        Condition::Good
    }

    /// No more will come: it is done when what waits is written.
    pub(super) fn end(&mut self) -> Condition {
        self.ending = true;
        self.flush()
    }

    /// Closes it. It must not be in the poller any more.
    pub(super) fn close(&mut self) {
        self.fd = None;
        self.queue.clear();
    }
}

fn write_now(fd: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(fd.as_fd(), &bytes[written..]) {
            Ok(count) => written += count,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(written)
}
