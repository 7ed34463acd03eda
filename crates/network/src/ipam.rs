//! Which subnets and addresses are taken, and which comes next: deterministic, as Docker's default IPAM
//! (source: moby `daemon/libnetwork/ipams/defaultipam`). Nothing of it is on disk: it is derived from
//! networks and endpoints when the daemon starts.

use crate::{
    addr::{Family, Subnet, from_number, number},
    error::{Error, Result},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// A network that is cut into subnets of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    /// The whole.
    pub base: Subnet,
    /// Prefix length of each subnet.
    pub size: u8,
}

/// Docker's default pools (source: moby `daemon/libnetwork/ipamutils/utils.go`).
const DEFAULT_POOLS: [AddressPool; 7] = [
    AddressPool { base: Subnet::v4(172, 17, 16), size: 16 },
    AddressPool { base: Subnet::v4(172, 18, 16), size: 16 },
    AddressPool { base: Subnet::v4(172, 19, 16), size: 16 },
    AddressPool { base: Subnet::v4(172, 20, 14), size: 16 },
    AddressPool { base: Subnet::v4(172, 24, 14), size: 16 },
    AddressPool { base: Subnet::v4(172, 28, 14), size: 16 },
    AddressPool { base: Subnet::v4(192, 168, 16), size: 20 },
];

/// The addresses of one subnet.
#[derive(Debug)]
struct Addresses {
    taken: BTreeSet<u128>,
    /// `--ip-range`: where addresses that nobody asked for come from.
    range: Subnet,
}

/// All subnets and addresses of one daemon.
#[derive(Debug)]
pub struct Ipam {
    pools: Vec<AddressPool>,
    subnets: BTreeMap<Subnet, Addresses>,
}

impl AddressPool {
    /// Docker's, of IPv4.
    pub fn defaults() -> Vec<Self> {
        DEFAULT_POOLS.to_vec()
    }
}

impl Default for Ipam {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Ipam {
    /// With the daemon's `--default-address-pool`s, or Docker's when there are none.
    pub fn new(pools: &[AddressPool]) -> Self {
        let mut pools = if pools.is_empty() { DEFAULT_POOLS.to_vec() } else { pools.to_vec() };
        pools.retain(|pool| pool.base.bits() <= pool.size);
        pools.sort_by_key(|pool| (number(pool.base.first()), pool.base.bits()));
        let mut kept: Vec<AddressPool> = Vec::new();
        for pool in pools {
            if kept.last().is_none_or(|last| !last.base.overlaps(&pool.base)) {
                kept.push(AddressPool { base: pool.base.masked(), ..pool });
            }
        }
        Self { pools: kept, subnets: BTreeMap::new() }
    }

    /// Takes the first subnet of a family from the default pools that overlaps neither a taken one nor a `reserved`
    /// one (routes and name servers of the host).
    ///
    /// # Errors
    /// [`Error::NoMoreSubnets`]
    pub fn take_any_subnet(&mut self, family: Family, reserved: &[Subnet]) -> Result<Subnet> {
        let found = self.pools.iter().filter(|pool| pool.base.family() == family).find_map(|pool| {
            first_free(pool, |candidate| {
                reserved.iter().chain(self.subnets.keys()).find(|taken| taken.overlaps(candidate)).copied()
            })
        });
        let subnet = found.ok_or(Error::NoMoreSubnets)?;
        self.insert(subnet, subnet);
        Ok(subnet)
    }

    /// Takes a certain subnet. Addresses that nobody asked for come out of `range`.
    ///
    /// # Errors
    /// [`Error::PoolOverlap`], [`Error::InvalidSubPool`]
    pub fn take_subnet(&mut self, subnet: Subnet, range: Option<Subnet>) -> Result<Subnet> {
        let subnet = subnet.masked();
        let range = range.map_or(subnet, |range| range.masked());
        if !subnet.contains(range.first()) {
            return Err(Error::InvalidSubPool);
        }
        let range = if range.bits() < subnet.bits() { subnet } else { range };
        if self.subnets.keys().any(|taken| taken.overlaps(&subnet)) {
            return Err(Error::PoolOverlap);
        }
        self.insert(subnet, range);
        Ok(subnet)
    }

