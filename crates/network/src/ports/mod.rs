//! Published ports: what is asked for, what was given, and who holds it.
//!
//! [`PortAllocator`] knows which ports this daemon gave to whom; [`Reservation`] holds them against other
//! programs with bound sockets; the packets themselves never reach these sockets (see `firewall`).

mod allocate;
mod reserve;

pub(crate) use allocate::PortAllocator;
pub use reserve::Reservation;

use crate::{
    addr::Family,
    error::{Error, Result},
};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, str::FromStr};

/// A transport protocol that has ports. The order is Docker's, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "self-evident")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The number in IP headers.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A text that names no protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid proto: {0}")]
pub struct ParseProtocolError(String);

impl FromStr for Protocol {
    type Err = ParseProtocolError;
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(ParseProtocolError(text.chars().take(100).collect())),
        }
    }
}

/// One `-p`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// The container's port.
    pub container_port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// The host's address; `None` is the network's default, usually 0.0.0.0.
    pub host_address: Option<IpAddr>,
    /// First and last of the host's ports to choose from; `None` is the kernel's ephemeral range.
    pub host_ports: Option<(u16, u16)>,
}

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortBinding {
    /// The container's port.
    pub container_port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// The host's address.
    pub host_address: IpAddr,
    /// The host's port; 0 where there is none, see [`Self::is_open_only`].
    pub host_port: u16,
}

impl PortBinding {
    /// The port is open at the container's own address, and the host has none for it (gateway mode `routed`).
    pub fn is_open_only(&self) -> bool {
        self.host_port == 0
    }
}

/// Requests that differ only in the host's address: all get the same host port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortGroup {
    pub(crate) container_port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) host_ports: Option<(u16, u16)>,
    pub(crate) addresses: Vec<IpAddr>,
    /// They are open at the container's own address, and have no host port.
    pub(crate) is_routed: bool,
}

/// Where a container's ports of one family are published
/// (source: moby `daemon/libnetwork/drivers/bridge/port_mapping_linux.go`, `configurePortBindingIPv4` and `-IPv6`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outlet {
    pub(crate) family: Family,
    /// The host's address of ports that name none; 0.0.0.0 stands for `::` as well.
    pub(crate) default_address: IpAddr,
    /// Ports that name no address may be published at `::`.
    pub(crate) takes_unnamed: bool,
    /// Ports are open at the container's own address only.
    pub(crate) is_routed: bool,
}

impl Outlet {
    /// The host's address of a port here; `None`: the port is of the other family.
    fn host_address(&self, asked: Option<IpAddr>) -> Option<IpAddr> {
        let address = match asked {
            Some(address) => address.to_canonical(),
            None if self.default_address == Family::V4.unspecified() => {
                Some(self.family.unspecified()).filter(|_| self.takes_unnamed)?
            }
            None => self.default_address,
        };
        let address = Some(address).filter(|address| Family::of(*address) == self.family)?;
        Some(if self.is_routed { self.family.unspecified() } else { address })
    }
}

