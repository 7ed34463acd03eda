//! Bridge devices of the host: made, adopted, removed.

use crate::{
    addr::{Mac, Subnet},
    error::{Error, Result},
    macvlan::{self, MacvlanMode},
    nl::route,
    random,
    sandbox::Host,
    sysctl,
};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
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
    /// Its subnet. `None`: the one of an existing device, else the next of the default pools.
    pub subnet: Option<Subnet>,
    /// Where addresses come from that nobody asked for; `None` is the whole subnet.
    pub range: Option<Subnet>,
    /// The bridge's own address; `None` is the first free one.
    pub gateway: Option<IpAddr>,
    /// Addresses of the subnet that no container may get.
    pub auxiliary: Vec<IpAddr>,
    /// No way out and none in.
    pub internal: bool,
    /// Traffic that leaves gets the host's address.
    pub masquerade: bool,
    /// Containers on the bridge may talk to each other.
    pub inter_container: bool,
    /// Bytes.
    pub mtu: u32,
    /// The host address of published ports that name none.
    pub default_host_address: Ipv4Addr,
    /// The bridge has no address of its own (`inhibit_ipv4`, gateway mode `isolated`); in an internal network there is
    /// no gateway then, unless one is asked for.
    pub without_address: bool,
    /// What the names of interfaces in containers begin with, `eth` if nobody asked.
    pub interface_prefix: String,
}

/// A bridge network as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeNetwork {
    /// What was asked for.
    pub spec: BridgeSpec,
    /// Its subnet, without host bits.
    pub subnet: Subnet,
    /// The bridge's address, or where containers send what leaves; `None` where nothing does.
    pub gateway: Option<IpAddr>,
}

/// A bridge device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) index: u32,
    /// Made by this or an earlier daemon, not by the administrator.
    pub(crate) ours: bool,
}

/// The subnet that an existing device already has
/// (source: moby `daemon/daemon_unix.go`, `selectBIP`).
pub(crate) fn existing_subnet(host: &Host, spec: &BridgeSpec) -> Result<Option<Subnet>> {
    let link = if spec.macvlan.is_some() { None } else { host.channel.link(&spec.bridge)? };
    let Some(link) = link else { return Ok(None) };
    Ok(host.channel.addresses_v4(link.index)?.first().copied())
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
    let configured = set_address(host, network, device).and_then(|()| set_parameters(network));
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

/// Gives the bridge the network's address, if it is to have one. Other addresses are taken from a bridge of ours only: they are
/// left over from another configuration.
fn set_address(host: &Host, network: &BridgeNetwork, device: Device) -> Result<()> {
    let name = &network.spec.bridge;
    let own = network.gateway.filter(|_| !network.spec.without_address);
    let with_length = |own| Subnet::new(own, network.subnet.bits()).ok_or(Error::AddressOutOfRange);
    let wanted = own.map(with_length).transpose()?;
    let present = host.channel.addresses_v4(device.index)?;
    let mut requests = Vec::new();
    if device.ours {
        let old = present.iter().filter(|address| Some(**address) != wanted);
        requests.extend(old.map(|address| route::delete_address(device.index, address)));
    }
    let missing = wanted.filter(|wanted| !present.contains(wanted));
    requests.extend(missing.map(|wanted| route::add_address(device.index, &wanted)));
    host.channel.run(&requests, "set address of bridge", name)
}

/// 127.0.0.1 is redirected to containers, which needs `route_localnet`; router advertisements of containers
/// are not believed; where containers may not talk to each other, bridged packets must pass the filter.
fn set_parameters(network: &BridgeNetwork) -> Result<()> {
    let name = &network.spec.bridge;
    sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    sysctl::set_if_present(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    if !network.spec.inter_container {
        sysctl::set("bridge/bridge-nf-call-iptables", "1")?;
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
