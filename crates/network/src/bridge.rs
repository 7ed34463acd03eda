//! Bridge devices of the host: made, adopted, removed.

use crate::{
    addr::{Family, Mac, Subnet},
    error::{Error, Result},
    macvlan::{self, MacvlanMode},
    nl::route,
    random,
    record::Endpoint,
    sandbox::Host,
    sysctl,
};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use wharf_spec::NetworkId;

/// A bridge network as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeSpec {
    /// The network's id.
    pub id: NetworkId,
    /// The network's name, for messages.
    pub name: String,
    /// The device's name, at most 15 bytes.
    pub bridge: String,
    /// The device is no bridge of ours but the parent of the containers' interfaces.
    pub macvlan: Option<MacvlanMode>,
    /// Its IPv4 addresses, if it has any.
    pub v4: Option<AddressSpec>,
    /// Its IPv6 addresses, if it has any.
    pub v6: Option<AddressSpec>,
    /// No way out and none in.
    pub internal: bool,
    /// Traffic that leaves gets the host's address.
    pub masquerade: bool,
    /// Containers on the bridge may talk to each other.
    pub inter_container: bool,
    /// Published ports are reached by those only whom the host lets through.
    pub filtered: bool,
    /// Bytes.
    pub mtu: u32,
    /// The host address of published ports that name none; 0.0.0.0 stands for `::` as well.
    pub default_host_address: IpAddr,
    /// What the names of interfaces in containers begin with, `eth` if nobody asked.
    pub interface_prefix: String,
}

/// The addresses of one family that a network is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressSpec {
    /// Its subnet. `None`: the one of an existing device, else the next of the default pools.
    pub subnet: Option<Subnet>,
    /// Where addresses come from that nobody asked for; `None` is the whole subnet.
    pub range: Option<Subnet>,
    /// The bridge's own address; `None` is the first free one.
    pub gateway: Option<IpAddr>,
    /// Addresses of the subnet that no container may get.
    pub auxiliary: Vec<IpAddr>,
    /// The bridge has no address of its own (`inhibit_ipv4`, gateway mode `isolated`); in an internal network there is
    /// no gateway then, unless one is asked for.
    pub without_address: bool,
    /// How containers are reached from outside, and reach it.
    pub mode: GatewayMode,
}

/// What the host does with packets between a network and the world
/// (source: moby `daemon/libnetwork/drivers/bridge/bridge_linux.go`, `gwMode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayMode {
    /// What leaves gets the host's address; what comes in comes through published ports.
    #[default]
    Nat,
    /// As [`Self::Nat`], but who has a route to a container reaches every port of it.
    NatUnprotected,
    /// Containers are seen under their own addresses; published ports are open there, and not on the host.
    Routed,
    /// The host is no part of the network, which is internal.
    Isolated,
}

/// A bridge network as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeNetwork {
    /// What was asked for.
    pub spec: BridgeSpec,
    /// Its IPv4 addresses, if it has any.
    pub v4: Option<Addresses>,
    /// Its IPv6 addresses, if it has any.
    pub v6: Option<Addresses>,
}

/// The addresses of one family that a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Its subnet, without host bits.
    pub subnet: Subnet,
    /// The bridge's address, or where containers send what leaves; `None` where nothing does.
    pub gateway: Option<IpAddr>,
}

impl BridgeSpec {
    /// What is wanted of a family, if it is.
    pub fn family(&self, family: Family) -> Option<&AddressSpec> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }
}

impl BridgeNetwork {
    /// What there is of a family, if it is.
    pub fn family(&self, family: Family) -> Option<Addresses> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Its subnets.
    pub fn subnets(&self) -> impl Iterator<Item = Subnet> {
        [self.v4, self.v6].into_iter().flatten().map(|addresses| addresses.subnet)
    }

    /// An endpoint's addresses, each with the subnet that it is of.
    pub(crate) fn subnets_of(&self, endpoint: &Endpoint) -> impl Iterator<Item = (Subnet, IpAddr)> {
        let of = |family| Some((self.family(family)?.subnet, endpoint.address_of(family)?));
        Family::BOTH.into_iter().filter_map(of)
    }

    /// The address, with its length, that the bridge itself has of a family.
    fn own_address(&self, family: Family) -> Result<Option<Subnet>> {
        let (Some(asked), Some(addresses)) = (self.spec.family(family), self.family(family)) else {
            return Ok(None);
        };
        let own = addresses.gateway.filter(|_| !asked.without_address);
        let with_length = |own| Subnet::new(own, addresses.subnet.bits()).ok_or(Error::AddressOutOfRange);
        own.map(with_length).transpose()
    }
}

