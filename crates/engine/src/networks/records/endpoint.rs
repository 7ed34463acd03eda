//! Records of what runs: endpoints and sandboxes (source: moby `daemon/libnetwork/endpoint.go`,
//! `endpoint_info.go`, `sandbox_store.go`; `daemon/libnetwork/drivers/bridge/bridge_store.go`).

use super::{network::pool_id_of, spec};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use wharf_api::{network::Network, port::Port};
use wharf_network::{Endpoint, Family, PortBinding, PortRequest};
use wharf_spec::{ContainerId, NetworkId};

/// A running container's attachment to a network.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::networks) struct Live {
    pub(in crate::networks) container: ContainerId,
    /// The container's name.
    pub(in crate::networks) name: String,
    pub(in crate::networks) sandbox: String,
    pub(in crate::networks) network: NetworkId,
    pub(in crate::networks) id: String,
    /// What is in the kernel: nothing for `host` and `none`.
    pub(in crate::networks) made: Option<Endpoint>,
    pub(in crate::networks) dns_names: Option<Vec<String>>,
    pub(in crate::networks) aliases: Vec<String>,
    pub(in crate::networks) exposed: Vec<Port>,
    /// Ports to publish, and where they are published.
    pub(in crate::networks) asked: Vec<PortRequest>,
    pub(in crate::networks) published: Vec<PortBinding>,
}

impl Live {
    /// The endpoint's record: with the names of Docker 20.10 and of the present beside each other.
    pub(super) fn record(&self, network: &Network) -> Value {
        let user_defined = spec::is_wired(&network.driver) && network.name != "bridge";
        let mut interface = json!({
            "dstName": "", "dstPrefix": "", "routes": null, "srcName": "", "v4PoolID": "", "v6PoolID": "",
        });
        let mut join = json!({ "StaticRoutes": null, "disableGatewayService": self.made.is_none() });
        if let Some(made) = &self.made {
            set_addresses(&mut interface, ["addr", "addrv6"], made);
            let prefix = made.interface.trim_end_matches(|letter: char| letter.is_ascii_digit());
            interface["dstPrefix"] = prefix.into();
            interface["mac"] = made.mac.to_string().into();
            interface["srcName"] = made.host_interface.clone().into();
            for (key, address, family) in
                [("v4PoolID", made.address, Family::V4), ("v6PoolID", made.address_v6, Family::V6)]
            {
                interface[key] = address.map(|_| pool_id_of(network, family)).unwrap_or_default().into();
            }
            for (key, gateway) in [("gw", made.gateway), ("gw6", made.gateway_v6)] {
                if let Some(gateway) = gateway {
                    join[key] = gateway.to_string().into();
                }
            }
        }
        json!({
            "anonymous": !user_defined,
            "disableIPv6": false,
            "disableResolution": !user_defined,
            "dnsNames": self.dns_names,
            "ep_iface": interface,
            "exposed_ports": self.exposed(),
            "generic": {
                "com.docker.network.endpoint.exposedports": self.exposed(),
                "com.docker.network.portmap": self.asked(),
            },
            "id": self.id,
            "ingressPorts": [],
            "joinInfo": join,
            "loadBalancer": false,
            "locator": "",
            "myAliases": self.aliases,
            "name": self.name,
            "sandbox": self.sandbox,
            "svcAliases": [],
            "svcID": "",
            "svcName": "",
            "virtualIP": "<nil>",
        })
    }

    /// The bridge driver's record.
    pub(super) fn bridge_record(&self) -> Option<Value> {
        let made = self.made.as_ref()?;
        let mut record = json!({
            "Config": { "MacAddress": null },
            "ContainerConfig": { "ParentEndpoints": null, "ChildEndpoints": null },
            "ExternalConnConfig": { "PortBindings": self.asked(), "ExposedPorts": self.exposed() },
            "MacAddress": made.mac.to_string(),
            "PortMapping": self.published(made),
            "SrcName": made.host_interface,
            "id": self.id,
            "nid": self.network,
        });
        set_addresses(&mut record, ["Addr", "Addrv6"], made);
        Some(record)
    }

