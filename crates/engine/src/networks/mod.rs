//! Networks, and the attachments of containers to them.
//!
//! Entry points: one method per verb of the API, and [`Networks::attach`], [`Networks::detach`] and
//! [`Networks::restore`] for the life of a container.
//!
//! The networks are in `table`, and on disk in Docker's form (`records`); the kernel's side is `wharf_network::Fabric`, which keeps its own records of
//! running containers and is made anew from both when a daemon starts. Networks are of the drivers bridge and macvlan;
//! `host` and `none` are predefined and have nothing in the kernel.

mod attach;
mod connect;
mod create;
mod list;
mod live;
mod ports;
mod records;
mod spec;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod validate;

pub(crate) use attach::names as dns_names;

use crate::{
    Config, Error, Events, Filters, Result,
    blocking::blocking,
    containers::{Index, NetworkRecord},
};
use std::{net::IpAddr, os::fd::OwnedFd, sync::Arc};
use table::Table;
use wharf_api::{container as capi, network::EndpointSettings, port::Port};
use wharf_network::{BridgeSpec, Fabric};
use wharf_spec::{ContainerId, NetworkId};

/// The handle of networks: cheap to clone.
#[derive(Clone)]
pub struct Networks(Arc<Inner>);

struct Inner {
    config: Arc<Config>,
    events: Events,
    containers: Index,
    table: Arc<Table>,
    fabric: Arc<Fabric>,
    /// Something runs or ended: its records are written a moment later.
    changed: Arc<tokio::sync::Notify>,
    /// One change of the networks at a time: making and removing go to the kernel in between.
    changing: tokio::sync::Mutex<()>,
}

/// A container that starts.
#[derive(Debug, Clone)]
pub struct AttachRequest {
    /// Which.
    pub container: ContainerId,
    /// Its name, without a slash.
    pub name: String,
    /// Its host name.
    pub hostname: String,
    /// Its domain name, may be empty.
    pub domainname: String,
    /// `none`, `host`, a network's name or id, or `bridge`. Never `container:`: that attaches nothing.
    pub mode: capi::NetworkMode,
    /// What was asked for and what came of it last time, by the network's name.
    pub networks: NetworkRecord,
    /// Ports that the image or the request exposes.
    pub exposed_ports: Vec<Port>,
    /// Ports to publish.
    pub port_bindings: capi::PortMap,
    /// Publish every exposed port.
    pub publish_all: bool,
    /// Links to running containers.
    pub links: Vec<Link>,
    /// `--dns` and its like, the daemon's defaults already applied.
    pub dns: Dns,
    /// A fresh namespace that belongs to the container's user namespace, if it has one of its own.
    pub namespace: Option<Arc<OwnedFd>>,
}

/// A link to a container, on the default bridge.
#[derive(Debug, Clone)]
pub struct Link {
    /// Which.
    pub target: ContainerId,
    /// What it is called here.
    pub alias: String,
    /// Its ports that are open to this one, although containers may not talk to each other.
    pub ports: Vec<Port>,
}

/// What a container says about names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "--dns, --dns-search, --dns-opt")]
pub struct Dns {
    pub servers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

/// What a started container gets.
#[derive(Debug)]
pub struct Attachment {
    /// Its network namespace, complete: addresses, routes, ports. `None` with the mode `host` only.
    pub netns: Option<OwnedFd>,
    /// The sockets that hold its published ports, for its shim to keep.
    pub reservations: Vec<OwnedFd>,
    /// What its record says from now on.
    pub networks: NetworkRecord,
    /// Its own addresses, for `/etc/hosts`.
    pub addresses: Vec<IpAddr>,
    /// Names of links, for `/etc/hosts`; for `host-gateway` see [`Networks::host_gateway`].
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// The namespace has `::1`.
    pub ipv6: bool,
    /// It is asked for names on 127.0.0.11 instead of the host's servers.
    pub embedded_dns: bool,
}

/// For [`Networks::list`].
#[derive(Debug, Clone, Default)]
pub struct ListNetworks {
    /// `?filters=`.
    pub filters: Filters,
    /// With the containers of each (API below 1.28).
    pub containers: bool,
}

impl Networks {
    /// Opens the networks of a data-root, and the kernel's side of them.
    ///
    /// # Errors
    /// When they cannot be read, or the default network cannot be made.
    pub(crate) async fn open(config: Arc<Config>, events: Events, containers: Index) -> Result<Self> {
        let settings = Arc::clone(&config);
        let (table, fabric) = blocking(move || open(&settings)).await?;
        let inner = Arc::new(Inner {
            config,
            events,
            containers,
            table: Arc::new(table),
            fabric: Arc::new(fabric),
            changed: Arc::default(),
            changing: tokio::sync::Mutex::default(),
        });
        tokio::spawn(live::keep(Arc::downgrade(&inner), Arc::clone(&inner.changed)));
        Ok(Self(inner))
    }

