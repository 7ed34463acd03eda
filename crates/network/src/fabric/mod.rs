//! The networking of one daemon: networks, the containers on them, and everything in the kernel for both.

mod attach;
mod change;
mod guard;
mod links;
mod names;
mod networks;
mod open;
mod ports;
mod republish;
#[cfg(test)]
pub(crate) mod tests;

pub use change::Connected;
pub use republish::Republished;

use crate::{
    addr::{Mac, Subnet},
    bridge::{BridgeNetwork, BridgeSpec, Device},
    dns,
    error::{Error, Result},
    firewall::Firewall,
    ipam::{AddressPool, Ipam},
    ports::{PortAllocator, PortBinding, PortRequest, Reservation},
    proxy::Proxy,
    publish::PublishAllow,
    record::{Endpoint, OpenLink, Records, SandboxRecord},
    sandbox::{Cable, Host, Pool, Reaper, Sandbox},
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use wharf_spec::{EndpointId, NetworkId};

/// What [`Fabric::open`] does about `net.ipv4.ip_forward`, and the first network with IPv6 about
/// `net.ipv6.conf.all.forwarding` and `default.forwarding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IpForwarding {
    /// Switches it on. Where it was off, the host still forwards nothing between interfaces that are no
    /// bridges.
    #[default]
    Enable,
    /// Switches it on and makes the host a router (`--ip-forward-no-drop`).
    EnableRouter,
    /// Leaves it as it is (`--ip-forward=false`).
    Leave,
}

/// Who filters packets and translates addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filtering {
    /// This daemon.
    #[default]
    Ours,
    /// Somebody else, or nobody (`--iptables=false`): published ports lead nowhere, containers reach what their
    /// addresses can reach.
    Others,
}

/// How a daemon's networking is to be.
#[derive(Debug, Clone)]
pub struct FabricConfig {
    /// Name of the nftables table, and mark of our interfaces: another one for every daemon in the same
    /// network namespace. `wharf` unless there are several.
    pub instance: String,
    /// Records of live containers, `<exec-root>/network`: must not survive a reboot.
    pub state_dir: PathBuf,
    /// Where namespaces get their names, `<exec-root>/netns`.
    pub netns_dir: PathBuf,
    /// `--default-address-pool`; empty for Docker's.
    pub address_pools: Vec<AddressPool>,
    /// How many namespaces are made ahead, in the default network.
    pub ready_namespaces: usize,
    /// About `net.ipv4.ip_forward`.
    pub forwarding: IpForwarding,
    /// About packet filtering and address translation of IPv4.
    pub filtering: Filtering,
    /// The same of IPv6.
    pub filtering_v6: Filtering,
    /// Who reaches published ports of networks that are [`BridgeSpec::filtered`].
    pub publish_allow: PublishAllow,
    /// The bridge networks that exist.
    pub networks: Vec<BridgeSpec>,
    /// The one of them without which the daemon cannot be.
    pub default_network: Option<NetworkId>,
    /// Ports are published on the host's IPv6 addresses for containers without IPv6 too (`--userland-proxy`).
    pub proxy: bool,
    /// Where the embedded DNS server and the proxy run. `None`: there are none, whatever is asked for.
    pub runtime: Option<tokio::runtime::Handle>,
}

/// A container that needs networking.
#[derive(Debug, Clone)]
pub struct SandboxRequest {
    /// The container's id.
    pub container: String,
    /// The container's name, for messages.
    pub name: String,
    /// Its networks in the order of their interfaces. The first that is not internal gets the default route, for each
    /// family the first with it.
    /// None at all makes a namespace with a loopback only.
    pub endpoints: Vec<EndpointRequest>,
    /// What is published, by the endpoints with the default routes.
    pub ports: Vec<PortRequest>,
    /// Ports of containers on the same bridge that it may reach, also where containers may not talk to each other.
    pub links: Vec<OpenLink>,
    /// A fresh namespace to use, which belongs to the container's user namespace; `None` for one of the host's.
    pub namespace: Option<Arc<OwnedFd>>,
}

/// An attachment to a network.
#[derive(Debug, Clone)]
pub struct EndpointRequest {
    /// The network.
    pub network: NetworkId,
    /// The attachment's id.
    pub id: EndpointId,
    /// `--ip`
    pub address: Option<IpAddr>,
    /// `--ip6`
    pub address_v6: Option<IpAddr>,
    /// `--mac-address`
    pub mac: Option<Mac>,
    /// What the container is called in this network, its own name first. With any, it is served by the embedded DNS
    /// server.
    pub names: Vec<String>,
    /// What it calls others in this network: an alias, and the name it stands for.
    pub links: Vec<(String, String)>,
    /// The interface's name; `None` is the network's prefix and the first free number.
    pub interface: Option<String>,
    /// Further addresses, all link-local.
    pub link_local: Vec<IpAddr>,
    /// Kernel parameters of the interface, `net.X.Y.IFNAME.Z=V`.
    pub sysctls: Vec<String>,
}

/// A container's networking, ready.
#[derive(Debug)]
pub struct Attachment {
    /// The namespace.
    pub namespace: OwnedFd,
    /// Its id: 64 hex characters.
    pub sandbox: String,
    /// Its name on disk.
    pub key: PathBuf,
    /// As asked for, and in that order.
    pub endpoints: Vec<Endpoint>,
    /// What is published.
    pub ports: Vec<PortBinding>,
    /// The sockets of the embedded DNS server, and those that hold the ports. Whoever keeps them keeps the ports
    /// from other programs, and questions waiting, also while no daemon runs.
    pub reservations: Vec<OwnedFd>,
    /// The embedded DNS server listens, and waits for [`Fabric::serve_names`].
    pub embedded_dns: bool,
}

