//! A container joins its networks when it starts, and leaves them when it has ended.

use super::{AttachRequest, Attachment, Link, Networks, ports, spec, validate};
use crate::{
    Error, Result,
    blocking::blocking,
    containers::{Container, Endpoint as EndpointRecord, NetworkRecord},
    error::invalid,
    events::EventKind,
    random,
};
use std::{net::IpAddr, os::fd::OwnedFd, sync::Arc};
use wharf_api::{
    StringMap,
    network::{EndpointSettings, Network},
    port::Port,
};
use wharf_network::{Endpoint, EndpointRequest, Family, Forwarding, OpenLink, SandboxRequest};
use wharf_spec::{ContainerId, EndpointId, NetworkId};

/// A network that a starting container joins.
struct Joined {
    name: String,
    id: NetworkId,
    network: Network,
    endpoint: EndpointId,
    record: EndpointRecord,
}

impl Networks {
    /// Makes a container's namespace and attaches it to its networks. With the mode `host` only the record is
    /// made.
    ///
    /// # Errors
    /// When a network is missing or cannot be attached; nothing is left then.
    pub async fn attach(&self, request: AttachRequest) -> Result<Attachment> {
        let joined = self.joined(&request)?;
        if request.mode.is_host() {
            return Ok(self.on_host(request, joined));
        }
        let sandbox = sandbox_request(&request, &joined)?;
        let fabric = Arc::clone(&self.0.fabric);
        let attached = blocking(move || Ok(fabric.attach(&sandbox))).await?.map_err(super::failed)?;
        let mut networks = request.networks;
        networks.sandbox_id.clone_from(&attached.sandbox);
        networks.sandbox_key = attached.key.to_string_lossy().into_owned();
        let exposed = if attached.endpoints.is_empty() { &[][..] } else { &request.exposed_ports };
        networks.ports = Some(ports::map(exposed, &request.port_bindings, &attached.ports));
        networks.networks.clear();
        self.0.changed.notify_one();
        for network in joined {
            let made = attached.endpoints.iter().find(|endpoint| endpoint.id == network.endpoint);
            let mut record = network.record;
            fill(&mut record, &network.id, &network.endpoint, made);
            networks.networks.insert(network.name.clone(), record);
            self.announce("connect", &network.id, &network.network, &request.container);
        }
        Ok(Attachment {
            netns: Some(attached.namespace),
            reservations: attached.reservations,
            networks,
            addresses: (attached.endpoints.iter())
                .flat_map(|endpoint| endpoint.addresses().map(|address| address.address()))
                .collect(),
            extra_hosts: self.link_hosts(&request.links),
            ipv6: has_ipv6(),
            embedded_dns: attached.embedded_dns,
        })
    }

    /// Answers a container's questions for names, after [`Self::attach`] said that the embedded DNS server listens.
    /// Blocks.
    ///
    /// # Errors
    /// When its record cannot be written.
    pub fn serve_names(&self, container: &ContainerId, forwarding: Forwarding) -> Result<()> {
        self.0.fabric.serve_names(container.as_str(), forwarding).map_err(super::failed)
    }

    /// The networks of a running container know it by what its record says now.
    ///
    /// # Errors
    /// When its record cannot be written.
    pub(crate) async fn rename(&self, container: &Container) -> Result<()> {
        let (fabric, id, name) = (Arc::clone(&self.0.fabric), container.id.to_string(), container.name());
        let networks = container.networks().networks;
        let names_in = move |network: &NetworkId| {
            let mut settings = networks.values().map(|endpoint| &endpoint.settings);
            let settings = settings.find(|settings| settings.network_id == network.as_str());
            settings.and_then(|settings| settings.dns_names.clone()).unwrap_or_default()
        };
        let renamed = blocking(move || Ok(fabric.rename(&id, name.as_str(), names_in))).await?;
        self.0.changed.notify_one();
        match renamed {
            // It has no networks of its own.
            Ok(()) | Err(wharf_network::Error::UnknownSandbox(_)) => Ok(()),
            Err(error) => Err(super::failed(error)),
        }
    }

    /// Takes back what [`Self::attach`] did, after the container ended. Errors are logged: there is nobody to
    /// tell. Returns what the record says from now on.
    pub async fn detach(&self, container: &ContainerId, networks: NetworkRecord) -> NetworkRecord {
        let fabric = Arc::clone(&self.0.fabric);
        let id = container.to_string();
        let detached = blocking(move || Ok(fabric.detach(&id))).await;
        match detached {
            Ok(Ok(()) | Err(wharf_network::Error::UnknownSandbox(_))) => {}
            Ok(Err(error)) => tracing::warn!(%container, %error, "networking not taken away cleanly"),
            Err(error) => tracing::warn!(%container, %error, "networking not taken away"),
        }
        self.0.changed.notify_one();
        for endpoint in networks.networks.values() {
            if let Ok((id, network)) = self.0.table.find(&endpoint.settings.network_id) {
                self.announce("disconnect", &id, &network, container);
            }
        }
        networks.ended()
    }

