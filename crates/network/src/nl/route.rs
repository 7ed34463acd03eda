//! rtnetlink: links, addresses and routes (rtnetlink(7), `linux/if_link.h`, `linux/rtnetlink.h`).

use super::{Body, Channel, Message, attrs, find_attr, message, text, u32_at};
use crate::{
    addr::{Family, Mac, Subnet},
    error::{Error, Result},
    macvlan::MacvlanMode,
};
use std::{
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
};
use wharf_sys::{
    Errno,
    netlink::{CREATE, DUMP, EXCL, REPLACE},
};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const VETH_PEER: u16 = 1;
const MACVLAN_MODE: u16 = 1;
const BRPORT_HAIRPIN: u16 = 4;

const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TABLE_MAIN: u8 = 254;
const SCOPE_LINK: u8 = 253;
/// IFA_F_NODAD
const NO_DUPLICATE_DETECTION: u8 = 2;

/// A network interface of the namespace asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: String,
    /// `bridge`, `veth`; empty for a real device.
    pub(crate) kind: String,
}

/// A pair of interfaces: one in the asked namespace, `eth0` or such in a container's.
pub(crate) struct VethPair<'a> {
    pub(crate) host_name: &'a str,
    pub(crate) peer_name: &'a str,
    pub(crate) peer_namespace: BorrowedFd<'a>,
    /// Bridge that the host's end joins.
    pub(crate) bridge: u32,
    pub(crate) mtu: u32,
}

/// `struct ifinfomsg`
fn link_header(index: u32, up: Option<bool>) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    if let Some(up) = up {
        header[8..12].copy_from_slice(&(if up { IFF_UP } else { 0 }).to_ne_bytes());
        header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    }
    header
}