/// Requests as groups, in Docker's order: exact host ports before ranges, then by container port, protocol,
/// host ports and address (source: moby `portmapperapi/api.go`, `PortBindingReq.Compare`;
/// `drivers/bridge/port_mapping_linux.go`).
///
/// # Errors
/// [`Error::PortRange`]
pub(crate) fn group(requests: &[PortRequest], outlets: &[Outlet]) -> Result<Vec<PortGroup>> {
    let mut flat = Vec::with_capacity(requests.len());
    for request in requests {
        let host_ports = match request.host_ports {
            Some((0, 0)) | None => None,
            Some((first, last)) if first == 0 || last < first => {
                return Err(Error::PortRange { first, last });
            }
            range => range,
        };
        for outlet in outlets {
            let Some(address) = outlet.host_address(request.host_address) else { continue };
            let host_ports = host_ports.filter(|_| !outlet.is_routed);
            flat.push((request.container_port, request.protocol, host_ports, address, outlet.is_routed));
        }
    }
    let is_range = |ports: Option<(u16, u16)>| ports.is_none_or(|(first, last)| first != last);
    flat.sort_by_key(|(port, protocol, host, address, is_routed)| {
        (is_range(*host), *port, *protocol, *host, *is_routed, *address)
    });
    flat.dedup_by(|a, b| a == b && (a.4 || !is_range(a.2)));
    let mut groups: Vec<PortGroup> = Vec::new();
    for (container_port, protocol, host_ports, address, is_routed) in flat {
        match groups.last_mut() {
            Some(last)
                if (last.container_port, last.protocol, last.host_ports, last.is_routed)
                    == (container_port, protocol, host_ports, is_routed)
                    && !last.addresses.contains(&address) =>
            {
                last.addresses.push(address);
            }
            _ => {
                let addresses = vec![address];
                groups.push(PortGroup { container_port, protocol, host_ports, addresses, is_routed });
            }
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn request(port: u16, address: Option<&str>, host_ports: Option<(u16, u16)>) -> PortRequest {
        let host_address = address.map(|a| a.parse().unwrap());
        PortRequest { container_port: port, protocol: Protocol::Tcp, host_address, host_ports }
    }

    const V4: Outlet = Outlet {
        family: Family::V4,
        default_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        takes_unnamed: true,
        is_routed: false,
    };
    const V6: Outlet = Outlet { family: Family::V6, ..V4 };

    #[test]
    fn ports_are_published_in_both_families_unless_an_address_says_which() {
        let shown = |requests: &[PortRequest], outlets: &[Outlet]| -> Vec<String> {
            let groups = group(requests, outlets).unwrap().into_iter();
            groups.map(|g| format!("{} {:?} {:?}", g.container_port, g.addresses, g.host_ports)).collect()
        };
        let any = [request(80, None, Some((8080, 8080)))];
        assert_eq!(shown(&any, &[V4, V6]), ["80 [0.0.0.0, ::] Some((8080, 8080))"]);
        let deaf = Outlet { takes_unnamed: false, ..V6 };
        assert_eq!(shown(&any, &[V4, deaf]), ["80 [0.0.0.0] Some((8080, 8080))"]);
        assert_eq!(shown(&[request(80, Some("0.0.0.0"), None)], &[V4, V6]), ["80 [0.0.0.0] None"]);
        assert_eq!(shown(&[request(80, Some("::1"), None)], &[V4, deaf]), ["80 [::1] None"]);
        let local = |outlet| Outlet { default_address: Ipv4Addr::LOCALHOST.into(), ..outlet };
        assert_eq!(shown(&any, &[local(V4), local(V6)]), ["80 [127.0.0.1] Some((8080, 8080))"]);
        let routed = Outlet { is_routed: true, ..V6 };
        assert_eq!(shown(&any, &[V4, routed]), ["80 [0.0.0.0] Some((8080, 8080))", "80 [::] None"]);
        assert_eq!(shown(&[any[0].clone(), any[0].clone()], &[routed]), ["80 [::] None"]);
    }

    #[test]
    fn exact_ports_come_first_and_addresses_share_a_port() {
        let requests = [
            request(80, Some("127.0.0.2"), None),
            request(90, None, Some((9000, 9010))),
            request(95, None, Some((95, 95))),
            request(80, Some("127.0.0.1"), None),
        ];
        let groups = group(&requests, &[V4]).unwrap();
        let shape: Vec<_> = groups.iter().map(|g| (g.container_port, g.addresses.len())).collect();
        assert_eq!(shape, [(95, 1), (80, 2), (90, 1)]);
        assert_eq!(groups[2].addresses, [IpAddr::V4(Ipv4Addr::UNSPECIFIED)]);
    }

    #[test]
    fn the_same_ephemeral_request_twice_gives_two_ports() {
        let groups = group(&[request(80, None, None), request(80, None, None)], &[V4]).unwrap();
        assert_eq!(groups.len(), 2);
        let exact = request(80, None, Some((8080, 8080)));
        assert_eq!(group(&[exact.clone(), exact], &[V4]).unwrap().len(), 1);
    }

    #[test]
    fn bad_ranges_are_refused() {
        let bad = group(&[request(80, None, Some((10, 9)))], &[V4]);
        assert_eq!(bad.unwrap_err().to_string(), "invalid port range: 10-9");
    }
}
