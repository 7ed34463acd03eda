//! Asking other servers (source: moby `daemon/libnetwork/resolver.go`, forwardExtDNS).

use super::{
    Forwarding,
    message::{self, LARGEST, Transport},
};
use crate::{random, resolv::Upstream};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UdpSocket},
    time::timeout,
};
use wharf_sys::netns;

/// How many servers are asked, one after the other.
const MOST_SERVERS: usize = 3;
/// How long each may take.
const PATIENCE: Duration = Duration::from_secs(4);
const PORT: u16 = 53;

/// Where questions are asked from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The container's.
    pub(super) namespace: Arc<OwnedFd>,
    /// Servers of the host may be asked: one of the container's networks leads out.
    pub(super) may_use_host: bool,
}

/// Asks the servers in their order, and returns the first answer that is not a failure.
pub(super) async fn ask(
    query: &[u8],
    transport: Transport,
    forwarding: &Forwarding,
    origin: &Origin,
) -> Option<Vec<u8>> {
    let allowed = |server: &&Upstream| {
        let is_ours = !server.from_host && server.address == IpAddr::V4(super::ADDRESS);
        !is_ours && (origin.may_use_host || !server.from_host)
    };
    for server in forwarding.upstreams.iter().take(MOST_SERVERS).filter(allowed) {
        match timeout(PATIENCE, exchange(query, transport, server, origin)).await {
            Ok(Ok(answer)) if !message::try_another(&answer) => return Some(answer),
            Ok(Ok(_)) => tracing::debug!(server = %server, "DNS server returned a failure"),
            Ok(Err(error)) => tracing::debug!(server = %server, %error, "DNS server not asked"),
            Err(_) => tracing::debug!(server = %server, "DNS server did not answer"),
        }
    }
    None
}

/// Asks one server under an id and from a port that nobody can foresee.
async fn exchange(
    query: &[u8],
    transport: Transport,
    server: &Upstream,
    origin: &Origin,
) -> io::Result<Vec<u8>> {
    let own_id = message::id(query).ok_or(io::ErrorKind::InvalidInput)?;
    let id = random::bytes::<2>().map_err(io::Error::other)?;
    let mut asked = query.to_vec();
    asked[..2].copy_from_slice(&id);
    let at = SocketAddr::new(server.address, PORT);
    let mut answer = match transport {
        Transport::Udp => by_udp(&asked, id, at, server, origin).await?,
        Transport::Tcp => by_tcp(&asked, id, at, server, origin).await?,
    };
    answer[..2].copy_from_slice(&own_id);
    Ok(answer)
}

async fn by_udp(
    query: &[u8],
    id: [u8; 2],
    at: SocketAddr,
    server: &Upstream,
    origin: &Origin,
) -> io::Result<Vec<u8>> {
    let any = if at.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let bind = move || {
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true).map(|()| socket)
    };
    let socket = UdpSocket::from_std(from_origin(server, origin, bind).await?)?;
    socket.connect(at).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if message::answers(&buffer[..length], id, query) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn by_tcp(
    query: &[u8],
    id: [u8; 2],
    at: SocketAddr,
    server: &Upstream,
    origin: &Origin,
) -> io::Result<Vec<u8>> {
    let is_v4 = at.is_ipv4();
    let open = move || {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
        let family = if is_v4 { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(std::net::TcpStream::from(socket_with(family, SocketType::STREAM, flags, None)?))
    };
    let socket = TcpSocket::from_std_stream(from_origin(server, origin, open).await?);
    let mut stream = socket.connect(at).await?;
    write_message(&mut stream, query).await?;
    let answer = read_message(&mut stream).await?;
    if message::answers(&answer, id, query) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Makes a socket in the host's namespace or in the container's, as the server wants.
async fn from_origin<T: Send + 'static>(
    server: &Upstream,
    origin: &Origin,
    open: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if server.from_host {
        return open();
    }
    let namespace = Arc::clone(&origin.namespace);
    let opened = tokio::task::spawn_blocking(move || netns::in_netns(&*namespace, open)).await;
    opened.map_err(io::Error::other)?.map_err(io::Error::from)?
}

/// A message behind its length (RFC 1035, 4.2.2).
pub(super) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Writes a message behind its length, in one piece.
pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}
