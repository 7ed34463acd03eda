//! IPv6 in networks.

use super::*;
use crate::bridge::{AddressSpec, GatewayMode};

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

/// A fabric with a proxy, whose tasks run in the calling thread's namespace.
fn with_proxy(world: &World, networks: Vec<BridgeSpec>) -> (tokio::runtime::Runtime, Fabric) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config =
        FabricConfig { runtime: Some(runtime.handle().clone()), proxy: true, ..world.config(networks) };
    (runtime, Fabric::open(config).unwrap())
}

fn nft() -> String {
    run("nft", &["list", "ruleset"])
}

#[test]
fn networks_of_ipv6_are_translated_isolated_and_published() {
    World::run(|world| {
        let (_runtime, fabric) = with_proxy(world, vec![spec(1, "wt0")]);
        assert!(!nft().contains("table ip6"), "no network needs it");
        fabric.add_network(dual(2, "wt1", "fd00:2::/64")).unwrap();
        fabric.add_network(dual(3, "wt2", "fd00:3::/64")).unwrap();
        let internal = BridgeSpec { internal: true, ..dual(4, "wt3", "fd00:4::/64") };
        fabric.add_network(internal).unwrap();
        let ports = vec![PortRequest { host_address: None, ..publish(80, Protocol::Tcp, "::", 8080) }];
        let web = fabric.attach(&request("web", &[2], ports)).unwrap();
        let shown: Vec<_> = web.ports.iter().map(|port| port.host_address.to_string()).collect();
        assert_eq!(shown, ["0.0.0.0", "::"]);
        let same = fabric.attach(&request("same", &[2], vec![])).unwrap();
        let other = fabric.attach(&request("other", &[3], vec![])).unwrap();
        let locked = fabric.attach(&request("locked", &[4], vec![])).unwrap();
        let server = listen(&web.namespace, "[::]:80");
        let seen = |from, to| peer_ip(from, to, &server);
        // Out, with the host's address.
        let out = listen(&world.outside, "[::]:80");
        assert_eq!(peer_ip(Some(&web.namespace), "[2001:db8::2]:80", &out).unwrap(), "2001:db8::1");
        assert!(reach(Some(&locked.namespace), "[2001:db8::2]:80", &out, IMPATIENCE).is_none());
        // In, by the published port and not without.
        assert_eq!(seen(Some(&world.outside), "[2001:db8::1]:8080").unwrap(), "2001:db8::2");
        assert!(reach(Some(&world.outside), "[fd00:2::2]:80", &server, IMPATIENCE).is_none());
        assert_eq!(seen(None, "[2001:db8::1]:8080").unwrap(), "2001:db8::1");
        assert_eq!(seen(None, "[::1]:8080").unwrap(), "fd00:2::1", "by the proxy");
        assert_eq!(seen(Some(&web.namespace), "[2001:db8::1]:8080").unwrap(), "fd00:2::1", "itself");
        assert_eq!(seen(Some(&same.namespace), "[2001:db8::1]:8080").unwrap(), "fd00:2::1", "its neighbour");
        // Between networks, by the published port only.
        assert_eq!(seen(Some(&same.namespace), "[fd00:2::2]:80").unwrap(), "fd00:2::3");
        assert!(reach(Some(&other.namespace), "[fd00:2::2]:80", &server, IMPATIENCE).is_none());
        assert!(seen(Some(&other.namespace), "[2001:db8::1]:8080").is_some());
        assert!(reach(Some(&locked.namespace), "[fd00:2::2]:80", &server, IMPATIENCE).is_none());
        for name in ["web", "same", "other", "locked"] {
            fabric.detach(name).unwrap();
        }
        for number in [2, 3, 4] {
            fabric.remove_network(&network_id(number)).unwrap();
        }
        assert!(!nft().contains("table ip6"), "no network needs it any more");
        fabric.shut_down().unwrap();
    });
}