    /// Gives a subnet back, with all its addresses.
    pub fn release_subnet(&mut self, subnet: Subnet) {
        self.subnets.remove(&subnet.masked());
    }

    /// Takes the lowest free address of a subnet's range.
    ///
    /// # Errors
    /// [`Error::NoAddresses`], or [`Error::AddressOutOfRange`] for an unknown subnet
    pub fn take_any_address(&mut self, subnet: Subnet) -> Result<IpAddr> {
        let addresses = self.subnets.get_mut(&subnet.masked()).ok_or(Error::AddressOutOfRange)?;
        let (first, last) = (number(addresses.range.first()), number(addresses.range.last()));
        let mut next = first;
        for taken in addresses.taken.range(first..=last) {
            if *taken != next {
                break;
            }
            next = next.checked_add(1).ok_or(Error::NoAddresses)?;
        }
        if next > last {
            return Err(Error::NoAddresses);
        }
        addresses.taken.insert(next);
        Ok(from_number(next, subnet.is_v4()))
    }

    /// Takes a certain address.
    ///
    /// # Errors
    /// [`Error::AddressInUse`], [`Error::AddressOutOfRange`]
    pub fn take_address(&mut self, subnet: Subnet, address: IpAddr) -> Result<IpAddr> {
        let addresses = self.subnets.get_mut(&subnet.masked()).ok_or(Error::AddressOutOfRange)?;
        if !subnet.contains(address) {
            return Err(Error::AddressOutOfRange);
        }
        if addresses.taken.insert(number(address)) { Ok(address) } else { Err(Error::AddressInUse) }
    }

    /// Gives an address back. The network's own and its broadcast address stay taken.
    pub fn release_address(&mut self, subnet: Subnet, address: IpAddr) {
        let subnet = subnet.masked();
        if reserved_addresses(&subnet).contains(&Some(number(address))) {
            return;
        }
        if let Some(addresses) = self.subnets.get_mut(&subnet) {
            addresses.taken.remove(&number(address));
        }
    }

    /// How many addresses of a subnet are taken, and how many of its range are left.
    pub fn usage(&self, subnet: Subnet) -> Option<(u64, u64)> {
        let addresses = self.subnets.get(&subnet.masked())?;
        let (first, last) = (number(addresses.range.first()), number(addresses.range.last()));
        let in_range = addresses.taken.range(first..=last).count() as u128;
        let left = (last - first).saturating_add(1) - in_range;
        Some((addresses.taken.len() as u64, u64::try_from(left).unwrap_or(u64::MAX)))
    }