    /// Ends networking when the daemon ends: what no running container needs is removed, and another daemon may
    /// have the networks. What cannot be removed is logged.
    pub async fn shutdown(&self) {
        if let Err(error) = self.save().await {
            tracing::warn!(%error, "networks not written");
        }
        let table = Arc::clone(&self.0.table);
        if let Err(error) = blocking(move || {
            table.close();
            Ok(())
        })
        .await
        {
            tracing::warn!(%error, "networks stay locked");
        }
        let fabric = Arc::clone(&self.0.fabric);
        if let Err(error) = blocking(move || fabric.shut_down().map_err(failed)).await {
            tracing::warn!(%error, "networking not ended cleanly");
        }
    }

    /// The network that a name, id or id prefix stands for: its name and id.
    ///
    /// # Errors
    /// `network ... not found`.
    pub fn resolve(&self, name: &str) -> Result<(String, NetworkId)> {
        self.0.table.find(name).map(|(id, network)| (network.name, id))
    }

    /// Checks what a new container asks of a network, as far as the network exists already
    /// (source: moby `daemon/create.go`, validateNetworkingConfig).
    ///
    /// # Errors
    /// `invalid config for network ...`
    pub fn validate_endpoint(&self, name: &str, settings: &EndpointSettings) -> Result<()> {
        let Ok((_, network)) = self.0.table.find(name) else { return Ok(()) };
        validate::endpoint(&network, settings)
            .map_err(|error| error.context(format!("invalid config for network {name}")))
    }

    /// What `host-gateway` stands for: the daemon's `--host-gateway-ip`, else the host's addresses on the default
    /// bridge.
    pub fn host_gateway(&self) -> Vec<IpAddr> {
        if !self.0.config.host_gateway_ips.is_empty() {
            return self.0.config.host_gateway_ips.clone();
        }
        let bridge = self.resolve("bridge").ok().and_then(|(_, id)| self.0.fabric.network(&id));
        let families = bridge.into_iter().flat_map(|network| [network.v4, network.v6]);
        families.flatten().filter_map(|addresses| addresses.gateway).collect()
    }
}

/// Checks `--publish-allow` and `--publish-allow-set`.
///
/// # Errors
/// For a text that says not who is let through.
pub fn check_publish_allow(allow: &[String], set: &str) -> Result<()> {
    spec::publish_allow(allow, set).map(drop)
}

/// Reads the records, opens the kernel's side, and writes into the records what came of it. Blocks.
fn open(config: &Config) -> Result<(Table, Fabric)> {
    let dir = config.data_root.join("network/files");
    let table = Table::open(&dir)?;
    let mut wanted = spec::fabric(config)?;
    set_default_network(config, &table);
    for (id, network) in table.lock().iter().filter(|(_, network)| spec::is_wired(&network.driver)) {
        let is_default = network.name == "bridge";
        let bridge = match is_default {
            true => spec::default_bridge(&config.network, id, network),
            false => spec::bridge(id, network),
        };
        let filtered = spec::is_filtered(&config.network, network);
        let bridge = bridge.and_then(|bridge| Ok(BridgeSpec { filtered: filtered?, ..bridge }));
        match bridge {
            Ok(bridge) => wanted.networks.push(bridge),
            Err(error) if is_default => return Err(error),
            Err(error) => tracing::error!(network = network.name, %error, "a network is left out"),
        }
        if is_default {
            wanted.default_network = Some(id.clone());
        }
    }
    let fabric = Fabric::open(wanted).map_err(failed)?;
    for (id, network) in table.lock().iter_mut() {
        if let Some(made) = fabric.network(id) {
            spec::show_addresses(network, &made);
        }
    }
    table.save(&[])?;
    table.sync()?;
    table::remove_earlier(&dir);
    Ok((table, fabric))
}

/// Makes the record of the default network what the settings say.
fn set_default_network(config: &Config, table: &Table) {
    let mut networks = table.lock();
    let id = networks.iter().find(|(_, network)| network.name == "bridge").map(|(id, _)| id.clone());
    let earlier = id.and_then(|id| networks.remove(&id).map(|network| (id, network)));
    if let Some((id, network)) = spec::default_network(&config.network, earlier) {
        networks.insert(id, network);
    }
}

/// An error of the network layer as one of the engine.
fn failed(error: wharf_network::Error) -> Error {
    Error::Network(error.to_string(), error.kind())
}
