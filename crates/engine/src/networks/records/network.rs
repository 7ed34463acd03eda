//! A network's own records (source: moby `daemon/libnetwork/network.go`, MarshalJSON and UnmarshalJSON;
//! `daemon/libnetwork/drivers/bridge/bridge_store.go`; `daemon/network.go`, buildIPAMResources).

use super::{NetworkMap, spec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use wharf_api::{
    StringMap,
    network::{ConfigReference, Ipam, IpamConfig, Network},
    time::Time,
};
use wharf_network::{BridgeSpec, Family, MacvlanMode, Subnet};
use wharf_spec::NetworkId;

/// The part of `generic` that has the driver's options.
const OPTIONS: &str = "com.docker.network.generic";
/// Docker's name for addresses of one host.
const ADDRESS_SPACE: &str = "LocalDefault";
/// Go's text for an address that is none.
const NIL: &str = "<nil>";

/// Why a network is not taken over.
#[derive(Debug, thiserror::Error)]
pub(in crate::networks) enum Unusable {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("bad id: {0}")]
    Id(String),
    /// Docker was stopped while it removed it.
    #[error("it was being removed")]
    InDeletion,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Record {
    name: String,
    id: String,
    created: Time,
    network_type: String,
    scope: String,
    labels: Option<StringMap>,
    ipam_type: String,
    ipam_options: Option<StringMap>,
    #[serde(rename = "enableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "enableIPv6")]
    enable_ipv6: bool,
    generic: BTreeMap<String, Value>,
    ipam_v4_config: String,
    ipam_v4_info: String,
    ipam_v6_config: String,
    ipam_v6_info: String,
    internal: bool,
    attachable: bool,
    in_delete: bool,
    ingress: bool,
    config_only: bool,
    config_from: String,
}

/// One of `ipamV4Config`: what was asked for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    preferred_pool: String,
    sub_pool: String,
    gateway: String,
    aux_addresses: Option<StringMap>,
}

/// One of `ipamV4Info`: what came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Info {
    #[serde(rename = "IPAMData")]
    data: String,
    #[serde(rename = "PoolID")]
    pool_id: String,
}

/// The text in [`Info::data`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Data {
    address_space: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    aux_addresses: Option<StringMap>,
    #[serde(skip_serializing_if = "String::is_empty")]
    gateway: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pool: String,
}

/// A network from its record.
pub(in crate::networks) fn decode(json: &[u8]) -> Result<(NetworkId, Network), Unusable> {
    let record: Record = serde_json::from_slice(json)?;
    if record.in_delete {
        return Err(Unusable::InDeletion);
    }
    let id: NetworkId = record.id.parse().map_err(|error| Unusable::Id(format!("{error}")))?;
    let options = record.generic.get(OPTIONS).cloned().unwrap_or_default();
    let mut subnets = subnets(&record.ipam_v4_config, &record.ipam_v4_info)?;
    subnets.extend(self::subnets(&record.ipam_v6_config, &record.ipam_v6_info)?);
    let network = Network {
        name: record.name,
        id: record.id,
        created: record.created,
        scope: record.scope,
        driver: record.network_type,
        enable_ipv4: record.enable_ipv4.unwrap_or(true),
        enable_ipv6: record.enable_ipv6,
        ipam: Ipam {
            driver: record.ipam_type,
            options: record.ipam_options,
            config: Some(subnets).filter(|subnets| !subnets.is_empty()),
        },
        internal: record.internal,
        attachable: record.attachable,
        ingress: record.ingress,
        config_from: ConfigReference { network: record.config_from },
        config_only: record.config_only,
        options: Some(serde_json::from_value::<Option<StringMap>>(options)?.unwrap_or_default()),
        labels: Some(record.labels.unwrap_or_default()),
        ..Network::default()
    };
    Ok((id, network))
}

fn subnets(asked: &str, info: &str) -> Result<Vec<IpamConfig>, serde_json::Error> {
    fn list<T: for<'de> Deserialize<'de>>(text: &str) -> Result<Vec<T>, serde_json::Error> {
        if text.is_empty() { Ok(Vec::new()) } else { serde_json::from_str(text) }
    }
    let asked: Vec<Asked> = list(asked)?;
    let info: Vec<Info> = list(info)?;
    let mut subnets = Vec::with_capacity(info.len());
    for (index, info) in info.iter().enumerate() {
        let data: Data =
            if info.data.is_empty() { Data::default() } else { serde_json::from_str(&info.data)? };
        let asked = asked.get(index);
        let wish = |field: fn(&Asked) -> &String| asked.map(field).cloned().unwrap_or_default();
        let mut gateway = wish(|asked| &asked.gateway);
        if gateway.is_empty() {
            gateway = without_length(&data.gateway).to_owned();
        }
        let auxiliary = asked.and_then(|asked| asked.aux_addresses.clone()).unwrap_or_default();
        subnets.push(IpamConfig {
            subnet: if data.pool.is_empty() { wish(|asked| &asked.preferred_pool) } else { data.pool },
            ip_range: wish(|asked| &asked.sub_pool),
            gateway,
            auxiliary_addresses: auxiliary,
        });
    }
    Ok(subnets)
}

