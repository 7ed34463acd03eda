//! `docker network create`.

use crate::{
    cli::Cli,
    client::{Call, Query},
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
    opts::keyvalue,
};
use http::Method;
use std::net::IpAddr;
use wharf_api::network::{ConfigReference, CreateRequest, CreateResponse, Ipam, IpamConfig};

/// `docker network create`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] NETWORK",
    about: "Create a network",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("attachable", "Enable manual container attachment"),
    Flag::many("aux-address", "Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])")
        .named("map"),
    Flag::text("config-from", "The network from which to copy the configuration"),
    Flag::bool("config-only", "Create a configuration only network"),
    Flag::text("driver", "Driver to manage the Network (default \"bridge\")").short('d'),
    Flag::strings("gateway", "IPv4 or IPv6 Gateway for the master subnet"),
    Flag::bool("ingress", "Create swarm routing-mesh network"),
    Flag::bool("internal", "Restrict external access to the network"),
    Flag::strings("ip-range", "Allocate container ip from a sub-range"),
    Flag::text("ipam-driver", "IP Address Management Driver (default \"default\")"),
    Flag::many("ipam-opt", "Set IPAM driver specific options (default map[])").named("map"),
    Flag::bool("ipv4", "Enable or disable IPv4 address assignment (default true)"),
    Flag::bool("ipv6", "Enable or disable IPv6 address assignment"),
    Flag::many("label", "Set metadata on a network").checked(keyvalue::check_label),
    Flag::many("opt", "Set driver specific options (default map[])").named("map").short('o'),
    Flag::text("scope", "Control the network's scope"),
    Flag::strings("subnet", "Subnet in CIDR format that represents a network segment"),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let request = request(&m).map_err(Error::text)?;
    let call = Call::new(Method::POST, "/networks/create", Query::new()).json(&request)?;
    let response: CreateResponse = cli.client().await?.fetch(call).await?;
    if !response.warning.is_empty() {
        eprintln!("WARNING: {}", response.warning);
    }
    say(&response.id);
    Ok(())
}

fn request(m: &Matches) -> std::result::Result<CreateRequest, String> {
    let options = m.all("ipam-opt");
    Ok(CreateRequest {
        name: m.arg(0).to_owned(),
        driver: if m.given("driver") { m.string("driver") } else { "bridge".to_owned() },
        scope: m.string("scope"),
        enable_ipv4: m.switch("ipv4"),
        enable_ipv6: m.switch("ipv6"),
        ipam: Some(Ipam {
            driver: if m.given("ipam-driver") { m.string("ipam-driver") } else { "default".to_owned() },
            options: Some(keyvalue::map(options)),
            config: Some(pools(m)?),
        }),
        internal: m.is("internal"),
        attachable: m.is("attachable"),
        ingress: m.is("ingress"),
        config_only: m.is("config-only"),
        config_from: (!m.text("config-from").is_empty())
            .then(|| ConfigReference { network: m.string("config-from") }),
        options: Some(keyvalue::map(m.all("opt"))),
        labels: Some(keyvalue::map(m.all("label"))),
    })
}

/// Subnets with the ranges, gateways and addresses that lie in them (docker/cli: `createIPAMConfig`).
fn pools(m: &Matches) -> std::result::Result<Vec<IpamConfig>, String> {
    let (subnets, ranges, gateways) = (m.split("subnet"), m.split("ip-range"), m.split("gateway"));
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut pools: Vec<IpamConfig> = Vec::new();
    for subnet in subnets {
        let parsed = Subnet::parse(&subnet)?;
        let overlaps = |pool: &IpamConfig| {
            Subnet::parse(&pool.subnet)
                .is_ok_and(|other| other.contains(parsed.address) || parsed.contains(other.address))
        };
        if pools.iter().any(overlaps) {
            return Err("multiple overlapping subnet configuration is not supported".to_owned());
        }
        pools.push(IpamConfig { subnet, ..IpamConfig::default() });
    }
    for range in ranges {
        let address = Subnet::parse(&range)?.address;
        let pool =
            pool_of(&mut pools, address).ok_or_else(|| format!("no matching subnet for range {range}"))?;
        if !pool.ip_range.is_empty() {
            return Err(format!(
                "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                pool.ip_range, pool.subnet
            ));
        }
        pool.ip_range = range;
    }
    for gateway in gateways {
        let address = gateway.parse().map_err(|_| format!("invalid gateway address: {gateway}"))?;
        let pool = pool_of(&mut pools, address)
            .ok_or_else(|| format!("no matching subnet for gateway {gateway}"))?;
        if !pool.gateway.is_empty() {
            return Err(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                pool.gateway, pool.subnet
            ));
        }
        pool.gateway = gateway;
    }
    for (name, text) in keyvalue::map(m.all("aux-address")) {
        let address = text.parse().map_err(|_| format!("invalid aux-address: {text}"))?;
        let pool = pool_of(&mut pools, address)
            .ok_or_else(|| format!("no matching subnet for aux-address {text}"))?;
        pool.auxiliary_addresses.insert(name, text);
    }
    Ok(pools)
}

fn pool_of(pools: &mut [IpamConfig], address: IpAddr) -> Option<&mut IpamConfig> {
    pools.iter_mut().find(|pool| Subnet::parse(&pool.subnet).is_ok_and(|subnet| subnet.contains(address)))
}

struct Subnet {
    address: IpAddr,
    prefix: u32,
}

impl Subnet {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let invalid = || format!("invalid CIDR address: {text}");
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let prefix = prefix.parse().map_err(|_| invalid())?;
        if prefix > if address.is_ipv4() { 32 } else { 128 } {
            return Err(invalid());
        }
        Ok(Self { address, prefix })
    }

    fn contains(&self, other: IpAddr) -> bool {
        let same = |a: u128, b: u128, bits: u32| {
            a.checked_shr(bits - self.prefix) == b.checked_shr(bits - self.prefix)
        };
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::Parser;

    fn parse(line: &str) -> std::result::Result<Vec<IpamConfig>, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let parser = Parser { flags: COMMAND.flags, interspersed: true };
        pools(&parser.parse(&words).map_err(|e| e.to_string())?)
    }

    #[test]
    fn ranges_and_gateways_find_their_subnets() {
        let pools = parse("--subnet 10.1.0.0/16,fd00::/64 --gateway fd00::1 --gateway 10.1.0.1 --ip-range 10.1.5.0/24 --aux-address a=10.1.0.9 n").unwrap();
        assert_eq!((pools[0].gateway.as_str(), pools[0].ip_range.as_str()), ("10.1.0.1", "10.1.5.0/24"));
        assert_eq!(
            (pools[1].gateway.as_str(), pools[0].auxiliary_addresses["a"].as_str()),
            ("fd00::1", "10.1.0.9")
        );
        for (line, error) in [
            ("--gateway 10.1.0.1 n", "every ip-range or gateway must have a corresponding subnet"),
            ("--subnet 10.1.0.0/16 --gateway 10.2.0.1 n", "no matching subnet for gateway 10.2.0.1"),
            (
                "--subnet 10.1.0.0/16 --subnet 10.1.2.0/24 n",
                "multiple overlapping subnet configuration is not supported",
            ),
            ("--subnet x n", "invalid CIDR address: x"),
        ] {
            assert_eq!(parse(line).unwrap_err(), error, "{line}");
        }
    }
}
