//! Networks: added, removed.

use super::{Fabric, Inner, Network, open::enable_forwarding};
use crate::{
    addr::{Family, Subnet},
    bridge::{self, AddressSpec, Addresses, BridgeNetwork, BridgeSpec},
    error::{Error, Result},
    firewall::BridgeRules,
    ipam::Ipam,
    macvlan::MacvlanMode,
    resolv,
    sandbox::{Host, Plug, Wiring},
};
use std::net::IpAddr;
use wharf_spec::NetworkId;

impl Fabric {
    /// Makes a network: takes a subnet, makes or adopts the bridge, opens the firewall for it.
    ///
    /// # Errors
    /// A subnet, address or bridge that is taken or wrong, or a refusal of the kernel; nothing is left then.
    pub fn add_network(&self, spec: BridgeSpec) -> Result<BridgeNetwork> {
        let reserved = reserved_subnets(&self.host)?;
        let mut inner = self.lock();
        let Inner { ipam, networks, .. } = &mut *inner;
        networks.values().try_for_each(|other| shares_device(&other.network.spec, &spec))?;
        let network = allocate(ipam, &self.host, spec, &reserved)?;
        if network.v6.is_some() {
            let forwarding = enable_forwarding(Family::V6, self.forwarding, &self.state_dir);
            match forwarding {
                Ok(forwarding) => inner.firewall.set_forwarding_v6(forwarding),
                Err(error) => {
                    network.subnets().for_each(|subnet| inner.ipam.release_subnet(subnet));
                    return Err(error);
                }
            }
        }
        let device = match bridge::ensure(&self.host, &network) {
            Ok(device) => device,
            Err(error) => {
                network.subnets().for_each(|subnet| inner.ipam.release_subnet(subnet));
                return Err(error);
            }
        };
        let id = network.spec.id.clone();
        inner.networks.insert(id.clone(), Network { network: network.clone(), device });
        if let Err(error) = inner.apply_networks() {
            // The first error says it all; taking back is tried in full.
            let _ = inner.forget_network(&self.host, &id);
            return Err(error);
        }
        Ok(network)
    }

    /// Removes a network without containers.
    ///
    /// # Errors
    /// [`Error::UnknownNetwork`], [`Error::NetworkBusy`], or a refusal of the kernel, behind which the network
    /// is gone all the same.
    pub fn remove_network(&self, id: &NetworkId) -> Result<()> {
        let mut inner = self.lock();
        let name = inner.network(id)?.network.spec.name.clone();
        let used = |live: &super::Live| live.record.endpoints.iter().any(|endpoint| endpoint.network == *id);
        if inner.sandboxes.values().any(used) {
            return Err(Error::NetworkBusy(name));
        }
        inner.forget_network(&self.host, id)
    }
}

/// Whether two networks can be on the same device: macvlan networks can, except for `passthru`.
fn shares_device(present: &BridgeSpec, new: &BridgeSpec) -> Result<()> {
    if present.bridge != new.bridge {
        return Ok(());
    }
    let (network, parent) = (present.id.clone(), new.bridge.clone());
    match (present.macvlan, new.macvlan) {
        (None, None) => Err(Error::BridgeInUse(parent)),
        (Some(_), Some(MacvlanMode::Passthru)) => Err(Error::ParentInUse { network, parent }),
        (Some(MacvlanMode::Passthru), Some(_)) => Err(Error::ParentTaken { network, parent }),
        _ => Ok(()),
    }
}

impl Network {
    /// How a container's interface is made.
    pub(super) fn plug(&self) -> Plug {
        match self.network.spec.macvlan {
            None => Plug::Cable(self.wiring()),
            Some(mode) => Plug::Macvlan { parent: self.network.spec.bridge.clone(), mode },
        }
    }

    /// How a container is plugged in.
    pub(super) fn wiring(&self) -> Wiring {
        Wiring { bridge: self.device.index, mtu: self.network.spec.mtu }
    }
}

impl Inner {
    /// The networks as the firewall has to know them.
    pub(super) fn rules(&self) -> Vec<BridgeRules> {
        rules(self.networks.values())
    }

    fn apply_networks(&mut self) -> Result<()> {
        let rules = self.rules();
        if self.firewall.set_networks(rules.clone()).is_ok() {
            return Ok(());
        }
        // Somebody may have removed our table.
        let ports = self.published_ports();
        self.firewall.rebuild(&ports)?;
        self.firewall.set_networks(rules)
    }

