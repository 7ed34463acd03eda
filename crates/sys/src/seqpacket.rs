//! Messages with descriptors over SOCK_SEQPACKET unix sockets.
//!
//! A packet is one byte of form and the message; a message above [`INLINE_MAX`] travels in a sealed memory
//! file, the packet's first descriptor. The receiver checks the seals, so what it reads cannot change under
//! it. More descriptors than a packet takes travel in a parcel: a socket with them waiting in it, the packet's
//! only descriptor. Socket paths longer than the 107 bytes of `sun_path` are reached through `/proc/self/fd/<dir>/<name>`.

use crate::{Context, Error, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::Path;

/// The longest message sent in the packet itself.
pub const INLINE_MAX: usize = 32 * 1024;
/// The longest message at all: a plan with everything in it is far below.
pub const MESSAGE_MAX: u64 = 16 * 1024 * 1024;
/// The most descriptors in one packet (SCM_MAX_FD).
pub const FDS_PACKET_MAX: usize = 253;
/// The most descriptors in one message: what a parcel's socket takes with the kernel's default buffers.
pub const FDS_MAX: usize = 64 * FDS_PACKET_MAX;

const FORM_INLINE: u8 = 0;
const FORM_MEMFD: u8 = 1;
const FORM_PARCEL: u8 = 2;

/// A received message.
#[derive(Debug)]
pub struct Packet {
    /// The message.
    pub bytes: Vec<u8>,
    /// The descriptors that came with it, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// The process at the other end when it connected (SO_PEERCRED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "self-evident")]
pub struct Peer {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

/// Two connected sockets.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .on("socketpair", || "seqpacket")
}

/// A listening socket `name` in the directory `dir`, replacing a stale one. Only the owner may connect
/// (0600).
pub fn listen(dir: impl AsFd, name: &str) -> Result<OwnedFd> {
    match rustix::fs::unlinkat(dir.as_fd(), name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(Error::call("unlink", name, errno)),
    }
    let socket = socket()?;
    // On an unbound unix socket fchmod decides the mode of the file that bind makes: no moment with a wider
    // one.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600)).on("fchmod", || name)?;
    rustix::net::bind(&socket, &address(dir.as_fd(), name)?).on("bind", || name)?;
    rustix::net::listen(&socket, 16).on("listen", || name)?;
    Ok(socket)
}

/// Sends a message of less than [`INLINE_MAX`] bytes and without descriptors by write(2): for a process that may be
/// kept from every other call.
pub fn send_by_write(socket: impl AsFd, bytes: &[u8]) -> Result<()> {
    let packet = [&[FORM_INLINE], bytes].concat();
    rustix::io::write(socket, &packet).map(drop).on("write", || "seqpacket")
}

/// Connects to the socket `name` in the directory `dir`.
pub fn connect(dir: impl AsFd, name: &str) -> Result<OwnedFd> {
    let socket = socket()?;
    rustix::net::connect(&socket, &address(dir.as_fd(), name)?).on("connect", || name)?;
    Ok(socket)
}

/// Accepts a connection.
pub fn accept(listener: impl AsFd) -> Result<OwnedFd> {
    rustix::io::retry_on_intr(|| rustix::net::accept_with(listener.as_fd(), SocketFlags::CLOEXEC))
        .on("accept", || "seqpacket")
}

/// Who is at the other end.
pub fn peer(socket: impl AsFd) -> Result<Peer> {
    let credentials =
        rustix::net::sockopt::socket_peercred(socket).on("getsockopt(SO_PEERCRED)", || "socket")?;
    Ok(Peer {
        pid: credentials.pid.as_raw_pid(),
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
    })
}

/// Makes calls on a socket (or any descriptor) return EAGAIN instead of waiting, or not.
pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> Result<()> {
    rustix::io::ioctl_fionbio(fd, nonblocking).on("ioctl(FIONBIO)", || "descriptor")
}

fn socket() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .on("socket", || "seqpacket")
}

fn address(dir: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix> {
    let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    SocketAddrUnix::new(&path).on("bind", || name)
}

/// Sends a message with descriptors. EAGAIN on a non-blocking socket whose peer does not read; EPIPE when the
/// peer is gone (no signal is raised).
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    if bytes.len() <= INLINE_MAX {
        return send_form(socket.as_fd(), FORM_INLINE, bytes, fds);
    }
    if bytes.len() as u64 > MESSAGE_MAX {
        return Err(Error::malformed(
            "message",
            format!("{} bytes, {MESSAGE_MAX} are possible", bytes.len()),
        ));
    }
    let spill = crate::fs::sealed_memfd("wharf-message", bytes)?;
    let mut all = vec![spill.as_fd()];
    all.extend_from_slice(fds);
    send_form(socket.as_fd(), FORM_MEMFD, &[], &all)
}

fn send_form(socket: BorrowedFd<'_>, form: u8, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    if fds.len() <= FDS_PACKET_MAX {
        return send_packet(socket, form, bytes, fds);
    }
    if fds.len() > FDS_MAX {
        return Err(Error::malformed(
            "message",
            format!("{} descriptors, {FDS_MAX} are possible", fds.len()),
        ));
    }
    let (ours, parcel) = pair()?;
    set_nonblocking(&ours, true)?;
    for part in fds.chunks(FDS_PACKET_MAX) {
        // Only the peer's buffer being full is a reason to try again later.
        send_packet(ours.as_fd(), FORM_INLINE, &[], part)
            .map_err(|error| Error::malformed("message", format!("pack its descriptors: {error}")))?;
    }
    drop(ours);
    let mut whole = vec![form];
    whole.extend_from_slice(bytes);
    send_packet(socket, FORM_PARCEL, &whole, &[parcel.as_fd()])
}

