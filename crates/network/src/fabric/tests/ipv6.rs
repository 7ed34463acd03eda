//! IPv6 in networks.

use super::*;
use crate::bridge::AddressSpec;

/// A network with both families and these subnets of IPv6.
fn dual(number: u8, bridge: &str, subnet: &str) -> BridgeSpec {
    let v6 = AddressSpec { subnet: Some(subnet.parse().unwrap()), ..AddressSpec::default() };
    BridgeSpec { v6: Some(v6), ..spec(number, bridge) }
}

#[test]
fn containers_have_addresses_of_both_families() {
    World::run(|world| {
        let fabric = Fabric::open(world.config(vec![dual(1, "wt0", "fd00:1::/64")])).unwrap();
        let one = fabric.attach(&request("one", &[1], vec![])).unwrap();
        let two = fabric.attach(&request("two", &[1], vec![])).unwrap();
        let shown: Vec<_> = one.endpoints[0].addresses().map(|address| address.to_string()).collect();
        assert_eq!(shown, ["172.17.0.2/16", "fd00:1::2/64"]);
        assert_eq!(one.endpoints[0].gateway_v6.unwrap().to_string(), "fd00:1::1");
        let in_one = listen(&one.namespace, "[::]:80");
        assert_eq!(peer_ip(Some(&two.namespace), "[fd00:1::2]:80", &in_one).unwrap(), "fd00:1::3");
        assert_eq!(peer_ip(None, "[fd00:1::2]:80", &in_one).unwrap(), "fd00:1::1");
        fabric.detach("one").unwrap();
        // The address at once has another owner, and neighbours have learnt it.
        let three = fabric.attach(&request("three", &[1], vec![])).unwrap();
        assert_eq!(three.endpoints[0].address_v6.unwrap().to_string(), "fd00:1::2/64");
        let in_three = listen(&three.namespace, "[::]:81");
        assert!(peer_ip(Some(&two.namespace), "[fd00:1::2]:81", &in_three).is_some(), "old neighbour entry");
        assert!(peer_ip(None, "[fd00:1::2]:81", &in_three).is_some(), "old neighbour entry");
        fabric.detach("two").unwrap();
        fabric.detach("three").unwrap();
        fabric.shut_down().unwrap();
    });
}

#[test]
fn a_network_may_have_ipv6_only_and_a_full_one_says_so() {
    World::run(|world| {
        let fabric = world.open();
        let only = BridgeSpec { v4: None, ..dual(2, "wt1", "fd00:2::/126") };
        let made = fabric.add_network(only).unwrap();
        assert_eq!((made.v4, made.subnets().count()), (None, 1));
        let one = fabric.attach(&request("one", &[2], vec![])).unwrap();
        let two = fabric.attach(&request("two", &[2], vec![])).unwrap();
        assert_eq!((one.endpoints[0].address, one.endpoints[0].is_default_route), (None, false));
        assert!(one.endpoints[0].is_default_route_v6);
        let error = fabric.attach(&request("three", &[2], vec![])).unwrap_err().to_string();
        assert!(
            error.starts_with("no available IPv6 addresses on this network's address pools: net2 ("),
            "{error}"
        );
        let in_one = listen(&one.namespace, "[::]:80");
        assert_eq!(peer_ip(Some(&two.namespace), "[fd00:2::2]:80", &in_one).unwrap(), "fd00:2::3");
        for name in ["one", "two"] {
            fabric.detach(name).unwrap();
        }
        fabric.remove_network(&network_id(2)).unwrap();
        fabric.shut_down().unwrap();
    });
}
