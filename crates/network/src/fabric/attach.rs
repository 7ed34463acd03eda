//! A container gets its networking, and loses it.

use super::{
    Attachment, EndpointRequest, Fabric, Inner, Live, SandboxRequest,
    open::{bind_key, key_path},
    ports::published,
};
use crate::{
    addr::{Family, Mac, Subnet},
    bridge::BridgeNetwork,
    dns,
    error::{Error, Result},
    ipam::Ipam,
    ports::{PortRequest, Reservation},
    random,
    record::{Endpoint, SandboxRecord},
    sandbox::{Cable, Plug, READY_INTERFACE, Removal, Sandbox},
};
use std::{net::IpAddr, os::fd::OwnedFd, sync::Arc};
use wharf_sys::fault;

/// A container's networking while it is made.
struct Draft {
    /// With every address and port taken; interfaces get their index and host's end when they are made.
    record: SandboxRecord,
    /// One per endpoint.
    plugs: Vec<Plug>,
    reservation: Reservation,
    /// The container's own, not made here.
    namespace: Option<Arc<OwnedFd>>,
    sandbox: Option<Sandbox>,
    resolver: Option<dns::Sockets>,
}

impl Fabric {
    /// Makes a container's networking: a namespace with an interface in each network, and its published ports.
    ///
    /// # Errors
    /// An address or port that is taken, an unknown network, or a refusal of the kernel; nothing is left then.
    pub fn attach(&self, request: &SandboxRequest) -> Result<Attachment> {
        let mut draft = self.draft(request)?;
        let made = self.build(&mut draft).and_then(|()| self.activate(&mut draft));
        if made.is_err() {
            self.abandon(draft);
        }
        made
    }

    /// Takes a container's networking away. Name, addresses and ports are free at once; interfaces and
    /// namespace are removed in the background.
    ///
    /// # Errors
    /// [`Error::UnknownSandbox`], or the first failure, behind which the rest is done all the same.
    pub fn detach(&self, container: &str) -> Result<()> {
        self.stop_serving(container);
        let mut inner = self.lock();
        let live = inner.sandboxes.remove(container);
        let Live { record, sandbox, reservation, .. } =
            live.ok_or_else(|| Error::UnknownSandbox(container.to_owned()))?;
        inner.apply_links();
        let mut result = inner.withdraw(&published(&record));
        fault::death("network.withdrawn");
        drop(reservation);
        inner.release_ports(&record.ports);
        for endpoint in &record.endpoints {
            result = result.and(sandbox.silence(endpoint.index, endpoint.addresses()));
            inner.release_addresses(endpoint);
        }
        drop(inner);
        let note = self.records.mark_removed(&record);
        fault::death("network.removed");
        self.reaper.remove(Removal {
            interfaces: host_interfaces(&record),
            key: Some(record.key),
            record: note.as_ref().ok().cloned(),
            sandbox: Some(sandbox),
        });
        result.and(note.map(drop))
    }

    /// Takes addresses and ports; all or none.
    fn draft(&self, request: &SandboxRequest) -> Result<Draft> {
        let sandbox = random::hex(64)?;
        let mut draft = Draft {
            namespace: request.namespace.clone(),
            record: SandboxRecord {
                container: request.container.clone(),
                name: request.name.clone(),
                key: key_path(&self.netns_dir, &sandbox),
                sandbox,
                endpoints: Vec::with_capacity(request.endpoints.len()),
                ports: Vec::new(),
                open_links: request.links.clone(),
                forwarding: None,
            },
            plugs: Vec::with_capacity(request.endpoints.len()),
            reservation: Reservation::default(),
            sandbox: None,
            resolver: None,
        };
        let mut inner = self.lock();
        if inner.sandboxes.contains_key(&request.container) {
            return Err(Error::SandboxExists(request.container.clone()));
        }
        match inner.fill(&mut draft, request) {
            Ok(()) => Ok(draft),
            Err(error) => {
                inner.release(&draft.record);
                Err(error)
            }
        }
    }

    /// Gets or makes the namespace, its interfaces and its name.
    fn build(&self, draft: &mut Draft) -> Result<()> {
        let Draft { record, plugs, namespace, sandbox: place, resolver, .. } = draft;
        let fits_ready = record.endpoints.first().is_some_and(|first| first.interface == READY_INTERFACE);
        let mut wires = record.endpoints.iter_mut().zip(plugs.iter());
        let first = match plugs.first() {
            Some(Plug::Cable(wiring)) if namespace.is_none() && fits_ready => {
                wires.next().map(|(endpoint, _)| (endpoint, wiring))
            }
            _ => None,
        };
        let sandbox = match (namespace, first) {
            (Some(namespace), _) => {
                let copy = namespace.try_clone().map_err(Error::system("dup network namespace"))?;
                place.insert(Sandbox::take(copy)?)
            }
            (None, None) => place.insert(Sandbox::create()?),
            (None, Some((endpoint, wiring))) => {
                let ready = self.pool.take(wiring)?;
                endpoint.connect(&ready.cable);
                let sandbox = place.insert(ready.sandbox);
                endpoint.configure(sandbox, &ready.cable)?;
                sandbox
            }
        };
        for (endpoint, plug) in wires {
            let cable = sandbox.connect(&self.host, &endpoint.interface, plug)?;
            endpoint.connect(&cable);
            endpoint.configure(sandbox, &cable)?;
        }
        fault::point("network.cabled").map_err(Error::system("make sandbox"))?;
        if self.dns.is_some() && record.has_names() {
            *resolver = Some(dns::Sockets::open(sandbox.namespace())?);
        }
        bind_key(sandbox, &record.key)
    }

