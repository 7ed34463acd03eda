//! What a new process and its parent say to each other until the program runs.
//!
//! A SOCK_SEQPACKET pair, close-on-exec: its end of file without a failure before it is the good news that
//! execve happened. One letter a packet, with bytes or a descriptor behind it.

use crate::error::{Error, Result, Step};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use wharf_spec::shim::Failure;
use wharf_sys::seqpacket;

/// From the new process.
#[derive(Debug)]
pub(crate) enum Report {
    /// It is in its user namespace and waits for the id maps and limits.
    WantsMaps,
    /// Its root is built: limits may be set now.
    WantsLimits,
    /// Its filter is installed and has this descriptor number for whoever decides about calls.
    Listener(i32),
    /// The mounts are made: hooks of the runtime's namespace may run.
    WantsHooks,
    /// The other end of its terminal.
    Terminal(OwnedFd),
    /// Something was skipped.
    Warning(String),
    /// All is set up; what follows is the filter and execve.
    Ready,
    /// A sibling made by an intermediate process: its pid.
    Sibling(i32),
    /// It gives up.
    Failed(Failure),
}

/// The parent's end.
#[derive(Debug)]
pub(crate) struct ParentEnd(OwnedFd);

/// The new process's end.
#[derive(Debug)]
pub(crate) struct ChildEnd(OwnedFd);

/// A connected pair.
pub(crate) fn pair() -> Result<(ParentEnd, ChildEnd)> {
    let (parent, child) = seqpacket::pair().step(|| "init pipe")?;
    Ok((ParentEnd(parent), ChildEnd(child)))
}

impl ParentEnd {
    /// The next report; `None` when the other side is closed everywhere.
    pub(crate) fn next(&self) -> Result<Option<Report>> {
        let Some(mut packet) = seqpacket::recv(&self.0).step(|| "init pipe")? else { return Ok(None) };
        let unknown = || Error::refused("init pipe", "a report of unknown form");
        let (letter, rest) = packet.bytes.split_first().ok_or_else(unknown)?;
        let text = || String::from_utf8_lossy(rest).into_owned();
        Ok(Some(match letter {
            b'M' => Report::WantsMaps,
            b'H' => Report::WantsHooks,
            b'L' => Report::WantsLimits,
            b'N' => Report::Listener(text().parse().map_err(|_| unknown())?),
            b'R' => Report::Ready,
            b'W' => Report::Warning(text()),
            b'S' => Report::Sibling(text().parse().map_err(|_| unknown())?),
            b'T' => Report::Terminal(packet.fds.pop().ok_or_else(unknown)?),
            b'E' => Report::Failed(serde_json::from_slice(rest).map_err(|_| unknown())?),
            _ => return Err(unknown()),
        }))
    }

    /// Lets the new process go on after [`Report::WantsMaps`] or [`Report::WantsHooks`].
    pub(crate) fn go_on(&self) -> Result<()> {
        seqpacket::send(&self.0, b"G", &[]).step(|| "init pipe")
    }
}

impl AsFd for ParentEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for ChildEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ChildEnd {
    /// Whether the parent still holds its end. It never speaks first, so anything to read is its end of file.
    pub(crate) fn parent_is_there(&self) -> bool {
        !wharf_sys::event::wait_readable(&self.0, Some(std::time::Duration::ZERO)).unwrap_or(false)
    }

    pub(crate) fn warn(&self, warning: &str) -> Result<()> {
        self.send(b'W', warning.as_bytes())
    }

    pub(crate) fn ready(&self) -> Result<()> {
        self.send(b'R', &[])
    }

    pub(crate) fn terminal(&self, master: &OwnedFd) -> Result<()> {
        seqpacket::send(&self.0, b"T", &[master.as_fd()]).step(|| "init pipe")
    }

    pub(crate) fn sibling(&self, pid: i32) -> Result<()> {
        self.send(b'S', pid.to_string().as_bytes())
    }

    /// Waits until the parent has written the id maps.
    pub(crate) fn await_maps(&self) -> Result<()> {
        self.send(b'M', &[])?;
        self.await_go()
    }

    /// Waits until the parent has run its hooks.
    pub(crate) fn await_hooks(&self) -> Result<()> {
        self.send(b'H', &[])?;
        self.await_go()
    }

    /// Waits until the parent has set its limits.
    pub(crate) fn await_limits(&self) -> Result<()> {
        self.send(b'L', &[])?;
        self.await_go()
    }

    /// Waits until the parent has handed the filter's descriptor on. Told with write(2), the one call that no
    /// filter may ask somebody about.
    pub(crate) fn await_listener(&self, number: i32) -> Result<()> {
        seqpacket::send_by_write(&self.0, format!("N{number}").as_bytes()).step(|| "init pipe")?;
        self.await_go()
    }

    fn await_go(&self) -> Result<()> {
        match seqpacket::recv(&self.0).step(|| "init pipe")? {
            Some(_) => Ok(()),
            None => Err(Error::refused("init pipe", "the parent gave up")),
        }
    }

    /// Tells why this process gives up. Nothing more can be done when that fails: the parent sees the exit.
    pub(crate) fn fail(&self, error: Error) {
        let failure = error.into_init_failure();
        if let Ok(json) = serde_json::to_vec(&failure) {
            let _ = self.send(b'E', &json);
        }
    }

    fn send(&self, letter: u8, rest: &[u8]) -> Result<()> {
        let mut bytes = vec![letter];
        bytes.extend_from_slice(rest);
        seqpacket::send(&self.0, &bytes, &[]).step(|| "init pipe")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_arrive_in_order_and_end() {
        let (parent, child) = pair().unwrap();
        child.warn("careful").unwrap();
        child.sibling(4711).unwrap();
        child.fail(Error::refused("step", "problem"));
        parent.go_on().unwrap();
        child.await_maps().unwrap();
        drop(child);
        assert!(matches!(parent.next().unwrap(), Some(Report::Warning(text)) if text == "careful"));
        assert!(matches!(parent.next().unwrap(), Some(Report::Sibling(4711))));
        let Some(Report::Failed(failure)) = parent.next().unwrap() else { panic!("no failure") };
        assert!(failure.message.ends_with("step: problem"), "{failure:?}");
        assert!(matches!(parent.next().unwrap(), Some(Report::WantsMaps)));
        assert!(parent.next().unwrap().is_none());
    }
}
