//! A process the shim started: the container's main process or an exec.

use super::input::Input;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::time::Instant;
use wharf_logs::Stream;
use wharf_spec::plan::TerminalSize;
use wharf_spec::shim::{ExitRecord, Timestamp};

/// The shim's ends of a process's standard streams, all non-blocking.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    /// Of a terminal, for its size; input and output are copies of it.
    pub(crate) terminal: Option<OwnedFd>,
}

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) ends: Ends,
}

/// What happens to the input when its first client is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtInputEnd {
    /// It is closed (`StdinOnce`).
    Close,
    /// It stays for other clients.
    Keep,
}

/// The process.
#[derive(Debug)]
pub(super) struct Process {
    /// `None` for the main process.
    pub(super) exec: Option<String>,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) input: Input,
    pub(super) at_input_end: AtInputEnd,
    pub(super) ending: Option<Ending>,
    /// Set when it has ended and its output is delivered.
    pub(super) exit: Option<ExitRecord>,
    terminal: Option<OwnedFd>,
    stdout: Option<Output>,
    stderr: Option<Output>,
}

/// A process that has ended, but whose output may not be all read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub(super) code: i32,
    pub(super) at: Timestamp,
    /// When other holders of the output are waited for no longer.
    pub(super) deadline: Instant,
}

#[derive(Debug)]
pub(super) struct Output {
    pub(super) fd: OwnedFd,
    /// Waited for in the poller.
    pub(super) is_polled: bool,
}

impl Process {
    pub(super) fn new(exec: Option<String>, started: Started, at_input_end: AtInputEnd) -> Process {
        let Started { pid, pidfd, ends } = started;
        let output = |fd| Output { fd, is_polled: false };
        Process {
            exec,
            pid,
            pidfd,
            input: Input::new(ends.stdin),
            at_input_end,
            ending: None,
            exit: None,
            terminal: ends.terminal,
            stdout: ends.stdout.map(output),
            stderr: ends.stderr.map(output),
        }
    }

    pub(super) fn output(&mut self, stream: Stream) -> &mut Option<Output> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    pub(super) fn outputs_are_closed(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    pub(super) fn is_running(&self) -> bool {
        self.ending.is_none()
    }

    /// A client's end of input ends the process's input.
    pub(super) fn ends_with_client(&self) -> bool {
        self.at_input_end == AtInputEnd::Close && !self.has_terminal()
    }

    pub(super) fn resize(&self, size: TerminalSize) -> Result<(), wharf_sys::Error> {
        match &self.terminal {
            Some(terminal) => wharf_sys::pty::set_size(terminal, size),
            // As Docker: the size of what has none is set without effect.
            None => Ok(()),
        }
    }

    /// Gives up everything but the record.
    pub(super) fn close(&mut self) {
        self.input.close();
        self.terminal = None;
        self.stdout = None;
        self.stderr = None;
    }
}

/// What reading an output gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// It is closed.
    End,
}

/// Reads without waiting.
pub(super) fn read_now(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Read {
    loop {
        match rustix::io::read(fd.as_fd(), &mut *buffer) {
            Ok(0) => return Read::End,
            Ok(count) => return Read::Bytes(count),
            Err(Errno::AGAIN) => return Read::Nothing,
            Err(Errno::INTR) => {}
            // EIO is a terminal's way of saying that its other end is closed.
            Err(_) => return Read::End,
        }
    }
}
