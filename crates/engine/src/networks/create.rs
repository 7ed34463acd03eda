//! `POST /networks/create`, `DELETE /networks/{id}`, `POST /networks/prune`

use super::{
    Networks,
    attach::attributes,
    failed, spec,
    table::{self, PREDEFINED},
    validate,
};
use crate::{Error, Filters, Result, blocking::blocking, error::invalid, events::EventKind};
use std::sync::Arc;
use wharf_api::{
    network::{CreateRequest, CreateResponse, Ipam, Network, PruneReport},
    time::{Time, parse_relative},
};
use wharf_spec::NetworkId;

impl Networks {
    /// `POST /networks/create`: bridge and macvlan networks.
    ///
    /// # Errors
    /// In Docker's words for what is wrong with the request (source: moby `daemon/network.go`, createNetwork;
    /// `daemon/libnetwork/controller.go`, NewNetwork).
    pub async fn create(&self, mut request: CreateRequest) -> Result<CreateResponse> {
        let _one_change = self.0.changing.lock().await;
        self.add_default_options(&mut request);
        let ipam = request.ipam.clone().unwrap_or_default();
        let has_v6 = families(&mut request)?.1;
        validate::ipam(ipam.config.as_deref().unwrap_or_default(), has_v6)?;
        self.check(&request, &ipam)?;
        if request.config_only {
            return self.create_configuration(request, ipam).await;
        }
        let driver = if request.driver == "macvlan" { "macvlan" } else { "bridge" };
        let (id, mut network) = table::new(&request.name, driver);
        (network.enable_ipv4, network.enable_ipv6) = families(&mut request)?;
        network.internal = request.internal;
        network.attachable = request.attachable;
        network.options = Some(request.options.unwrap_or_default());
        network.labels = Some(request.labels.unwrap_or_default());
        network.ipam = Ipam { driver: "default".into(), options: ipam.options, config: ipam.config };
        network.config_from = request.config_from.unwrap_or_default();
        self.take_configuration(&mut network)?;
        let mut bridge = spec::bridge(&id, &network)?;
        bridge.filtered = spec::is_filtered(&self.0.config.network, &network)?;
        let fabric = Arc::clone(&self.0.fabric);
        let made = blocking(move || Ok(fabric.add_network(bridge))).await?.map_err(failed)?;
        spec::show_addresses(&mut network, &made);
        self.0.table.lock().insert(id.clone(), network.clone());
        if let Err(error) = self.save().await {
            self.forget(&id).await;
            return Err(error);
        }
        self.0.events.emit(EventKind::Network, "create", id.as_str(), attributes(&network));
        Ok(CreateResponse { id: id.to_string(), warning: String::new() })
    }

    /// Makes a network that is only a configuration for others: nothing in the kernel, and no event. Its driver is
    /// `null`, as in Docker, lest an older one uses it.
    async fn create_configuration(&self, request: CreateRequest, ipam: Ipam) -> Result<CreateResponse> {
        let (id, mut network) = table::new(&request.name, "null");
        network.config_only = true;
        network.enable_ipv4 = request.enable_ipv4.unwrap_or(true);
        network.enable_ipv6 = request.enable_ipv6.unwrap_or(false);
        network.options = Some(request.options.unwrap_or_default());
        network.labels = Some(request.labels.unwrap_or_default());
        network.ipam = Ipam { driver: "default".into(), ..ipam };
        self.0.table.lock().insert(id.clone(), network);
        if let Err(error) = self.save().await {
            self.0.table.lock().remove(&id);
            return Err(error);
        }
        Ok(CreateResponse { id: id.to_string(), warning: String::new() })
    }

    /// Copies the configuration that a new network refers to
    /// (source: moby `daemon/libnetwork/network.go`, applyConfigurationTo).
    fn take_configuration(&self, network: &mut Network) -> Result<()> {
        let name = network.config_from.network.clone();
        if name.is_empty() {
            return Ok(());
        }
        let found =
            self.0.table.lock().values().find(|other| other.config_only && other.name == name).cloned();
        let Some(from) = found else {
            return Err(Error::NotFound(format!("configuration network {name:?} does not exist")));
        };
        (network.enable_ipv4, network.enable_ipv6) = (from.enable_ipv4, from.enable_ipv6);
        validate::driver_options(from.options.as_ref())?;
        network.labels = from.labels;
        network.options = from.options;
        network.ipam = from.ipam;
        Ok(())
    }

    /// Options of `--default-network-opt` that the request does not set itself.
    fn add_default_options(&self, request: &mut CreateRequest) {
        let driver = if request.driver.is_empty() { "bridge" } else { &request.driver };
        let takes_over = request.config_from.as_ref().is_some_and(|from| !from.network.is_empty());
        let Some(defaults) = self.0.config.network.default_options.get(driver).filter(|_| !takes_over) else {
            return;
        };
        let options = request.options.get_or_insert_default();
        for (key, value) in defaults {
            options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }

    /// The checks in moby's order.
    fn check(&self, request: &CreateRequest, ipam: &Ipam) -> Result<()> {
        let name = request.name.as_str();
        if PREDEFINED.contains(&name) {
            return Err(Error::Forbidden(format!(
                "operation is not permitted on predefined {name} network "
            )));
        }
        if request.driver == "overlay" {
            return Err(Error::Forbidden(
                "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
                 this node to swarm and try again."
                    .into(),
            ));
        }
        if name.is_empty() {
            return invalid("invalid name: name is empty");
        }
        if self.0.table.lock().values().any(|network| network.name == name) {
            return Err(Error::Conflict(format!("network with name {name} already exists")));
        }
        validate::configuration(request, ipam)?;
        if request.config_only {
            return Ok(());
        }
        match request.driver.as_str() {
            "" | "bridge" | "default" | "macvlan" => {}
            "host" | "null" => {
                let driver = &request.driver;
                return Err(Error::Forbidden(format!(
                    "only one instance of \"{driver}\" network is allowed"
                )));
            }
            "ipvlan" => return Err(Error::NotImplemented("the network driver")),
            other => return Err(Error::NotFound(format!("plugin {other:?} not found"))),
        }
        if !matches!(ipam.driver.as_str(), "" | "default") {
            return Err(Error::NotFound(format!("plugin {:?} not found", ipam.driver)));
        }
        validate::driver_options(request.options.as_ref())?;
        if request.ingress {
            return Err(Error::Forbidden("Ingress network can only be global scope network".into()));
        }
        Ok(())
    }

    /// `DELETE /networks/{id}`
    ///
    /// # Errors
    /// An unknown network, a predefined one, or one with running containers.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let _one_change = self.0.changing.lock().await;
        let (id, network) = self.0.table.find(name)?;
        self.remove_unlocked(&id, &network).await
    }

