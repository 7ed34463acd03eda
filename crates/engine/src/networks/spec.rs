//! What a network's record, or the daemon's settings, mean for the bridge below it
//! (source: moby `daemon/libnetwork/drivers/bridge/bridge_linux.go`, `labels.go`; `daemon/daemon_unix.go`,
//! `initBridgeDriver`).

use super::table;
use crate::{Config, Error, Result, config::NetworkConfig, error::invalid};
use std::net::{IpAddr, Ipv4Addr};
use wharf_api::{
    StringMap,
    network::{IpamConfig, Network},
};
use wharf_network::{
    AddressPool, BridgeNetwork, BridgeSpec, FabricConfig, Filtering, IpForwarding, MacvlanMode, Subnet,
};
use wharf_spec::NetworkId;

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const INTER_CONTAINER: &str = "com.docker.network.bridge.enable_icc";
const HOST_ADDRESS: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(super) const GATEWAY_MODE: &str = "com.docker.network.bridge.gateway_mode_ipv4";
pub(super) const INHIBIT_ADDRESS: &str = "com.docker.network.bridge.inhibit_ipv4";
pub(super) const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
/// Options of macvlan networks (source: moby `daemon/libnetwork/drivers/macvlan/macvlan.go`).
const PARENT: &str = "parent";
const MACVLAN_MODE: &str = "macvlan_mode";
const MTU: &str = "com.docker.network.driver.mtu";

/// The MTU of networks that ask for none (source: moby `daemon/config/config.go`, `DefaultNetworkMtu`).
const DEFAULT_MTU: u32 = 1500;
/// How many namespaces wait for a container.
const READY_NAMESPACES: usize = 4;
/// The kernel's longest interface name (IFNAMSIZ with its NUL).
const LONGEST_NAME: usize = 15;

/// What the daemon's networking is opened with; the networks come from elsewhere.
pub(super) fn fabric(config: &Config) -> Result<FabricConfig> {
    let network = &config.network;
    let pools = network.default_address_pools.iter().map(|(base, size)| {
        let base = parse_subnet("default-address-pool", base)?;
        Ok(AddressPool { base, size: *size })
    });
    Ok(FabricConfig {
        instance: instance(config),
        state_dir: config.exec_root.join("network"),
        netns_dir: config.exec_root.join("netns"),
        address_pools: pools.collect::<Result<_>>()?,
        ready_namespaces: READY_NAMESPACES,
        forwarding: if network.ip_forward { IpForwarding::Enable } else { IpForwarding::Leave },
        filtering: if network.iptables { Filtering::Ours } else { Filtering::Others },
        networks: Vec::new(),
        default_network: None,
        // There is one: networks are opened by a task.
        runtime: tokio::runtime::Handle::try_current().ok(),
    })
}

/// The mark of this daemon's interfaces and rules: `wharf` for the one with the usual exec-root, else with the
/// exec-root's FNV-1a hash behind it.
fn instance(config: &Config) -> String {
    let root = config.exec_root.as_os_str().as_encoded_bytes();
    if matches!(root, b"/run/docker" | b"/var/run/docker") {
        return "wharf".into();
    }
    let hash =
        root.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("wharf-{hash:08x}")
}