/// A bridge device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) index: u32,
    /// Made by this or an earlier daemon, not by the administrator.
    pub(crate) ours: bool,
}

/// The subnet of a family that an existing device already has
/// (source: moby `daemon/daemon_unix.go`, `selectBIP`).
pub(crate) fn existing_subnet(host: &Host, spec: &BridgeSpec, family: Family) -> Result<Option<Subnet>> {
    let link = if spec.macvlan.is_some() { None } else { host.channel.link(&spec.bridge)? };
    let Some(link) = link else { return Ok(None) };
    Ok(host.channel.addresses(link.index, family)?.first().copied())
}

/// Makes the device, or takes the existing one of that name, and gives it address and parameters. The parent of a
/// macvlan network stays as it is.
pub(crate) fn ensure(host: &Host, network: &BridgeNetwork) -> Result<Device> {
    let name = &network.spec.bridge;
    if network.spec.macvlan.is_some() {
        return Ok(Device { index: macvlan::parent(host, name)?, ours: false });
    }
    let device = match host.channel.link(name)? {
        Some(link) if link.kind == "bridge" => {
            let device = Device { index: link.index, ours: link.alias == host.alias };
            if device.ours {
                host.channel.run(&[route::set_mtu(name, network.spec.mtu)], "change bridge", name)?;
            }
            host.channel.run(&[route::set_up(name)], "set up bridge", name)?;
            device
        }
        Some(_) => return Err(Error::NotABridge(name.clone())),
        None => make(host, network)?,
    };
    let configured = set_parameters(network).and_then(|()| set_addresses(host, network, device));
    if configured.is_err() && device.ours {
        // Its failure would only repeat the first one.
        let _ = remove(host, name);
    }
    configured.map(|()| device)
}

fn make(host: &Host, network: &BridgeNetwork) -> Result<Device> {
    let name = &network.spec.bridge;
    let mac = Mac::from_random(random::bytes()?);
    let requests = [route::add_bridge(name, mac, network.spec.mtu), route::set_alias(name, &host.alias)];
    host.channel.run(&requests, "make bridge", name)?;
    let link = host.channel.link(name)?.ok_or_else(|| Error::NotABridge(name.clone()))?;
    Ok(Device { index: link.index, ours: true })
}

/// Gives the bridge the network's addresses, if it is to have any. Other addresses are taken from a bridge of ours only:
/// they are left over from another configuration.
fn set_addresses(host: &Host, network: &BridgeNetwork, device: Device) -> Result<()> {
    let mut requests = Vec::new();
    for family in Family::BOTH {
        let wanted = network.own_address(family)?;
        let present = host.channel.addresses(device.index, family)?;
        if device.ours {
            let old = present.iter().filter(|address| Some(**address) != wanted);
            requests.extend(old.map(|address| route::delete_address(device.index, address)));
        }
        let missing = wanted.filter(|wanted| !present.contains(wanted));
        requests.extend(missing.map(|wanted| route::add_address(device.index, &wanted)));
    }
    host.channel.run(&requests, "set address of bridge", &network.spec.bridge)
}

/// 127.0.0.1 is redirected to containers, which needs `route_localnet`; router advertisements of containers
/// are not believed; where containers may not talk to each other, bridged packets must pass the filter. A bridge of an
/// isolated network has no IPv6 at all, lest the kernel gives it a link-local address
/// (source: moby `daemon/libnetwork/drivers/bridge/setup_ipv6_linux.go`).
fn set_parameters(network: &BridgeNetwork) -> Result<()> {
    let name = &network.spec.bridge;
    if let Some(asked) = &network.spec.v6 {
        let off = if asked.mode == GatewayMode::Isolated { "1" } else { "0" };
        sysctl::set(&format!("ipv6/conf/{name}/disable_ipv6"), off)?;
    }
    sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    sysctl::set_if_present(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    if !network.spec.inter_container {
        sysctl::set("bridge/bridge-nf-call-iptables", "1")?;
        if network.spec.v6.is_some() {
            sysctl::set("bridge/bridge-nf-call-ip6tables", "1")?;
        }
    }
    Ok(())
}

/// Removes a device of ours; one that is gone is fine.
pub(crate) fn remove(host: &Host, name: &str) -> Result<()> {
    match host.channel.ask(&route::delete_link(name)) {
        Ok(_) => Ok(()),
        Err(error) if route::is_gone(&error) => Ok(()),
        Err(source) => Err(Error::Netlink { operation: "remove bridge", subject: name.to_owned(), source }),
    }
}