fn send_packet(socket: BorrowedFd<'_>, form: u8, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Error::malformed("message", "descriptors do not fit"));
    }
    let form = [form];
    let parts = [IoSlice::new(&form), IoSlice::new(bytes)];
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))
        .map(drop)
        .on("sendmsg", || format!("{} bytes", bytes.len()))
}

/// Receives a message; `None` when the peer has closed. EAGAIN on a non-blocking socket with nothing there.
pub fn recv(socket: impl AsFd) -> Result<Option<Packet>> {
    match recv_packet(socket.as_fd())? {
        Some((bytes, fds)) => unpack(bytes, fds).map(Some),
        None => Ok(None),
    }
}

fn recv_packet(socket: BorrowedFd<'_>) -> Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    // A parcel's form, the form of what is in it, and the message.
    let mut bytes = vec![0u8; INLINE_MAX + 2];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PACKET_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut receive = || {
        rustix::io::retry_on_intr(|| {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            rustix::net::recvmsg(socket.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        })
    };
    // A peer that closed before it read everything of ours leaves this error, once, in front of its last words.
    let received = match receive() {
        Err(Errno::CONNRESET) => receive(),
        received => received,
    };
    let received = received.on("recvmsg", || "socket")?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 && fds.is_empty() {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Error::malformed("message", "cut off: too long or too many descriptors"));
    }
    bytes.truncate(received.bytes);
    Ok(Some((bytes, fds)))
}

fn unpack(mut bytes: Vec<u8>, mut fds: Vec<OwnedFd>) -> Result<Packet> {
    match bytes.first() {
        Some(&FORM_INLINE) => {
            bytes.remove(0);
            Ok(Packet { bytes, fds })
        }
        Some(&FORM_MEMFD) if bytes.len() == 1 && !fds.is_empty() => {
            let bytes = read_spill(fds.remove(0))?;
            Ok(Packet { bytes, fds })
        }
        // What is in a parcel is no parcel.
        Some(&FORM_PARCEL) if bytes.get(1) != Some(&FORM_PARCEL) && fds.len() == 1 => {
            bytes.remove(0);
            unpack(bytes, open_parcel(&fds.remove(0))?)
        }
        _ => Err(Error::malformed("message", "unknown form")),
    }
}

/// The descriptors that wait in a parcel; never waits for more to come.
fn open_parcel(parcel: &OwnedFd) -> Result<Vec<OwnedFd>> {
    set_nonblocking(parcel, true)?;
    let torn = |error: Error| Error::malformed("message", format!("its descriptors: {error}"));
    let mut fds = Vec::new();
    while let Some((_, part)) = recv_packet(parcel.as_fd()).map_err(torn)? {
        fds.extend(part);
        if fds.len() > FDS_MAX {
            return Err(Error::malformed("message", "too many descriptors"));
        }
    }
    Ok(fds)
}

