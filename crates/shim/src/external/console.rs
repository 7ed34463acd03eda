//! Receiving a terminal from a runtime (`--console-socket`): it connects and sends the terminal's other end in
//! one message (source: runc `docs/terminals.md`).

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use std::ffi::OsStr;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wharf_spec::plan::TerminalSize;
use wharf_sys::{event, pty};

const NAME: &str = "console.sock";

/// A runtime that has ended well has sent it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The socket, until it is dropped.
#[derive(Debug)]
pub(super) struct Console {
    listener: OwnedFd,
    dir: OwnedFd,
    address: PathBuf,
}

impl Console {
    /// Listens in a directory.
    pub(super) fn listen(dir: &Path) -> io::Result<Console> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())?;
        // An address holds 107 bytes, a path may be longer: ours and the runtime's go through the
        // directory's descriptor.
        let own = format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd());
        let address = format!("/proc/{}/fd/{}/{NAME}", std::process::id(), dir.as_raw_fd()).into();
        let kind = (AddressFamily::UNIX, SocketType::STREAM);
        let listener = rustix::net::socket_with(kind.0, kind.1, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&listener, &SocketAddrUnix::new(own)?)?;
        let console = Console { listener, dir, address };
        rustix::net::listen(&console.listener, 1)?;
        Ok(console)
    }

    /// What the runtime is told.
    pub(super) fn address(&self) -> &OsStr {
        self.address.as_os_str()
    }

    /// The terminal, with this size.
    pub(super) fn receive(self, size: Option<TerminalSize>) -> io::Result<OwnedFd> {
        let missing = || io::Error::other("the runtime did not send it");
        let is_there = |fd: &OwnedFd| event::wait_readable(fd, Some(PATIENCE)).unwrap_or(false);
        if !is_there(&self.listener) {
            return Err(missing());
        }
        let peer = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC)?;
        if !is_there(&peer) {
            return Err(missing());
        }
        let terminal = receive_fd(&peer)?.filter(|fd| pty::is_terminal(fd)).ok_or_else(missing)?;
        if let Some(size) = size.filter(|size| *size != TerminalSize::default()) {
            pty::set_size(&terminal, size).map_err(io::Error::other)?;
        }
        Ok(terminal)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The run directory goes with it in the end.
        let _ = rustix::fs::unlinkat(&self.dir, NAME, AtFlags::empty());
    }
}

fn receive_fd(peer: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let mut bytes = [0u8; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::io::retry_on_intr(|| rustix::net::recvmsg(peer, &mut parts, &mut control, flags))?;
    let mut fds = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    Ok(fds.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    fn send(address: &OsStr, fd: &OwnedFd) {
        let stream = UnixStream::connect(address).unwrap();
        let fds = [fd.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let parts = [io::IoSlice::new(b"/dev/ptmx")];
        rustix::net::sendmsg(&stream, &parts, &mut control, SendFlags::empty()).unwrap();
    }

    #[test]
    fn a_terminal_arrives_through_a_long_path_with_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let console = Console::listen(&deep).unwrap();
        let pair = pty::open().unwrap();
        send(console.address(), &pair.master);
        let size = TerminalSize { rows: 7, columns: 33 };
        let terminal = console.receive(Some(size)).unwrap();
        assert_eq!(pty::size(&terminal).unwrap(), size);
        assert!(!deep.join(NAME).exists());
    }

    #[test]
    fn what_is_no_terminal_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let console = Console::listen(dir.path()).unwrap();
        send(console.address(), &std::fs::File::open("/dev/null").unwrap().into());
        assert!(console.receive(None).is_err());
    }
}
