//! Networks, and the attachments of containers to them.
//!
//! Entry points: one method per verb of the API, and [`Networks::attach`], [`Networks::detach`] and
//! [`Networks::restore`] for the life of a container.

use crate::{
    Config, Error, Events, Filters, Result,
    containers::{Index, NetworkRecord},
};
use std::{collections::BTreeMap, net::IpAddr, os::fd::OwnedFd, sync::Arc};
use wharf_api::{container as capi, network as api, port::Port};
use wharf_spec::{ContainerId, NetworkId};

/// The handle of networks: cheap to clone.
#[derive(Clone)]
pub struct Networks(Arc<Inner>);

#[allow(dead_code, reason = "read by the verbs as they are written")]
struct Inner {
    config: Arc<Config>,
    events: Events,
    containers: Index,
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
    /// `none`, a network's name or id, or `bridge`. Never `host` or `container:`: those attach nothing.
    pub mode: capi::NetworkMode,
    /// What was asked for and what came of it last time, by the network's name.
    pub networks: NetworkRecord,
    /// Ports that the image or the request exposes.
    pub exposed_ports: Vec<Port>,
    /// Ports to publish.
    pub port_bindings: capi::PortMap,
    /// Publish every exposed port.
    pub publish_all: bool,
    /// Links to running containers: their id, and the alias.
    pub links: Vec<(ContainerId, String)>,
    /// `--dns` and its like, the daemon's defaults already applied.
    pub dns: Dns,
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
    /// Its network namespace, complete: addresses, routes, ports. `None`: make a new one with a loopback.
    pub netns: Option<OwnedFd>,
    /// What its record says from now on.
    pub networks: NetworkRecord,
    /// Its own addresses, for `/etc/hosts`.
    pub addresses: Vec<IpAddr>,
    /// Names of links and of `host-gateway`, for `/etc/hosts`.
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
    /// Opens the networks of a data-root.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) async fn open(config: Arc<Config>, events: Events, containers: Index) -> Result<Self> {
        Ok(Self(Arc::new(Inner { config, events, containers })))
    }

    /// Makes a container's namespace and attaches it to its networks.
    ///
    /// # Errors
    /// When a network is missing or cannot be attached; nothing is left then.
    pub async fn attach(&self, request: AttachRequest) -> Result<Attachment> {
        if !request.mode.is_none() {
            return Err(Error::NotImplemented("networks other than none, host and container"));
        }
        let ipv6 = std::path::Path::new("/proc/sys/net/ipv6").exists();
        Ok(Attachment {
            netns: None,
            networks: request.networks,
            addresses: Vec::new(),
            extra_hosts: Vec::new(),
            ipv6,
            embedded_dns: false,
        })
    }

    /// Takes back what [`Self::attach`] did, after the container ended. Errors are logged: there is nobody to
    /// tell. Returns what the record says from now on.
    pub async fn detach(&self, _container: &ContainerId, networks: NetworkRecord) -> NetworkRecord {
        networks.ended()
    }

    /// Takes a container that still runs as it is, after the daemon was restarted.
    ///
    /// # Errors
    /// When its namespace or addresses are not what its record says.
    pub async fn restore(&self, _container: &ContainerId, _networks: &NetworkRecord) -> Result<()> {
        Ok(())
    }

    /// Removes what no container of these uses any more, after the daemon was restarted.
    pub async fn collect_leftovers(&self, _running: &[ContainerId]) {}

    /// The network that a name, id or id prefix stands for: its name and id.
    ///
    /// # Errors
    /// `network ... not found`.
    pub fn resolve(&self, name: &str) -> Result<(String, NetworkId)> {
        Err(Error::NoSuchNetwork(name.into()))
    }

    /// `GET /networks`
    pub async fn list(&self, _options: ListNetworks) -> Result<Vec<api::Network>> {
        Err(Error::NotImplemented("network list"))
    }

    /// `GET /networks/{id}`
    pub async fn inspect(&self, _name: &str, _scope: &str) -> Result<api::Network> {
        Err(Error::NotImplemented("network inspect"))
    }

    /// `POST /networks/create`
    pub async fn create(&self, _request: api::CreateRequest) -> Result<api::CreateResponse> {
        Err(Error::NotImplemented("network create"))
    }

    /// `DELETE /networks/{id}`
    pub async fn remove(&self, _name: &str) -> Result<()> {
        Err(Error::NotImplemented("network remove"))
    }

    /// `POST /networks/{id}/connect`
    pub async fn connect(&self, _name: &str, _request: api::ConnectRequest) -> Result<()> {
        Err(Error::NotImplemented("network connect"))
    }

    /// `POST /networks/{id}/disconnect`
    pub async fn disconnect(&self, _name: &str, _request: api::DisconnectRequest) -> Result<()> {
        Err(Error::NotImplemented("network disconnect"))
    }

    /// `POST /networks/prune`
    pub async fn prune(&self, _filters: Filters) -> Result<api::PruneReport> {
        Err(Error::NotImplemented("network prune"))
    }

    /// Traffic of a container's interfaces, by name, for its stats. Blocks.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn stats(&self, _pid: i32) -> Result<BTreeMap<String, capi::NetworkStats>> {
        Ok(BTreeMap::new())
    }
}
