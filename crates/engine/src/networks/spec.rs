//! What a network's record, or the daemon's settings, mean for the bridge below it
//! (source: moby `daemon/libnetwork/drivers/bridge/bridge_linux.go`, `labels.go`; `daemon/daemon_unix.go`,
//! `initBridgeDriver`).

use super::table;
use crate::{Config, Error, Result, config::NetworkConfig, error::invalid};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wharf_api::{
    StringMap,
    network::{IpamConfig, Network},
};
use wharf_network::{
    AddressPool, AddressSpec, BridgeNetwork, BridgeSpec, FabricConfig, Family, Filtering, GatewayMode,
    IpForwarding, MacvlanMode, PublishAllow, Subnet,
};
use wharf_spec::NetworkId;

const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const INTER_CONTAINER: &str = "com.docker.network.bridge.enable_icc";
const HOST_ADDRESS: &str = "com.docker.network.bridge.host_binding_ipv4";
pub(super) const GATEWAY_MODE: &str = "com.docker.network.bridge.gateway_mode_ipv4";
pub(super) const GATEWAY_MODE_V6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
pub(super) const INHIBIT_ADDRESS: &str = "com.docker.network.bridge.inhibit_ipv4";
pub(super) const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
/// Options of macvlan networks (source: moby `daemon/libnetwork/drivers/macvlan/macvlan.go`).
const PARENT: &str = "parent";
const MACVLAN_MODE: &str = "macvlan_mode";
/// An option of Wharf's own: `docker` or `filtered`.
const PUBLISH_MODE: &str = "wharf.network.publish-mode";
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
    Ok(FabricConfig {
        instance: instance(config),
        state_dir: config.exec_root.join("network"),
        netns_dir: config.exec_root.join("netns"),
        address_pools: address_pools(config)?,
        ready_namespaces: READY_NAMESPACES,
        forwarding: if network.ip_forward { IpForwarding::Enable } else { IpForwarding::Leave },
        filtering: filtering(network.iptables),
        filtering_v6: filtering(network.ip6tables),
        publish_allow: publish_allow(&network.publish_allow, &network.publish_allow_set)?,
        networks: Vec::new(),
        default_network: None,
        proxy: network.userland_proxy,
        // There is one: networks are opened by a task.
        runtime: tokio::runtime::Handle::try_current().ok(),
    })
}

fn filtering(is_ours: bool) -> Filtering {
    if is_ours { Filtering::Ours } else { Filtering::Others }
}

/// What the host lets through to published ports.
pub(super) fn publish_allow(allow: &[String], set: &str) -> Result<PublishAllow> {
    PublishAllow::parse(allow, set).or_else(|error| invalid(format!("invalid publish-allow: {error}")))
}

/// Whether only those reach a network's published ports whom the host lets through: as the network says, else as the
/// daemon does.
pub(super) fn is_filtered(settings: &NetworkConfig, network: &Network) -> Result<bool> {
    match network.options.as_ref().and_then(|options| options.get(PUBLISH_MODE)).map(String::as_str) {
        None | Some("") => Ok(settings.publish_filtered),
        Some("docker") => Ok(false),
        Some("filtered") => Ok(true),
        Some(other) => Err(unparsable(PUBLISH_MODE, other, "neither docker nor filtered")),
    }
}

/// `--default-address-pool`, else Docker's; with a pool of unique local addresses of this engine's own, if there is no
/// other of IPv6 (source: moby `daemon/daemon.go`, `networkOptions`, `deriveULABaseNetwork`).
fn address_pools(config: &Config) -> Result<Vec<AddressPool>> {
    let given = config.network.default_address_pools.iter().map(|(base, size)| {
        let base = parse_subnet("default-address-pool", base)?;
        Ok(AddressPool { base, size: *size })
    });
    let mut pools: Vec<_> = given.collect::<Result<_>>()?;
    if pools.is_empty() {
        pools = AddressPool::defaults();
    }
    if !pools.iter().any(|pool| pool.base.family() == Family::V6) {
        let id = crate::system::engine_id(&config.data_root.join("engine-id"))?;
        pools.extend(unique_local(&id).map(|base| AddressPool { base, size: 64 }));
    }
    Ok(pools)
}

/// A /48 of unique local addresses (RFC 4193) whose global id is made of an engine's id.
fn unique_local(engine: &str) -> Option<Subnet> {
    let digest = ring::digest::digest(&ring::digest::SHA256, engine.as_bytes());
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(digest.as_ref().get(3..8)?);
    Subnet::new(Ipv6Addr::from(octets).into(), 48)
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
    network.enable_ipv6 = settings.ipv6;
    Some((id, network))
}

