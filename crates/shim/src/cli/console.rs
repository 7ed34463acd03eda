//! Handing a descriptor to the caller over a unix socket: a terminal's other end (`--console-socket`) or a
//! pidfd (`--pidfd-socket`). One message whose bytes are the file's name (source: runc
//! `docs/terminals.md`, `libcontainer/utils/cmsg.go`).

use super::error::{CliError, CliResult};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::path::Path;

/// Connects to the caller's socket.
pub(super) fn connect(path: &Path) -> CliResult<OwnedFd> {
    attempt(path).map_err(|errno| CliError::io(format!("dial unix {}", path.display()), errno.into()))
}

fn attempt(path: &Path) -> Result<OwnedFd, Errno> {
    let (dir, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().ok_or(Errno::INVAL)?);
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // An address holds 107 bytes, a path may be longer: go through the directory's descriptor.
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    let address = SocketAddrUnix::new(&short)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address))?;
    Ok(socket)
}

/// Sends `fd` under `name`.
pub(super) fn send(socket: impl AsFd, name: &str, fd: BorrowedFd<'_>) -> CliResult<()> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(CliError::text("sendmsg: no room for one descriptor"));
    }
    let parts = [IoSlice::new(name.as_bytes())];
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket.as_fd(), &parts, &mut control, SendFlags::NOSIGNAL)
    });
    sent.map(drop).map_err(|errno| CliError::io("sendmsg", errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    use std::io::{IoSliceMut, Read};
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_descriptor_arrives_over_a_socket_with_a_long_path() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        std::fs::write(deep.join("file"), "hello").unwrap();
        // Bound under a short name, then moved.
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        std::fs::rename(dir.path().join("s"), deep.join("console.sock")).unwrap();
        let socket = connect(&deep.join("console.sock")).unwrap();
        let file = std::fs::File::open(deep.join("file")).unwrap();
        send(&socket, "/dev/ptmx", file.as_fd()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        let mut bytes = [0u8; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let got = rustix::net::recvmsg(&peer, &mut parts, &mut control, RecvFlags::empty()).unwrap();
        assert_eq!(&bytes[..got.bytes], b"/dev/ptmx");
        let Some(RecvAncillaryMessage::ScmRights(mut fds)) = control.drain().next() else { panic!("no fd") };
        let mut text = String::new();
        std::fs::File::from(fds.next().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert!(connect(&deep.join("none")).unwrap_err().to_string().contains("no such file or directory"));
    }
}