/// The default network's record: an earlier one's id and date, everything else from the settings. `None` when
/// there is to be none.
pub(super) fn default_network(
    settings: &NetworkConfig,
    earlier: Option<(NetworkId, Network)>,
) -> Option<(NetworkId, Network)> {
    if settings.bridge == "none" {
        return None;
    }
    let (id, mut network) = earlier.unwrap_or_else(|| table::new("bridge", "bridge"));
    let bridge = if settings.bridge.is_empty() { &settings.bridge_name } else { &settings.bridge };
    let options: [(&str, String); 6] = [
        (DEFAULT_BRIDGE, "true".into()),
        (INTER_CONTAINER, settings.inter_container_communication.to_string()),
        (MASQUERADE, settings.ip_masquerade.to_string()),
        (
            HOST_ADDRESS,
            if settings.default_ip.is_empty() { "0.0.0.0".into() } else { settings.default_ip.clone() },
        ),
        (BRIDGE_NAME, bridge.clone()),
        (MTU, if settings.mtu == 0 { DEFAULT_MTU } else { settings.mtu }.to_string()),
    ];
    network.options = Some(options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
    network.ipam.config = None;
    Some((id, network))
}

/// The default network's bridge.
pub(super) fn default_bridge(
    settings: &NetworkConfig,
    id: &NetworkId,
    network: &Network,
) -> Result<BridgeSpec> {
    let mut spec = bridge(id, network)?;
    if !settings.bip.is_empty() {
        let address = parse_subnet("bip", &settings.bip)?;
        spec.subnet = Some(address.masked());
        spec.gateway = Some(address.address());
    }
    if !settings.fixed_cidr.is_empty() {
        let range = parse_subnet("fixed-cidr", &settings.fixed_cidr)?.masked();
        spec.range = Some(range);
        spec.subnet = spec.subnet.or(Some(range));
    }
    Ok(spec)
}

/// Drivers whose networks give interfaces to containers.
pub(super) fn is_wired(driver: &str) -> bool {
    matches!(driver, "bridge" | "macvlan")
}

/// The parent and the mode of a macvlan network
/// (source: moby `daemon/libnetwork/drivers/macvlan/macvlan_network.go`, `parseNetworkOptions`).
fn macvlan(options: &StringMap) -> Result<(String, MacvlanMode)> {
    let option = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    let mode = match option(MACVLAN_MODE) {
        "" | "bridge" => MacvlanMode::Bridge,
        "private" => MacvlanMode::Private,
        "vepa" => MacvlanMode::Vepa,
        "passthru" => MacvlanMode::Passthru,
        other => {
            return Err(Error::Refused(format!(
                "requested macvlan mode '{other}' is not valid, 'bridge' mode is the macvlan driver default"
            )));
        }
    };
    match option(PARENT) {
        "" => Err(Error::NotImplemented("a macvlan network without a parent interface")),
        "lo" => Err(Error::Refused("loopback interface is not a valid macvlan parent link".into())),
        parent => Ok((parent.to_owned(), mode)),
    }
}

/// The bridge of a network's record; of a macvlan network, the parent.
pub(super) fn bridge(id: &NetworkId, network: &Network) -> Result<BridgeSpec> {
    let none = StringMap::new();
    let options = network.options.as_ref().unwrap_or(&none);
    let name = options.get(BRIDGE_NAME).filter(|name| !name.is_empty());
    let name = name.cloned().unwrap_or_else(|| format!("br-{}", id.short()));
    let (name, macvlan) = match network.driver.as_str() {
        "macvlan" => macvlan(options).map(|(parent, mode)| (parent, Some(mode)))?,
        _ => (name, None),
    };
    if name.len() > LONGEST_NAME || name.contains(['/', ' ', '\0']) || name == "." || name == ".." {
        return invalid(format!(
            "invalid bridge name {name:?}: an interface's name has 1 to {LONGEST_NAME} bytes"
        ));
    }
    let mut spec = BridgeSpec {
        id: id.clone(),
        name: network.name.clone(),
        bridge: name,
        macvlan,
        subnet: None,
        range: None,
        gateway: None,
        auxiliary: Vec::new(),
        internal: network.internal,
        masquerade: switch(options, MASQUERADE, true)?,
        inter_container: switch(options, INTER_CONTAINER, true)?,
        mtu: mtu(options)?,
        default_host_address: host_address(options)?,
        without_address: switch(options, INHIBIT_ADDRESS, false)? || is_isolated(options, network.internal)?,
        interface_prefix: interface_prefix(options),
    };
    let configs = network.ipam.config.iter().flatten().filter(|config| !config.subnet.contains(':'));
    let configs: Vec<&IpamConfig> = configs.collect();
    match configs.as_slice() {
        [] => Ok(spec),
        [config] => {
            address(&mut spec, config)?;
            Ok(spec)
        }
        _ if macvlan.is_some() => Err(Error::NotImplemented("a macvlan network with several subnets")),
        _ => Err(Error::Forbidden("bridge driver doesn't support multiple subnets".into())),
    }
}

fn address(spec: &mut BridgeSpec, config: &IpamConfig) -> Result<()> {
    if !config.subnet.is_empty() {
        spec.subnet = Some(parse_subnet("subnet", &config.subnet)?.masked());
    }
    if !config.ip_range.is_empty() {
        spec.range = Some(parse_subnet("ip-range", &config.ip_range)?.masked());
    }
    if !config.gateway.is_empty() {
        spec.gateway = Some(parse_address(&config.gateway)?);
    }
    spec.auxiliary = config.auxiliary_addresses.values().map(|a| parse_address(a)).collect::<Result<_>>()?;
    Ok(())
}

/// What an inspect shows of a network's addresses, now that they are known.
pub(super) fn show_addresses(network: &mut Network, made: &BridgeNetwork) {
    let asked = network.ipam.config.take().unwrap_or_default();
    let (v6, v4): (Vec<_>, Vec<_>) = asked.into_iter().partition(|config| config.subnet.contains(':'));
    let mut config = v4.into_iter().next().unwrap_or_default();
    config.subnet = made.subnet.to_string();
    config.gateway = made.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
    if let Some(range) = made.spec.range {
        config.ip_range = range.to_string();
    }
    network.ipam.config = Some(std::iter::once(config).chain(v6).collect());
}

fn switch(options: &StringMap, key: &str, usual: bool) -> Result<bool> {
    let Some(text) = options.get(key) else { return Ok(usual) };
    let why = || unparsable(key, text, &format!("strconv.ParseBool: parsing {text:?}: invalid syntax"));
    parse_bool(text).ok_or_else(why)
}

/// Go's strconv.ParseBool
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// moby's `parseErr`
fn unparsable(key: &str, text: &str, why: &str) -> Error {
    Error::Invalid(format!("failed to parse {key} value: {text} ({why})"))
}

/// Whether the host is no part of the network. Modes that are not built are refused when the network is made.
fn is_isolated(options: &StringMap, internal: bool) -> Result<bool> {
    match options.get(GATEWAY_MODE).map(String::as_str) {
        None | Some("" | "nat" | "nat-unprotected" | "routed") => Ok(false),
        Some("isolated") if internal => Ok(true),
        // Status 500, as in moby.
        Some("isolated") => {
            Err(Error::Refused("gateway mode 'isolated' can only be used for an internal network".into()))
        }
        Some(other) => Err(unparsable(GATEWAY_MODE, other, &format!("unknown gateway mode {other}"))),
    }
}

fn interface_prefix(options: &StringMap) -> String {
    let prefix = options.get(INTERFACE_PREFIX).filter(|prefix| !prefix.is_empty());
    prefix.cloned().unwrap_or_else(|| "eth".into())
}

fn mtu(options: &StringMap) -> Result<u32> {
    match options.get(MTU).map(|text| (text, text.parse::<u32>())) {
        None | Some((_, Ok(0))) => Ok(DEFAULT_MTU),
        Some((_, Ok(mtu))) => Ok(mtu),
        Some((text, Err(_))) => {
            Err(unparsable(MTU, text, &format!("strconv.Atoi: parsing {text:?}: invalid syntax")))
        }
    }
}

fn host_address(options: &StringMap) -> Result<Ipv4Addr> {
    match options.get(HOST_ADDRESS).filter(|text| !text.is_empty()) {
        None => Ok(Ipv4Addr::UNSPECIFIED),
        Some(text) => match text.parse() {
            Ok(address) => Ok(address),
            Err(_) => Err(unparsable(HOST_ADDRESS, text, "nil ip")),
        },
    }
}

fn parse_subnet(what: &str, text: &str) -> Result<Subnet> {
    text.parse().or_else(|error| invalid(format!("parse {what} failed: {error}")))
}

fn parse_address(text: &str) -> Result<IpAddr> {
    text.parse().or_else(|_| invalid(format!("invalid address {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_network_shows_dockers_options() {
        let (id, network) = default_network(&NetworkConfig::default(), None).unwrap();
        let options = network.options.clone().unwrap();
        let shown: Vec<_> =
            options.iter().map(|(k, v)| format!("{}={v}", k.rsplit('.').next().unwrap())).collect();
        let wanted = "default_bridge=true enable_icc=true enable_ip_masquerade=true host_binding_ipv4=0.0.0.0 \
                      name=docker0 mtu=1500";
        assert_eq!(shown.join(" "), wanted);
        let settings = NetworkConfig {
            bip: "10.9.0.1/16".into(),
            fixed_cidr: "10.9.5.0/24".into(),
            ..Default::default()
        };
        let spec = default_bridge(&settings, &id, &network).unwrap();
        assert_eq!(spec.subnet.unwrap().to_string(), "10.9.0.0/16");
        assert_eq!(spec.gateway.unwrap().to_string(), "10.9.0.1");
        assert_eq!(spec.range.unwrap().to_string(), "10.9.5.0/24");
        let again = default_network(&settings, Some((id.clone(), network))).unwrap();
        assert_eq!(again.0, id);
        assert!(
            default_network(&NetworkConfig { bridge: "none".into(), ..Default::default() }, None).is_none()
        );
    }

    #[test]
    fn options_of_a_network_are_read() {
        let (id, mut network) = table::new("mine", "bridge");
        assert_eq!(bridge(&id, &network).unwrap().bridge, format!("br-{}", id.short()));
        let set = |network: &mut Network, key: &str, value: &str| {
            network.options.as_mut().unwrap().insert(key.into(), value.into());
        };
        set(&mut network, INTER_CONTAINER, "F");
        set(&mut network, MTU, "1400");
        set(&mut network, HOST_ADDRESS, "127.0.0.1");
        let spec = bridge(&id, &network).unwrap();
        assert!(!spec.inter_container && spec.masquerade && spec.mtu == 1400);
        assert!(spec.default_host_address.is_loopback());
        set(&mut network, MTU, "x");
        assert!(bridge(&id, &network).is_err());
        set(&mut network, MTU, "0");
        assert_eq!(spec.interface_prefix, "eth");
        set(&mut network, INTERFACE_PREFIX, "lan");
        set(&mut network, INHIBIT_ADDRESS, "1");
        let spec = bridge(&id, &network).unwrap();
        assert!(spec.without_address && spec.interface_prefix == "lan");
        set(&mut network, INHIBIT_ADDRESS, "no");
        assert_eq!(
            bridge(&id, &network).unwrap_err().to_string(),
            format!(
                "failed to parse {INHIBIT_ADDRESS} value: no (strconv.ParseBool: parsing \"no\": invalid syntax)"
            )
        );
        set(&mut network, INHIBIT_ADDRESS, "0");
        set(&mut network, GATEWAY_MODE, "isolated");
        let error = bridge(&id, &network).unwrap_err().to_string();
        assert_eq!(error, "gateway mode 'isolated' can only be used for an internal network");
        network.internal = true;
        assert!(bridge(&id, &network).unwrap().without_address);
        set(&mut network, GATEWAY_MODE, "nat");
        set(&mut network, BRIDGE_NAME, "a-name-that-is-too-long");
        assert!(bridge(&id, &network).is_err());
    }
}
