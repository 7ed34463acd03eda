//! Staying with a process until it ends: signals are passed on, a terminal is connected to the caller's.

use super::error::{CliError, CliResult};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use wharf_sys::pty::{self, RawMode};
use wharf_sys::{event, process, seqpacket};

const SIGCHLD: i32 = 17;
const SIGWINCH: i32 = 28;
/// Faults of this process itself, and what cannot be caught.
const OURS: [i32; 11] = [4, 5, 6, 7, 8, 9, 11, 19, 21, 22, 31];
const LAST_SIGNAL: i32 = 64;

/// Waits for the end of the process; its exit code.
pub(super) fn attend(pidfd: &OwnedFd, terminal: Option<OwnedFd>) -> CliResult<u8> {
    let collected: Vec<i32> = (1..=LAST_SIGNAL).filter(|number| !OURS.contains(number)).collect();
    process::block_signals(&collected)?;
    let signals = event::signalfd(&collected)?;
    match terminal {
        Some(master) => Relay::new(pidfd, &signals, master)?.run()?,
        None => wait(pidfd, &signals)?,
    }
    // 128 + a signal's number and a status both fit.
    Ok(process::wait(pidfd)?.code() as u8)
}

fn wait(pidfd: &OwnedFd, signals: &OwnedFd) -> CliResult<()> {
    loop {
        let mut fds = [readable(pidfd), readable(signals)];
        poll(&mut fds)?;
        let ended = !fds[0].revents().is_empty();
        pass_signals_on(pidfd, signals, None)?;
        if ended {
            return Ok(());
        }
    }
}

fn readable(fd: &impl AsFd) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::IN)
}

fn poll(fds: &mut [PollFd<'_>]) -> CliResult<()> {
    rustix::io::retry_on_intr(|| rustix::event::poll(fds, None))
        .map(drop)
        .map_err(|errno| CliError::io("poll", errno.into()))
}

fn pass_signals_on(pidfd: &OwnedFd, signals: &OwnedFd, relay: Option<&Relay<'_>>) -> CliResult<()> {
    while let Some(signal) = event::signalfd_next(signals)? {
        match (signal.number, relay) {
            (SIGCHLD, _) => {}
            (SIGWINCH, Some(relay)) => relay.resize(),
            // It may just have ended.
            (number, _) => drop(process::pidfd_send_signal(pidfd, number)),
        }
    }
    Ok(())
}

/// The caller's terminal and the process's, connected.
struct Relay<'a> {
    pidfd: &'a OwnedFd,
    signals: &'a OwnedFd,
    master: OwnedFd,
    host: OwnedFd,
    /// Read from the caller, not yet taken by the process.
    pending: Vec<u8>,
    input_open: bool,
    /// The process, or one of its children, still has its terminal open.
    output_open: bool,
}

impl<'a> Relay<'a> {
    fn new(pidfd: &'a OwnedFd, signals: &'a OwnedFd, master: OwnedFd) -> CliResult<Self> {
        // Neither side may stop the other: what the process does not read must not hold up what it writes.
        seqpacket::set_nonblocking(&master, true)?;
        let (host, pending) = (host_terminal()?, Vec::new());
        let relay = Self { pidfd, signals, master, host, pending, input_open: true, output_open: true };
        relay.resize();
        Ok(relay)
    }

    /// The process's terminal gets the size of the caller's, which may be gone.
    fn resize(&self) {
        if let Ok(size) = pty::size(&self.host) {
            let _ = pty::set_size(&self.master, size);
        }
    }

    fn run(mut self) -> CliResult<()> {
        let host = self.host.try_clone().map_err(|source| CliError::io("terminal", source))?;
        let _raw = RawMode::enter(host)?;
        while self.turn()? {}
        // What was written before the end.
        while self.output()? {}
        Ok(())
    }

    /// Waits and moves bytes; false when the process has ended.
    fn turn(&mut self) -> CliResult<bool> {
        let stdin = rustix::stdio::stdin();
        let mut terminal = PollFlags::IN;
        terminal.set(PollFlags::OUT, !self.pending.is_empty());
        // A set without events is still told of hang-ups, again and again: what is of no interest is left out.
        let mut fds = vec![readable(self.pidfd), readable(self.signals)];
        let output_at = self.output_open.then(|| {
            fds.push(PollFd::new(&self.master, terminal));
            fds.len() - 1
        });
        let input_at = (self.input_open && self.pending.is_empty()).then(|| {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
            fds.len() - 1
        });
        poll(&mut fds)?;
        let ready = |at: Option<usize>| at.is_some_and(|at| !fds[at].revents().is_empty());
        let (ended, output, input) = (ready(Some(0)), ready(output_at), ready(input_at));
        drop(fds);
        pass_signals_on(self.pidfd, self.signals, Some(self))?;
        if output {
            self.output()?;
        }
        if input {
            self.read_input(stdin);
        }
        self.write_input();
        Ok(!ended)
    }

    /// Moves what the process has written; false when there is nothing.
    fn output(&mut self) -> CliResult<bool> {
        let mut bytes = [0u8; 16384];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.master, &mut bytes)) {
            Err(Errno::AGAIN) => Ok(false),
            Ok(0) | Err(_) => {
                self.output_open = false;
                Ok(false)
            }
            Ok(count) => {
                write_all(rustix::stdio::stdout(), &bytes[..count])
                    .map_err(|errno| CliError::io("write", errno.into()))?;
                Ok(true)
            }
        }
    }

    fn read_input(&mut self, stdin: BorrowedFd<'_>) {
        let mut bytes = [0u8; 4096];
        match rustix::io::retry_on_intr(|| rustix::io::read(stdin, &mut bytes)) {
            Ok(0) => self.input_open = false,
            Ok(count) => self.pending.extend_from_slice(&bytes[..count]),
            Err(Errno::AGAIN) => {}
            Err(_) => self.input_open = false,
        }
    }

    fn write_input(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        match rustix::io::retry_on_intr(|| rustix::io::write(&self.master, &self.pending)) {
            Ok(count) => drop(self.pending.drain(..count)),
            Err(Errno::AGAIN) => {}
            // Nobody reads any more.
            Err(_) => self.pending.clear(),
        }
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = rustix::io::retry_on_intr(|| rustix::io::write(fd, bytes))?;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// The first standard stream that is a terminal, else the controlling one (source: runc `tty.go`).
fn host_terminal() -> CliResult<OwnedFd> {
    let streams = [rustix::stdio::stderr(), rustix::stdio::stdout(), rustix::stdio::stdin()];
    if let Some(terminal) = streams.into_iter().find(|fd| pty::is_terminal(fd)) {
        return rustix::io::fcntl_dupfd_cloexec(terminal, 3)
            .map_err(|errno| CliError::io("terminal", errno.into()));
    }
    rustix::fs::open("/dev/tty", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| CliError::io("open /dev/tty", errno.into()))
}
