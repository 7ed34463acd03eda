//! Ports of a container: from what was asked for to what the network layer publishes, and back.

use crate::{Error, Result, error::invalid};
use std::net::IpAddr;
use wharf_api::{
    container::{PortBinding as ApiBinding, PortMap},
    port::{Port, PortRange},
};
use wharf_network::{PortBinding, PortRequest, Protocol};

/// What is to be published (source: moby `daemon/network.go`, `buildPortsRelatedCreateEndpointOptions`).
///
/// # Errors
/// For a protocol, address or port that is none.
pub(super) fn requests(bindings: &PortMap, exposed: &[Port], publish_all: bool) -> Result<Vec<PortRequest>> {
    let mut requests = Vec::new();
    for (port, bindings) in bindings {
        let bindings = bindings.as_deref().unwrap_or_default();
        for binding in bindings {
            requests.push(request(port, binding)?);
        }
        if bindings.is_empty() && publish_all {
            requests.push(request(port, &ApiBinding::default())?);
        }
    }
    if publish_all {
        let others = exposed.iter().filter(|port| !bindings.contains_key(*port));
        for port in others {
            requests.push(request(port, &ApiBinding::default())?);
        }
    }
    Ok(requests)
}

/// Which published ports are meant: one that names no place on the host means all of the container's port.
///
/// # Errors
/// For a protocol, address or port that is none.
pub(super) fn named(bindings: &PortMap) -> Result<Vec<PortRequest>> {
    let everywhere = [ApiBinding::default()];
    let of = |bindings: &Option<Vec<ApiBinding>>| -> Vec<ApiBinding> {
        bindings.clone().filter(|bindings| !bindings.is_empty()).unwrap_or_else(|| everywhere.to_vec())
    };
    let named =
        bindings.iter().flat_map(|(port, bindings)| of(bindings).into_iter().map(move |one| (port, one)));
    named.map(|(port, binding)| request(port, &binding)).collect()
}

fn request(port: &Port, binding: &ApiBinding) -> Result<PortRequest> {
    let protocol: Protocol = match port.protocol().parse() {
        Ok(protocol) => protocol,
        Err(error) => return invalid(error.to_string()),
    };
    let host_address = match binding.host_ip.as_str() {
        "" => None,
        text => {
            Some(text.parse::<IpAddr>().or_else(|_| invalid(format!("invalid host IP address {text:?}")))?)
        }
    };
    let host_ports = match binding.host_port.as_str() {
        "" => None,
        text => {
            let range: PortRange = text
                .parse()
                .map_err(|error| Error::Refused(format!("error parsing HostPort value({text}):{error}")))?;
            Some((range.start, range.end))
        }
    };
    Ok(PortRequest { container_port: port.number(), protocol, host_address, host_ports })
}

/// What an inspect shows: published ports with their places, exposed ones without.
pub(super) fn map(exposed: &[Port], asked: &PortMap, published: &[PortBinding]) -> PortMap {
    let mut map: PortMap = exposed.iter().chain(asked.keys()).map(|port| (port.clone(), None)).collect();
    for binding in published {
        let port = Port::new(binding.container_port, &binding.protocol.to_string());
        let shown = ApiBinding {
            host_ip: binding.host_address.to_string(),
            // In gateway mode `routed` the host has none (source: moby `daemon/network.go`, getEndpointPortMapInfo).
            host_port: Some(binding.host_port)
                .filter(|port| *port != 0)
                .map(|port| port.to_string())
                .unwrap_or_default(),
        };
        map.entry(port).or_default().get_or_insert_with(Vec::new).push(shown);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(text: &str) -> Port {
        text.parse().unwrap()
    }

    fn binding(host_ip: &str, host_port: &str) -> ApiBinding {
        ApiBinding { host_ip: host_ip.into(), host_port: host_port.into() }
    }

    #[test]
    fn exposed_ports_are_published_only_on_demand() {
        let asked: PortMap = [
            (port("80"), Some(vec![binding("127.0.0.1", "8000-8010"), binding("", "")])),
            (port("81"), None),
        ]
        .into();
        let exposed = [port("80"), port("53/udp")];
        let some = requests(&asked, &exposed, false).unwrap();
        assert_eq!(some.len(), 2);
        assert_eq!(some[0].host_ports, Some((8000, 8010)));
        assert_eq!((some[1].host_address, some[1].host_ports), (None, None));
        let all = requests(&asked, &exposed, true).unwrap();
        let ports: Vec<_> = all.iter().map(|request| request.container_port).collect();
        assert_eq!(ports, [80, 80, 81, 53]);
    }

    #[test]
    fn nonsense_is_refused() {
        let with = |key: &str, ip: &str, host: &str| {
            requests(&[(port(key), Some(vec![binding(ip, host)]))].into(), &[], false)
        };
        assert!(with("80/icmp", "", "").is_err());
        assert!(with("80", "x", "").is_err());
        let error = with("80", "", "9-8").unwrap_err().to_string();
        assert!(error.starts_with("error parsing HostPort value(9-8):"), "{error}");
    }

    #[test]
    fn the_map_shows_both() {
        let published = PortBinding {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_address: "0.0.0.0".parse().unwrap(),
            host_port: 32768,
        };
        let map = map(&[port("53/udp")], &PortMap::new(), &[published]);
        assert_eq!(map[&port("53/udp")], None);
        assert_eq!(map[&port("80")], Some(vec![binding("0.0.0.0", "32768")]));
    }
}
