//! Who is called what: the names of containers in each network, as each container may see them
//! (source: moby `daemon/libnetwork/sandbox.go`, ResolveName and ResolveIP; `network.go`, ResolveName).

use crate::record::{Endpoint, SandboxRecord};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use wharf_spec::NetworkId;

/// The tables, shared between the daemon and its server.
#[derive(Debug, Default)]
pub(crate) struct Names(RwLock<Tables>);

#[derive(Debug, Default)]
struct Tables {
    networks: HashMap<NetworkId, Network>,
    /// By container.
    members: HashMap<String, Member>,
}

#[derive(Debug, Default)]
struct Network {
    name: String,
    /// In lower case.
    by_name: HashMap<String, Vec<Entry>>,
    /// The first name of who has the address.
    by_address: HashMap<IpAddr, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    container: String,
    address: IpAddr,
}

#[derive(Debug, Default)]
struct Member {
    /// In the order of its interfaces.
    networks: Vec<Membership>,
    /// One of its networks leads out.
    has_way_out: bool,
}

#[derive(Debug)]
struct Membership {
    network: NetworkId,
    /// Alias, in lower case, and the name it stands for.
    links: HashMap<String, String>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

pub(super) use crate::addr::Family;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// These addresses; none when the name is known but has none of the family: nobody else is asked then.
    Addresses(Vec<IpAddr>),
    /// The name is not ours.
    Unknown,
}

impl Names {
    /// Enters a container as its record says, in place of what was known of it. `name_of` gives a network's name.
    pub(crate) fn set(&self, record: &SandboxRecord, name_of: impl Fn(&NetworkId) -> Option<String>) {
        let mut tables = self.write();
        tables.remove(&record.container);
        let named = record.endpoints.iter().filter(|endpoint| !endpoint.names.is_empty());
        let networks = named.map(|endpoint| tables.enter(&record.container, endpoint, &name_of)).collect();
        let has_gateway = |endpoint: &Endpoint| endpoint.gateway.or(endpoint.gateway_v6).is_some();
        let has_way_out = record.endpoints.iter().any(has_gateway);
        tables.members.insert(record.container.clone(), Member { networks, has_way_out });
    }

    /// Forgets a container.
    pub(crate) fn remove(&self, container: &str) {
        self.write().remove(container);
    }

    /// What a container means by a name. A name may end with that of a network: `web.front` is `web` in `front`.
    pub(super) fn resolve(&self, container: &str, name: &str, family: Family) -> Meaning {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let tables = self.read();
        let Some(member) = tables.members.get(container) else { return Meaning::Unknown };
        let splits = name.match_indices('.').rev().map(|(dot, _)| (&name[..dot], Some(&name[dot + 1..])));
        for (host, network) in std::iter::once((name.as_str(), None)).chain(splits) {
            for by_alias in [true, false] {
                match tables.resolve_in(member, host, network, by_alias, family) {
                    Meaning::Unknown => {}
                    known => return known,
                }
            }
        }
        Meaning::Unknown
    }

    /// The name, with its network's, of who has an address in one of a container's networks.
    pub(super) fn reverse(&self, container: &str, address: IpAddr) -> Option<String> {
        let tables = self.read();
        let mut networks =
            tables.members.get(container)?.networks.iter().filter_map(|of| tables.networks.get(&of.network));
        networks.find_map(|network| {
            network.by_address.get(&address).map(|name| format!("{name}.{}", network.name))
        })
    }

    /// Whether one of a container's networks leads out of the host.
    pub(super) fn has_way_out(&self, container: &str) -> bool {
        self.read().members.get(container).is_some_and(|member| member.has_way_out)
    }

    // A poisoned lock is a panic between two whole changes of one container: the tables go on.
    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn enter(
        &mut self,
        container: &str,
        endpoint: &Endpoint,
        name_of: &impl Fn(&NetworkId) -> Option<String>,
    ) -> Membership {
        let addresses: Vec<IpAddr> = endpoint.addresses().map(|address| address.address()).collect();
        let names: Vec<String> = endpoint.names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let network = self.networks.entry(endpoint.network.clone()).or_default();
        if let Some(name) = name_of(&endpoint.network) {
            network.name = name;
        }
        for name in &names {
            let entries =
                addresses.iter().map(|address| Entry { container: container.to_owned(), address: *address });
            network.by_name.entry(name.clone()).or_default().extend(entries);
        }
        if let Some(first) = endpoint.names.first() {
            network.by_address.extend(addresses.iter().map(|address| (*address, first.clone())));
        }
        let links = endpoint
            .links
            .iter()
            .map(|(alias, name)| (alias.to_ascii_lowercase(), name.to_ascii_lowercase()));
        Membership { network: endpoint.network.clone(), links: links.collect(), names, addresses }
    }

    fn remove(&mut self, container: &str) {
        for membership in self.members.remove(container).unwrap_or_default().networks {
            let Some(network) = self.networks.get_mut(&membership.network) else { continue };
            for name in &membership.names {
                let Some(entries) = network.by_name.get_mut(name) else { continue };
                entries.retain(|entry| entry.container != container);
                if entries.is_empty() {
                    network.by_name.remove(name);
                }
            }
            for address in &membership.addresses {
                network.by_address.remove(address);
            }
            if network.by_name.is_empty() {
                self.networks.remove(&membership.network);
            }
        }
    }

