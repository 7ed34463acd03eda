//! Published ports of containers: allocated, redirected, withdrawn.

use super::{Inner, Live};
use crate::{
    addr::Family,
    error::Result,
    firewall::PublishedPort,
    ports::{self, PortBinding, PortRequest, Reservation},
    record::SandboxRecord,
};
use std::net::IpAddr;

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
        default_address: IpAddr,
    ) -> Result<Allocation> {
        let mut allocation = Allocation::default();
        for group in ports::group(requests, default_address)? {
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

/// A record's ports with the container's address.
pub(super) fn published(record: &SandboxRecord) -> Vec<PublishedPort> {
    let outward = record.endpoints.iter().find(|endpoint| endpoint.is_default_route);
    let Some(container) = outward.and_then(|endpoint| endpoint.address_of(Family::V4)) else {
        return Vec::new();
    };
    record.ports.iter().map(|binding| PublishedPort { binding: *binding, container }).collect()
}