    /// Publishes the ports and enters the container in the books.
    fn activate(&self, draft: &mut Draft) -> Result<Attachment> {
        let Draft { record, reservation, sandbox: place, resolver, .. } = draft;
        let missing = || Error::UnknownSandbox(record.container.clone());
        let sandbox = place.as_ref().ok_or_else(missing)?;
        let attachment = attachment(record, sandbox, reservation, resolver.as_ref())?;
        fault::point("network.bound").map_err(Error::system("make sandbox"))?;
        self.records.save(record)?;
        fault::point("network.saved").map_err(Error::system("make sandbox"))?;
        let ports = published(record);
        let mut inner = self.lock();
        inner.publish(&ports).map_err(|error| connectivity(record, error))?;
        fault::death("network.published");
        if let Err(error) = reservation.arm() {
            // The first error says it all.
            let _ = inner.withdraw(&ports);
            return Err(connectivity(record, error));
        }
        let live = Live {
            record: record.clone(),
            sandbox: place.take().ok_or_else(missing)?,
            reservation: std::mem::take(reservation),
            resolver: resolver.take(),
        };
        self.enter_names(&inner, record);
        self.serve_ports(&inner.networks, &live);
        inner.sandboxes.insert(record.container.clone(), live);
        inner.apply_links();
        Ok(attachment)
    }

    /// Takes back what an attach that failed had taken.
    fn abandon(&self, draft: Draft) {
        let Draft { record, sandbox, reservation, .. } = draft;
        drop(reservation);
        if let Some(sandbox) = &sandbox {
            for endpoint in record.endpoints.iter().filter(|endpoint| endpoint.index != 0) {
                // The interface is removed anyway, only later.
                let _ = sandbox.silence(endpoint.index, endpoint.addresses());
            }
        }
        self.lock().release(&record);
        self.reaper.remove(Removal {
            interfaces: host_interfaces(&record),
            key: Some(record.key),
            record: Some(self.records.path(&record.container)),
            sandbox,
        });
    }
}

impl Inner {
    fn fill(&mut self, draft: &mut Draft, request: &SandboxRequest) -> Result<()> {
        for endpoint in &request.endpoints {
            let (mut endpoint, plug) = self.take_endpoint(endpoint, &interfaces(&draft.record))?;
            endpoint.take_routes(&draft.record.endpoints);
            draft.record.endpoints.push(endpoint);
            draft.plugs.push(plug);
        }
        self.fill_ports(draft, &request.ports)
    }

    fn fill_ports(&mut self, draft: &mut Draft, requests: &[PortRequest]) -> Result<()> {
        if requests.is_empty() {
            return Ok(());
        }
        let outlets = self.outlets(&draft.record)?;
        let allocation =
            self.allocate_ports(requests, &outlets).map_err(|error| connectivity(&draft.record, error))?;
        draft.record.ports = allocation.bindings;
        draft.reservation = allocation.reservation;
        Ok(())
    }

    /// Takes addresses for an endpoint that has no interface yet. `interfaces` are those of the container.
    pub(super) fn take_endpoint(
        &mut self,
        request: &EndpointRequest,
        interfaces: &[String],
    ) -> Result<(Endpoint, Plug)> {
        let link_local = request.link_local.iter().map(|address| link_local(*address));
        let link_local = link_local.collect::<Result<_>>()?;
        let mac = match request.mac {
            Some(mac) => mac,
            None => Mac::from_random(random::bytes()?),
        };
        let network = self.networks.get(&request.network);
        let network = network.ok_or_else(|| Error::UnknownNetwork(request.network.to_string()))?;
        let interface = interface_name(request, &network.network.spec.interface_prefix, interfaces)?;
        let address = take_address(&mut self.ipam, &network.network, Family::V4, request.address)?;
        let address_v6 = match take_address(&mut self.ipam, &network.network, Family::V6, request.address_v6)
        {
            Ok(address) => address,
            Err(error) => {
                if let (Some(addresses), Some(address)) = (network.network.v4, address) {
                    self.ipam.release_address(addresses.subnet, address.address());
                }
                return Err(error);
            }
        };
        let is_internal = network.network.spec.internal;
        let gateway = |family| {
            network.network.family(family).and_then(|addresses| addresses.gateway).filter(|_| !is_internal)
        };
        let endpoint = Endpoint {
            network: request.network.clone(),
            id: request.id.clone(),
            interface,
            index: 0,
            host_interface: String::new(),
            address,
            address_v6,
            mac,
            gateway: gateway(Family::V4),
            gateway_v6: gateway(Family::V6),
            is_default_route: false,
            is_default_route_v6: false,
            names: request.names.clone(),
            links: request.links.clone(),
            link_local,
            sysctls: request.sysctls.clone(),
        };
        Ok((endpoint, network.plug()))
    }

