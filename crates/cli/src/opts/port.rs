//! Published ports: `[[ip:][host]:]container[/protocol]`, with ranges
//! (source: docker/go-connections `nat/nat.go`; docker/cli `cli/command/container/opts.go`).

use std::{collections::BTreeMap, net::IpAddr};
use wharf_api::{
    container::{PortBinding, PortMap},
    port::Port,
};

/// The bindings of all `--publish` flags.
///
/// # Errors
/// In Docker's words.
pub(crate) fn bindings(specs: &[String]) -> Result<PortMap, String> {
    let mut map: PortMap = BTreeMap::new();
    for spec in specs {
        for (port, binding) in parse(&short_form(spec)?)? {
            map.entry(port).or_default().get_or_insert_default().push(binding);
        }
    }
    Ok(map)
}

/// `published=80,target=8080,protocol=udp` as `80:8080/udp`.
fn short_form(spec: &str) -> Result<String, String> {
    if !spec.contains('=') {
        return Ok(spec.to_owned());
    }
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for parameter in spec.split(',') {
        match parameter.split_once('=') {
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            Some((name, _)) if !name.is_empty() => {}
            _ => {
                return Err(format!(
                    "invalid publish opts format (should be name=value but got '{parameter}')"
                ));
            }
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn parse(spec: &str) -> Result<Vec<(Port, PortBinding)>, String> {
    let (address, host, container) = split(spec);
    let (container, protocol) = match container.split_once('/') {
        Some((port, "")) => (port, "tcp".to_owned()),
        Some((port, protocol)) => (port, protocol.to_lowercase()),
        None => (container, "tcp".to_owned()),
    };
    if container.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("invalid proto: {protocol}"));
    }
    let address = check_address(address)?;
    let (start, end) = range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    let host_range = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?),
    };
    let mismatch = |(first, last): (u16, u16)| last - first != end - start && end != start;
    if host_range.is_some_and(mismatch) {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    let bind = |port: u16| {
        let host_port = host_range.map_or(String::new(), |(first, last)| {
            if start == end && first != last {
                format!("{first}-{last}")
            } else {
                (first + port - start).to_string()
            }
        });
        (Port::new(port, &protocol), PortBinding { host_ip: address.clone(), host_port })
    };
    Ok((start..=end).map(bind).collect())
}

/// Address, host port and container port: the last two colons separate, whatever stands before is an address.
fn split(spec: &str) -> (&str, &str, &str) {
    match spec.rsplit_once(':') {
        None => ("", "", spec),
        Some((front, container)) => match front.rsplit_once(':') {
            None => ("", front, container),
            Some((address, host)) => (address, host, container),
        },
    }
}

fn check_address(address: &str) -> Result<String, String> {
    let bare = match address.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| {
            format!("invalid IP address {address}: address {address}:: missing ']' in address")
        })?,
        None => address,
    };
    match bare {
        "" => Ok(String::new()),
        bare if bare.parse::<IpAddr>().is_ok() => Ok(bare.to_owned()),
        bare => Err(format!("invalid IP address: {bare}")),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse::<u16>().ok()).flatten();
    match text.split_once('-') {
        None => number(text).map(|n| (n, n)),
        Some((first, last)) => Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last),
    }
}

/// The ports of all `--expose` flags.
///
/// # Errors
/// In Docker's words.
pub(crate) fn exposed(specs: &[String]) -> Result<Vec<Port>, String> {
    let mut ports = Vec::new();
    for spec in specs {
        let range: wharf_api::port::PortRange =
            spec.parse().map_err(|e| format!("invalid range format for --expose: {e}"))?;
        ports.extend(range.ports());
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(spec: &str) -> String {
        match bindings(&[spec.to_owned()]) {
            Err(error) => error,
            Ok(map) => {
                let one = |(port, list): (&Port, &Option<Vec<PortBinding>>)| {
                    let list = list.as_ref().unwrap();
                    format!(
                        "{port}={}",
                        list.iter().map(|b| format!("{}|{}", b.host_ip, b.host_port)).collect::<String>()
                    )
                };
                map.iter().map(one).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn specs_are_read_as_docker_does() {
        for (spec, result) in [
            ("80", "80/tcp=|"),
            ("8080:80", "80/tcp=|8080"),
            ("8080:80/UDP", "80/udp=|8080"),
            ("127.0.0.1:8080:80", "80/tcp=127.0.0.1|8080"),
            ("127.0.0.1::80", "80/tcp=127.0.0.1|"),
            ("[::1]:8080:80", "80/tcp=::1|8080"),
            ("::1:8080:80", "80/tcp=::1|8080"),
            ("8000-8001:80-81", "80/tcp=|8000 81/tcp=|8001"),
            ("8000-8009:80", "80/tcp=|8000-8009"),
            ("published=1,target=2,protocol=udp,mode=host", "2/udp=|1"),
        ] {
            assert_eq!(shown(spec), result, "{spec}");
        }
    }

    #[test]
    fn errors_are_dockers() {
        for (spec, error) in [
            ("", "no port specified: <empty>"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("a", "invalid containerPort: a"),
            ("a:80", "invalid hostPort: a"),
            ("80/xyz", "invalid proto: xyz"),
            ("1.2.3:1:2", "invalid IP address: 1.2.3"),
            ("70000", "invalid containerPort: 70000"),
            ("1-2:1-3", "invalid ranges specified for container and host Ports: 1-3 and 1-2"),
            ("=x", "invalid publish opts format (should be name=value but got '=x')"),
        ] {
            assert_eq!(shown(spec), error, "{spec}");
        }
        assert_eq!(
            exposed(&["x".to_owned()]).unwrap_err(),
            "invalid range format for --expose: invalid start port 'x': invalid syntax"
        );
        assert_eq!(exposed(&["8000-8002/udp".to_owned()]).unwrap().len(), 3);
    }
}