/// The networking of one daemon, in the network namespace of the thread that opened it.
///
/// All functions block: a few hundred microseconds for most, some milliseconds when no namespace is ready.
/// They may be called from any thread *of that namespace*. Dropping it leaves networks and containers as they
/// are, for the next daemon; [`Fabric::shut_down`] removes what nobody needs.
#[derive(Debug)]
pub struct Fabric {
    netns_dir: PathBuf,
    state_dir: PathBuf,
    forwarding: IpForwarding,
    records: Records,
    host: Host,
    names: Arc<dns::Names>,
    dns: Option<dns::Server>,
    proxy: Option<Proxy>,
    inner: Arc<Mutex<Inner>>,
    /// Until networking is shut down.
    guard: Mutex<Option<guard::Guard>>,
    // Dropped in this order: the pool's namespaces first, then what waits to be removed.
    pool: Pool,
    reaper: Reaper,
}

/// What changes.
#[derive(Debug)]
struct Inner {
    ipam: Ipam,
    ports: PortAllocator,
    networks: BTreeMap<NetworkId, Network>,
    /// By container id.
    sandboxes: BTreeMap<String, Live>,
    firewall: Firewall,
    /// Containers without IPv6 are reached from it.
    has_proxy: bool,
}

#[derive(Debug)]
struct Network {
    network: BridgeNetwork,
    device: Device,
}

/// A container that has networking.
#[derive(Debug)]
struct Live {
    record: SandboxRecord,
    sandbox: Sandbox,
    reservation: Reservation,
    /// Of the embedded DNS server.
    resolver: Option<dns::Sockets>,
}

impl Fabric {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A poisoned lock means a panic; going on is better than failing every container from now on.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The containers that have networking, by id.
    pub fn containers(&self) -> Vec<String> {
        self.lock().sandboxes.keys().cloned().collect()
    }

    /// A container's endpoints and published ports.
    pub fn endpoints(&self, container: &str) -> Option<(Vec<Endpoint>, Vec<PortBinding>)> {
        let inner = self.lock();
        let record = &inner.sandboxes.get(container)?.record;
        Some((record.endpoints.clone(), record.ports.clone()))
    }

    /// The containers in a network, by id, with their endpoints.
    pub fn members(&self, network: &NetworkId) -> Vec<(String, Endpoint)> {
        let inner = self.lock();
        let records = inner.sandboxes.values().map(|live| &live.record);
        let endpoints = records.flat_map(|record| {
            record.endpoints.iter().map(|endpoint| (record.container.clone(), endpoint.clone()))
        });
        endpoints.filter(|(_, endpoint)| endpoint.network == *network).collect()
    }

    /// A network as it is.
    pub fn network(&self, id: &NetworkId) -> Option<BridgeNetwork> {
        self.lock().networks.get(id).map(|network| network.network.clone())
    }

    /// Waits until what ended containers left behind is gone.
    pub fn flush(&self) {
        self.reaper.flush();
    }

    /// How many addresses of each subnet of a network are taken, its own and broadcast among them, and how many are
    /// left to be given out.
    pub fn address_usage(&self, id: &NetworkId) -> Vec<(Subnet, u64, u64)> {
        let inner = self.lock();
        let subnets = inner.networks.get(id).into_iter().flat_map(|network| network.network.subnets());
        let usage = |subnet| inner.ipam.usage(subnet).map(|(taken, left)| (subnet, taken, left));
        subnets.filter_map(usage).collect()
    }

    /// Ends networking: networks without containers lose their bridge, and without any container the
    /// firewall's table goes too. What has containers stays as it is, for the next daemon. Nothing can be
    /// attached any more.
    ///
    /// # Errors
    /// The first thing that could not be removed; the others are removed all the same.
    pub fn shut_down(&self) -> Result<()> {
        self.pool.rewire(None);
        self.reaper.flush();
        // It must not restore what is removed now. Its thread takes the lock below.
        drop(self.guard.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut inner = self.lock();
        let Inner { networks, sandboxes, firewall, .. } = &mut *inner;
        let mut result = Ok(());
        networks.retain(|id, network| {
            let has = |live: &Live| live.record.endpoints.iter().any(|endpoint| endpoint.network == *id);
            let in_use = sandboxes.values().any(has);
            if !in_use && network.device.ours {
                let removed = crate::bridge::remove(&self.host, &network.network.spec.bridge);
                result = std::mem::replace(&mut result, Ok(())).and(removed);
            }
            in_use
        });
        if sandboxes.is_empty() { result.and(firewall.remove()) } else { result }
    }
}

impl Endpoint {
    /// Gives the inner end of a cable what this endpoint has: addresses, route, parameters.
    fn configure(&self, sandbox: &Sandbox, cable: &Cable) -> Result<()> {
        sandbox.address(cable, &self.addressing())?;
        sandbox.add_addresses(cable, &self.link_local)?;
        sandbox.set_parameters(&cable.name, &self.sysctls)
    }

    fn addressing(&self) -> crate::sandbox::Addressing {
        crate::sandbox::Addressing {
            v4: self.address,
            v6: self.address_v6,
            mac: self.mac,
            default_gateways: [
                self.gateway.filter(|_| self.is_default_route),
                self.gateway_v6.filter(|_| self.is_default_route_v6),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }
    }
}

impl Inner {
    fn network(&self, id: &NetworkId) -> Result<&Network> {
        self.networks.get(id).ok_or_else(|| Error::UnknownNetwork(id.to_string()))
    }

    fn release_addresses(&mut self, endpoint: &Endpoint) {
        let Some(network) = self.networks.get(&endpoint.network) else { return };
        for (subnet, address) in network.network.subnets_of(endpoint) {
            self.ipam.release_address(subnet, address);
        }
    }
}
