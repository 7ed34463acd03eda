//! Opening: what an earlier daemon left is taken over, or removed.

use super::{
    Fabric, FabricConfig, Filtering, Inner, IpForwarding, Live, Network, guard::Guard, networks, ports,
};
use crate::{
    addr::Family,
    bridge, dns,
    error::{Error, Result},
    firewall::{Firewall, Forwarding, Scope, Setup, Watch},
    ipam::Ipam,
    nl::Channel,
    ports::{PortAllocator, Reservation},
    proxy::Proxy,
    record::{Found, Records, SandboxRecord},
    sandbox::{Host, Pool, Reaper, Removal, Sandbox},
    sysctl,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use wharf_spec::NetworkId;
use wharf_sys::{netns, process::open_namespace};

impl Fabric {
    /// Opens networking in the calling thread's network namespace: makes or adopts the bridges, makes the
    /// firewall's table anew, takes over containers that an earlier daemon left, and removes what it left of
    /// ended ones. It can be repeated after any crash.
    ///
    /// Of those taken over, the living must have their ports held again afterwards ([`Fabric::adopt`]), and the
    /// others must be detached ([`Fabric::retain`]).
    ///
    /// # Errors
    /// A folder that cannot be made, a network that cannot be, or a refusal of the kernel.
    pub fn open(config: FabricConfig) -> Result<Self> {
        fs::create_dir_all(&config.netns_dir).map_err(Error::file("make", &config.netns_dir))?;
        let records = Records::open(config.state_dir.join("sandboxes"))?;
        let forwarding = enable_forwarding(Family::V4, config.forwarding, &config.state_dir)?;
        let host = Host::open(&config.instance)?;
        let Found { live, removed } = records.load()?;
        remove_strangers(&host, &config.networks, &live)?;

        let mut ipam = Ipam::new(&config.address_pools);
        let networks = open_networks(&mut ipam, &host, config.networks, config.default_network.as_ref())?;
        let mut ports = PortAllocator::from_kernel();
        let (sandboxes, lost) = restore(&mut ipam, &mut ports, &networks, live);
        let published: Vec<_> = sandboxes.values().flat_map(|live| ports::published(&live.record)).collect();
        let rules = networks::rules(networks.values());
        let has_v6 = networks.values().any(|network| network.network.v6.is_some());
        let forwarding_v6 = match has_v6 {
            true => enable_forwarding(Family::V6, config.forwarding, &config.state_dir)?,
            false => Forwarding::Open,
        };
        let is_ours = |filtering: Filtering| filtering == Filtering::Ours;
        let scope = Scope {
            v4: Some(forwarding).filter(|_| is_ours(config.filtering)),
            v6: Some(forwarding_v6).filter(|_| is_ours(config.filtering_v6)),
        };
        let channel = Channel::netfilter()?;
        // From before the tables are there, lest a change of them goes unheard.
        let watch = match scope {
            Scope { v4: None, v6: None } => None,
            _ => Some(Watch::open(channel.port(), &config.instance, &config.publish_allow)?),
        };
        let (table, allow) = (config.instance.clone(), config.publish_allow);
        let setup = Setup { table, scope, networks: rules, allow };
        let firewall = Firewall::install(channel, setup, &published)?;

        let reaper = Reaper::start(Host::open(&config.instance)?)?;
        for record in lost {
            reaper.remove(removal(records.path(&record.container), record));
        }
        for (note, record) in removed {
            reaper.remove(removal(note, record));
        }
        let pool = Pool::start(Host::open(&config.instance)?, config.ready_namespaces)?;
        let wiring = config.default_network.and_then(|id| networks.get(&id).map(Network::wiring));
        pool.rewire(wiring);
        let names = Arc::new(dns::Names::default());
        let proxy = config.runtime.clone().map(Proxy::new);
        let has_proxy = config.proxy && proxy.is_some();
        let dns = config.runtime.map(|runtime| dns::Server::new(runtime, Arc::clone(&names)));
        let mut inner = Inner { ipam, ports, networks, sandboxes, firewall, has_proxy };
        inner.apply_links();
        let inner = Arc::new(Mutex::new(inner));
        let guard = watch.map(|watch| Guard::start(watch, Arc::downgrade(&inner))).transpose()?;
        let fabric = Self {
            netns_dir: config.netns_dir,
            state_dir: config.state_dir,
            forwarding: config.forwarding,
            records,
            host,
            names,
            dns,
            proxy,
            inner,
            guard: Mutex::new(guard),
            pool,
            reaper,
        };
        fabric.enter_all_names();
        fabric.remove_nameless();
        Ok(fabric)
    }

    /// Detaches every container that is not in `alive`.
    ///
    /// # Errors
    /// The first failure; the others are detached all the same.
    pub fn retain(&self, alive: &BTreeSet<String>) -> Result<()> {
        let gone = self.containers().into_iter().filter(|container| !alive.contains(container));
        let mut result = Ok(());
        for container in gone {
            result = result.and(self.detach(&container));
        }
        result
    }

    /// Holds the ports of a container that was taken over: with the sockets of the earlier daemon that its shim
    /// kept (`held`), else with new ones. A port that another program took while nobody held it is logged: as
    /// it is redirected, it leads to the container all the same. Its questions for names are answered again.
    ///
    /// # Errors
    /// [`Error::UnknownSandbox`]
    pub fn adopt(&self, container: &str, mut held: Vec<OwnedFd>) -> Result<()> {
        let mut inner = self.lock();
        let Inner { sandboxes, networks, .. } = &mut *inner;
        let live = sandboxes.get_mut(container);
        let live = live.ok_or_else(|| Error::UnknownSandbox(container.to_owned()))?;
        if let Err(error) = self.serve_again(live, &mut held) {
            tracing::warn!(container, %error, "names of other containers are not resolved");
        }
        let (adopted, missing) = Reservation::adopt(held, &live.record.ports);
        live.reservation = adopted;
        for binding in missing.into_iter().filter(|binding| !binding.is_open_only()) {
            let bound = Reservation::bind(&[binding.host_address], binding.protocol, binding.host_port)
                .and_then(|bound| bound.arm().map(|()| bound));
            match bound {
                Ok(bound) => live.reservation.absorb(bound),
                Err(error) => {
                    tracing::warn!(container, %error, "another program has a published port");
                }
            }
        }
        self.serve_ports(networks, live);
        Ok(())
    }

    /// Removes names of namespaces that belong to nobody.
    fn remove_nameless(&self) {
        let known: BTreeSet<PathBuf> =
            self.lock().sandboxes.values().map(|live| live.record.key.clone()).collect();
        let entries = fs::read_dir(&self.netns_dir).into_iter().flatten().flatten();
        for key in entries.map(|entry| entry.path()).filter(|path| !known.contains(path)) {
            let key = Some(key);
            self.reaper.remove(Removal { interfaces: Vec::new(), key, record: None, sandbox: None });
        }
    }
}

fn removal(note: PathBuf, record: SandboxRecord) -> Removal {
    let interfaces = record.endpoints.into_iter().map(|endpoint| endpoint.host_interface).collect();
    Removal { interfaces, key: Some(record.key), record: Some(note), sandbox: None }
}

/// Switches forwarding on. That it was this daemon who did is noted, until the next reboot. As Docker's, this makes the
/// host believe no router advertisements on interfaces whose `accept_ra` is 1 (moby `drivers/bridge/setup_ip_forwarding.go`).
pub(super) fn enable_forwarding(
    family: Family,
    wanted: IpForwarding,
    state_dir: &Path,
) -> Result<Forwarding> {
    let (note, parameters) = match family {
        Family::V4 => ("forwarding-enabled", &["ipv4/ip_forward"][..]),
        Family::V6 => {
            ("forwarding-enabled-v6", &["ipv6/conf/default/forwarding", "ipv6/conf/all/forwarding"][..])
        }
    };
    if wanted == IpForwarding::Leave {
        return Ok(Forwarding::Open);
    }
    let mut is_changed = false;
    for parameter in parameters {
        is_changed |= sysctl::set(parameter, "1")?;
    }
    if wanted == IpForwarding::EnableRouter {
        return Ok(Forwarding::Open);
    }
    let note = state_dir.join(note);
    if is_changed {
        fs::write(&note, b"").map_err(Error::file("write", &note))?;
    }
    Ok(if note.exists() { Forwarding::NoRouter } else { Forwarding::Open })
}

/// Removes interfaces that carry our mark and belong to no network and no record: namespaces made ahead by a
/// daemon that crashed, and bridges of networks that are gone.
fn remove_strangers(host: &Host, networks: &[bridge::BridgeSpec], live: &[SandboxRecord]) -> Result<()> {
    let bridges = networks.iter().map(|spec| spec.bridge.as_str());
    let cables = live.iter().flat_map(|record| &record.endpoints);
    let known: BTreeSet<&str> =
        bridges.chain(cables.map(|endpoint| endpoint.host_interface.as_str())).collect();
    for link in host.channel.links()? {
        if link.alias == host.alias && !known.contains(link.name.as_str()) {
            bridge::remove(host, &link.name)?;
        }
    }
    Ok(())
}

/// Takes the networks whose subnet is known first, so that no other gets it. A network that cannot be, other
/// than the default one, is left out and logged: the daemon and the other networks must not suffer.
fn open_networks(
    ipam: &mut Ipam,
    host: &Host,
    specs: Vec<bridge::BridgeSpec>,
    default_network: Option<&NetworkId>,
) -> Result<BTreeMap<NetworkId, Network>> {
    let reserved = networks::reserved_subnets(host)?;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for spec in specs {
        if is_known(host, &spec)? { known.push(spec) } else { unknown.push(spec) }
    }
    let mut opened = BTreeMap::new();
    for spec in known.into_iter().chain(unknown) {
        let (id, name) = (spec.id.clone(), spec.name.clone());
        match open_network(ipam, host, spec, &reserved) {
            Ok(network) => drop(opened.insert(id, network)),
            Err(error) if default_network == Some(&id) => return Err(error),
            Err(error) => tracing::error!(network = name, %error, "a network is left out"),
        }
    }
    Ok(opened)
}

/// Whether every subnet of a network is known.
fn is_known(host: &Host, spec: &bridge::BridgeSpec) -> Result<bool> {
    for family in Family::BOTH {
        let is_open = spec.family(family).is_some_and(|wanted| wanted.subnet.is_none());
        if is_open && bridge::existing_subnet(host, spec, family)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn open_network(
    ipam: &mut Ipam,
    host: &Host,
    spec: bridge::BridgeSpec,
    reserved: &[crate::addr::Subnet],
) -> Result<Network> {
    let network = networks::allocate(ipam, host, spec, reserved)?;
    match bridge::ensure(host, &network) {
        Ok(device) => Ok(Network { network, device }),
        Err(error) => {
            network.subnets().for_each(|subnet| ipam.release_subnet(subnet));
            Err(error)
        }
    }
}

/// Takes over the containers whose namespace is still there. The second half are the others.
fn restore(
    ipam: &mut Ipam,
    ports: &mut PortAllocator,
    networks: &BTreeMap<NetworkId, Network>,
    records: Vec<SandboxRecord>,
) -> (BTreeMap<String, Live>, Vec<SandboxRecord>) {
    let (mut sandboxes, mut lost) = (BTreeMap::new(), Vec::new());
    for record in records {
        let has_networks = record.endpoints.iter().all(|endpoint| networks.contains_key(&endpoint.network));
        let sandbox = open_namespace(&record.key)
            .map_err(|error| Error::file("open", &record.key)(error.into()))
            .and_then(Sandbox::open);
        let sandbox = match sandbox {
            Ok(sandbox) if has_networks => sandbox,
            _ => {
                lost.push(record);
                continue;
            }
        };
        for endpoint in &record.endpoints {
            if let Some(network) = networks.get(&endpoint.network) {
                for (subnet, address) in network.network.subnets_of(endpoint) {
                    // Taken twice only if records contradict each other; the container has it either way.
                    let _ = ipam.take_address(subnet, address);
                }
            }
        }
        record.ports.iter().for_each(|binding| ports.restore(binding));
        let reservation = Reservation::default();
        let live = Live { record, sandbox, reservation, resolver: None };
        sandboxes.insert(live.record.container.clone(), live);
    }
    (sandboxes, lost)
}

/// The name of a sandbox's namespace, as Docker forms it.
pub(super) fn key_path(netns_dir: &Path, sandbox: &str) -> PathBuf {
    netns_dir.join(&sandbox[..12])
}

/// Gives a namespace its name.
pub(super) fn bind_key(sandbox: &Sandbox, key: &Path) -> Result<()> {
    netns::bind(sandbox.namespace(), key)
        .map_err(|error| Error::file("mount namespace on", key)(error.into()))
}
