//! Sockets that hold published ports against other programs.
//!
//! Every packet for a published port is redirected before it reaches a socket, so these never see one.
//! TCP sockets listen all the same: only a listening socket keeps another program, whose socket has
//! SO_REUSEADDR as ours, from the port. They listen once the redirection is in place ([`Reservation::arm`]),
//! so that no client is taken in before.

use super::Protocol;
use crate::error::{Error, Result};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt},
};
use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Held ports. Dropping it frees them.
#[derive(Debug, Default)]
pub struct Reservation {
    sockets: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    protocol: Protocol,
    at: SocketAddr,
}

impl Reservation {
    /// Binds one port on every address, in the calling thread's network namespace. SCTP is not held where
    /// the kernel has none: no other program can then have the port either.
    ///
    /// # Errors
    /// [`Error::PortBind`]
    pub(crate) fn bind(addresses: &[IpAddr], protocol: Protocol, port: u16) -> Result<Self> {
        let mut sockets = Vec::with_capacity(addresses.len());
        for address in addresses {
            let at = SocketAddr::new(*address, port);
            let Some(fd) = open(at, protocol)? else { continue };
            if at.is_ipv6() {
                sockopt::set_ipv6_v6only(&fd, true).map_err(refused("create socket for", at, protocol))?;
            }
            if protocol == Protocol::Tcp {
                sockopt::set_socket_reuseaddr(&fd, true).map_err(refused(
                    "create socket for",
                    at,
                    protocol,
                ))?;
            }
            bind(&fd, &at).map_err(refused("bind host port", at, protocol))?;
            sockets.push(Socket { fd, protocol, at });
        }
        Ok(Self { sockets })
    }

    /// Makes the hold exclusive, after the redirection is in place.
    ///
    /// # Errors
    /// [`Error::PortBind`] when another program was faster.
    pub(crate) fn arm(&self) -> Result<()> {
        for socket in self.sockets.iter().filter(|socket| socket.protocol != Protocol::Udp) {
            listen(&socket.fd, 1).map_err(refused("bind host port", socket.at, socket.protocol))?;
        }
        Ok(())
    }

    /// Takes over what another reservation holds.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.sockets.extend(other.sockets);
    }

    /// The sockets, to be kept by the shim so that a crash of the daemon frees no port.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.fd.as_fd())
    }
}

fn open(at: SocketAddr, protocol: Protocol) -> Result<Option<OwnedFd>> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    match socket_with(family, kind, SocketFlags::CLOEXEC, Some(number)) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => Ok(None),
        Err(error) => Err(refused("create socket for", at, protocol)(error)),
    }
}

fn refused(step: &'static str, at: SocketAddr, protocol: Protocol) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::PortBind { step, address: at.ip(), port: at.port(), protocol, source: errno.into() }
}