fn without_length(text: &str) -> &str {
    text.split('/').next().unwrap_or_default()
}

/// What a record keeps of a network: what [`decode`] gives of it.
pub(in crate::networks) fn persistent(network: &Network) -> Network {
    Network {
        ipam: Ipam {
            config: network.ipam.config.clone().filter(|config| !config.is_empty()),
            ..network.ipam.clone()
        },
        options: Some(network.options.clone().unwrap_or_default()),
        labels: Some(network.labels.clone().unwrap_or_default()),
        containers: None,
        peers: Vec::new(),
        status: None,
        ..network.clone()
    }
}

/// A network's record; what an earlier one has besides stays.
pub(in crate::networks) fn encode(earlier: Option<Value>, network: &Network) -> Value {
    let is_wired = spec::is_wired(&network.driver);
    let mut generic = json!({ OPTIONS: network.options.clone().unwrap_or_default() });
    if is_wired {
        generic["com.docker.network.enable_ipv4"] = network.enable_ipv4.into();
        generic["com.docker.network.enable_ipv6"] = network.enable_ipv6.into();
        if network.internal {
            generic["com.docker.network.internal"] = true.into();
        }
    }
    let mut record = json!({
        "addrSpace": if is_wired { ADDRESS_SPACE } else { "" },
        "attachable": network.attachable,
        "configFrom": network.config_from.network,
        "configOnly": network.config_only,
        "created": network.created,
        "enableIPv4": network.enable_ipv4,
        "enableIPv6": network.enable_ipv6,
        "generic": generic,
        "id": network.id,
        "inDelete": false,
        "ingress": network.ingress,
        "internal": network.internal,
        "ipamOptions": network.ipam.options,
        "ipamType": network.ipam.driver,
        "labels": network.labels.clone().unwrap_or_default(),
        "loadBalancerIP": "",
        "loadBalancerMode": "NAT",
        "name": network.name,
        "networkType": network.driver,
        "persist": true,
        "postIPv6": false,
        "scope": network.scope,
        "skipGwAllocIPv4": false,
        "skipGwAllocIPv6": false,
    });
    for (family, config, info) in
        [(Family::V4, "ipamV4Config", "ipamV4Info"), (Family::V6, "ipamV6Config", "ipamV6Info")]
    {
        let all = network.ipam.config.iter().flatten();
        let subnets: Vec<&IpamConfig> = all.filter(|config| spec::family_of(config) == family).collect();
        if !subnets.is_empty() {
            record[config] = text(&subnets.iter().map(|subnet| asked(subnet)).collect::<Vec<_>>());
            record[info] = text(&subnets.iter().map(|subnet| self::info(subnet)).collect::<Vec<_>>());
        }
    }
    over(earlier, record)
}

fn asked(subnet: &IpamConfig) -> Asked {
    Asked {
        preferred_pool: subnet.subnet.clone(),
        sub_pool: subnet.ip_range.clone(),
        gateway: subnet.gateway.clone(),
        aux_addresses: Some(subnet.auxiliary_addresses.clone()).filter(|all| !all.is_empty()),
    }
}

fn info(config: &IpamConfig) -> Info {
    let pool: Option<Subnet> = config.subnet.parse().ok();
    let length = pool.map(|pool| format!("/{}", pool.bits())).unwrap_or_default();
    let with_length = |address: &str| match address {
        "" => String::new(),
        address => format!("{address}{length}"),
    };
    let auxiliary = config.auxiliary_addresses.iter();
    let auxiliary: StringMap = auxiliary.map(|(name, at)| (name.clone(), with_length(at))).collect();
    let data = Data {
        address_space: ADDRESS_SPACE.into(),
        aux_addresses: Some(auxiliary).filter(|all| !all.is_empty()),
        gateway: with_length(&config.gateway),
        pool: config.subnet.clone(),
    };
    Info { data: serde_json::to_string(&data).unwrap_or_default(), pool_id: pool_id(config) }
}

/// The name of a pool of addresses.
fn pool_id(config: &IpamConfig) -> String {
    let mut id = format!("{ADDRESS_SPACE}/{}", config.subnet);
    if !config.ip_range.is_empty() {
        id = format!("{id}/{}", config.ip_range);
    }
    id
}

/// The name of a network's pool of addresses of a family; empty when it has none.
pub(super) fn pool_id_of(network: &Network, family: Family) -> String {
    let mut subnets = network.ipam.config.iter().flatten();
    subnets.find(|config| spec::family_of(config) == family).map(pool_id).unwrap_or_default()
}

