//! Networks (source: moby `api/types/network`).

use crate::{StringMap, de, time::Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A container's attachment to a network: what was asked for and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// Addresses asked for.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpamConfig>,
    /// Links, `name:alias`.
    pub links: Option<Vec<String>>,
    /// Further names of the container on this network.
    pub aliases: Option<Vec<String>>,
    /// Options of the driver.
    pub driver_opts: Option<StringMap>,
    /// Which network provides the default route: the highest.
    pub gw_priority: i64,
    /// The network's id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// IPv4 gateway.
    #[serde(deserialize_with = "de::address")]
    pub gateway: String,
    /// IPv4 address.
    #[serde(rename = "IPAddress", deserialize_with = "de::address")]
    pub ip_address: String,
    /// Hardware address.
    #[serde(deserialize_with = "de::hardware_address")]
    pub mac_address: String,
    /// Length of the IPv4 prefix.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: i64,
    /// IPv6 gateway.
    #[serde(rename = "IPv6Gateway", deserialize_with = "de::address")]
    pub ipv6_gateway: String,
    /// IPv6 address.
    #[serde(rename = "GlobalIPv6Address", deserialize_with = "de::address")]
    pub global_ipv6_address: String,
    /// Length of the IPv6 prefix.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: i64,
    /// Names that the DNS server knows, on networks that have one.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

/// Addresses asked for; empty texts ask for none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointIpamConfig {
    /// IPv4.
    #[serde(
        rename = "IPv4Address",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "de::address"
    )]
    pub ipv4_address: String,
    /// IPv6.
    #[serde(
        rename = "IPv6Address",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "de::address"
    )]
    pub ipv6_address: String,
    /// Link-local addresses.
    #[serde(
        rename = "LinkLocalIPs",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "de::addresses"
    )]
    pub link_local_ips: Option<Vec<String>>,
}

/// The networks that a new container joins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkingConfig {
    /// By the network's name or id.
    pub endpoints_config: Option<BTreeMap<String, EndpointSettings>>,
}

/// The request to make a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateRequest {
    /// Its name.
    pub name: String,
    /// Its driver; empty is the default, `bridge`.
    pub driver: String,
    /// `local`, `swarm`, `global` or empty.
    pub scope: String,
    /// Whether it has IPv4; `None` is yes (1.48 and up).
    #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
    pub enable_ipv4: Option<bool>,
    /// Whether it has IPv6; `None` is no.
    #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
    pub enable_ipv6: Option<bool>,
    /// Addresses.
    #[serde(rename = "IPAM")]
    pub ipam: Option<Ipam>,
    /// Without a way out.
    pub internal: bool,
    /// Swarm: whether single containers may join.
    pub attachable: bool,
    /// Swarm: the routing mesh.
    pub ingress: bool,
    /// Only a configuration for others to use.
    pub config_only: bool,
    /// The network whose configuration to use.
    pub config_from: Option<ConfigReference>,
    /// Options of the driver.
    pub options: Option<StringMap>,
    /// Labels.
    pub labels: Option<StringMap>,
}

/// The answer to a create.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateResponse {
    /// The id.
    pub id: String,
    /// What was changed or ignored.
    pub warning: String,
}

/// Management of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// `default`.
    pub driver: String,
    /// Its options.
    pub options: Option<StringMap>,
    /// Subnets.
    pub config: Option<Vec<IpamConfig>>,
}

/// A subnet; texts are kept as given and are checked by the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConfig {
    /// The subnet as a prefix.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    /// The part of it that addresses are taken from.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    /// The gateway.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Addresses that the driver uses itself, by name.
    #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "StringMap::is_empty")]
    pub auxiliary_addresses: StringMap,
}

/// The name of a network that others take their configuration from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigReference {
    /// Its name; empty for none.
    pub network: String,
}

/// A network: one item of a list, and the first part of an inspect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created: Time,
    /// `local` or `swarm`.
    pub scope: String,
    /// Its driver.
    pub driver: String,
    /// Whether it has IPv4.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Whether it has IPv6.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Addresses.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Without a way out.
    pub internal: bool,
    /// Swarm: whether single containers may join.
    pub attachable: bool,
    /// Swarm: the routing mesh.
    pub ingress: bool,
    /// The network whose configuration it uses.
    pub config_from: ConfigReference,
    /// Only a configuration.
    pub config_only: bool,
    /// Containers by id: in an inspect, and in lists below 1.28.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<BTreeMap<String, EndpointResource>>,
    /// Options of the driver.
    pub options: Option<StringMap>,
    /// Labels.
    pub labels: Option<StringMap>,
    /// Swarm: the other nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerInfo>,
    /// Use of addresses: in an inspect (1.52 and up).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// A container's endpoint, seen from the network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointResource {
    /// The container's name.
    pub name: String,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Hardware address.
    pub mac_address: String,
    /// IPv4 address and prefix length.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// IPv6 address and prefix length.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// Another node of a swarm.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PeerInfo {
    /// Its name.
    pub name: String,
    /// Its address.
    #[serde(rename = "IP")]
    pub ip: String,
}

/// How much of a network is used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Of its addresses.
    #[serde(rename = "IPAM")]
    pub ipam: IpamStatus,
}

/// Use of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamStatus {
    /// By subnet.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subnets: BTreeMap<String, SubnetStatus>,
}

/// Use of a subnet's addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SubnetStatus {
    /// Addresses in use, those of the network itself among them.
    #[serde(rename = "IPsInUse")]
    pub ips_in_use: u64,
    /// Addresses left to give out.
    #[serde(rename = "DynamicIPsAvailable")]
    pub dynamic_ips_available: u64,
}

/// The request to attach a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConnectRequest {
    /// Name or id of the container.
    pub container: String,
    /// What the endpoint is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_config: Option<EndpointSettings>,
}

/// The request to detach a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DisconnectRequest {
    /// Name or id of the container.
    pub container: String,
    /// Even when the container is not there any more.
    pub force: bool,
}

/// The answer to a prune.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneReport {
    /// Names; `None` where there were none.
    pub networks_deleted: Option<Vec<String>>,
}
