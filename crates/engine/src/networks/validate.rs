//! Requests about networks, checked in Docker's words (source: moby `daemon/network.go`,
//! `validateIpamConfig`; `daemon/container_operations.go`, `validateEndpointSettings`).

use crate::{Error, Result, error::invalid};
use std::net::IpAddr;
use wharf_api::{
    StringMap,
    network::{CreateRequest, EndpointSettings, Ipam, IpamConfig, Network},
};
use wharf_network::Subnet;

use super::table::PREDEFINED;

/// Options of an endpoint (source: moby `daemon/libnetwork/netlabel/labels.go`).
pub(super) const INTERFACE_NAME: &str = "com.docker.network.endpoint.ifname";
pub(super) const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Several reasons as one text (source: moby `daemon/internal/multierror`).
fn join(reasons: &[String]) -> Option<String> {
    match reasons {
        [] => None,
        [only] => Some(only.trim().to_owned()),
        several => {
            let lines: Vec<_> = several.iter().map(|reason| reason.replace('\n', "\n\t")).collect();
            Some(format!("* {}", lines.join("\n* ")))
        }
    }
}

/// Checks what an endpoint in a network asks for.
///
/// # Errors
/// `invalid endpoint settings:` and the reasons.
pub(super) fn endpoint(network: &Network, settings: &EndpointSettings) -> Result<()> {
    let mut reasons = Vec::new();
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let driver_options: Vec<_> = settings.driver_opts.iter().flatten().collect();
    let is_known = |key: &str| [INTERFACE_NAME, SYSCTLS].contains(&key);
    if driver_options.iter().any(|(key, _)| key.starts_with("com.docker.network.") && !is_known(key)) {
        return Err(Error::NotImplemented("a driver option of an endpoint"));
    }
    if PREDEFINED.contains(&network.name.as_str()) {
        if !ipam.ipv4_address.is_empty() || !ipam.ipv6_address.is_empty() {
            reasons.push("user-specified IP address is supported on user-defined networks only".to_owned());
        }
        if settings.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
            reasons.push("network-scoped aliases are only supported for user-defined networks".to_owned());
        }
    }
    reasons.extend(ipam.link_local_ips.iter().flatten().filter_map(|text| link_local(text)));
    reasons.extend(address(network, &ipam.ipv4_address, "IPv4"));
    reasons.extend(address(network, &ipam.ipv6_address, "IPv6"));
    let sysctls =
        driver_options.iter().filter(|(key, _)| *key == SYSCTLS).flat_map(|(_, all)| all.split(','));
    reasons.extend(sysctls.filter_map(sysctl));
    join(&reasons).map_or(Ok(()), |reasons| invalid(format!("invalid endpoint settings:\n{reasons}")))
}

fn link_local(text: &str) -> Option<String> {
    let address = text.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified());
    address.is_none().then(|| format!("invalid link-local IP address: {text}"))
}

/// `ifname` is allowed besides `IFNAME`, because the CLI writes it so.
fn sysctl(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.splitn(5, '.').collect();
    match parts[..] {
        [_, "ipv4" | "ipv6" | "mpls", _, "IFNAME" | "ifname", _] => None,
        _ => Some(format!(
            "unrecognised network interface sysctl '{text}'; represent 'net.X.Y.ethN.Z=V' as \
             'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
        )),
    }
}

/// Whether a container can be in a network: not in one that is only a configuration for others
/// (source: moby `daemon/libnetwork/network.go`, CreateEndpoint).
pub(super) fn takes_endpoints(network: &Network) -> Result<()> {
    if network.config_only {
        return Err(Error::Forbidden("cannot create endpoint on configuration-only network".into()));
    }
    Ok(())
}

/// Checks a configuration for other networks, or a network that takes its configuration from one
/// (source: moby `daemon/libnetwork/network.go`, validateConfiguration).
pub(super) fn configuration(request: &CreateRequest, ipam: &Ipam) -> Result<()> {
    let forbidden = |why: &str| Err(Error::Forbidden(why.into()));
    let of_operator = request.ingress || request.internal || request.attachable || !request.scope.is_empty();
    if request.config_only && of_operator {
        return forbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress \
             | internal | attachable | scope ] are not supported.",
        );
    }
    if request.config_from.as_ref().is_none_or(|from| from.network.is_empty()) {
        return Ok(());
    }
    if request.config_only {
        return forbidden("a configuration network cannot depend on another configuration network");
    }
    let has = |map: Option<&StringMap>| map.is_some_and(|map| !map.is_empty());
    if !matches!(ipam.driver.as_str(), "" | "default")
        || request.enable_ipv4 == Some(false)
        || request.enable_ipv6 == Some(true)
        || has(request.labels.as_ref())
        || has(ipam.options.as_ref())
        || ipam.config.as_ref().is_some_and(|config| !config.is_empty())
    {
        return forbidden(
            "user-specified configurations are not supported if the network depends on a configuration network",
        );
    }
    if has(request.options.as_ref()) {
        return forbidden(
            "network driver options are not supported if the network depends on a configuration network",
        );
    }
    Ok(())
}