fn read_spill(fd: OwnedFd) -> Result<Vec<u8>> {
    use std::io::{Read, Seek};
    if !crate::fs::is_sealed(&fd) {
        return Err(Error::malformed("message", "its memory file is not sealed"));
    }
    let mut file = std::fs::File::from(fd);
    let length = file.metadata().on("fstat", || "message")?.len();
    if length > MESSAGE_MAX {
        return Err(Error::malformed("message", format!("{length} bytes, {MESSAGE_MAX} are possible")));
    }
    // The offset is the sender's too.
    file.rewind().on("lseek", || "message")?;
    let mut bytes = Vec::with_capacity(length as usize);
    file.read_to_end(&mut bytes).on("read", || "message")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_arrive_from_a_peer_that_did_not_read_ours() {
        let (one, two) = pair().unwrap();
        send(&one, b"never read", &[]).unwrap();
        send(&two, b"last words", &[]).unwrap();
        drop(two);
        assert_eq!(recv(&one).unwrap().unwrap().bytes, b"last words");
        assert!(recv(&one).unwrap().is_none());
    }

    #[test]
    fn bytes_and_descriptors_arrive() {
        let (one, two) = pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        send(&one, b"hello", &[file.as_fd(), file.as_fd()]).unwrap();
        send(&one, b"", &[]).unwrap();
        let packet = recv(&two).unwrap().unwrap();
        assert_eq!((packet.bytes.as_slice(), packet.fds.len()), (b"hello".as_slice(), 2));
        assert!(rustix::io::fcntl_getfd(&packet.fds[0]).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        assert_eq!(recv(&two).unwrap().unwrap().bytes, b"", "an empty message is not the end");
        drop(one);
        assert!(recv(&two).unwrap().is_none());
    }

    #[test]
    fn long_messages_and_many_descriptors() {
        let (one, two) = pair().unwrap();
        let long: Vec<u8> = (0..1_000_000u32).map(|number| number as u8).collect();
        let file = tempfile::tempfile().unwrap();
        for count in [FDS_PACKET_MAX - 1, FDS_PACKET_MAX, 600] {
            send(&one, &long, &vec![file.as_fd(); count]).unwrap();
            let packet = recv(&two).unwrap().unwrap();
            assert_eq!((packet.bytes == long, packet.fds.len()), (true, count));
        }
        let most = vec![b'x'; INLINE_MAX];
        send(&one, &most, &vec![file.as_fd(); FDS_PACKET_MAX + 1]).unwrap();
        let packet = recv(&two).unwrap().unwrap();
        assert_eq!((packet.bytes == most, packet.fds.len()), (true, FDS_PACKET_MAX + 1));
        assert!(send(&one, b"x", &vec![file.as_fd(); FDS_MAX + 1]).is_err());
    }

    #[test]
    fn parcels_take_the_most_descriptors() {
        let file = tempfile::tempfile().unwrap();
        let (ours, parcel) = pair().unwrap();
        set_nonblocking(&ours, true).unwrap();
        for _ in 0..FDS_MAX / FDS_PACKET_MAX {
            send_packet(ours.as_fd(), FORM_INLINE, &[], &[file.as_fd()]).unwrap();
        }
        assert!(
            open_parcel(&parcel).unwrap_err().errno().is_none(),
            "one that is not closed is not waited for"
        );
    }

    #[test]
    fn unsealed_spills_are_refused() {
        let (one, two) = pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        send_packet(one.as_fd(), FORM_MEMFD, &[], &[file.as_fd()]).unwrap();
        assert!(recv(&two).unwrap_err().to_string().contains("not sealed"));
        send_packet(one.as_fd(), FORM_PARCEL, &[FORM_PARCEL], &[two.as_fd()]).unwrap();
        assert!(recv(&two).unwrap_err().to_string().contains("unknown form"));
        send_packet(one.as_fd(), 7, b"x", &[]).unwrap();
        assert!(recv(&two).unwrap_err().to_string().contains("unknown form"));
    }

    #[test]
    fn listens_under_long_paths() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(200));
        std::fs::create_dir(&long).unwrap();
        let handle = std::fs::File::open(&long).unwrap();
        let listener = listen(&handle, "shim.sock").unwrap();
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(long.join("shim.sock")).unwrap().permissions().mode() & 0o777, 0o600);
        let client = connect(&handle, "shim.sock").unwrap();
        let server = accept(&listener).unwrap();
        assert_eq!(peer(&server).unwrap().pid, std::process::id() as i32);
        send(&client, b"1", &[]).unwrap();
        assert_eq!(recv(&server).unwrap().unwrap().bytes, b"1");
        set_nonblocking(&server, true).unwrap();
        assert!(recv(&server).unwrap_err().is(Errno::AGAIN));
        drop(listen(&handle, "shim.sock").unwrap());
    }
}
