//! `POST /networks/{id}/connect`, `POST /networks/{id}/disconnect`

use super::{
    Networks,
    attach::{endpoint_request, fill, hostname, names},
    failed, ports, spec, validate,
};
use crate::{
    Error, Result,
    blocking::blocking,
    containers::{self, Container, Endpoint as EndpointRecord},
    error::invalid,
    random,
};
use std::{os::fd::OwnedFd, sync::Arc};
use wharf_api::{
    container::PortMap,
    network::{ConnectRequest, DisconnectRequest, EndpointSettings, Network},
};
use wharf_spec::{EndpointId, NetworkId};

impl Networks {
    /// `POST /networks/{id}/connect`. A container that does not run joins when it is started.
    ///
    /// # Errors
    /// In Docker's words (source: moby `daemon/container_operations.go`, ConnectToNetwork, updateNetworkSettings).
    pub async fn connect(&self, name: &str, request: ConnectRequest) -> Result<()> {
        let container = self.0.containers.get(&request.container)?;
        let (id, network) = self.0.table.find(name)?;
        let _one_verb = container.lifecycle.lock().await;
        let mut settings = request.endpoint_config.unwrap_or_default();
        if spec::is_wired(&network.driver) && network.name != "bridge" {
            let name = container.name();
            let aliases = settings.aliases.as_deref();
            settings.dns_names = Some(names(name.as_str(), &container.id, &hostname(&container), aliases));
        }
        if !super::records::is_built(&network.driver) {
            return Err(Error::NotImplemented("the network driver"));
        }
        validate::endpoint(&network, &settings)?;
        let connected = self.may_join(&container, &id, &network)?;
        let desired_mac_address = settings.mac_address.clone();
        let mut record = EndpointRecord { settings, desired_mac_address, ..EndpointRecord::default() };
        if container.is_running() {
            validate::takes_endpoints(&network)?;
            if connected {
                let (name, of) = (container.name(), &network.name);
                return Err(Error::Forbidden(format!(
                    "endpoint with name {name} already exists in network {of}"
                )));
            }
            record = self.plug(&container, &id, &network, record).await?;
            self.announce("connect", &id, &network, &container.id);
        } else if connected {
            return Ok(());
        } else {
            record.settings.network_id = id.to_string();
        }
        container.update_networks(|networks| networks.networks.insert(network.name.clone(), record));
        self.0.changed.notify_one();
        container.save().await
    }

    /// Whether the container is in the network already, or why it may not be in it.
    fn may_join(&self, container: &Container, id: &NetworkId, network: &Network) -> Result<bool> {
        let mode = container.host_config().network_mode.clone();
        if mode.container().is_some() {
            return invalid(
                "container sharing network namespace with another container or host cannot be connected to any \
                 other network",
            );
        }
        if !mode.is_host() && network.driver == "host" {
            return invalid(
                "cannot connect container to host network - container must be created in host network mode",
            );
        }
        for (name, endpoint) in container.networks().networks {
            let term =
                if endpoint.settings.network_id.is_empty() { &name } else { &endpoint.settings.network_id };
            let Ok((other, present)) = self.0.table.find(term) else { continue };
            if other == *id {
                return Ok(true);
            }
            if present.driver == "host" || network.driver == "host" {
                return invalid(
                    "container sharing network namespace with another container or host cannot be connected to \
                     any other network",
                );
            }
            if present.name == "none" || network.name == "none" {
                return invalid(
                    "container cannot be connected to multiple networks with one of the networks in private \
                     (none) mode",
                );
            }
        }
        Ok(false)
    }

    async fn plug(
        &self,
        container: &Arc<Container>,
        network: &NetworkId,
        of: &Network,
        mut record: EndpointRecord,
    ) -> Result<EndpointRecord> {
        let id = EndpointId::from_random(random::bytes32());
        let request = endpoint_request(network, of, &id, &record)?;
        let fabric = Arc::clone(&self.0.fabric);
        let of = container.id.to_string();
        let made = blocking(move || Ok(fabric.connect(&of, &request))).await?.map_err(failed)?;
        fill(&mut record, network, &id, Some(&made.endpoint));
        if !made.held.is_empty() {
            self.embed_dns(container, made.held).await?;
        }
        Ok(record)
    }