/// Options of Docker's bridge driver that are not built, and the value that changes nothing
/// (source: moby `daemon/libnetwork/drivers/bridge/bridgelabels.go`, `netlabel/labels.go`).
const NOT_BUILT: [(&str, &str); 3] = [
    ("com.docker.network.host_ipv6", ""),
    ("com.docker.network.bridge.trusted_host_interfaces", ""),
    ("com.docker.network.host_ipv4", ""),
];

/// Refuses driver options that would change nothing here. Unknown ones are ignored, as in Docker.
///
/// # Errors
/// [`Error::NotImplemented`].
pub(super) fn driver_options(options: Option<&StringMap>) -> Result<()> {
    let given = |key: &str| options.and_then(|options| options.get(key));
    match NOT_BUILT.iter().find(|(key, usual)| given(key).is_some_and(|value| value != usual)) {
        Some((key, _)) => Err(Error::NotImplemented(key)),
        None => Ok(()),
    }
}

fn address(network: &Network, text: &str, family: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let parsed = text.parse::<IpAddr>().ok();
    let fits = |address: &IpAddr| address.is_ipv4() == (family == "IPv4") && !address.is_unspecified();
    let mut reasons = Vec::new();
    if !parsed.as_ref().is_some_and(fits) {
        reasons.push(format!("invalid {family} address: {text}"));
    }
    let subnets = network.ipam.config.iter().flatten();
    let mut subnets = subnets.filter_map(|config| config.subnet.parse::<Subnet>().ok());
    if !parsed.is_some_and(|address| subnets.any(|subnet| subnet.contains(address))) {
        reasons.push(format!("no configured subnet contains IP address {text}"));
    }
    reasons
}

/// Checks the subnets that a new network asks for.
///
/// # Errors
/// For texts that are no subnets or addresses, as decoding the request fails in moby; else `invalid network
/// config:` and the reasons.
pub(super) fn ipam(configs: &[IpamConfig], has_v6: bool) -> Result<()> {
    let mut reasons = Vec::new();
    for config in configs {
        let subnet = parse_subnet(&config.subnet)?;
        let range = parse_subnet(&config.ip_range)?;
        let gateway = parse_address(&config.gateway)?;
        let auxiliary =
            config.auxiliary_addresses.iter().map(|(name, text)| Ok((name, parse_address(text)?)));
        let auxiliary: Vec<_> = auxiliary.collect::<Result<_>>()?;
        let Some(subnet) = subnet.filter(|subnet| has_v6 || subnet.is_v4()) else { continue };
        if subnet != subnet.masked() {
            reasons.push(format!("invalid subnet {subnet}: it should be {}", subnet.masked()));
        }
        if let Some(range) = range {
            reasons.extend(ip_range(&range, &subnet));
        }
        if let Some(why) = gateway.and_then(|gateway| outside(gateway, &subnet)) {
            reasons.push(format!("invalid gateway {}: {why}", config.gateway));
        }
        for (name, address) in auxiliary {
            if let Some(why) = address.and_then(|address| outside(address, &subnet)) {
                reasons.push(format!("invalid auxiliary address {name}: {why}"));
            }
        }
    }
    join(&reasons).map_or(Ok(()), |reasons| invalid(format!("invalid network config:\n{reasons}")))
}

fn ip_range(range: &Subnet, subnet: &Subnet) -> Vec<String> {
    if range.is_v4() != subnet.is_v4() {
        let family = if subnet.is_v4() { 4 } else { 6 };
        return vec![format!("invalid ip-range {range}: parent subnet is an IPv{family} block")];
    }
    let mut reasons = Vec::new();
    if range.bits() < subnet.bits() {
        reasons
            .push(format!("invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}"));
    }
    if *range != range.masked() {
        reasons.push(format!("invalid ip-range {range}: it should be {}", range.masked()));
    }
    if !subnet.overlaps(range) {
        reasons.push(format!("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"));
    }
    reasons
}

fn outside(address: IpAddr, subnet: &Subnet) -> Option<String> {
    if address.is_ipv4() != subnet.is_v4() {
        return Some(format!("parent subnet is an IPv{} block", if subnet.is_v4() { 4 } else { 6 }));
    }
    (!subnet.contains(address)).then(|| format!("parent subnet {subnet} doesn't contain this address"))
}

