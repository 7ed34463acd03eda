//! Which host ports this daemon has given away, and which comes next
//! (source: moby `daemon/libnetwork/portallocator/portallocator.go`).

use super::{PortBinding, PortGroup, Protocol, Reservation};
use crate::error::{Error, Result};
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// What Docker takes when the kernel does not say.
const FALLBACK_RANGE: (u16, u16) = (49153, 65535);

/// How often another port is tried when some other program turns out to have the chosen one.
const ATTEMPTS: usize = 10;

/// The ports given away, per address and protocol.
#[derive(Debug)]
pub(crate) struct PortAllocator {
    taken: HashMap<(IpAddr, Protocol), BTreeSet<u16>>,
    /// The last port given out of a range: the search goes on behind it.
    last: HashMap<(IpAddr, Protocol, (u16, u16)), u16>,
    ephemeral: (u16, u16),
    /// Never chosen out of the ephemeral range (`ip_local_reserved_ports`).
    excluded: BTreeSet<u16>,
    /// Ports that name no address are published on IPv6 addresses as well.
    pub(crate) has_v6: bool,
}

impl PortAllocator {
    /// With the ephemeral range of the calling thread's network namespace.
    pub(crate) fn from_kernel() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        let ephemeral = parse_range(&read("ip_local_port_range")).unwrap_or(FALLBACK_RANGE);
        let excluded = parse_list(&read("ip_local_reserved_ports"), ephemeral);
        // Source: moby `daemon/libnetwork/netutils/utils_linux.go`, IsV6Listenable
        let has_v6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        Self { taken: HashMap::new(), last: HashMap::new(), ephemeral, excluded, has_v6 }
    }

    /// Chooses a port for a group and binds it on every address.
    ///
    /// # Errors
    /// [`Error::PortAllocated`], [`Error::AllPortsAllocated`], [`Error::PortBind`]
    pub(crate) fn allocate(&mut self, group: &PortGroup) -> Result<(Vec<PortBinding>, Reservation)> {
        if group.is_routed {
            return Ok((self.bindings(group, 0), Reservation::default()));
        }
        let exact = group.host_ports.is_some_and(|(first, last)| first == last);
        let mut attempt = 1;
        loop {
            let port = self.choose(group)?;
            match Reservation::bind(&group.addresses, group.protocol, port) {
                Ok(reservation) => return Ok((self.bindings(group, port), reservation)),
                Err(error) => {
                    self.release_port(&group.addresses, group.protocol, port);
                    if exact || attempt == ATTEMPTS {
                        return Err(error);
                    }
                    attempt += 1;
                }
            }
        }
    }

    /// Marks a binding of an earlier daemon as taken.
    pub(crate) fn restore(&mut self, binding: &PortBinding) {
        if !binding.is_open_only() {
            self.taken.entry((binding.host_address, binding.protocol)).or_default().insert(binding.host_port);
        }
    }

    /// Gives a port back.
    pub(crate) fn release(&mut self, binding: &PortBinding) {
        self.release_port(&[binding.host_address], binding.protocol, binding.host_port);
    }

    fn release_port(&mut self, addresses: &[IpAddr], protocol: Protocol, port: u16) {
        for address in addresses {
            if let Some(ports) = self.taken.get_mut(&(*address, protocol)) {
                ports.remove(&port);
            }
        }
    }

    fn bindings(&self, group: &PortGroup, host_port: u16) -> Vec<PortBinding> {
        let binding = |address: &IpAddr| PortBinding {
            container_port: group.container_port,
            protocol: group.protocol,
            host_address: *address,
            host_port,
        };
        group.addresses.iter().map(binding).collect()
    }

    fn choose(&mut self, group: &PortGroup) -> Result<u16> {
        if let Some((port, last)) = group.host_ports
            && port == last
        {
            if let Some(address) = self.holder(&group.addresses, group.protocol, port) {
                return Err(Error::PortAllocated { address, port });
            }
            self.mark(group, port);
            return Ok(port);
        }
        let range = group.host_ports.unwrap_or(self.ephemeral);
        let previous =
            self.last.get(&(group.addresses[0], group.protocol, range)).copied().unwrap_or(range.1);
        let behind = previous.checked_add(1).map(|next| next..=range.1).into_iter().flatten();
        let before = range.0..=previous.min(range.1);
        let is_free = |port: &u16| {
            let excluded = group.host_ports.is_none() && self.excluded.contains(port);
            !excluded && self.holder(&group.addresses, group.protocol, *port).is_none()
        };
        let found = behind.chain(before).filter(|port| *port != 0).find(is_free);
        let port = found.ok_or(Error::AllPortsAllocated)?;
        for address in &group.addresses {
            self.last.insert((*address, group.protocol, range), port);
        }
        self.mark(group, port);
        Ok(port)
    }

    fn mark(&mut self, group: &PortGroup, port: u16) {
        for address in &group.addresses {
            self.taken.entry((*address, group.protocol)).or_default().insert(port);
        }
    }

    /// The address whose use of the port stands in the way: the same one, the unspecified one of the family,
    /// or any one of the family when the unspecified one is wanted.
    fn holder(&self, addresses: &[IpAddr], protocol: Protocol, port: u16) -> Option<IpAddr> {
        let has = |address: &IpAddr| {
            self.taken.get(&(*address, protocol)).is_some_and(|ports| ports.contains(&port))
        };
        addresses.iter().find_map(|wanted| {
            if has(wanted) {
                return Some(*wanted);
            }
            if wanted.is_unspecified() {
                let same_family = |(address, of): &&(IpAddr, Protocol)| {
                    *of == protocol && address.is_ipv4() == wanted.is_ipv4()
                };
                let mut others = self.taken.keys().filter(same_family).map(|(address, _)| *address);
                return others.find(has);
            }
            Some(unspecified(*wanted)).filter(has)
        })
    }
}

