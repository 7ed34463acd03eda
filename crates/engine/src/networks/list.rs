//! `GET /networks`, `GET /networks/{id}`

use super::{ListNetworks, Networks, table::PREDEFINED};
use crate::{Error, Filters, Result};
use std::collections::BTreeMap;
use wharf_api::network::{EndpointResource, IpamStatus, Network, Status, SubnetStatus};
use wharf_spec::NetworkId;

impl Networks {
    /// `GET /networks`
    ///
    /// # Errors
    /// For filters that are not known.
    pub async fn list(&self, options: ListNetworks) -> Result<Vec<Network>> {
        let filters = &options.filters;
        filters.validate(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
        check_types(filters)?;
        let dangling = dangling(filters)?;
        let all: Vec<(NetworkId, Network)> =
            self.0.table.lock().iter().map(|(id, network)| (id.clone(), network.clone())).collect();
        let mut shown: Vec<Network> = all
            .into_iter()
            .filter(|(_, network)| matches(filters, network))
            .filter(|(id, network)| dangling.is_none_or(|wanted| wanted == self.is_dangling(id, network)))
            .map(
                |(id, network)| if options.containers { self.with_containers(&id, network) } else { network },
            )
            .collect();
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(shown)
    }

    /// `GET /networks/{id}`
    ///
    /// # Errors
    /// `network ... not found`
    pub async fn inspect(&self, name: &str, scope: &str) -> Result<Network> {
        let (id, network) = self.0.table.find(name)?;
        if !scope.is_empty() && scope != network.scope {
            return Err(Error::NoSuchNetwork(name.into()));
        }
        let mut network = self.with_containers(&id, network);
        network.status = self.status(&id);
        Ok(network)
    }

    fn with_containers(&self, id: &NetworkId, mut network: Network) -> Network {
        network.containers = Some(self.members(id));
        network
    }

    /// The running containers in a network, by id.
    fn members(&self, id: &NetworkId) -> BTreeMap<String, EndpointResource> {
        let of_bridge = self.0.fabric.members(id).into_iter().map(|(container, endpoint)| {
            let resource = EndpointResource {
                name: self.name_of(&container),
                endpoint_id: endpoint.id.to_string(),
                mac_address: endpoint.mac.to_string(),
                ipv4_address: endpoint.address.map(|address| address.to_string()).unwrap_or_default(),
                ipv6_address: endpoint.address_v6.map(|address| address.to_string()).unwrap_or_default(),
            };
            (container, resource)
        });
        let mut members: BTreeMap<_, _> = of_bridge.collect();
        // host and none are no bridges: only the containers know.
        for container in self.0.containers.all().into_iter().filter(|container| container.is_running()) {
            let networks = container.networks().networks;
            let joined = networks.values().find(|e| e.settings.network_id == id.as_str());
            let Some(endpoint_id) = joined.map(|joined| joined.settings.endpoint_id.clone()) else {
                continue;
            };
            members.entry(container.id.to_string()).or_insert_with(|| EndpointResource {
                name: container.name().to_string(),
                endpoint_id,
                ..EndpointResource::default()
            });
        }
        members
    }

    fn name_of(&self, container: &str) -> String {
        self.0.containers.get(container).map(|container| container.name().to_string()).unwrap_or_default()
    }

    fn status(&self, id: &NetworkId) -> Option<Status> {
        let usage = self.0.fabric.address_usage(id).into_iter();
        let subnets = usage.map(|(subnet, ips_in_use, dynamic_ips_available)| {
            (subnet.to_string(), SubnetStatus { ips_in_use, dynamic_ips_available })
        });
        let subnets: BTreeMap<_, _> = subnets.collect();
        (!subnets.is_empty()).then_some(Status { ipam: IpamStatus { subnets } })
    }

    /// Whether a network is nobody's: not predefined, and no running container in it.
    pub(super) fn is_dangling(&self, id: &NetworkId, network: &Network) -> bool {
        !PREDEFINED.contains(&network.name.as_str()) && self.members(id).is_empty()
    }
}

fn matches(filters: &Filters, network: &Network) -> bool {
    let labels = network.labels.clone().unwrap_or_default();
    let types: Vec<&str> = filters.get("type").collect();
    let of_type = match types.first() {
        None => true,
        Some(first) => PREDEFINED.contains(&network.name.as_str()) == (*first == "builtin"),
    };
    filters.exact_match("driver", &network.driver)
        && filters.regex_match("name", &network.name)
        && filters.regex_match("id", &network.id)
        && filters.match_labels("label", &labels)
        && filters.exact_match("scope", &network.scope)
        && of_type
}

/// Docker answers a wrong type with status 500 (source: moby `daemon/network/filter.go`).
fn check_types(filters: &Filters) -> Result<()> {
    match filters.get("type").find(|kind| !matches!(*kind, "builtin" | "custom")) {
        Some(kind) => Err(Error::Refused(format!("invalid filter: 'type'='{kind}'"))),
        None => Ok(()),
    }
}

fn dangling(filters: &Filters) -> Result<Option<bool>> {
    let values: Vec<&str> = filters.get("dangling").collect();
    match values.as_slice() {
        [] => Ok(None),
        ["1" | "true"] => Ok(Some(true)),
        ["0" | "false"] => Ok(Some(false)),
        [_] => Err(Error::Invalid(
            "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")"
                .into(),
        )),
        _ => Err(Error::Invalid("got more than one value for filter key \"dangling\"".into())),
    }
}