#[test]
fn a_container_without_ipv6_is_reached_through_the_proxy() {
    World::run(|world| {
        let (_runtime, fabric) = with_proxy(world, vec![spec(1, "wt0")]);
        let ports = vec![
            publish(80, Protocol::Tcp, "::1", 8080),
            publish(80, Protocol::Tcp, "2001:db8::1", 8081),
            publish(53, Protocol::Udp, "::", 5353),
        ];
        let mut web = fabric.attach(&request("web", &[1], ports)).unwrap();
        web.reservations.clear();
        let server = listen(&web.namespace, "0.0.0.0:80");
        assert_eq!(peer_ip(None, "[::1]:8080", &server).unwrap(), "172.17.0.1");
        assert_eq!(peer_ip(Some(&world.outside), "[2001:db8::1]:8081", &server).unwrap(), "172.17.0.1");
        let dns = netns::in_netns(&web.namespace, || UdpSocket::bind("0.0.0.0:53").unwrap()).unwrap();
        let client = netns::in_netns(&world.outside, || UdpSocket::bind("[::]:0").unwrap()).unwrap();
        for socket in [&dns, &client] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        client.connect("[2001:db8::1]:5353").unwrap();
        for question in [b"one", b"two"] {
            client.send(question).unwrap();
            let mut buffer = [0; 16];
            let (length, from) = dns.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from.ip().to_string().as_str()), (&question[..], "172.17.0.1"));
            dns.send_to(b"answer", from).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        }
        fabric.detach("web").unwrap();
        assert!(is_freed(|| TcpListener::bind("[::1]:8080").is_ok()));
        fabric.shut_down().unwrap();
    });
}

#[test]
fn gateway_modes_open_what_they_say() {
    World::run(|world| {
        let mode = |number: u8, bridge: &str, mode| {
            let mut wanted = dual(number, bridge, &format!("fd00:{number}::/64"));
            wanted.v6.as_mut().unwrap().mode = mode;
            let subnet = Some(format!("10.0.{number}.0/24").parse().unwrap());
            wanted.v4 = Some(AddressSpec { subnet, mode, ..AddressSpec::default() });
            wanted
        };
        let (_runtime, fabric) = with_proxy(world, vec![spec(1, "wt0")]);
        fabric.add_network(mode(2, "wt1", GatewayMode::Routed)).unwrap();
        fabric.add_network(mode(3, "wt2", GatewayMode::NatUnprotected)).unwrap();
        let ports = vec![PortRequest { host_address: None, ..publish(80, Protocol::Tcp, "::", 8080) }];
        let routed = fabric.attach(&request("routed", &[2], ports.clone())).unwrap();
        let open = fabric.attach(&request("open", &[3], ports)).unwrap();
        let shown = |ports: &[PortBinding]| -> Vec<String> {
            ports.iter().map(|port| format!("{} {}", port.host_address, port.host_port)).collect()
        };
        assert_eq!(shown(&routed.ports), ["0.0.0.0 0", ":: 0"]);
        assert_eq!(shown(&open.ports), ["0.0.0.0 8080", ":: 8080"]);
        let other = fabric.attach(&request("other", &[1], vec![])).unwrap();
        let published = listen(&routed.namespace, "[::]:80");
        let hidden = listen(&routed.namespace, "[::]:81");
        for (to, from) in [("[fd00:2::2]", "2001:db8::2"), ("10.0.2.2", "::ffff:192.0.2.2")] {
            let at = |port: u16| format!("{to}:{port}");
            assert_eq!(peer_ip(Some(&world.outside), &at(80), &published).unwrap(), from);
            assert!(reach(Some(&world.outside), &at(81), &hidden, IMPATIENCE).is_none(), "{to}");
        }
        assert!(peer_ip(Some(&other.namespace), "10.0.2.2:80", &published).is_some());
        assert!(reach(Some(&other.namespace), "10.0.2.2:81", &hidden, IMPATIENCE).is_none());
        // Seen outside under its own address.
        let out = listen(&world.outside, "[::]:80");
        assert_eq!(peer_ip(Some(&routed.namespace), "[2001:db8::2]:80", &out).unwrap(), "fd00:2::2");
        assert_eq!(peer_ip(Some(&routed.namespace), "192.0.2.2:80", &out).unwrap(), "::ffff:10.0.2.2");
        let anything = listen(&open.namespace, "[::]:81");
        assert!(peer_ip(Some(&world.outside), "[fd00:3::2]:81", &anything).is_some());
        assert!(peer_ip(Some(&world.outside), "10.0.3.2:81", &anything).is_some());
        assert_eq!(peer_ip(Some(&open.namespace), "[2001:db8::2]:80", &out).unwrap(), "2001:db8::1");
        for name in ["routed", "open", "other"] {
            fabric.detach(name).unwrap();
        }
        for number in [2, 3] {
            fabric.remove_network(&network_id(number)).unwrap();
        }
        fabric.shut_down().unwrap();
    });
}