fn unspecified(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// `32768 60999`, separated by a tab.
fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse::<u16>);
    let range = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (range.0 <= range.1).then_some(range)
}

/// `8080,9148,30000-32767`, as far as it lies inside `within`; what cannot be read is left out.
fn parse_list(text: &str, within: (u16, u16)) -> BTreeSet<u16> {
    let ports = |entry: &str| -> Option<std::ops::RangeInclusive<u16>> {
        let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
        Some(first.parse::<u16>().ok()?.max(within.0)..=last.parse::<u16>().ok()?.min(within.1))
    };
    text.trim().split(',').filter_map(ports).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocator(ephemeral: (u16, u16)) -> PortAllocator {
        PortAllocator {
            taken: HashMap::new(),
            last: HashMap::new(),
            ephemeral,
            excluded: BTreeSet::new(),
            has_v6: true,
        }
    }

    fn group(addresses: &[&str], host_ports: Option<(u16, u16)>) -> PortGroup {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        PortGroup { container_port: 80, protocol: Protocol::Tcp, host_ports, addresses, is_routed: false }
    }

    #[test]
    fn ranges_go_on_behind_the_last_port_and_wrap() {
        let mut ports = allocator((100, 102));
        let any = group(&["0.0.0.0"], None);
        assert_eq!(ports.choose(&any).unwrap(), 100);
        assert_eq!(ports.choose(&any).unwrap(), 101);
        ports.release_port(&any.addresses, Protocol::Tcp, 100);
        assert_eq!(ports.choose(&any).unwrap(), 102);
        assert_eq!(ports.choose(&any).unwrap(), 100);
        assert!(matches!(ports.choose(&any), Err(Error::AllPortsAllocated)));
        assert_eq!(ports.choose(&PortGroup { protocol: Protocol::Udp, ..any }).unwrap(), 100);
    }

    #[test]
    fn the_unspecified_address_conflicts_with_every_other() {
        let mut ports = allocator((100, 102));
        ports.choose(&group(&["127.0.0.1"], Some((80, 80)))).unwrap();
        ports.choose(&group(&["127.0.0.2"], Some((80, 80)))).unwrap();
        ports.choose(&group(&["::"], Some((80, 80)))).unwrap();
        let taken = ports.choose(&group(&["127.0.0.1"], Some((80, 80)))).unwrap_err();
        assert_eq!(taken.to_string(), "Bind for 127.0.0.1:80 failed: port is already allocated");
        assert!(ports.choose(&group(&["0.0.0.0"], Some((80, 80)))).is_err());
        ports.choose(&group(&["0.0.0.0"], Some((81, 81)))).unwrap();
        let taken = ports.choose(&group(&["127.0.0.9"], Some((81, 81)))).unwrap_err();
        assert_eq!(taken.to_string(), "Bind for 0.0.0.0:81 failed: port is already allocated");
    }

    #[test]
    fn ports_the_kernel_excludes_are_not_chosen_but_can_be_asked_for() {
        let mut ports = allocator((100, 103));
        ports.excluded = parse_list("7,101-102\n", (100, 103));
        let any = group(&["0.0.0.0"], None);
        assert_eq!(ports.choose(&any).unwrap(), 100);
        assert_eq!(ports.choose(&any).unwrap(), 103);
        assert_eq!(ports.choose(&group(&["0.0.0.0"], Some((101, 101)))).unwrap(), 101);
    }

    #[test]
    fn the_whole_range_up_to_65535_can_be_used() {
        let mut ports = allocator((65534, 65535));
        let any = group(&["0.0.0.0"], None);
        assert_eq!(ports.choose(&any).unwrap(), 65534);
        assert_eq!(ports.choose(&any).unwrap(), 65535);
        assert!(ports.choose(&any).is_err());
        assert_eq!(parse_range("32768\t60999\n"), Some((32768, 60999)));
    }
}