    /// Looks a name up in the networks of a container, in their order: as one of its links' aliases, or as the name
    /// of a container where it is no alias.
    fn resolve_in(
        &self,
        member: &Member,
        name: &str,
        network_name: Option<&str>,
        by_alias: bool,
        family: Family,
    ) -> Meaning {
        for membership in &member.networks {
            let Some(network) = self.networks.get(&membership.network) else { continue };
            if network_name.is_some_and(|wanted| !network.name.eq_ignore_ascii_case(wanted)) {
                continue;
            }
            let name = match (by_alias, membership.links.get(name)) {
                (true, Some(target)) => target,
                (false, None) => name,
                (true, None) | (false, Some(_)) => continue,
            };
            if let Some(entries) = network.by_name.get(name) {
                let addresses = entries.iter().map(|entry| entry.address);
                let wanted = |address: &IpAddr| address.is_ipv6() == (family == Family::V6);
                return Meaning::Addresses(addresses.filter(wanted).collect());
            }
        }
        Meaning::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u8) -> NetworkId {
        NetworkId::from_random([number; 32])
    }

    fn endpoint(of: u8, address: &str, names: &[&str], links: &[(&str, &str)]) -> Endpoint {
        Endpoint {
            network: network(of),
            id: wharf_spec::EndpointId::from_random([of; 32]),
            interface: "eth0".into(),
            index: 1,
            host_interface: "veth0".into(),
            address: Some(address.parse().unwrap()),
            address_v6: None,
            mac: "02:00:00:00:00:02".parse().unwrap(),
            gateway: None,
            gateway_v6: None,
            is_default_route: false,
            is_default_route_v6: false,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            links: links.iter().map(|(alias, name)| ((*alias).to_owned(), (*name).to_owned())).collect(),
            link_local: Vec::new(),
            sysctls: Vec::new(),
        }
    }

    fn enter(names: &Names, container: &str, endpoints: Vec<Endpoint>) {
        let record = SandboxRecord {
            container: container.into(),
            name: container.into(),
            sandbox: container.into(),
            key: "/x".into(),
            endpoints,
            ports: Vec::new(),
            open_links: Vec::new(),
            forwarding: None,
        };
        let name_of = |id: &NetworkId| Some(if *id == network(1) { "front" } else { "back.end" }.to_owned());
        names.set(&record, name_of);
    }

    fn v4(addresses: &[&str]) -> Meaning {
        Meaning::Addresses(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }

    #[test]
    fn names_are_seen_in_shared_networks_only() {
        let names = Names::default();
        enter(&names, "a", vec![endpoint(1, "10.1.0.2/16", &["a"], &[])]);
        enter(
            &names,
            "b",
            vec![endpoint(1, "10.1.0.3/16", &["Web", "www"], &[]), endpoint(2, "10.2.0.3/16", &["web"], &[])],
        );
        enter(&names, "c", vec![endpoint(2, "10.2.0.4/16", &["c", "www"], &[])]);
        let ask = |who, what| names.resolve(who, what, Family::V4);
        assert_eq!(ask("a", "web"), v4(&["10.1.0.3"]));
        assert_eq!(ask("a", "WEB."), v4(&["10.1.0.3"]));
        assert_eq!(ask("a", "c"), Meaning::Unknown);
        assert_eq!(ask("a", "web.front"), v4(&["10.1.0.3"]));
        assert_eq!(ask("a", "web.back.end"), Meaning::Unknown);
        assert_eq!(ask("b", "web.back.end"), v4(&["10.2.0.3"]));
        assert_eq!(ask("c", "www"), v4(&["10.2.0.4"]));
        assert_eq!(ask("nobody", "web"), Meaning::Unknown);
        assert_eq!(names.resolve("a", "web", Family::V6), Meaning::Addresses(Vec::new()));
        assert_eq!(names.reverse("a", "10.1.0.3".parse().unwrap()).as_deref(), Some("Web.front"));
        assert_eq!(names.reverse("a", "10.2.0.3".parse().unwrap()), None);
    }

    #[test]
    fn a_name_has_addresses_of_both_families() {
        let names = Names::default();
        let mut dual = endpoint(1, "10.1.0.2/16", &["web"], &[]);
        dual.address_v6 = Some("fd00::2/64".parse().unwrap());
        enter(&names, "a", vec![dual]);
        let mut only = endpoint(1, "10.1.0.3/16", &["six"], &[]);
        only.address_v6 = Some("fd00::3/64".parse().unwrap());
        only.address = None;
        enter(&names, "b", vec![only]);
        assert_eq!(names.resolve("b", "web", Family::V6), v4(&["fd00::2"]));
        assert_eq!(names.resolve("b", "web", Family::V4), v4(&["10.1.0.2"]));
        assert_eq!(names.resolve("a", "six", Family::V4), v4(&[]));
        assert_eq!(names.reverse("b", "fd00::2".parse().unwrap()).as_deref(), Some("web.front"));
        names.remove("a");
        assert_eq!(names.reverse("b", "fd00::2".parse().unwrap()), None);
    }

    #[test]
    fn a_shared_alias_is_all_who_have_it_and_a_link_hides_a_name() {
        let names = Names::default();
        enter(&names, "a", vec![endpoint(1, "10.1.0.2/16", &["a"], &[("db", "c")])]);
        enter(&names, "b", vec![endpoint(1, "10.1.0.3/16", &["b", "pool", "db"], &[])]);
        enter(&names, "c", vec![endpoint(1, "10.1.0.4/16", &["c", "pool"], &[])]);
        assert_eq!(names.resolve("a", "pool", Family::V4), v4(&["10.1.0.3", "10.1.0.4"]));
        assert_eq!(names.resolve("a", "db", Family::V4), v4(&["10.1.0.4"]));
        assert_eq!(names.resolve("c", "db", Family::V4), v4(&["10.1.0.3"]));
        names.remove("b");
        assert_eq!(names.resolve("a", "pool", Family::V4), v4(&["10.1.0.4"]));
        assert_eq!(names.resolve("c", "db", Family::V4), Meaning::Unknown);
    }
}