#[test]
fn a_later_daemon_goes_on_with_ipv6() {
    World::run(|world| {
        let networks = || vec![dual(1, "wt0", "fd00:1::/64")];
        let (runtime, fabric) = with_proxy(world, networks());
        let ports = vec![PortRequest { host_address: None, ..publish(80, Protocol::Tcp, "::", 8080) }];
        let web = fabric.attach(&request("web", &[1], ports)).unwrap();
        drop(fabric);
        drop(runtime);
        let (_runtime, fabric) = with_proxy(world, networks());
        fabric.adopt("web", web.reservations).unwrap();
        let server = listen(&web.namespace, "[::]:80");
        assert_eq!(peer_ip(Some(&world.outside), "[2001:db8::1]:8080", &server).unwrap(), "2001:db8::2");
        assert_eq!(peer_ip(None, "[::1]:8080", &server).unwrap(), "fd00:1::1");
        let next = fabric.attach(&request("next", &[1], vec![])).unwrap();
        assert_eq!(next.endpoints[0].address_v6.unwrap().to_string(), "fd00:1::3/64", "the first is taken");
        fabric.detach("next").unwrap();
        fabric.detach("web").unwrap();
        assert!(is_freed(|| TcpListener::bind("[::]:8080").is_ok()));
        fabric.shut_down().unwrap();
    });
}

#[test]
fn ports_follow_the_route_to_a_network_with_ipv6() {
    World::run(|world| {
        let (_runtime, fabric) = with_proxy(world, vec![spec(1, "wt0"), dual(2, "wt1", "fd00:2::/64")]);
        let ports = vec![PortRequest { host_address: None, ..publish(80, Protocol::Tcp, "::", 8080) }];
        let web = fabric.attach(&request("web", &[1], ports)).unwrap();
        let server = listen(&web.namespace, "[::]:80");
        let seen = || peer_ip(Some(&world.outside), "[2001:db8::1]:8080", &server).unwrap();
        assert_eq!(seen(), "::ffff:172.17.0.1", "by the proxy");
        let added = fabric.connect("web", &endpoint(2)).unwrap().endpoint;
        assert_eq!((added.is_default_route, added.is_default_route_v6), (false, true));
        assert_eq!(seen(), "2001:db8::2", "redirected");
        fabric.disconnect("web", &added.id).unwrap();
        assert_eq!(seen(), "::ffff:172.17.0.1", "by the proxy again");
        fabric.detach("web").unwrap();
        fabric.shut_down().unwrap();
    });
}

#[test]
fn udp_clients_of_ipv6_reach_whom_the_port_leads_to_now() {
    World::run(|world| {
        let (_runtime, fabric) = with_proxy(world, vec![dual(1, "wt0", "fd00:1::/64")]);
        let ports = || vec![publish(53, Protocol::Udp, "::", 5353)];
        let client = netns::in_netns(&world.outside, || UdpSocket::bind("[::]:0").unwrap()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.connect("[2001:db8::1]:5353").unwrap();
        let ask = |name: &str| {
            let attached = fabric.attach(&request(name, &[1], ports())).unwrap();
            let server =
                netns::in_netns(&attached.namespace, || UdpSocket::bind("[::]:53").unwrap()).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            client.send(name.as_bytes()).unwrap();
            let mut buffer = [0; 16];
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from.ip().to_string().as_str()), (name.as_bytes(), "2001:db8::2"));
            server.send_to(b"answer", from).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        };
        ask("one");
        // Another container keeps its address: the flow must not go on to where it went.
        fabric.detach("one").unwrap();
        let keeper = fabric.attach(&request("keeper", &[1], vec![])).unwrap();
        assert_eq!(keeper.endpoints[0].address_v6.unwrap().to_string(), "fd00:1::2/64");
        ask("two");
        fabric.detach("two").unwrap();
        fabric.detach("keeper").unwrap();
        fabric.shut_down().unwrap();
    });
}

