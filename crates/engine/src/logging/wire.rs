//! Connections to receivers of logs.

use super::Message;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::AsFd,
    path::Path,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket, UnixDatagram, UnixStream},
};

/// Bytes are gathered up to this size before they are written to a stream.
const GATHERED: usize = 64 << 10;

/// A stream that can be written to and read from.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection. Its packets are messages, or it is a stream of them.
pub(super) enum Wire {
    Udp(UdpSocket),
    UnixPackets(UnixDatagram),
    Stream(Box<dyn Duplex>),
}

impl Wire {
    pub(super) async fn tcp(host: &str, port: &str) -> io::Result<TcpStream> {
        let address = format!("{host}:{port}");
        TcpStream::connect(&address).await.map_err(|error| dial("tcp", &address, &error))
    }

    pub(super) async fn udp(host: &str, port: &str) -> io::Result<Self> {
        let address = format!("{host}:{port}");
        let failed = |error: io::Error| dial("udp", &address, &error);
        let found = tokio::net::lookup_host(&address).await.map_err(failed)?.next();
        let found = found.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let any = if found.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await.map_err(failed)?;
        socket.connect(found).await.map_err(failed)?;
        Ok(Self::Udp(socket))
    }

    pub(super) async fn unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path).await;
        let stream = stream.map_err(|error| dial("unix", &path.display().to_string(), &error))?;
        Ok(Self::Stream(Box::new(stream)))
    }

    pub(super) fn unix_packets(path: &Path) -> io::Result<Self> {
        let failed = |error: io::Error| dial("unixgram", &path.display().to_string(), &error);
        let socket = UnixDatagram::unbound().map_err(failed)?;
        socket.connect(path).map_err(failed)?;
        Ok(Self::UnixPackets(socket))
    }

    /// Writes messages; what `encode` makes nothing of is left out. It gives the packets of a message.
    pub(super) async fn write(
        &mut self,
        batch: &[Message],
        mut encode: impl FnMut(&Message) -> io::Result<Vec<Vec<u8>>>,
    ) -> io::Result<()> {
        let mut gathered = Vec::new();
        for message in batch {
            for packet in encode(message)? {
                match self {
                    Self::Udp(socket) => send_udp(socket, &packet).await?,
                    Self::UnixPackets(socket) => send_packet(socket, &packet).await?,
                    Self::Stream(stream) => {
                        gathered.extend_from_slice(&packet);
                        if gathered.len() >= GATHERED {
                            stream.write_all(&gathered).await?;
                            gathered.clear();
                        }
                    }
                }
            }
        }
        match self {
            Self::Stream(stream) => {
                stream.write_all(&gathered).await?;
                stream.flush().await
            }
            _ => Ok(()),
        }
    }

    /// The stream, of a receiver that answers.
    pub(super) fn stream(&mut self) -> io::Result<&mut dyn Duplex> {
        match self {
            Self::Stream(stream) => Ok(&mut **stream),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Nobody listening is told by the packet before; then this one is tried once more, and is gone as is usual with UDP.
async fn send_udp(socket: &UdpSocket, packet: &[u8]) -> io::Result<()> {
    for _ in 0..2 {
        match socket.send(packet).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            other => return other.map(drop),
        }
    }
    Ok(())
}

/// What is too large for a packet travels in a sealed memory file (source: systemd, "Native Journal Protocol").
async fn send_packet(socket: &UnixDatagram, packet: &[u8]) -> io::Result<()> {
    match socket.send(packet).await {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => {}
        other => return other.map(drop),
    }
    let file = wharf_sys::fs::sealed_memfd("log", packet).map_err(io::Error::other)?;
    let fds = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(&[])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// `dial tcp 127.0.0.1:1: connect: connection refused`
fn dial(network: &str, address: &str, error: &io::Error) -> io::Error {
    let why = crate::error::words(error);
    let why = if error.raw_os_error().is_some() { format!("connect: {why}") } else { why };
    io::Error::new(error.kind(), format!("dial {network} {address}: {why}"))
}