    fn insert(&mut self, subnet: Subnet, range: Subnet) {
        let taken = reserved_addresses(&subnet).into_iter().flatten().collect();
        self.subnets.insert(subnet, Addresses { taken, range });
    }
}

/// The network address, except in a /31 or /32, and IPv4's broadcast address likewise
/// (source: moby `defaultipam/allocator.go`, `newPoolData`; RFC 3021, RFC 4291 section 2.6.1).
fn reserved_addresses(subnet: &Subnet) -> [Option<u128>; 2] {
    let has_ends = !subnet.is_v4() || subnet.bits() < 31;
    let network = has_ends.then(|| number(subnet.first()));
    let broadcast = (has_ends && subnet.is_v4()).then(|| number(subnet.last()));
    [network, broadcast]
}

/// The first subnet of a pool for which `obstacle` finds none.
fn first_free(pool: &AddressPool, obstacle: impl Fn(&Subnet) -> Option<Subnet>) -> Option<Subnet> {
    let mut candidate = Subnet::new(pool.base.first(), pool.size)?;
    loop {
        let Some(taken) = obstacle(&candidate) else { return Some(candidate) };
        // Continue behind whichever of the two ends later: an obstacle may span many candidates.
        let behind = number(taken.last()).max(number(candidate.last())).checked_add(1)?;
        if behind > number(pool.base.last()) {
            return None;
        }
        let next = Subnet::new(from_number(behind, pool.base.is_v4()), pool.size)?;
        // An obstacle smaller than a subnet may end inside one: round up.
        candidate = next.masked();
        if number(candidate.first()) < behind {
            let aligned = number(candidate.last()).checked_add(1)?;
            if aligned > number(pool.base.last()) {
                return None;
            }
            candidate = Subnet::new(from_number(aligned, pool.base.is_v4()), pool.size)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn default_pools_come_in_dockers_order() {
        let mut ipam = Ipam::default();
        let subnets: Vec<String> =
            (0..31).map(|_| ipam.take_any_subnet(Family::V4, &[]).unwrap().to_string()).collect();
        assert_eq!(subnets[0], "172.17.0.0/16");
        assert_eq!(subnets[14], "172.31.0.0/16");
        assert_eq!(subnets[15], "192.168.0.0/20");
        assert_eq!(subnets[30], "192.168.240.0/20");
        assert!(matches!(ipam.take_any_subnet(Family::V4, &[]), Err(Error::NoMoreSubnets)));
        ipam.release_subnet(net("172.20.0.0/16"));
        assert_eq!(ipam.take_any_subnet(Family::V4, &[]).unwrap(), net("172.20.0.0/16"));
    }

    #[test]
    fn routes_of_the_host_and_taken_subnets_are_skipped() {
        let mut ipam = Ipam::default();
        let routes = [net("172.17.4.0/24"), net("172.16.0.0/14"), net("172.21.0.0/16"), net("10.0.0.0/8")];
        ipam.take_subnet(net("172.22.9.1/24"), None).unwrap();
        assert_eq!(ipam.take_any_subnet(Family::V4, &routes).unwrap(), net("172.20.0.0/16"));
        assert_eq!(ipam.take_any_subnet(Family::V4, &routes).unwrap(), net("172.23.0.0/16"));
        assert!(matches!(ipam.take_subnet(net("172.22.9.128/25"), None), Err(Error::PoolOverlap)));
        assert!(matches!(ipam.take_any_subnet(Family::V4, &[net("0.0.0.0/0")]), Err(Error::NoMoreSubnets)));
    }

    #[test]
    fn own_pools_are_cut_to_size() {
        let pools = [
            AddressPool { base: net("10.9.0.0/16"), size: 24 },
            AddressPool { base: net("10.9.7.0/24"), size: 26 },
        ];
        let mut ipam = Ipam::new(&pools);
        assert_eq!(ipam.take_any_subnet(Family::V4, &[net("10.9.0.128/26")]).unwrap(), net("10.9.1.0/24"));
        assert_eq!(ipam.take_any_subnet(Family::V4, &[net("10.9.0.0/21")]).unwrap(), net("10.9.8.0/24"));
    }

    #[test]
    fn ipv6_comes_from_its_own_pools() {
        let mut pools = AddressPool::defaults();
        pools.push(AddressPool { base: net("fd01:2345:6789::/48"), size: 64 });
        let mut ipam = Ipam::new(&pools);
        let first = ipam.take_any_subnet(Family::V6, &[net("fd01:2345:6789::53/128")]).unwrap();
        assert_eq!(first, net("fd01:2345:6789:1::/64"));
        assert_eq!(ipam.take_any_subnet(Family::V6, &[]).unwrap(), net("fd01:2345:6789::/64"));
        assert_eq!(ipam.take_any_subnet(Family::V4, &[]).unwrap(), net("172.17.0.0/16"));
        assert_eq!(ipam.take_any_address(first).unwrap().to_string(), "fd01:2345:6789:1::1");
        assert_eq!(ipam.take_any_address(first).unwrap().to_string(), "fd01:2345:6789:1::2");
        let small = ipam.take_subnet(net("fd00:9::/126"), None).unwrap();
        let taken: Vec<_> = (0..3).map(|_| ipam.take_any_address(small).unwrap().to_string()).collect();
        assert_eq!(taken, ["fd00:9::1", "fd00:9::2", "fd00:9::3"], "there is no broadcast address");
        assert!(matches!(ipam.take_any_address(small), Err(Error::NoAddresses)));
        let mut none = Ipam::new(&AddressPool::defaults());
        assert!(matches!(none.take_any_subnet(Family::V6, &[]), Err(Error::NoMoreSubnets)));
    }

    #[test]
    fn the_lowest_free_address_comes_next() {
        let mut ipam = Ipam::default();
        let subnet = ipam.take_any_subnet(Family::V4, &[]).unwrap();
        let take = |ipam: &mut Ipam| ipam.take_any_address(subnet).unwrap().to_string();
        assert_eq!(take(&mut ipam), "172.17.0.1");
        assert_eq!(take(&mut ipam), "172.17.0.2");
        assert_eq!(take(&mut ipam), "172.17.0.3");
        ipam.release_address(subnet, "172.17.0.2".parse().unwrap());
        ipam.take_address(subnet, "172.17.0.4".parse().unwrap()).unwrap();
        assert_eq!(take(&mut ipam), "172.17.0.2");
        assert_eq!(take(&mut ipam), "172.17.0.5");
        let taken = ipam.take_address(subnet, "172.17.0.5".parse().unwrap());
        assert!(matches!(taken, Err(Error::AddressInUse)));
        assert_eq!(ipam.usage(subnet), Some((7, 65536 - 7)));
        let outside = ipam.take_address(subnet, "172.18.0.5".parse().unwrap());
        assert!(matches!(outside, Err(Error::AddressOutOfRange)));
    }

    #[test]
    fn network_and_broadcast_addresses_stay_taken() {
        let mut ipam = Ipam::default();
        let small = ipam.take_subnet(net("10.0.0.0/30"), None).unwrap();
        ipam.release_address(small, "10.0.0.0".parse().unwrap());
        assert_eq!(ipam.take_any_address(small).unwrap().to_string(), "10.0.0.1");
        assert_eq!(ipam.take_any_address(small).unwrap().to_string(), "10.0.0.2");
        assert!(matches!(ipam.take_any_address(small), Err(Error::NoAddresses)));
        let pair = ipam.take_subnet(net("10.0.1.0/31"), None).unwrap();
        assert_eq!(ipam.take_any_address(pair).unwrap().to_string(), "10.0.1.0");
        let edge = ipam.take_subnet(net("255.255.255.255/32"), None).unwrap();
        assert_eq!(ipam.take_any_address(edge).unwrap().to_string(), "255.255.255.255");
        assert!(matches!(ipam.take_any_address(edge), Err(Error::NoAddresses)));
    }

    #[test]
    fn an_ip_range_limits_what_is_chosen() {
        let mut ipam = Ipam::default();
        let subnet = ipam.take_subnet(net("10.1.0.0/16"), Some(net("10.1.5.0/30"))).unwrap();
        assert_eq!(ipam.take_any_address(subnet).unwrap().to_string(), "10.1.5.0");
        ipam.take_address(subnet, "10.1.0.1".parse().unwrap()).unwrap();
        for _ in 0..3 {
            ipam.take_any_address(subnet).unwrap();
        }
        assert!(matches!(ipam.take_any_address(subnet), Err(Error::NoAddresses)));
        let outside = ipam.take_subnet(net("10.2.0.0/16"), Some(net("10.3.0.0/24")));
        assert!(matches!(outside, Err(Error::InvalidSubPool)));
    }
}
