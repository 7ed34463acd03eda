//! What a container learns of those it is linked to on the default bridge, as variables of its environment
//! (source: moby `daemon/links/links.go`). Docker 29 sets them only on request
//! (`DOCKER_KEEP_DEPRECATED_LEGACY_LINKS_ENV_VARS`); programs of that age still read them.

use std::net::IpAddr;
use wharf_api::port::Port;

/// A linked container.
#[derive(Debug, Clone)]
pub(super) struct Linked<'a> {
    /// The link's name: `/parent/alias`.
    pub(super) name: &'a str,
    /// Its address on the default bridge.
    pub(super) address: IpAddr,
    /// What it exposes.
    pub(super) ports: Vec<Port>,
    /// Its own environment.
    pub(super) environment: &'a [String],
}

/// The variables of one link.
pub(super) fn variables(linked: &Linked<'_>) -> Vec<String> {
    let alias = linked.name.rsplit('/').next().unwrap_or_default().to_uppercase().replace('-', "_");
    let url = |port: &Port| format!("{}://{}:{}", port.protocol(), linked.address, port.number());
    let key = |port: &Port| format!("{alias}_PORT_{}_{}", port.number(), port.protocol().to_uppercase());
    let mut ports: Vec<&Port> = linked.ports.iter().collect();
    ports.sort_by_key(|port| (port.number(), port.protocol() != "tcp", port.protocol().to_owned()));

    let mut env: Vec<String> =
        ports.first().map(|port| format!("{alias}_PORT={}", url(port))).into_iter().collect();
    for (first, last) in ranges(&ports) {
        let key_of_end = format!("{alias}_PORT_{}_{}", first.number(), last.protocol().to_uppercase());
        env.extend([
            format!("{}_START={}", key(first), url(first)),
            format!("{}_ADDR={}", key(first), linked.address),
            format!("{}_PROTO={}", key(first), first.protocol()),
            format!("{}_PORT_START={}", key(first), first.number()),
            format!("{key_of_end}_END={}", url(last)),
            format!("{key_of_end}_PORT_END={}", last.number()),
        ]);
    }
    for port in &ports {
        env.extend([
            format!("{}={}", key(port), url(port)),
            format!("{}_ADDR={}", key(port), linked.address),
            format!("{}_PORT={}", key(port), port.number()),
            format!("{}_PROTO={}", key(port), port.protocol()),
        ]);
    }
    env.push(format!("{alias}_NAME={}", linked.name));
    let own = linked.environment.iter().filter_map(|variable| variable.split_once('='));
    // What a build sets is of no use to others.
    let own = own.filter(|(name, _)| !matches!(*name, "HOME" | "PATH"));
    env.extend(own.map(|(name, value)| format!("{alias}_ENV_{name}={value}")));
    env
}

/// The first and last of every three or more ports that follow each other, in moby's reckoning: the same number with
/// another protocol counts as the next one (`nextContiguous`).
fn ranges<'a>(ports: &[&'a Port]) -> Vec<(&'a Port, &'a Port)> {
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < ports.len() {
        let first = ports[start].number();
        let follows =
            |(step, port): (usize, &&&Port)| usize::from(port.number()) <= usize::from(first) + step;
        let length =
            ports[start..].iter().enumerate().take_while(|(step, port)| follows((*step, port))).count();
        if length > 2 {
            ranges.push((ports[start], ports[start + length - 1]));
            start += length;
        } else {
            start += 1;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linked<'a>(ports: &[&str], environment: &'a [String]) -> Linked<'a> {
        Linked {
            name: "/web/my-db",
            address: "172.17.0.5".parse().unwrap(),
            ports: ports.iter().map(|port| port.parse().unwrap()).collect(),
            environment,
        }
    }

    #[test]
    fn variables_are_those_of_moby() {
        let own = ["PATH=/bin".into(), "HOME=/".into(), "A=1=2".into(), "UNSET".into()];
        assert_eq!(
            variables(&linked(&["5433/udp", "5432"], &own)),
            [
                "MY_DB_PORT=tcp://172.17.0.5:5432",
                "MY_DB_PORT_5432_TCP=tcp://172.17.0.5:5432",
                "MY_DB_PORT_5432_TCP_ADDR=172.17.0.5",
                "MY_DB_PORT_5432_TCP_PORT=5432",
                "MY_DB_PORT_5432_TCP_PROTO=tcp",
                "MY_DB_PORT_5433_UDP=udp://172.17.0.5:5433",
                "MY_DB_PORT_5433_UDP_ADDR=172.17.0.5",
                "MY_DB_PORT_5433_UDP_PORT=5433",
                "MY_DB_PORT_5433_UDP_PROTO=udp",
                "MY_DB_NAME=/web/my-db",
                "MY_DB_ENV_A=1=2",
            ]
        );
        assert_eq!(variables(&linked(&[], &[])), ["MY_DB_NAME=/web/my-db"]);
    }

    /// The cases of moby's `TestLinkMultipleEnv` and `TestLinkPortRangeEnv` (`daemon/links/links_test.go`).
    #[test]
    fn ports_in_a_row_are_told_as_a_range() {
        let env = variables(&linked(&["6379", "6380", "6381", "6300/udp"], &[]));
        for wanted in [
            "MY_DB_PORT=udp://172.17.0.5:6300",
            "MY_DB_PORT_6379_TCP_START=tcp://172.17.0.5:6379",
            "MY_DB_PORT_6379_TCP_END=tcp://172.17.0.5:6381",
            "MY_DB_PORT_6379_TCP_PORT_START=6379",
            "MY_DB_PORT_6379_TCP_PORT_END=6381",
            "MY_DB_PORT_6379_TCP_PROTO=tcp",
            "MY_DB_PORT_6380_TCP=tcp://172.17.0.5:6380",
        ] {
            assert!(env.iter().any(|variable| variable == wanted), "{wanted}: {env:#?}");
        }
        let two = variables(&linked(&["80", "81"], &[]));
        assert!(!two.iter().any(|variable| variable.contains("START")), "{two:#?}");
    }
}