/// The default network's bridge.
pub(super) fn default_bridge(
    settings: &NetworkConfig,
    id: &NetworkId,
    network: &Network,
) -> Result<BridgeSpec> {
    let mut spec = bridge(id, network)?;
    let families = [
        (spec.v4.as_mut(), ("bip", &settings.bip), ("fixed-cidr", &settings.fixed_cidr)),
        (spec.v6.as_mut(), ("bip6", &settings.bip6), ("fixed-cidr-v6", &settings.fixed_cidr_v6)),
    ];
    for (wanted, (bip_option, bip), (cidr_option, cidr)) in families {
        let Some(wanted) = wanted else { continue };
        if !bip.is_empty() {
            let address = parse_subnet(bip_option, bip)?;
            wanted.subnet = Some(address.masked());
            wanted.gateway = Some(address.address());
        }
        if !cidr.is_empty() {
            let range = parse_subnet(cidr_option, cidr)?.masked();
            wanted.range = Some(range);
            wanted.subnet = wanted.subnet.or(Some(range));
        }
    }
    if let Some(subnet) = spec.v6.as_ref().and_then(|wanted| wanted.subnet) {
        check_v6(subnet)?;
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
    let is_bridge = macvlan.is_none();
    let spec = BridgeSpec {
        id: id.clone(),
        name: network.name.clone(),
        bridge: name,
        macvlan,
        v4: addresses(network, Family::V4)?,
        v6: addresses(network, Family::V6)?,
        internal: network.internal,
        masquerade: switch(options, MASQUERADE, true)?,
        inter_container: switch(options, INTER_CONTAINER, true)?,
        // See `is_filtered`.
        filtered: false,
        mtu: mtu(options)?,
        default_host_address: host_address(options)?,
        interface_prefix: interface_prefix(options),
    };
    if is_bridge && spec.v4.is_none() && spec.v6.is_none() {
        return invalid("IPv4 or IPv6 must be enabled");
    }
    Ok(spec)
}

/// What a network is to have of a family.
fn addresses(network: &Network, family: Family) -> Result<Option<AddressSpec>> {
    let is_enabled = if family == Family::V4 { network.enable_ipv4 } else { network.enable_ipv6 };
    if !is_enabled {
        return Ok(None);
    }
    let none = StringMap::new();
    let options = network.options.as_ref().unwrap_or(&none);
    let key = if family == Family::V4 { GATEWAY_MODE } else { GATEWAY_MODE_V6 };
    let mode = gateway_mode(options, key, network.internal)?;
    let is_inhibited = family == Family::V4 && switch(options, INHIBIT_ADDRESS, false)?;
    let mut spec = AddressSpec {
        mode,
        without_address: is_inhibited || mode == GatewayMode::Isolated,
        ..AddressSpec::default()
    };
    let configs = network.ipam.config.iter().flatten();
    let mut configs = configs.filter(|config| family_of(config) == family);
    if let Some(config) = configs.next() {
        take_config(&mut spec, config)?;
    }
    match configs.next() {
        None => {}
        Some(_) if network.driver == "macvlan" => {
            return Err(Error::NotImplemented("a macvlan network with several subnets"));
        }
        Some(_) => return Err(Error::Forbidden("bridge driver doesn't support multiple subnets".into())),
    }
    if let Some(subnet) = spec.subnet.filter(|_| family == Family::V6) {
        check_v6(subnet)?;
    }
    Ok(Some(spec))
}

/// The family that a configuration is for: without a subnet IPv4.
pub(super) fn family_of(config: &IpamConfig) -> Family {
    if config.subnet.contains(':') { Family::V6 } else { Family::V4 }
}

/// What cannot be a network's IPv6 subnet (source: moby `daemon/libnetwork/drivers/bridge/bridge_linux.go`,
/// `validateIPv6Subnet`).
fn check_v6(subnet: Subnet) -> Result<()> {
    let IpAddr::V6(address) = subnet.address() else {
        return invalid(format!("'{subnet}' is not a valid IPv6 subnet"));
    };
    if address.is_multicast() {
        return invalid(format!("multicast subnet '{subnet}' is not allowed"));
    }
    let link_local = Subnet::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 64);
    if link_local.is_some_and(|link_local| subnet.masked() != link_local && link_local.overlaps(&subnet)) {
        return invalid(format!("'{subnet}' clashes with the Link-Local prefix 'fe80::/64'"));
    }
    Ok(())
}