    fn forget_network(&mut self, host: &Host, id: &NetworkId) -> Result<()> {
        let Some(network) = self.networks.remove(id) else { return Ok(()) };
        network.network.subnets().for_each(|subnet| self.ipam.release_subnet(subnet));
        let removed = match network.device.ours {
            true => bridge::remove(host, &network.network.spec.bridge),
            false => Ok(()),
        };
        self.apply_networks().and(removed)
    }
}

pub(super) fn rules<'a>(networks: impl Iterator<Item = &'a Network>) -> Vec<BridgeRules> {
    let rule = |network: &'a Network, family| {
        Some(BridgeRules {
            bridge: network.network.spec.bridge.clone(),
            subnet: network.network.family(family)?.subnet,
            internal: network.network.spec.internal,
            masquerade: network.network.spec.masquerade,
            inter_container: network.network.spec.inter_container,
            mode: network.network.spec.family(family)?.mode,
            filtered: network.network.spec.filtered,
        })
    };
    let bridges = networks.filter(|network| network.network.spec.macvlan.is_none());
    bridges
        .flat_map(|network| Family::BOTH.into_iter().filter_map(move |family| rule(network, family)))
        .collect()
}

/// Takes subnets, gateways and auxiliary addresses of a network.
pub(super) fn allocate(
    ipam: &mut Ipam,
    host: &Host,
    spec: BridgeSpec,
    reserved: &[Subnet],
) -> Result<BridgeNetwork> {
    let v4 = allocate_family(ipam, host, &spec, Family::V4, reserved)?;
    match allocate_family(ipam, host, &spec, Family::V6, reserved) {
        Ok(v6) => Ok(BridgeNetwork { spec, v4, v6 }),
        Err(error) => {
            v4.iter().for_each(|addresses| ipam.release_subnet(addresses.subnet));
            Err(error)
        }
    }
}

fn allocate_family(
    ipam: &mut Ipam,
    host: &Host,
    spec: &BridgeSpec,
    family: Family,
    reserved: &[Subnet],
) -> Result<Option<Addresses>> {
    let Some(asked) = spec.family(family) else { return Ok(None) };
    let existing = bridge::existing_subnet(host, spec, family)?;
    let subnet = match asked.subnet.or(existing.map(|address| address.masked())) {
        Some(subnet) => ipam.take_subnet(subnet, asked.range)?,
        None => ipam.take_any_subnet(family, reserved)?,
    };
    match take_own_addresses(ipam, spec, asked, subnet, existing) {
        Ok(gateway) => Ok(Some(Addresses { subnet, gateway })),
        Err(error) => {
            ipam.release_subnet(subnet);
            Err(error)
        }
    }
}

/// Takes the auxiliary addresses and the gateway: the one asked for, else the one that the device has.
fn take_own_addresses(
    ipam: &mut Ipam,
    spec: &BridgeSpec,
    asked: &AddressSpec,
    subnet: Subnet,
    existing: Option<Subnet>,
) -> Result<Option<IpAddr>> {
    for address in asked.auxiliary.iter().filter(|address| Some(**address) != asked.gateway) {
        ipam.take_address(subnet, *address)?;
    }
    let present = existing.map(|address| address.address()).filter(|address| subnet.contains(*address));
    match asked.gateway.or(present) {
        Some(gateway) if !subnet.contains(gateway) => Err(Error::GatewayOutside { gateway, subnet }),
        Some(gateway) => ipam.take_address(subnet, gateway).map(Some),
        // Nobody would use it (source: moby `daemon/libnetwork/drivers/bridge/bridge_linux.go`, `GetSkipGwAlloc`).
        None if asked.without_address && spec.internal || spec.macvlan.is_some() => Ok(None),
        None => ipam.take_any_address(subnet).map(Some),
    }
}

/// What no network may get by itself: the IPv4 networks the host is part of, and its name servers
/// (source: moby `daemon/libnetwork/netutils/utils_linux.go`, `InferReservedNetworks`).
pub(super) fn reserved_subnets(host: &Host) -> Result<Vec<Subnet>> {
    let mut reserved = host.channel.on_link_routes_v4()?;
    let text = std::fs::read_to_string(resolv::DEFAULT_PATH).unwrap_or_default();
    let conf = resolv::ResolvConf::parse(&text);
    let whole = |server: &IpAddr| Subnet::new(*server, if server.is_ipv4() { 32 } else { 128 });
    reserved.extend(conf.servers().iter().filter_map(whole));
    Ok(reserved)
}