    async fn remove_unlocked(&self, id: &NetworkId, network: &Network) -> Result<()> {
        let name = &network.name;
        if PREDEFINED.contains(&name.as_str()) {
            return Err(Error::Forbidden(format!("{name} is a pre-defined network and cannot be removed")));
        }
        if network.config_only && self.0.table.lock().values().any(|other| other.config_from.network == *name)
        {
            return Err(Error::Forbidden(format!("configuration network {name:?} is in use"))
                .context("error while removing network"));
        }
        let mut members: Vec<String> = self
            .0
            .fabric
            .members(id)
            .into_iter()
            .map(|(container, endpoint)| {
                let of = self.0.containers.get(&container).map(|c| c.name().to_string()).unwrap_or_default();
                format!("name:{of:?} id:{:?}", endpoint.id.short())
            })
            .collect();
        members.sort();
        if !members.is_empty() {
            return Err(Error::Forbidden(format!(
                "error while removing network: network {name} has active endpoints ({})",
                members.join(", ")
            )));
        }
        let fabric = Arc::clone(&self.0.fabric);
        let wanted = id.clone();
        match blocking(move || Ok(fabric.remove_network(&wanted))).await? {
            // One that could not be opened at the start has no bridge.
            Ok(()) | Err(wharf_network::Error::UnknownNetwork(_)) => {}
            Err(error) => return Err(failed(error).context("error while removing network")),
        }
        self.0.table.lock().remove(id);
        self.save().await?;
        if !network.config_only {
            self.0.events.emit(EventKind::Network, "destroy", id.as_str(), attributes(network));
        }
        Ok(())
    }

    /// Takes back a network that could not be recorded.
    async fn forget(&self, id: &NetworkId) {
        self.0.table.lock().remove(id);
        let (fabric, wanted) = (Arc::clone(&self.0.fabric), id.clone());
        if let Err(error) = blocking(move || fabric.remove_network(&wanted).map_err(failed)).await {
            tracing::warn!(network = %id, %error, "network not taken back");
        }
    }

    /// `POST /networks/prune`: networks that are not predefined and have no running container.
    ///
    /// # Errors
    /// For filters that are not known.
    pub async fn prune(&self, filters: Filters) -> Result<PruneReport> {
        filters.validate(&["label", "label!", "until"])?;
        let until = until(&filters)?;
        let all: Vec<(NetworkId, Network)> =
            self.0.table.lock().iter().map(|(id, network)| (id.clone(), network.clone())).collect();
        let mut deleted = Vec::new();
        for (id, network) in all {
            let labels = network.labels.clone().unwrap_or_default();
            let young = until.is_some_and(|until| network.created.unix_nanos() > until.unix_nanos());
            if young
                || network.config_only
                || !filters.match_label_pair(&labels)
                || !self.is_dangling(&id, &network)
            {
                continue;
            }
            let _one_change = self.0.changing.lock().await;
            match self.remove_unlocked(&id, &network).await {
                Ok(()) => deleted.push(network.name),
                Err(error) => tracing::warn!(network = network.name, %error, "network not pruned"),
            }
        }
        let reclaimed = [("reclaimed".to_owned(), "0".to_owned())].into();
        self.0.events.emit(EventKind::Network, "prune", "", reclaimed);
        Ok(PruneReport { networks_deleted: Some(deleted).filter(|deleted| !deleted.is_empty()) })
    }
}

/// Whether a network is to have IPv4 and IPv6: as the request says, else its options, which would look wrong in an
/// inspect where it does (source: moby `daemon/network.go`, createNetwork).
fn families(request: &mut CreateRequest) -> Result<(bool, bool)> {
    let mut options = request.options.as_mut();
    let mut choose = |asked: Option<bool>, key: &str, usual: bool| {
        let Some(options) = options.as_mut() else { return Ok(asked.unwrap_or(usual)) };
        if let Some(asked) = asked {
            options.remove(key);
            return Ok(asked);
        }
        let Some(text) = options.get(key) else { return Ok(usual) };
        spec::parse_bool(text)
            .ok_or_else(|| Error::Invalid(format!("driver-opt {key:?} is not a valid bool")))
    };
    Ok((
        choose(request.enable_ipv4, "com.docker.network.enable_ipv4", true)?,
        choose(request.enable_ipv6, "com.docker.network.enable_ipv6", false)?,
    ))
}

fn until(filters: &Filters) -> Result<Option<Time>> {
    let values: Vec<&str> = filters.get("until").collect();
    match values.as_slice() {
        [] => Ok(None),
        [value] => Ok(Some(parse_relative(value, Time::now())?)),
        _ => invalid("more than one until filter specified"),
    }
}