fn take_config(spec: &mut AddressSpec, config: &IpamConfig) -> Result<()> {
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
    let mut shown = Vec::new();
    for family in Family::BOTH {
        let mut asked = asked.iter().filter(|config| family_of(config) == family).cloned();
        if let Some(addresses) = made.family(family) {
            let mut config = asked.next().unwrap_or_default();
            config.subnet = addresses.subnet.to_string();
            config.gateway = addresses.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
            if let Some(range) = made.spec.family(family).and_then(|wanted| wanted.range) {
                config.ip_range = range.to_string();
            }
            shown.push(config);
        }
        shown.extend(asked);
    }
    network.ipam.config = Some(shown);
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

/// What the host is to a network (source: moby `daemon/libnetwork/drivers/bridge/bridge_linux.go`, `newGwMode`).
fn gateway_mode(options: &StringMap, key: &str, internal: bool) -> Result<GatewayMode> {
    match options.get(key).map(String::as_str) {
        None | Some("" | "nat") => Ok(GatewayMode::Nat),
        Some("nat-unprotected") => Ok(GatewayMode::NatUnprotected),
        Some("routed") => Ok(GatewayMode::Routed),
        Some("isolated") if internal => Ok(GatewayMode::Isolated),
        // Status 500, as in moby.
        Some("isolated") => {
            Err(Error::Refused("gateway mode 'isolated' can only be used for an internal network".into()))
        }
        Some(other) => Err(unparsable(key, other, &format!("unknown gateway mode {other}"))),
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

fn host_address(options: &StringMap) -> Result<IpAddr> {
    match options.get(HOST_ADDRESS).filter(|text| !text.is_empty()) {
        None => Ok(Ipv4Addr::UNSPECIFIED.into()),
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
            ipv6: true,
            bip6: "fd00:9::9/64".into(),
            fixed_cidr_v6: "fd00:9::1ff/120".into(),
            ..Default::default()
        };
        let spec = default_bridge(&settings, &id, &network).unwrap();
        let shown = |spec: AddressSpec| {
            let (subnet, range) = (spec.subnet.unwrap(), spec.range.unwrap());
            format!("{subnet} {} {range}", spec.gateway.unwrap())
        };
        assert_eq!(shown(spec.v4.unwrap()), "10.9.0.0/16 10.9.0.1 10.9.5.0/24");
        assert_eq!(spec.v6, None);
        let (id, network) = default_network(&settings, Some((id, network))).unwrap();
        let spec = default_bridge(&settings, &id, &network).unwrap();
        assert_eq!(shown(spec.v6.unwrap()), "fd00:9::/64 fd00:9::9 fd00:9::100/120");
        let again = default_network(&settings, Some((id.clone(), network))).unwrap();
        assert_eq!(again.0, id);
        assert!(
            default_network(&NetworkConfig { bridge: "none".into(), ..Default::default() }, None).is_none()
        );
    }

    #[test]
    fn subnets_of_both_families_are_read_and_checked() {
        let subnet = |subnet: &str| IpamConfig { subnet: subnet.into(), ..IpamConfig::default() };
        let (id, mut network) = table::new("mine", "bridge");
        network.ipam.config = Some(vec![subnet("fd00:9::/64"), subnet("10.9.0.0/16")]);
        assert_eq!(bridge(&id, &network).unwrap().v6, None, "not switched on");
        network.enable_ipv6 = true;
        let spec = bridge(&id, &network).unwrap();
        let subnets = [spec.v4.unwrap(), spec.v6.unwrap()].map(|spec| spec.subnet.unwrap().to_string());
        assert_eq!(subnets, ["10.9.0.0/16", "fd00:9::/64"]);
        let why = |network: &Network| bridge(&id, network).unwrap_err().to_string();
        network.ipam.config = Some(vec![subnet("fd00:9::/64"), subnet("fd00:8::/64")]);
        assert_eq!(why(&network), "bridge driver doesn't support multiple subnets");
        network.ipam.config = Some(vec![subnet("fe80::/63")]);
        assert_eq!(why(&network), "'fe80::/63' clashes with the Link-Local prefix 'fe80::/64'");
        network.ipam.config = Some(vec![subnet("ff02::/64")]);
        assert_eq!(why(&network), "multicast subnet 'ff02::/64' is not allowed");
        (network.enable_ipv4, network.enable_ipv6) = (false, false);
        assert_eq!(why(&network), "IPv4 or IPv6 must be enabled");
    }

    #[test]
    fn an_engines_own_addresses_are_dockers() {
        // sha256("") is e3b0c442 98fc1c14 ...: the low 40 bits of the first 64
        assert_eq!(unique_local("").unwrap().to_string(), "fd42:98fc:1c14::/48");
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
        assert!(spec.v4.unwrap().without_address && spec.interface_prefix == "lan");
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
        let isolated = bridge(&id, &network).unwrap().v4.unwrap();
        assert!(isolated.without_address && isolated.mode == GatewayMode::Isolated);
        set(&mut network, GATEWAY_MODE, "nat");
        set(&mut network, BRIDGE_NAME, "a-name-that-is-too-long");
        assert!(bridge(&id, &network).is_err());
    }
}