    /// The macvlan driver's record (source: moby `daemon/libnetwork/drivers/macvlan/macvlan_store.go`).
    pub(super) fn macvlan_record(&self) -> Option<Value> {
        let made = self.made.as_ref()?;
        let mut record = json!({
            "MacAddress": made.mac.to_string(),
            "SrcName": made.host_interface,
            "id": self.id,
            "nid": self.network,
        });
        set_addresses(&mut record, ["Addr", "Addrv6"], made);
        Some(record)
    }

    fn exposed(&self) -> Vec<Value> {
        let port = |port: &Port| json!({ "Proto": protocol(port.protocol()), "Port": port.number() });
        self.exposed.iter().map(port).collect()
    }

    fn asked(&self) -> Vec<Value> {
        let binding = |asked: &PortRequest| {
            let (first, last) = asked.host_ports.unwrap_or_default();
            json!({
                "Proto": protocol(&asked.protocol.to_string()),
                "IP": "",
                "Port": asked.container_port,
                "HostIP": asked.host_address.map(|address| address.to_string()).unwrap_or_default(),
                "HostPort": first,
                "HostPortEnd": last,
            })
        };
        self.asked.iter().map(binding).collect()
    }

    /// Ports are published through one endpoint, that of the default route.
    fn published(&self, made: &Endpoint) -> Vec<Value> {
        let binding = |published: &PortBinding| {
            json!({
                "Proto": protocol(&published.protocol.to_string()),
                "IP": made.address_of(Family::of(published.host_address))
                    .or_else(|| made.address_of(Family::V4))
                    .map(|address| address.to_string())
                    .unwrap_or_default(),
                "Port": published.container_port,
                "HostIP": published.host_address.to_string(),
                "HostPort": published.host_port,
                "HostPortEnd": published.host_port,
            })
        };
        let here = made.leads_out().then_some(&self.published);
        here.into_iter().flatten().map(binding).collect()
    }
}

/// The addresses that an endpoint has, under these keys.
fn set_addresses(record: &mut Value, keys: [&str; 2], made: &Endpoint) {
    for (key, address) in keys.into_iter().zip([made.address, made.address_v6]) {
        if let Some(address) = address {
            record[key] = address.to_string().into();
        }
    }
}

/// The numbers of IANA, as Docker keeps them.
fn protocol(name: &str) -> u8 {
    match name {
        "udp" => 17,
        "sctp" => 132,
        _ => 6,
    }
}

/// The records of namespaces, by id.
pub(super) fn sandboxes(live: &[Live]) -> BTreeMap<String, Value> {
    let mut all: BTreeMap<&str, Vec<&Live>> = BTreeMap::new();
    for live in live {
        all.entry(&live.sandbox).or_default().push(live);
    }
    let record = |(id, endpoints): (&str, Vec<&Live>)| {
        let refer = |live: &&Live| json!({ "Eid": live.id, "Nid": live.network });
        let container = endpoints.first().map(|live| &live.container);
        let endpoints: Vec<Value> = endpoints.iter().map(refer).collect();
        let record = json!({
            "ID": id,
            "Cid": container,
            "Eps": endpoints,
            "EpPriority": {},
            "ExtDNS": null,
            "ExtDNS2": null,
        });
        (id.to_owned(), record)
    };
    all.into_iter().map(record).collect()
}

/// The networks that a sandbox's record names.
pub(super) fn networks_of_sandbox(json: &[u8]) -> impl Iterator<Item = String> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Record {
        eps: Option<Vec<Reference>>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Reference {
        nid: String,
    }
    let record: Record = serde_json::from_slice(json).unwrap_or_default();
    record.eps.into_iter().flatten().map(|endpoint| endpoint.nid)
}
