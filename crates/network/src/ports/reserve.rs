//! Sockets that hold published ports against other programs.
//!
//! Every IPv4 packet for a published port is redirected before it reaches a socket, so these never see one; those of IPv6
//! see what the proxy passes on.
//! TCP sockets listen all the same: only a listening socket keeps another program, whose socket has
//! SO_REUSEADDR as ours, from the port. They listen once the redirection is in place ([`Reservation::arm`]),
//! so that no client is taken in before.

use super::{PortBinding, Protocol};
use crate::error::{Error, Result};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with, sockopt},
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

    /// Takes over sockets that an earlier daemon bound, each for the binding of its address and protocol, and
    /// says which bindings are left without one. Sockets that belong to none of them are closed.
    pub(crate) fn adopt(held: Vec<OwnedFd>, bindings: &[PortBinding]) -> (Self, Vec<PortBinding>) {
        let mut missing = bindings.to_vec();
        let mut sockets = Vec::with_capacity(held.len());
        for fd in held {
            let Some((at, protocol)) = identify(&fd) else { continue };
            let is_its = |binding: &PortBinding| {
                binding.protocol == protocol && SocketAddr::new(binding.host_address, binding.host_port) == at
            };
            if let Some(position) = missing.iter().position(is_its) {
                missing.swap_remove(position);
                sockets.push(Socket { fd, protocol, at });
            }
        }
        (Self { sockets }, missing)
    }

    /// Makes the hold exclusive, after the redirection is in place.
    ///
    /// # Errors
    /// [`Error::PortBind`] when another program was faster.
    pub(crate) fn arm(&self) -> Result<()> {
        for socket in self.sockets.iter().filter(|socket| socket.protocol != Protocol::Udp) {
            // Those of IPv6 are served by the proxy.
            let backlog = if socket.at.is_ipv6() { 128 } else { 1 };
            listen(&socket.fd, backlog).map_err(refused("bind host port", socket.at, socket.protocol))?;
        }
        Ok(())
    }

    /// Frees what is held for these bindings.
    pub(crate) fn release(&mut self, bindings: &[PortBinding]) {
        let is_for = |socket: &Socket, binding: &PortBinding| {
            (socket.protocol, socket.at)
                == (binding.protocol, SocketAddr::new(binding.host_address, binding.host_port))
        };
        self.sockets.retain(|socket| !bindings.iter().any(|binding| is_for(socket, binding)));
    }

    /// Takes over what another reservation holds.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.sockets.extend(other.sockets);
    }

    /// The sockets, and where each is bound.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Protocol, SocketAddr)> {
        self.sockets.iter().map(|socket| (socket.fd.as_fd(), socket.protocol, socket.at))
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

/// Where a socket is bound, and with which protocol; `None` for anything else.
fn identify(fd: &OwnedFd) -> Option<(SocketAddr, Protocol)> {
    let protocol = match sockopt::socket_protocol(fd).ok()?? {
        ipproto::TCP => Protocol::Tcp,
        ipproto::UDP => Protocol::Udp,
        ipproto::SCTP => Protocol::Sctp,
        _ => return None,
    };
    Some((SocketAddr::try_from(getsockname(fd).ok()?).ok()?, protocol))
}

fn refused(step: &'static str, at: SocketAddr, protocol: Protocol) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::PortBind { step, address: at.ip(), port: at.port(), protocol, source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::tests::is_freed;
    use std::net::{Ipv4Addr, TcpListener};
    use wharf_sys::netns;

    fn binding(protocol: Protocol, host_port: u16) -> PortBinding {
        let host_address = Ipv4Addr::LOCALHOST.into();
        PortBinding { container_port: 80, protocol, host_address, host_port }
    }

    fn bound(binding: &PortBinding) -> Result<Reservation> {
        let bound = Reservation::bind(&[binding.host_address], binding.protocol, binding.host_port)?;
        bound.arm().map(|()| bound)
    }

    #[test]
    fn sockets_of_an_earlier_daemon_are_adopted_by_address_and_protocol() {
        netns::in_netns(netns::create().unwrap(), || {
            let channel = crate::nl::Channel::route().unwrap();
            channel.run(&[crate::nl::route::set_up("lo")], "up", "lo").unwrap();
            let bindings =
                [binding(Protocol::Tcp, 80), binding(Protocol::Udp, 80), binding(Protocol::Tcp, 81)];
            let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
            let mut held: Vec<OwnedFd> = Vec::new();
            for known in [&bindings[1], &bindings[0], &binding(Protocol::Tcp, 99)] {
                held.extend(bound(known).unwrap().descriptors().map(copy));
            }
            held.push(std::fs::File::open("/dev/null").unwrap().into());
            let (adopted, missing) = Reservation::adopt(held, &bindings);
            assert_eq!(adopted.descriptors().count(), 2);
            assert_eq!(missing, [bindings[2]]);
            adopted.arm().unwrap();
            assert!(bound(&bindings[0]).is_err() && bound(&bindings[1]).is_err());
            let is_closed = is_freed(|| TcpListener::bind("127.0.0.1:99").is_ok());
            assert!(is_closed, "a socket of no binding is closed");
            drop(adopted);
            assert!(bindings[..2].iter().all(|binding| is_freed(|| bound(binding).is_ok())));
        })
        .unwrap();
    }
}