    /// Gives addresses and ports back.
    fn release(&mut self, record: &SandboxRecord) {
        self.release_ports(&record.ports);
        for endpoint in &record.endpoints {
            self.release_addresses(endpoint);
        }
    }
}

impl Endpoint {
    pub(super) fn connect(&mut self, cable: &Cable) {
        self.index = cable.index;
        self.host_interface.clone_from(&cable.host_name);
    }

    /// Takes the default routes that none of the container's other endpoints has.
    pub(super) fn take_routes(&mut self, others: &[Self]) {
        let is_free = |has: fn(&Self) -> bool| !others.iter().any(has);
        self.is_default_route = self.gateway.is_some() && is_free(|other| other.is_default_route);
        self.is_default_route_v6 = self.gateway_v6.is_some() && is_free(|other| other.is_default_route_v6);
    }
}

fn attachment(
    record: &SandboxRecord,
    sandbox: &Sandbox,
    held: &Reservation,
    resolver: Option<&dns::Sockets>,
) -> Result<Attachment> {
    let sockets = resolver.into_iter().flat_map(dns::Sockets::descriptors);
    let copy = |fd: std::os::fd::BorrowedFd<'_>| -> Result<OwnedFd> {
        fd.try_clone_to_owned().map_err(Error::system("dup"))
    };
    Ok(Attachment {
        namespace: copy(sandbox.namespace())?,
        sandbox: record.sandbox.clone(),
        key: record.key.clone(),
        endpoints: record.endpoints.clone(),
        ports: record.ports.clone(),
        reservations: sockets.chain(held.descriptors()).map(copy).collect::<Result<_>>()?,
        embedded_dns: resolver.is_some(),
    })
}

/// The names of a container's interfaces.
pub(super) fn interfaces(record: &SandboxRecord) -> Vec<String> {
    record.endpoints.iter().map(|endpoint| endpoint.interface.clone()).collect()
}

/// The name asked for, else the prefix and the first free number.
fn interface_name(request: &EndpointRequest, prefix: &str, taken: &[String]) -> Result<String> {
    match &request.interface {
        Some(name) if taken.contains(name) => Err(Error::InterfaceTaken(name.clone())),
        Some(name) => Ok(name.clone()),
        None => Ok(free_interface(prefix, taken)),
    }
}

fn free_interface(prefix: &str, taken: &[String]) -> String {
    let mut names = (0..).map(|number| format!("{prefix}{number}"));
    names.find(|name| !taken.contains(name)).unwrap_or_default()
}

/// Takes an address of a network, if it has the family: the one asked for, else the next.
fn take_address(
    ipam: &mut Ipam,
    network: &BridgeNetwork,
    family: Family,
    asked: Option<IpAddr>,
) -> Result<Option<Subnet>> {
    let Some(subnet) = network.family(family).map(|addresses| addresses.subnet) else { return Ok(None) };
    let taken = match asked {
        Some(address) => ipam.take_address(subnet, address),
        None => ipam.take_any_address(subnet),
    };
    let address = taken.map_err(|error| match error {
        Error::NoAddresses => {
            Error::NetworkFull { family, name: network.spec.name.clone(), id: network.spec.id.clone() }
        }
        other => other,
    })?;
    Ok(Subnet::new(address, subnet.bits()))
}

/// A link-local address with its prefix length (source: moby `daemon/libnetwork/endpoint.go`, `CreateOptionIPAM`).
fn link_local(address: IpAddr) -> Result<Subnet> {
    let (fits, bits) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), 16),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), 64),
    };
    Subnet::new(address, bits).filter(|_| fits).ok_or(Error::NotLinkLocal(address))
}

fn host_interfaces(record: &SandboxRecord) -> Vec<String> {
    let names = record.endpoints.iter().map(|endpoint| endpoint.host_interface.clone());
    names.filter(|name| !name.is_empty()).collect()
}

/// Says whose ports could not be published.
pub(super) fn connectivity(record: &SandboxRecord, error: Error) -> Error {
    let endpoint = record.endpoints.iter().find(|endpoint| endpoint.leads_out());
    let id = endpoint.map(|endpoint| endpoint.id.to_string()).unwrap_or_default();
    Error::Connectivity { name: record.name.clone(), id, source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_interface_is_next() {
        let taken = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(free_interface("eth", &[]), "eth0");
        assert_eq!(free_interface("eth", &taken(&["eth0", "lan1", "eth2"])), "eth1");
        assert_eq!(free_interface("lan", &taken(&["eth0", "lan1"])), "lan0");
    }

    #[test]
    fn only_link_local_addresses_are_link_local() {
        assert_eq!(link_local("169.254.7.8".parse().unwrap()).unwrap().to_string(), "169.254.7.8/16");
        assert_eq!(link_local("fe80::7".parse().unwrap()).unwrap().to_string(), "fe80::7/64");
        let error = link_local("10.0.0.1".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "invalid link local IP address: 10.0.0.1");
    }
}