fn parse_subnet(text: &str) -> Result<Option<Subnet>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| Error::Invalid(format!("invalid JSON: {error}")))
}

fn parse_address(text: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let refuse = |_| Error::Invalid(format!("invalid JSON: ParseAddr({text:?}): unable to parse IP"));
    text.parse().map(Some).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_api::network::EndpointIpamConfig;

    fn config(subnet: &str, range: &str, gateway: &str) -> IpamConfig {
        IpamConfig {
            subnet: subnet.into(),
            ip_range: range.into(),
            gateway: gateway.into(),
            ..IpamConfig::default()
        }
    }

    fn why(configs: &[IpamConfig]) -> String {
        ipam(configs, true).unwrap_err().to_string()
    }

    #[test]
    fn subnets_are_checked_in_dockers_words() {
        assert!(
            ipam(&[config("172.31.250.0/24", "172.31.250.64/26", "172.31.250.1"), config("", "", "")], false)
                .is_ok()
        );
        assert_eq!(why(&[config("nope", "", "")]), "invalid JSON: netip.ParsePrefix(\"nope\"): no '/'");
        assert_eq!(
            why(&[config("10.0.0.5/24", "", "")]),
            "invalid network config:\ninvalid subnet 10.0.0.5/24: it should be 10.0.0.0/24"
        );
        let six = [config("fd00::5/64", "", "10.9.9.9")];
        assert_eq!(
            why(&six),
            "invalid network config:\n* invalid subnet fd00::5/64: it should be fd00::/64\n\
             * invalid gateway 10.9.9.9: parent subnet is an IPv6 block"
        );
        assert!(ipam(&six, false).is_ok(), "without IPv6 nobody looks at it");
        assert_eq!(
            why(&[config("10.0.0.0/24", "10.1.0.0/16", "10.9.9.9")]),
            "invalid network config:\n* invalid ip-range 10.1.0.0/16: CIDR block is bigger than its parent subnet \
             10.0.0.0/24\n* invalid ip-range 10.1.0.0/16: parent subnet 10.0.0.0/24 doesn't contain ip-range\n\
             * invalid gateway 10.9.9.9: parent subnet 10.0.0.0/24 doesn't contain this address"
        );
    }

    #[test]
    fn what_is_not_built_is_refused() {
        let options = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        let key = "com.docker.network.host_ipv6";
        assert!(driver_options(Some(&options(key, ""))).is_ok());
        assert!(driver_options(Some(&options("anything.else", "x"))).is_ok());
        let error = driver_options(Some(&options(key, "fd00::1"))).unwrap_err().to_string();
        assert_eq!(error, format!("{key} is not supported by this engine"));
        let (_, network) = super::super::table::new("acnet", "bridge");
        let asks = EndpointSettings {
            driver_opts: Some(options("com.docker.network.endpoint.unknown", "x")),
            ..Default::default()
        };
        assert!(endpoint(&network, &asks).is_err());
    }

    #[test]
    fn parameters_of_an_interface_are_checked_in_dockers_words() {
        let (_, network) = super::super::table::new("acnet", "bridge");
        let asks = |value: &str| EndpointSettings {
            driver_opts: Some([(SYSCTLS.to_owned(), value.to_owned())].into()),
            ..Default::default()
        };
        let good = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=2";
        assert!(endpoint(&network, &asks(good)).is_ok());
        assert_eq!(
            endpoint(&network, &asks("net.ipv4.conf.eth0.log_martians=1")).unwrap_err().to_string(),
            "invalid endpoint settings:\nunrecognised network interface sysctl \
             'net.ipv4.conf.eth0.log_martians=1'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must \
             be 'ipv4', 'ipv6' or 'mpls'"
        );
    }

    #[test]
    fn fixed_addresses_need_a_subnet_of_the_users() {
        let (_, mut network) = super::super::table::new("acnet", "bridge");
        network.ipam.config = Some(vec![config("172.31.250.0/24", "", "")]);
        let asks = |address: &str| EndpointSettings {
            ipam_config: Some(EndpointIpamConfig { ipv4_address: address.into(), ..Default::default() }),
            ..Default::default()
        };
        assert!(endpoint(&network, &asks("172.31.250.77")).is_ok());
        assert_eq!(
            endpoint(&network, &asks("10.1.1.1")).unwrap_err().to_string(),
            "invalid endpoint settings:\nno configured subnet contains IP address 10.1.1.1"
        );
        network.name = "bridge".into();
        let error = endpoint(&network, &asks("172.31.250.77")).unwrap_err().to_string();
        assert!(
            error.ends_with("user-specified IP address is supported on user-defined networks only"),
            "{error}"
        );
    }
}