    /// Takes a container that still runs as it is, after the daemon was restarted. `held` are the sockets of its
    /// published ports that its shim kept; ports without one are held anew.
    ///
    /// # Errors
    /// When its namespace is gone or has lost its endpoints.
    pub async fn restore(
        &self,
        container: &ContainerId,
        networks: &NetworkRecord,
        held: Vec<OwnedFd>,
    ) -> Result<()> {
        let fabric = Arc::clone(&self.0.fabric);
        let id = container.to_string();
        let adopted = blocking(move || Ok(fabric.adopt(&id, held))).await?;
        self.0.changed.notify_one();
        let on_host = networks.networks.contains_key("host");
        if adopted.is_ok() || networks.sandbox_id.is_empty() || on_host {
            return Ok(());
        }
        Err(Error::Refused(format!("the network namespace of container {container} is gone")))
    }

    /// Removes what no container of these uses any more, after the daemon was restarted.
    pub async fn collect_leftovers(&self, running: &[ContainerId]) {
        let alive = running.iter().map(ToString::to_string).collect();
        let fabric = Arc::clone(&self.0.fabric);
        match blocking(move || Ok(fabric.retain(&alive))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "left-over networking not removed"),
            Err(error) => tracing::warn!(%error, "left-over networking not removed"),
        }
    }

    /// The networks in the order of their interfaces: by gateway priority, then by name
    /// (source: moby `daemon/libnetwork/endpoint.go`, `Less`).
    fn joined(&self, request: &AttachRequest) -> Result<Vec<Joined>> {
        let mut wanted: Vec<(String, EndpointRecord)> =
            request.networks.networks.clone().into_iter().collect();
        if wanted.is_empty() {
            let mode = request.mode.as_str();
            let name = if mode.is_empty() || request.mode.is_default() { "bridge" } else { mode };
            wanted.push((name.to_owned(), EndpointRecord::default()));
        }
        let mut joined = Vec::with_capacity(wanted.len());
        for (term, mut record) in wanted {
            record.clear();
            // A network that was made again under the old name is meant by its name.
            let (id, network) = self.0.table.find(&term)?;
            if !super::records::is_built(&network.driver) {
                return Err(Error::NotImplemented("the network driver"));
            }
            validate::endpoint(&network, &record.settings)?;
            validate::takes_endpoints(&network)?;
            if spec::is_wired(&network.driver) && !matches!(network.name.as_str(), "bridge") {
                record.settings.dns_names = Some(dns_names(request, &record));
            }
            let endpoint = EndpointId::from_random(random::bytes32());
            joined.push(Joined { name: network.name.clone(), id, network, endpoint, record });
        }
        joined.sort_by(|a, b| {
            let priority = |joined: &Joined| std::cmp::Reverse(joined.record.settings.gw_priority);
            (priority(a), &a.name).cmp(&(priority(b), &b.name))
        });
        Ok(joined)
    }

    fn on_host(&self, request: AttachRequest, joined: Vec<Joined>) -> Attachment {
        let mut networks = request.networks;
        networks.sandbox_id = NetworkId::from_random(random::bytes32()).to_string();
        // Docker's name for the host's own namespace (moby `daemon/libnetwork/sandbox_linux.go`).
        networks.sandbox_key = self.0.config.exec_root.join("netns/default").to_string_lossy().into_owned();
        networks.ports = Some(Default::default());
        networks.networks.clear();
        self.0.changed.notify_one();
        for network in joined {
            let mut record = network.record;
            fill(&mut record, &network.id, &network.endpoint, None);
            networks.networks.insert(network.name, record);
        }
        Attachment {
            netns: None,
            reservations: Vec::new(),
            networks,
            addresses: Vec::new(),
            extra_hosts: self.link_hosts(&request.links),
            ipv6: has_ipv6(),
            embedded_dns: false,
        }
    }

    /// The lines of linked containers: alias, host name and name, with the address on the default network
    /// (source: moby `daemon/container_operations_unix.go`, `addLegacyLinks`).
    fn link_hosts(&self, links: &[Link]) -> Vec<(String, IpAddr)> {
        let line = |Link { target, alias, .. }: &Link| {
            let container = self.0.containers.get(target.as_str()).ok()?;
            let address = container.networks().networks.get("bridge")?.settings.ip_address.parse().ok()?;
            let name = container.name();
            let hostname = hostname(&container);
            let mut names = format!("{alias} {hostname}");
            if alias != name.as_str() {
                names = format!("{names} {name}");
            }
            Some((names, address))
        };
        links.iter().filter_map(line).collect()
    }

    /// Tells that a container joined or left a network.
    pub(super) fn announce(&self, action: &str, id: &NetworkId, network: &Network, container: &ContainerId) {
        let mut attributes = attributes(network);
        attributes.insert("container".into(), container.to_string());
        self.0.events.emit(EventKind::Network, action, id.as_str(), attributes);
    }
}

/// What every event of a network says.
pub(super) fn attributes(network: &Network) -> StringMap {
    [("name".to_owned(), network.name.clone()), ("type".to_owned(), network.driver.clone())].into()
}

