//! The sockets in a container's namespace, and the redirection of port 53 to them.

use super::ADDRESS;
use crate::{
    error::{Error, Result},
    firewall,
    nl::Channel,
};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with, sockopt,
};
use std::{
    net::{SocketAddr, SocketAddrV4},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};
use wharf_sys::netns;

/// Clients that may wait for an answer over TCP while no daemon runs.
const BACKLOG: i32 = 128;

/// One of each transport, not blocking.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(super) udp: OwnedFd,
    pub(super) tcp: OwnedFd,
}

impl Sockets {
    /// Opens them in a namespace whose loopback is up, and redirects what is sent to port 53 of [`ADDRESS`].
    pub(crate) fn open(namespace: impl AsFd) -> Result<Self> {
        let opened = netns::in_netns(namespace, || {
            let (udp, udp_port) = socket(SocketType::DGRAM)?;
            let (tcp, tcp_port) = socket(SocketType::STREAM)?;
            listen(&tcp, BACKLOG).map_err(Error::system("listen for DNS queries"))?;
            firewall::redirect_dns(&Channel::netfilter()?, ADDRESS, udp_port, tcp_port)?;
            Ok(Self { udp, tcp })
        });
        opened.map_err(Error::system("enter network namespace"))?
    }

    /// Takes them out of what a shim kept, if they are there.
    pub(crate) fn adopt(held: &mut Vec<OwnedFd>) -> Option<Self> {
        let mut take = |protocol| {
            let is_it = |fd: &OwnedFd| {
                let at = getsockname(fd).ok().and_then(|at| SocketAddrV4::try_from(at).ok());
                at.is_some_and(|at| *at.ip() == ADDRESS)
                    && sockopt::socket_protocol(fd).is_ok_and(|found| found == Some(protocol))
            };
            held.iter().position(is_it).map(|position| held.swap_remove(position))
        };
        Some(Self { udp: take(ipproto::UDP)?, tcp: take(ipproto::TCP)? })
    }

    /// Both, for the shim to keep.
    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.udp.as_fd(), self.tcp.as_fd()]
    }
}

/// A socket on a port of the kernel's choice, and the port.
fn socket(kind: SocketType) -> Result<(OwnedFd, u16)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let opened = (|| {
        let socket = socket_with(AddressFamily::INET, kind, flags, None)?;
        bind(&socket, &SocketAddr::from((ADDRESS, 0)))?;
        let port = SocketAddr::try_from(getsockname(&socket)?)?.port();
        Ok::<_, rustix::io::Errno>((socket, port))
    })();
    opened.map_err(Error::system("open socket for DNS queries"))
}