    /// The first user-defined network of a container brings the embedded DNS server.
    async fn embed_dns(&self, container: &Arc<Container>, sockets: Vec<OwnedFd>) -> Result<()> {
        if let Err(error) = container.shim()?.hold(&sockets).await {
            tracing::warn!(container = %container.id, %error, "names are not resolved while no daemon runs");
        }
        let dns = containers::dns(&self.0.config, &container.host_config());
        let (networks, container) = (self.clone(), Arc::clone(container));
        blocking(move || {
            containers::ask_embedded(&container, &dns)?;
            networks.serve_names(&container.id, containers::forwarding(&dns))
        })
        .await
    }

    /// `POST /networks/{id}/disconnect`
    ///
    /// # Errors
    /// In Docker's words (source: moby `daemon/container_operations.go`, DisconnectFromNetwork).
    pub async fn disconnect(&self, name: &str, request: DisconnectRequest) -> Result<()> {
        let container = self.0.containers.get(&request.container)?;
        let found = self.0.table.find(name);
        let _one_verb = container.lifecycle.lock().await;
        let network_name = found.as_ref().map_or(name, |(_, network)| network.name.as_str()).to_owned();
        let running = container.is_running();
        if running && !(found.is_err() && request.force) {
            let (id, network) = found?;
            self.unplug(&container, &id, &network).await?;
        } else if !container.networks().networks.contains_key(&network_name) {
            let id = &container.id;
            return Err(Error::Refused(format!(
                "container {id} is not connected to the network {network_name}"
            )));
        }
        container.update_networks(|networks| networks.networks.remove(&network_name));
        self.0.changed.notify_one();
        container.save().await
    }

    async fn unplug(&self, container: &Arc<Container>, id: &NetworkId, network: &Network) -> Result<()> {
        if container.host_config().network_mode.is_host() && network.driver == "host" {
            return invalid(
                "cannot disconnect container from host network - container was created in host network mode",
            );
        }
        let missing = || {
            let name = &network.name;
            Error::Refused(format!("container {} is not connected to network {name}", container.id))
        };
        let endpoint: EndpointSettings = container
            .networks()
            .networks
            .get(&network.name)
            .map(|record| record.settings.clone())
            .ok_or_else(missing)?;
        if let Ok(endpoint) = endpoint.endpoint_id.parse::<EndpointId>()
            && spec::is_wired(&network.driver)
        {
            let (fabric, of) = (Arc::clone(&self.0.fabric), container.id.to_string());
            blocking(move || Ok(fabric.disconnect(&of, &endpoint))).await?.map_err(failed)?;
        }
        self.show_ports(container);
        self.announce("disconnect", id, network, &container.id);
        Ok(())
    }

    /// Changes what a running container publishes.
    ///
    /// # Errors
    /// For a port that is not published, or is taken; everything is as it was then.
    pub(crate) async fn republish(
        &self,
        container: &Container,
        remove: &PortMap,
        add: &PortMap,
    ) -> Result<()> {
        let (remove, add) = (ports::named(remove)?, ports::requests(add, &[], true)?);
        let (fabric, id) = (Arc::clone(&self.0.fabric), container.id.to_string());
        let changed = blocking(move || Ok(fabric.republish(&id, &remove, &add))).await?;
        let changed = match changed {
            Ok(changed) => changed,
            // It has no networks of its own, and publishes nothing.
            Err(wharf_network::Error::UnknownSandbox(_)) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if let Err(error) = container.shim()?.keep(&changed.held).await {
            let id = &container.id;
            tracing::warn!(container = %id, %error, "ports that were given up are free when the container ends");
        }
        self.show_ports(container);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Writes the ports as they are now into the record: without a way out nothing is published.
    fn show_ports(&self, container: &Container) {
        let Some((endpoints, published)) = self.0.fabric.endpoints(container.id.as_str()) else { return };
        let reachable = endpoints.iter().any(|endpoint| endpoint.leads_out() && endpoint.has_cable());
        let published = if reachable { published } else { Vec::new() };
        container.update_networks(|networks| {
            let known = networks.ports.take().unwrap_or_default();
            let exposed: Vec<_> = known.into_keys().collect();
            networks.ports = Some(ports::map(&exposed, &Default::default(), &published));
        });
    }
}
