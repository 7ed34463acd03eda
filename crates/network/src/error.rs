//! What can go wrong in networking, in Docker's words where a client sees them.

use crate::{
    addr::{Family, Subnet},
    ports::Protocol,
};
use std::{io, net::IpAddr, path::PathBuf};
use wharf_spec::{ErrorKind, NetworkId};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A netlink request that the kernel refused.
    #[error("{operation} {subject}: {source}")]
    Netlink {
        /// What was asked.
        operation: &'static str,
        /// Of what.
        subject: String,
        /// The kernel's answer.
        source: wharf_sys::Error,
    },
    /// A file, directory or kernel parameter.
    #[error("{operation} {}: {source}", path.display())]
    File {
        /// What was done.
        operation: &'static str,
        /// To which.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A namespace, thread or socket.
    #[error("{operation}: {source}")]
    System {
        /// What was done.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A record on disk that is no JSON of ours.
    #[error("read {}: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A subnet asked for is in use (source: moby `daemon/libnetwork/ipamapi/contract.go`).
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlap,
    /// All default pools are used up.
    #[error("all predefined address pools have been fully subnetted")]
    NoMoreSubnets,
    /// A range outside its subnet.
    #[error("invalid address subpool")]
    InvalidSubPool,
    /// An address outside its subnet.
    #[error("requested address is out of range")]
    AddressOutOfRange,
    /// An address in use.
    #[error("Address already in use")]
    AddressInUse,
    /// A subnet without a free address.
    #[error("no available addresses on this pool")]
    NoAddresses,
    /// A network without a free address for a container (source: moby `daemon/libnetwork/endpoint.go`,
    /// `assignAddressVersion`).
    #[error("no available {family} addresses on this network's address pools: {name} ({id})")]
    NetworkFull {
        /// Of which family.
        family: Family,
        /// The network's name.
        name: String,
        /// The network.
        id: NetworkId,
    },
    /// A gateway outside the subnet.
    #[error("requested gateway {gateway} is not in subnet {subnet}")]
    GatewayOutside {
        /// The gateway.
        gateway: IpAddr,
        /// The subnet.
        subnet: Subnet,
    },
    /// A host port that another container has
    /// (source: moby `daemon/libnetwork/portallocator/portallocator.go`).
    #[error("Bind for {}:{port} failed: port is already allocated", host(address))]
    PortAllocated {
        /// The host's address.
        address: IpAddr,
        /// The host's port.
        port: u16,
    },
    /// No port of a range is free.
    #[error("all ports are allocated")]
    AllPortsAllocated,
    /// A range that ends before it begins, or begins at 0.
    #[error("invalid port range: {first}-{last}")]
    PortRange {
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
    },
    /// A host port that some other program has
    /// (source: moby `daemon/libnetwork/portallocator/osallocator_linux.go`).
    #[error("failed to {step} {}/{protocol}: {}", socket_address(address, *port), errno_text(source))]
    PortBind {
        /// `bind host port`, `create socket for`.
        step: &'static str,
        /// The host's address.
        address: IpAddr,
        /// The host's port.
        port: u16,
        /// Transport.
        protocol: Protocol,
        /// Why.
        source: io::Error,
    },
    /// Publishing the ports of an endpoint failed.
    #[error("driver failed programming external connectivity on endpoint {name} ({id}): {source}")]
    Connectivity {
        /// The container's name.
        name: String,
        /// The endpoint's id.
        id: String,
        /// Why.
        source: Box<Error>,
    },
    /// A port that is to be published no more, and is not.
    #[error("port {port}/{protocol} is not published there")]
    NotPublished {
        /// The container's port.
        port: u16,
        /// Transport.
        protocol: Protocol,
    },
    /// No such network here.
    #[error("network {0} not found")]
    UnknownNetwork(String),
    /// No such sandbox here.
    #[error("sandbox {0} not found")]
    UnknownSandbox(String),
    /// A sandbox that exists already.
    #[error("sandbox {0} already exists")]
    SandboxExists(String),
    /// A network with endpoints.
    #[error("network {0} has active endpoints")]
    NetworkBusy(String),
    /// A bridge name that another network uses
    /// (source: moby `daemon/libnetwork/drivers/bridge/bridge_linux.go`).
    #[error("bridge name {0} is already in use by another network")]
    BridgeInUse(String),
    /// A device that is no parent, as moby says it of one whose name is not that of a VLAN
    /// (source: moby `daemon/libnetwork/drivers/macvlan/macvlan_setup.go`, `createVlanLink`).
    #[error("invalid subinterface vlan name {0}, example formatting is eth0.10")]
    NoParent(String),
    /// A parent whose only child can be the one in mode `passthru`
    /// (source: moby `daemon/libnetwork/drivers/macvlan/macvlan_network.go`, `createNetwork`).
    #[error("cannot use mode passthru, macvlan network {network} is already using parent interface {parent}")]
    ParentInUse {
        /// The other network.
        network: NetworkId,
        /// The device.
        parent: String,
    },
    /// A parent that another network has to itself.
    #[error("macvlan network {network} is already using parent interface {parent} in mode passthru")]
    ParentTaken {
        /// The other network.
        network: NetworkId,
        /// The device.
        parent: String,
    },
    /// An interface of the wanted name that is something else.
    #[error("interface {0} exists and is no bridge")]
    NotABridge(String),
    /// An interface's name that the container uses already, with the end of Docker's text for it.
    #[error("error renaming interface to {0:?}: file exists")]
    InterfaceTaken(String),
    /// An address that is not link-local (source: moby `daemon/libnetwork/network.go`, `createEndpoint`).
    #[error("invalid link local IP address: {0}")]
    NotLinkLocal(IpAddr),
    /// A kernel parameter in another form (source: moby `daemon/libnetwork/osl/interface_linux.go`, `setSysctls`).
    #[error("expected sysctl '{parameter}' to have format {format}")]
    BadSysctl {
        /// As given.
        parameter: String,
        /// The right form.
        format: &'static str,
    },
    /// A kernel parameter that does not exist.
    #[error("{} is not a sysctl file", .0.display())]
    NoSysctl(PathBuf),
    /// An endpoint that the sandbox has not.
    #[error("endpoint {0} not found")]
    UnknownEndpoint(String),
    /// Asked for, but not built.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// An address as Go's net.IP prints it in `host:port` texts of the port allocator (no brackets).
fn host(address: &IpAddr) -> String {
    address.to_string()
}

/// An address and port as Go's netip.AddrPort prints them.
fn socket_address(address: &IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(*address, port).to_string()
}

/// The C library's text of an error, lower case and without Rust's ` (os error N)`, as Go prints it.
fn errno_text(source: &io::Error) -> String {
    let text = source.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

impl Error {
    /// What this error means to a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Netlink { .. }
            | Self::File { .. }
            | Self::System { .. }
            | Self::Record { .. }
            | Self::InterfaceTaken(_)
            | Self::BadSysctl { .. }
            | Self::NoParent(_)
            | Self::ParentInUse { .. }
            | Self::ParentTaken { .. }
            | Self::NoSysctl(_) => ErrorKind::System,
            Self::PoolOverlap | Self::AddressInUse | Self::BridgeInUse(_) | Self::NetworkBusy(_) => {
                ErrorKind::Forbidden
            }
            Self::NoMoreSubnets
            | Self::InvalidSubPool
            | Self::AddressOutOfRange
            | Self::GatewayOutside { .. }
            | Self::NotLinkLocal(_)
            | Self::PortRange { .. }
            | Self::NotPublished { .. } => ErrorKind::InvalidArgument,
            Self::NoAddresses => ErrorKind::Unavailable,
            Self::NetworkFull { .. } => ErrorKind::System,
            Self::PortAllocated { .. }
            | Self::AllPortsAllocated
            | Self::PortBind { .. }
            | Self::Connectivity { .. } => ErrorKind::System,
            Self::UnknownNetwork(_) | Self::UnknownSandbox(_) | Self::UnknownEndpoint(_) => {
                ErrorKind::NotFound
            }
            Self::SandboxExists(_) | Self::NotABridge(_) => ErrorKind::Conflict,
            Self::Unsupported(_) => ErrorKind::NotImplemented,
        }
    }

    /// For `map_err` on an I/O result of a file.
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// For `map_err` on an I/O result of a system call.
    pub(crate) fn system<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { operation, source: source.into() }
    }
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_errors_read_as_dockers() {
        let error = Error::PortBind {
            step: "bind host port",
            address: "0.0.0.0".parse().unwrap(),
            port: 8080,
            protocol: Protocol::Tcp,
            source: io::Error::from_raw_os_error(98),
        };
        assert_eq!(error.to_string(), "failed to bind host port 0.0.0.0:8080/tcp: address already in use");
        let error = Error::Connectivity {
            name: "ap2".into(),
            id: "1234".into(),
            source: Box::new(Error::PortAllocated { address: "127.0.0.1".parse().unwrap(), port: 18080 }),
        };
        assert_eq!(
            error.to_string(),
            "driver failed programming external connectivity on endpoint ap2 (1234): \
             Bind for 127.0.0.1:18080 failed: port is already allocated"
        );
    }
}