/// `struct ifaddrmsg`
fn address_header(address: &Subnet, index: u32) -> [u8; 8] {
    let flags = if address.is_v4() { 0 } else { NO_DUPLICATE_DETECTION };
    let mut header = [family(address.address()), address.bits(), flags, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    header
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn ip_attr(body: &mut Body<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => body.attr(kind, &v4.octets()),
        IpAddr::V6(v6) => body.attr(kind, &v6.octets()),
    }
}

/// Makes a bridge, up.
pub(crate) fn add_bridge(name: &str, mac: Mac, mtu: u32) -> Message {
    message(NEWLINK, CREATE | EXCL, |body| {
        body.fixed(&link_header(0, Some(true)));
        body.attr_text(IFLA_IFNAME, name);
        body.attr(IFLA_ADDRESS, mac.bytes());
        body.attr_u32(IFLA_MTU, mtu);
        body.nest(IFLA_LINKINFO, |info| info.attr_text(INFO_KIND, "bridge"));
    })
}

/// Makes a veth pair; the host's end is up and in the bridge.
pub(crate) fn add_veth(pair: &VethPair<'_>) -> Message {
    message(NEWLINK, CREATE | EXCL, |body| {
        body.fixed(&link_header(0, Some(true)));
        body.attr_text(IFLA_IFNAME, pair.host_name);
        body.attr_u32(IFLA_MTU, pair.mtu);
        body.attr_u32(IFLA_MASTER, pair.bridge);
        body.nest(IFLA_LINKINFO, |info| {
            info.attr_text(INFO_KIND, "veth");
            info.nest(INFO_DATA, |data| {
                data.nest(VETH_PEER, |peer| {
                    peer.fixed(&link_header(0, None));
                    peer.attr_text(IFLA_IFNAME, pair.peer_name);
                    peer.attr_u32(IFLA_MTU, pair.mtu);
                    peer.attr_u32(IFLA_NET_NS_FD, pair.peer_namespace.as_raw_fd().cast_unsigned());
                });
            });
        });
    })
}

/// Makes a macvlan interface of a device of the asked namespace in another namespace.
pub(crate) fn add_macvlan(name: &str, parent: u32, mode: MacvlanMode, namespace: BorrowedFd<'_>) -> Message {
    message(NEWLINK, CREATE | EXCL, |body| {
        body.fixed(&link_header(0, None));
        body.attr_text(IFLA_IFNAME, name);
        body.attr_u32(IFLA_LINK, parent);
        body.attr_u32(IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
        body.nest(IFLA_LINKINFO, |info| {
            info.attr_text(INFO_KIND, "macvlan");
            info.nest(INFO_DATA, |data| data.attr_u32(MACVLAN_MODE, mode.number()));
        });
    })
}

/// Changes an interface found by name.
fn change(name: &str, header: [u8; 16], body: impl FnOnce(&mut Body<'_>)) -> Message {
    message(NEWLINK, 0, |message| {
        message.fixed(&header);
        message.attr_text(IFLA_IFNAME, name);
        body(message);
    })
}

/// Marks an interface as ours.
pub(crate) fn set_alias(name: &str, alias: &str) -> Message {
    change(name, link_header(0, None), |body| body.attr(IFLA_IFALIAS, alias.as_bytes()))
}

/// Moves an interface into a bridge.
pub(crate) fn set_bridge(name: &str, bridge: u32) -> Message {
    change(name, link_header(0, None), |body| body.attr_u32(IFLA_MASTER, bridge))
}

/// Lets a bridge send back to where a frame came from: a container that reaches itself through its published
/// port, where br_netfilter is on.
pub(crate) fn set_hairpin(name: &str) -> Message {
    change(name, link_header(0, None), |body| {
        body.nest(IFLA_LINKINFO, |info| {
            info.attr_text(INFO_SLAVE_KIND, "bridge");
            info.nest(INFO_SLAVE_DATA, |data| data.attr(BRPORT_HAIRPIN, &[1]));
        });
    })
}

pub(crate) fn set_up(name: &str) -> Message {
    change(name, link_header(0, Some(true)), |_| {})
}

pub(crate) fn set_mtu(name: &str, mtu: u32) -> Message {
    change(name, link_header(0, None), |body| body.attr_u32(IFLA_MTU, mtu))
}

/// Changes a MAC address. With `arp_notify` on and an address present, the kernel tells the neighbours.
pub(crate) fn set_mac(index: u32, mac: Mac) -> Message {
    message(NEWLINK, 0, |body| {
        body.fixed(&link_header(index, None));
        body.attr(IFLA_ADDRESS, mac.bytes());
    })
}

pub(crate) fn delete_link(name: &str) -> Message {
    message(DELLINK, 0, |body| {
        body.fixed(&link_header(0, None));
        body.attr_text(IFLA_IFNAME, name);
    })
}

/// Puts an interface into a group.
pub(crate) fn set_group(name: &str, group: u32) -> Message {
    change(name, link_header(0, None), |body| body.attr_u32(IFLA_GROUP, group))
}

/// Removes all interfaces of a group together, for little more than the price of one.
pub(crate) fn delete_group(group: u32) -> Message {
    message(DELLINK, 0, |body| {
        body.fixed(&link_header(0, None));
        body.attr_u32(IFLA_GROUP, group);
    })
}

pub(crate) fn add_address(index: u32, address: &Subnet) -> Message {
    message(NEWADDR, CREATE | REPLACE, |body| {
        body.fixed(&address_header(address, index));
        ip_attr(body, 2, address.address());
        ip_attr(body, 1, address.address());
        if address.is_v4() && address.bits() < 31 {
            ip_attr(body, 4, address.last());
        }
    })
}

pub(crate) fn delete_address(index: u32, address: &Subnet) -> Message {
    message(DELADDR, 0, |body| {
        body.fixed(&address_header(address, index));
        ip_attr(body, 2, address.address());
    })
}

pub(crate) fn add_default_route(index: u32, gateway: IpAddr) -> Message {
    message(NEWROUTE, CREATE | REPLACE, |body| {
        // struct rtmsg: main table, protocol boot, scope universe, unicast
        body.fixed(&[family(gateway), 0, 0, 0, TABLE_MAIN, 3, 0, 1, 0, 0, 0, 0]);
        ip_attr(body, 5, gateway);
        body.attr_u32(4, index);
    })
}

impl Channel {
    /// The interface of that name, if there is one.
    pub(crate) fn link(&self, name: &str) -> Result<Option<Link>> {
        let request = message(GETLINK, 0, |body| {
            body.fixed(&link_header(0, None));
            body.attr_text(IFLA_IFNAME, name);
        });
        match self.ask(&request) {
            Ok(answer) => Ok(answer.iter().find_map(read_link)),
            Err(error) if error.is(Errno::NODEV) => Ok(None),
            Err(source) => {
                Err(Error::Netlink { operation: "look for interface", subject: name.into(), source })
            }
        }
    }

    /// All interfaces.
    pub(crate) fn links(&self) -> Result<Vec<Link>> {
        let answer = self.list("interfaces", GETLINK, &link_header(0, None))?;
        Ok(answer.iter().filter_map(read_link).collect())
    }

    /// The addresses of an interface, in the kernel's order, without the link-local ones of IPv6 that it makes itself.
    pub(crate) fn addresses(&self, index: u32, family: Family) -> Result<Vec<Subnet>> {
        let read = |payload: &[u8]| {
            let attributes = payload.get(8..)?;
            // IPv6 has IFA_ADDRESS only.
            let local = find_attr(attributes, 2).or_else(|| find_attr(attributes, 1))?;
            (u32_at(payload, 4)? == index).then_some(())?;
            Subnet::new(ip(local)?, payload[1])
        };
        let by_kernel = |address: &Subnet| match address.address() {
            IpAddr::V4(_) => false,
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let number = if family == Family::V4 { AF_INET } else { AF_INET6 };
        let answer = self.list("addresses", GETADDR, &[number, 0, 0, 0, 0, 0, 0, 0])?;
        let addresses = answer.iter().filter_map(|message| read(&message.payload));
        Ok(addresses.filter(|address| !by_kernel(address)).collect())
    }

    /// The on-link IPv4 networks of the main table: what the host is part of
    /// (source: moby `daemon/libnetwork/netutils/utils_linux.go`, `queryOnLinkRoutes`).
    pub(crate) fn on_link_routes_v4(&self) -> Result<Vec<Subnet>> {
        let read = |payload: &[u8]| {
            let (length, table, scope) = (*payload.get(1)?, *payload.get(4)?, *payload.get(6)?);
            (table == TABLE_MAIN && scope == SCOPE_LINK).then_some(())?;
            Subnet::new(ip(find_attr(payload.get(12..)?, 1)?)?, length)
        };
        let answer = self.list("routes", GETROUTE, &[AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        Ok(answer.iter().filter_map(|message| read(&message.payload)).collect())
    }

    fn list(&self, subject: &str, kind: u16, header: &[u8]) -> Result<Vec<Message>> {
        self.ask(&message(kind, DUMP, |body| body.fixed(header))).map_err(|source| Error::Netlink {
            operation: "list",
            subject: subject.into(),
            source,
        })
    }
}

fn ip(payload: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(payload).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(payload).ok().map(IpAddr::from))
}

fn read_link(message: &Message) -> Option<Link> {
    let index = u32_at(&message.payload, 4)?;
    let mut link = Link { index, name: String::new(), alias: String::new(), kind: String::new() };
    for (kind, payload) in attrs(message.payload.get(16..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(payload).to_owned(),
            IFLA_IFALIAS => link.alias = text(payload).to_owned(),
            IFLA_LINKINFO => {
                link.kind = find_attr(payload, INFO_KIND).map(text).unwrap_or_default().to_owned();
            }
            _ => {}
        }
    }
    (message.kind == NEWLINK).then_some(link)
}

/// Whether an error only says that the thing is not there.
pub(crate) fn is_gone(error: &wharf_sys::Error) -> bool {
    [Errno::NODEV, Errno::NOENT, Errno::ADDRNOTAVAIL, Errno::SRCH].iter().any(|errno| error.is(*errno))
}