#[test]
fn a_dropping_policy_of_ip6tables_is_opened_for_bridges_only() {
    World::run(|world| {
        run("ip6tables", &["-P", "FORWARD", "DROP"]);
        let before = run("ip6tables", &["-S"]);
        let (_runtime, fabric) = with_proxy(world, vec![dual(1, "wt0", "fd00:1::/64")]);
        let web = fabric.attach(&request("web", &[1], vec![publish(80, Protocol::Tcp, "::", 8080)])).unwrap();
        let server = listen(&web.namespace, "[::]:80");
        assert!(peer_ip(Some(&world.outside), "[2001:db8::1]:8080", &server).is_some());
        let out = listen(&world.outside, "[::]:80");
        assert!(peer_ip(Some(&web.namespace), "[2001:db8::2]:80", &out).is_some());
        assert!(reach(Some(&world.outside), "[fd00:1::2]:80", &server, IMPATIENCE).is_none());
        let rules = run("ip6tables", &["-S"]);
        assert!(rules.contains("-A FORWARD -i wt0") && rules.contains("-A FORWARD -o wt0"), "{rules}");
        fabric.detach("web").unwrap();
        fabric.shut_down().unwrap();
        assert_eq!(run("ip6tables", &["-S"]), before);
        run("ip6tables", &["-P", "FORWARD", "ACCEPT"]);
        run("nft", &["delete", "table", "ip6", "filter"]);
    });
}

#[test]
fn containers_that_may_not_talk_do_not_by_ipv6_either() {
    World::run(|world| {
        let quiet = BridgeSpec { inter_container: false, ..dual(1, "wt0", "fd00:1::/64") };
        let (_runtime, fabric) = with_proxy(world, vec![quiet]);
        let one = fabric.attach(&request("one", &[1], vec![])).unwrap();
        let two = fabric.attach(&request("two", &[1], vec![])).unwrap();
        let in_one = listen(&one.namespace, "[::]:80");
        for at in ["[fd00:1::2]:80", "172.17.0.2:80"] {
            assert!(reach(Some(&two.namespace), at, &in_one, IMPATIENCE).is_none(), "{at}");
            assert!(peer_ip(None, at, &in_one).is_some(), "{at}");
        }
        let out = listen(&world.outside, "[::]:80");
        assert!(peer_ip(Some(&two.namespace), "[2001:db8::2]:80", &out).is_some());
        fabric.detach("one").unwrap();
        fabric.detach("two").unwrap();
        fabric.shut_down().unwrap();
    });
}

/// The link-local address of an interface, once the kernel has found that nobody else has it.
fn link_local(interface: &str) -> std::net::Ipv6Addr {
    let mut text = String::new();
    let found = is_freed(|| {
        text = run("ip", &["-6", "-o", "addr", "show", "dev", interface, "scope", "link"]);
        text.contains("inet6 fe80:") && !text.contains("tentative")
    });
    assert!(found, "{text}");
    text.split("inet6 ").nth(1).and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap()
}

#[test]
fn the_proxy_lets_nobody_past_a_filter() {
    World::run(|world| {
        let filtered = BridgeSpec { filtered: true, ..dual(1, "wt0", "fd00:1::/64") };
        let (_runtime, fabric) = with_proxy(world, vec![filtered]);
        let web = fabric.attach(&request("web", &[1], vec![publish(80, Protocol::Tcp, "::", 8080)])).unwrap();
        let server = listen(&web.namespace, "[::]:80");
        assert!(peer_ip(None, "[::1]:8080", &server).is_some(), "the host itself");
        assert!(reach(Some(&world.outside), "[2001:db8::1]:8080", &server, IMPATIENCE).is_none());
        // By link-local addresses, which are never redirected.
        let local = link_local("uplink0");
        netns::in_netns(&world.outside, || link_local("eth0")).unwrap();
        let connect = || {
            let scope = Channel::route().unwrap().link("eth0").unwrap().unwrap().index;
            let at = std::net::SocketAddrV6::new(local, 8080, 0, scope);
            TcpStream::connect_timeout(&at.into(), PATIENCE)
        };
        let mut client = netns::in_netns(&world.outside, connect).unwrap().unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let ended = std::io::Read::read(&mut client, &mut [0; 1]);
        assert!(matches!(ended, Ok(0) | Err(_)), "closed at once");
        server.set_nonblocking(true).unwrap();
        assert!(server.accept().is_err(), "and never passed on");
        fabric.detach("web").unwrap();
        fabric.shut_down().unwrap();
    });
}