fn text<T: Serialize>(value: &T) -> Value {
    serde_json::to_string(value).unwrap_or_default().into()
}

/// The bridge driver's record of a network.
pub(in crate::networks) fn encode_bridge(
    earlier: Option<Value>,
    network: &Network,
    bridge: &BridgeSpec,
) -> Value {
    let option = |key: &str| network.options.as_ref().and_then(|options| options.get(key));
    let host_address = option("com.docker.network.bridge.host_binding_ipv4").filter(|text| !text.is_empty());
    let mtu = option("com.docker.network.driver.mtu").map_or(0, |_| bridge.mtu);
    let mut record = json!({
        "BridgeIfaceCreator": 1,
        "BridgeName": bridge.bridge,
        "ContainerIfacePrefix": option(spec::INTERFACE_PREFIX).cloned().unwrap_or_default(),
        "DefaultBindingIP": host_address.map_or(NIL.into(), |_| bridge.default_host_address.to_string()),
        "DefaultBridge": option("com.docker.network.bridge.default_bridge").is_some_and(|text| text == "true"),
        "DefaultGatewayIPv4": NIL,
        "DefaultGatewayIPv6": NIL,
        "EnableICC": bridge.inter_container,
        "EnableIPMasquerade": bridge.masquerade,
        "EnableIPv4": network.enable_ipv4,
        "EnableIPv6": network.enable_ipv6,
        "GwModeIPv4": option(spec::GATEWAY_MODE).cloned().unwrap_or_default(),
        "GwModeIPv6": option(spec::GATEWAY_MODE_V6).cloned().unwrap_or_default(),
        "HostIP": NIL,
        "HostIPv6": NIL,
        "ID": network.id,
        "InhibitIPv4": option(spec::INHIBIT_ADDRESS).is_some_and(|text| spec::parse_bool(text) == Some(true)),
        "Internal": network.internal,
        "Mtu": mtu,
        "TrustedHostInterfaces": "",
    });
    for config in network.ipam.config.iter().flatten().filter(|config| !config.gateway.is_empty()) {
        let key = if config.subnet.contains(':') { "AddressIPv6" } else { "AddressIPv4" };
        let length = config.subnet.parse::<Subnet>().map(|subnet| subnet.bits());
        if let Ok(bits) = length {
            record[key] = format!("{}/{bits}", config.gateway).into();
        }
    }
    over(earlier, record)
}

/// The macvlan driver's record of a network (source: moby `daemon/libnetwork/drivers/macvlan/macvlan_store.go`).
pub(in crate::networks) fn encode_macvlan(
    earlier: Option<Value>,
    network: &Network,
    parent: &BridgeSpec,
) -> Value {
    let mode = match parent.macvlan {
        Some(MacvlanMode::Private) => "private",
        Some(MacvlanMode::Vepa) => "vepa",
        Some(MacvlanMode::Passthru) => "passthru",
        Some(MacvlanMode::Bridge) | None => "bridge",
    };
    let subnet = |config: &&IpamConfig| {
        let length = config.subnet.parse::<Subnet>().map(|subnet| subnet.bits());
        let gateway = match length {
            Ok(bits) if !config.gateway.is_empty() => format!("{}/{bits}", config.gateway),
            _ => String::new(),
        };
        json!({ "SubnetIP": config.subnet, "GwIP": gateway })
    };
    let subnets = |family: Family| {
        let all = network.ipam.config.iter().flatten();
        all.filter(|config| spec::family_of(config) == family)
            .map(|config| subnet(&config))
            .collect::<Vec<_>>()
    };
    let mut record = json!({
        "CreatedSubIface": false,
        "ID": network.id,
        "Internal": network.internal,
        "MacvlanMode": mode,
        "Mtu": 0,
        "Parent": parent.bridge,
    });
    for (key, family) in [("Ipv4Subnets", Family::V4), ("Ipv6Subnets", Family::V6)] {
        let subnets = subnets(family);
        if !subnets.is_empty() {
            record[key] = text(&subnets);
        }
    }
    over(earlier, record)
}

/// The fields of one object over those of another.
fn over(earlier: Option<Value>, record: Value) -> Value {
    match (earlier, record) {
        (Some(Value::Object(mut earlier)), Value::Object(record)) => {
            earlier.extend(record);
            Value::Object(earlier)
        }
        (_, record) => record,
    }
}

/// The networks of Wharf's own file before it kept them in Docker's.
pub(in crate::networks) fn from_json(bytes: &[u8]) -> Result<NetworkMap, serde_json::Error> {
    let list: Vec<Network> = serde_json::from_slice(bytes)?;
    Ok(list.into_iter().filter_map(|network| Some((network.id.parse().ok()?, network))).collect())
}
