//! Published ports of containers: allocated, redirected, withdrawn.

use super::{Fabric, Inner, Live, Network};
use crate::{
    addr::Family,
    bridge::GatewayMode,
    error::Result,
    firewall::PublishedPort,
    ports::{self, Outlet, PortBinding, PortRequest, Reservation},
    proxy::Clients,
    record::{Endpoint, SandboxRecord},
};
use std::{collections::BTreeMap, net::SocketAddr};
use wharf_spec::NetworkId;

/// Ports given to a container, not yet redirected.
#[derive(Debug, Default)]
pub(super) struct Allocation {
    pub(super) bindings: Vec<PortBinding>,
    pub(super) reservation: Reservation,
}

impl Inner {
    /// Takes and holds ports; all or none.
    pub(super) fn allocate_ports(
        &mut self,
        requests: &[PortRequest],
        outlets: &[Outlet],
    ) -> Result<Allocation> {
        let mut allocation = Allocation::default();
        for group in ports::group(requests, outlets)? {
            match self.ports.allocate(&group) {
                Ok((bindings, reservation)) => {
                    allocation.bindings.extend(bindings);
                    allocation.reservation.absorb(reservation);
                }
                Err(error) => {
                    self.release_ports(&allocation.bindings);
                    return Err(error);
                }
            }
        }
        Ok(allocation)
    }

    pub(super) fn release_ports(&mut self, bindings: &[PortBinding]) {
        bindings.iter().for_each(|binding| self.ports.release(binding));
    }

    /// Where a container's ports are published: those of each family by the endpoint with its default route, those of
    /// IPv6 without such an endpoint by the one of IPv4, through the proxy.
    pub(super) fn outlets(&self, record: &SandboxRecord) -> Result<Vec<Outlet>> {
        let v4 = record.endpoints.iter().find(|endpoint| endpoint.is_default_route);
        let v6 = record.endpoints.iter().find(|endpoint| endpoint.is_default_route_v6);
        let mut outlets = Vec::new();
        for (family, endpoint) in [(Family::V4, v4), (Family::V6, v6.or(v4.filter(|_| self.has_proxy)))] {
            let Some(endpoint) = endpoint else { continue };
            let spec = &self.network(&endpoint.network)?.network.spec;
            if spec.macvlan.is_some() {
                // They are reached at their own address; Docker publishes nothing either, and says nothing.
                continue;
            }
            if spec.filtered && family == Family::V6 && v6.is_none() {
                // The proxy is a program of the host, which the rules for published ports do not know.
                continue;
            }
            outlets.push(Outlet {
                family,
                default_address: spec.default_host_address,
                takes_unnamed: family == Family::V4 || self.ports.has_v6,
                is_routed: spec.family(family).is_some_and(|wanted| wanted.mode == GatewayMode::Routed),
            });
        }
        Ok(outlets)
    }

    /// Redirects ports to a container.
    pub(super) fn publish(&mut self, ports: &[PublishedPort]) -> Result<()> {
        if self.firewall.add_ports(ports).is_err() {
            // Somebody may have removed our table.
            let mut all = self.published_ports();
            all.extend_from_slice(ports);
            self.firewall.rebuild(&all)?;
        }
        self.firewall.adopt_flows(ports);
        Ok(())
    }

    /// Stops redirecting ports. The container must be out of `sandboxes`, or have the ports no more.
    pub(super) fn withdraw(&mut self, ports: &[PublishedPort]) -> Result<()> {
        let withdrawn = self.firewall.remove_ports(ports).or_else(|_| {
            let all = self.published_ports();
            self.firewall.rebuild(&all)
        });
        self.firewall.end_flows(ports);
        withdrawn
    }

    /// Everything that is published now.
    pub(super) fn published_ports(&self) -> Vec<PublishedPort> {
        self.sandboxes.values().flat_map(Live::published_ports).collect()
    }
}

impl Live {
    fn published_ports(&self) -> Vec<PublishedPort> {
        published(&self.record)
    }
}

/// A record's ports with the container's address. One that shares a device of the host (macvlan) is reached at its own
/// address, not from here.
pub(super) fn published(record: &SandboxRecord) -> Vec<PublishedPort> {
    let v4 = record.endpoints.iter().find(|endpoint| endpoint.is_default_route);
    let v6 = record.endpoints.iter().find(|endpoint| endpoint.is_default_route_v6);
    let [v4, v6] = [v4, v6].map(|endpoint| endpoint.filter(|endpoint| endpoint.has_cable()));
    let v4 = v4.and_then(|endpoint| endpoint.address_of(Family::V4));
    let v6 = v6.and_then(|endpoint| endpoint.address_of(Family::V6));
    let behind = |binding: &PortBinding| match Family::of(binding.host_address) {
        Family::V4 => v4,
        // The proxy reaches a container without IPv6.
        Family::V6 => v6.or(v4),
    };
    let port = |binding: &PortBinding| Some(PublishedPort { binding: *binding, container: behind(binding)? });
    record.ports.iter().filter_map(port).collect()
}

impl Fabric {
    /// Has the proxy pass on what is not redirected to a container, in place of what it did for it.
    pub(super) fn serve_ports(&self, networks: &BTreeMap<NetworkId, Network>, live: &Live) {
        let Some(proxy) = &self.proxy else { return };
        let is_filtered = |endpoint: &Endpoint| {
            endpoint.leads_out()
                && networks.get(&endpoint.network).is_some_and(|network| network.network.spec.filtered)
        };
        let clients =
            if live.record.endpoints.iter().any(is_filtered) { Clients::Host } else { Clients::All };
        let ports = published(&live.record);
        let target = |protocol, at: SocketAddr| {
            let is_it = |port: &&PublishedPort| {
                port.binding.protocol == protocol
                    && SocketAddr::new(port.binding.host_address, port.binding.host_port) == at
            };
            let port = ports.iter().find(is_it)?;
            Some(SocketAddr::new(port.container, port.binding.container_port))
        };
        if let Err(error) = proxy.serve(&live.record.container, &live.reservation, clients, target) {
            let container = &live.record.container;
            tracing::warn!(container, %error, "published ports are not reached from everywhere");
        }
    }
}
