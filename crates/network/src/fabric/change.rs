//! A running container is connected to a network, or disconnected from one.

use super::{EndpointRequest, Fabric, Inner, Live, attach::interfaces, ports::published};
use crate::{
    dns,
    error::{Error, Result},
    firewall::PublishedPort,
    record::{Endpoint, SandboxRecord},
    sandbox::Removal,
};
use std::os::fd::OwnedFd;
use wharf_spec::EndpointId;

/// What a running container got with one more network.
#[derive(Debug)]
pub struct Connected {
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// Sockets for the shim to keep. With any, the embedded DNS server listens from now on, and waits for
    /// [`Fabric::serve_names`].
    pub held: Vec<OwnedFd>,
}

impl Fabric {
    /// Gives a running container an interface in one more network. It gets the default route if the
    /// container has none yet.
    ///
    /// # Errors
    /// An address that is taken, an unknown network or sandbox, or a refusal of the kernel; the container is
    /// then as it was.
    pub fn connect(&self, container: &str, request: &EndpointRequest) -> Result<Connected> {
        let mut inner = self.lock();
        let unknown = || Error::UnknownSandbox(container.to_owned());
        let record = &inner.sandboxes.get(container).ok_or_else(unknown)?.record;
        let (others, before) = (record.endpoints.clone(), published(record));
        let taken = interfaces(record);
        let (mut endpoint, plug) = inner.take_endpoint(request, &taken)?;
        endpoint.take_routes(&others);
        let Some(live) = inner.sandboxes.get_mut(container) else { return Err(unknown()) };
        let made = live.sandbox.connect(&self.host, &endpoint.interface, &plug).and_then(|cable| {
            endpoint.connect(&cable);
            endpoint.configure(&live.sandbox, &cable)?;
            live.record.endpoints.push(endpoint.clone());
            let resolver = self.missing_resolver(live)?;
            let sockets = resolver.iter().flat_map(dns::Sockets::descriptors);
            let copies = sockets.map(|fd| fd.try_clone_to_owned().map_err(Error::system("dup")));
            let held = copies.collect::<Result<_>>()?;
            self.records.save(&live.record)?;
            if resolver.is_some() {
                live.resolver = resolver;
            }
            Ok(held)
        });
        let held = match made {
            Ok(held) => held,
            Err(error) => {
                live.record.endpoints.retain(|present| present.id != endpoint.id);
                if endpoint.index != 0 && endpoint.host_interface.is_empty() {
                    // The first error says it all.
                    let _ = live.sandbox.unplug(&endpoint.interface);
                }
                inner.release_addresses(&endpoint);
                self.remove_interface(endpoint.host_interface);
                return Err(error);
            }
        };
        let record = live.record.clone();
        inner.apply_links();
        self.enter_names(&inner, &record);
        if endpoint.leads_out() && !record.ports.is_empty() {
            self.lead_ports(&mut inner, &before, &record);
        }
        Ok(Connected { endpoint, held })
    }

    /// Leads published ports to where the container's routes go now. A failure is logged: the container has its network,
    /// and its ports lead where they led.
    fn lead_ports(&self, inner: &mut Inner, before: &[PublishedPort], record: &SandboxRecord) {
        let after = published(record);
        if after != before
            && let Err(error) = inner.withdraw(before).and_then(|()| inner.publish(&after))
        {
            tracing::warn!(container = record.container, %error, "published ports do not lead to the new network");
        }
        if let Some(live) = inner.sandboxes.get(&record.container) {
            self.serve_ports(&inner.networks, live);
        }
    }

    /// The sockets of the embedded DNS server, where the container needs them and has none.
    fn missing_resolver(&self, live: &Live) -> Result<Option<dns::Sockets>> {
        if self.dns.is_none() || live.resolver.is_some() || !live.record.has_names() {
            return Ok(None);
        }
        dns::Sockets::open(live.sandbox.namespace()).map(Some)
    }

    /// Takes an interface from a running container. If it had the default route, the next endpoint with a
    /// gateway gets it, and the published ports lead there.
    ///
    /// # Errors
    /// [`Error::UnknownSandbox`], [`Error::UnknownEndpoint`], or the first failure, behind which the endpoint is
    /// gone all the same.
    pub fn disconnect(&self, container: &str, endpoint: &EndpointId) -> Result<()> {
        let mut inner = self.lock();
        let unknown = || Error::UnknownSandbox(container.to_owned());
        let live = inner.sandboxes.get_mut(container).ok_or_else(unknown)?;
        let position = live.record.endpoints.iter().position(|present| present.id == *endpoint);
        let position = position.ok_or_else(|| Error::UnknownEndpoint(endpoint.to_string()))?;
        let before = published(&live.record);
        let gone = live.record.endpoints.remove(position);
        let mut result = live.sandbox.silence(gone.index, gone.addresses());
        if gone.host_interface.is_empty() {
            result = result.and(live.sandbox.unplug(&gone.interface));
        }
        if gone.leads_out() {
            result = result.and(live.choose_routes());
            let after = published(&live.record);
            result = result.and(inner.withdraw(&before)).and(inner.publish(&after));
        }
        if gone.leads_out()
            && let Some(live) = inner.sandboxes.get(container)
        {
            self.serve_ports(&inner.networks, live);
        }
        inner.release_addresses(&gone);
        inner.apply_links();
        if let Some(live) = inner.sandboxes.get(container) {
            self.enter_names(&inner, &live.record);
            result = result.and(self.records.save(&live.record));
        }
        drop(inner);
        self.remove_interface(gone.host_interface);
        result
    }

    fn remove_interface(&self, name: String) {
        let interfaces = if name.is_empty() { Vec::new() } else { vec![name] };
        self.reaper.remove(Removal { interfaces, key: None, record: None, sandbox: None });
    }
}

impl Live {
    /// Gives each default route that is missing to the first endpoint that has a gateway for it.
    fn choose_routes(&mut self) -> Result<()> {
        let endpoints = &mut self.record.endpoints;
        let mut chosen = Vec::new();
        if !endpoints.iter().any(|endpoint| endpoint.is_default_route)
            && let Some(next) = endpoints.iter_mut().find(|endpoint| endpoint.gateway.is_some())
        {
            next.is_default_route = true;
            chosen.extend(next.gateway.map(|gateway| (next.index, gateway)));
        }
        if !endpoints.iter().any(|endpoint| endpoint.is_default_route_v6)
            && let Some(next) = endpoints.iter_mut().find(|endpoint| endpoint.gateway_v6.is_some())
        {
            next.is_default_route_v6 = true;
            chosen.extend(next.gateway_v6.map(|gateway| (next.index, gateway)));
        }
        chosen.into_iter().try_for_each(|(index, gateway)| self.sandbox.set_default_gateway(index, gateway))
    }
}