fn sandbox_request(request: &AttachRequest, joined: &[Joined]) -> Result<SandboxRequest> {
    let wired = joined.iter().filter(|joined| spec::is_wired(&joined.network.driver));
    let endpoints =
        wired.map(|joined| endpoint_request(&joined.id, &joined.network, &joined.endpoint, &joined.record));
    let publish_all = request.publish_all;
    Ok(SandboxRequest {
        container: request.container.to_string(),
        name: request.name.clone(),
        endpoints: endpoints.collect::<Result<_>>()?,
        ports: ports::requests(&request.port_bindings, &request.exposed_ports, publish_all)?,
        links: request.links.iter().flat_map(open_links).collect(),
        namespace: request.namespace.clone(),
    })
}

/// A port of a protocol that cannot be served is open to nobody.
fn open_links(link: &Link) -> Vec<OpenLink> {
    let open = |port: &Port| {
        let protocol = port.protocol().parse().ok()?;
        Some(OpenLink { target: link.target.to_string(), protocol, port: port.number() })
    };
    link.ports.iter().filter_map(open).collect()
}

/// What the network layer is asked for: a fixed address or MAC address if the record has one.
pub(super) fn endpoint_request(
    network: &NetworkId,
    of: &Network,
    id: &EndpointId,
    record: &EndpointRecord,
) -> Result<EndpointRequest> {
    // On the default bridge nobody is known by name.
    let names = record.settings.dns_names.as_ref().filter(|_| of.name != "bridge");
    let ipam = record.settings.ipam_config.as_ref();
    let fixed = |family: Family, text: Option<&String>| match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => {
            text.parse().map(Some).or_else(|_| invalid(format!("invalid {family} address: {text}")))
        }
    };
    let mac = match record.desired_mac_address.as_str() {
        "" => None,
        text => Some(text.parse().or_else(|error| invalid(format!("{error}")))?),
    };
    Ok(EndpointRequest {
        network: network.clone(),
        id: id.clone(),
        address: fixed(Family::V4, ipam.map(|ipam| &ipam.ipv4_address))?,
        address_v6: fixed(Family::V6, ipam.map(|ipam| &ipam.ipv6_address))?,
        mac,
        names: names.cloned().unwrap_or_default(),
        links: links(&record.settings),
        interface: driver_option(&record.settings, validate::INTERFACE_NAME).map(str::to_owned),
        link_local: link_local(&record.settings)?,
        sysctls: driver_option(&record.settings, validate::SYSCTLS)
            .map(|all| all.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
    })
}

fn driver_option<'a>(settings: &'a EndpointSettings, key: &str) -> Option<&'a str> {
    let options = settings.driver_opts.as_ref()?;
    options.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

fn link_local(settings: &EndpointSettings) -> Result<Vec<IpAddr>> {
    let texts = settings.ipam_config.iter().flat_map(|ipam| ipam.link_local_ips.iter().flatten());
    let parse =
        |text: &String| text.parse().or_else(|_| invalid(format!("invalid link-local IP address: {text}")));
    texts.map(parse).collect()
}

/// `--link` in a user-defined network: alias and name (source: moby `daemon/network.go`, buildEndpointInfo).
fn links(settings: &EndpointSettings) -> Vec<(String, String)> {
    let links = settings.links.iter().flatten().map(|link| crate::containers::parse_link(link));
    links.map(|(name, alias)| (alias.to_owned(), name.trim_start_matches('/').to_owned())).collect()
}

/// Writes into the record what came of the request.
pub(super) fn fill(
    record: &mut EndpointRecord,
    network: &NetworkId,
    id: &EndpointId,
    made: Option<&Endpoint>,
) {
    let settings = &mut record.settings;
    settings.network_id = network.to_string();
    settings.endpoint_id = id.to_string();
    let Some(made) = made else { return };
    settings.mac_address = made.mac.to_string();
    let gateway = |of: Option<IpAddr>| of.map(|gateway| gateway.to_string()).unwrap_or_default();
    if let Some(address) = made.address {
        settings.ip_address = address.address().to_string();
        settings.ip_prefix_len = address.bits().into();
    }
    settings.gateway = gateway(made.gateway);
    if let Some(address) = made.address_v6 {
        settings.global_ipv6_address = address.address().to_string();
        settings.global_ipv6_prefix_len = address.bits().into();
    }
    settings.ipv6_gateway = gateway(made.gateway_v6);
}

/// The names under which the container is known on a user-defined network, each once
/// (source: moby `daemon/container_operations.go`, `buildEndpointDNSNames`).
fn dns_names(request: &AttachRequest, record: &EndpointRecord) -> Vec<String> {
    names(&request.name, &request.container, &request.hostname, record.settings.aliases.as_deref())
}

pub(crate) fn names(name: &str, id: &ContainerId, hostname: &str, aliases: Option<&[String]>) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    names.extend(aliases.into_iter().flatten().cloned());
    names.extend([id.short().to_owned(), hostname.to_owned()]);
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    names
}

pub(super) fn hostname(container: &Container) -> String {
    container.with(|state| state.record.config.hostname.clone())
}

/// Whether containers have `::1`.
fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}
