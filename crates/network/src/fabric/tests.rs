//! Real networking, each test in a network namespace of its own that stands for the host.

mod ipv6;

use super::*;
use crate::{
    nl::{Channel, route},
    ports::Protocol,
};
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    time::Duration,
};
use wharf_spec::plan::Propagation;
use wharf_sys::{
    mount::set_propagation,
    netns,
    process::{Namespaces, unshare},
};

/// Long enough for a connection to be made, short enough to wait for one that must not be.
/// For what must come: nobody waits for it to pass on a machine that is not overloaded.
const PATIENCE: Duration = Duration::from_secs(60);
const IMPATIENCE: Duration = Duration::from_millis(400);

/// A machine with a network around it.
pub(crate) struct World {
    dir: tempfile::TempDir,
    /// The namespace of a machine outside, 192.0.2.2 and 2001:db8::2; the host is 192.0.2.1 and 2001:db8::1.
    pub(crate) outside: OwnedFd,
    before: BTreeSet<String>,
}

impl World {
    /// Runs a test on a thread that is alone in a new network namespace and a new mount namespace.
    pub(crate) fn run(test: impl FnOnce(&World) + Send) {
        netns::in_netns(netns::create().unwrap(), || {
            unshare(Namespaces::MOUNT).unwrap();
            set_propagation("/".as_ref(), Propagation::RPrivate).unwrap();
            let world = World::new();
            test(&world);
            world.assert_clean();
        })
        .unwrap();
    }

    fn new() -> Self {
        let host = Channel::route().unwrap();
        let outside = netns::create().unwrap();
        let hub = crate::bridge::BridgeNetwork {
            spec: BridgeSpec {
                bridge: "uplink0".into(),
                masquerade: false,
                v6: Some(Default::default()),
                ..spec(9, "uplink0")
            },
            v4: Some(crate::bridge::Addresses {
                subnet: "192.0.2.0/24".parse().unwrap(),
                gateway: Some("192.0.2.1".parse().unwrap()),
            }),
            v6: Some(crate::bridge::Addresses {
                subnet: "2001:db8::/64".parse().unwrap(),
                gateway: Some("2001:db8::1".parse().unwrap()),
            }),
        };
        let plug = Host::open("uplink").unwrap();
        let device = crate::bridge::ensure(&plug, &hub).unwrap();
        host.run(&[route::set_up("lo")], "up", "lo").unwrap();
        let sandbox = Sandbox::open(outside.try_clone().unwrap()).unwrap();
        let wiring = crate::sandbox::Wiring { bridge: device.index, mtu: 1500 };
        let cable = sandbox.plug(&plug, "eth0", &wiring).unwrap();
        let addressing = crate::sandbox::Addressing {
            v4: Some("192.0.2.2/24".parse().unwrap()),
            v6: Some("2001:db8::2/64".parse().unwrap()),
            mac: "02:00:00:00:00:02".parse().unwrap(),
            default_gateways: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        };
        sandbox.address(&cable, &addressing).unwrap();
        let before = names(&host);
        Self { dir: tempfile::tempdir().unwrap(), outside, before }
    }

    pub(crate) fn config(&self, networks: Vec<BridgeSpec>) -> FabricConfig {
        FabricConfig {
            instance: "wharftest".into(),
            state_dir: self.dir.path().join("network"),
            netns_dir: self.dir.path().join("netns"),
            address_pools: Vec::new(),
            ready_namespaces: 1,
            forwarding: IpForwarding::Enable,
            filtering: Filtering::Ours,
            filtering_v6: Filtering::Ours,
            publish_allow: PublishAllow::default(),
            default_network: networks.first().map(|spec| spec.id.clone()),
            networks,
            proxy: false,
            runtime: None,
        }
    }

    fn open(&self) -> Fabric {
        Fabric::open(self.config(vec![spec(1, "wt0")])).unwrap()
    }

    /// No interface, table, name or record is left.
    fn assert_clean(&self) {
        assert_eq!(names(&Channel::route().unwrap()), self.before);
        assert_eq!(run("nft", &["list", "tables"]).replace("table ip filter\n", ""), "");
        for dir in ["netns", "network/sandboxes"] {
            let left: Vec<_> = std::fs::read_dir(self.dir.path().join(dir)).unwrap().collect();
            assert!(left.is_empty(), "{dir}: {left:?}");
        }
    }
}

/// Whether a port that was just given up can be had: a child of another test has copies of all our sockets between
/// its fork and its exec.
pub(crate) fn is_freed(mut can_be_had: impl FnMut() -> bool) -> bool {
    let give_up = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < give_up {
        if can_be_had() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

fn names(host: &Channel) -> BTreeSet<String> {
    host.links().unwrap().into_iter().map(|link| link.name).collect()
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

pub(crate) fn network_id(number: u8) -> NetworkId {
    NetworkId::from_random([number; 32])
}

pub(crate) fn spec(number: u8, bridge: &str) -> BridgeSpec {
    BridgeSpec {
        id: network_id(number),
        name: format!("net{number}"),
        bridge: bridge.into(),
        macvlan: None,
        v4: Some(Default::default()),
        v6: None,
        internal: false,
        masquerade: true,
        inter_container: true,
        filtered: false,
        mtu: 1500,
        default_host_address: Ipv4Addr::UNSPECIFIED.into(),
        interface_prefix: "eth".into(),
    }
}

fn endpoint(network: u8) -> EndpointRequest {
    let id = EndpointId::from_random(crate::random::bytes().unwrap());
    EndpointRequest {
        network: network_id(network),
        id,
        address: None,
        address_v6: None,
        mac: None,
        names: Vec::new(),
        links: Vec::new(),
        interface: None,
        link_local: Vec::new(),
        sysctls: Vec::new(),
    }
}

pub(crate) fn request(name: &str, networks: &[u8], ports: Vec<PortRequest>) -> SandboxRequest {
    let endpoints = networks.iter().map(|network| endpoint(*network)).collect();
    let (container, links) = (name.into(), Vec::new());
    SandboxRequest { container, name: name.into(), endpoints, ports, links, namespace: None }
}

fn publish(container: u16, protocol: Protocol, host: &str, host_port: u16) -> PortRequest {
    PortRequest {
        container_port: container,
        protocol,
        host_address: Some(host.parse().unwrap()),
        host_ports: Some((host_port, host_port)),
    }
}

fn listen(namespace: &OwnedFd, at: &str) -> TcpListener {
    netns::in_netns(namespace, || TcpListener::bind(at).unwrap()).unwrap()
}

/// Connects from a namespace and returns whom the listener saw; `None` when nobody came.
fn reach(from: Option<&OwnedFd>, to: &str, listener: &TcpListener, patience: Duration) -> Option<SocketAddr> {
    let to: SocketAddr = to.parse().unwrap();
    let connect = || TcpStream::connect_timeout(&to, patience);
    let client = match from {
        Some(namespace) => netns::in_netns(namespace, connect).unwrap(),
        None => connect(),
    };
    let client = client.inspect_err(|error| eprintln!("connect {to}: {error}")).ok()?;
    // The client is connected a moment before the listener has it.
    wharf_sys::event::wait_readable(listener, Some(patience)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let accepted = listener.accept().ok();
    drop(client);
    accepted.map(|(_, peer)| peer)
}

fn peer_ip(from: Option<&OwnedFd>, to: &str, listener: &TcpListener) -> Option<String> {
    reach(from, to, listener, PATIENCE).map(|peer| peer.ip().to_string())
}

#[test]
fn containers_reach_each_other_and_the_world() {
    World::run(|world| {
        let fabric = world.open();
        let one = fabric.attach(&request("one", &[1], vec![])).unwrap();
        let two = fabric.attach(&request("two", &[1], vec![])).unwrap();
        assert_eq!(one.endpoints[0].address.unwrap().to_string(), "172.17.0.2/16");
        assert_eq!(two.endpoints[0].address.unwrap().to_string(), "172.17.0.3/16");
        assert_eq!(one.endpoints[0].interface, "eth0");
        let in_one = listen(&one.namespace, "0.0.0.0:80");
        assert_eq!(peer_ip(Some(&two.namespace), "172.17.0.2:80", &in_one).unwrap(), "172.17.0.3");
        assert_eq!(peer_ip(None, "172.17.0.2:80", &in_one).unwrap(), "172.17.0.1");
        let out = listen(&world.outside, "0.0.0.0:80");
        assert_eq!(peer_ip(Some(&one.namespace), "192.0.2.2:80", &out).unwrap(), "192.0.2.1");
        // Not published: no way in, although the machine outside has a route.
        assert!(reach(Some(&world.outside), "172.17.0.2:80", &in_one, IMPATIENCE).is_none());
        fabric.detach("one").unwrap();
        let three = fabric.attach(&request("three", &[1], vec![])).unwrap();
        assert_eq!(three.endpoints[0].address.unwrap().to_string(), "172.17.0.2/16");
        let in_three = listen(&three.namespace, "0.0.0.0:81");
        assert!(peer_ip(Some(&two.namespace), "172.17.0.2:81", &in_three).is_some(), "old neighbour entry");
        assert!(peer_ip(None, "172.17.0.2:81", &in_three).is_some(), "old neighbour entry");
        fabric.detach("two").unwrap();
        fabric.detach("three").unwrap();
        fabric.shut_down().unwrap();
    });
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    World::run(|world| {
        let fabric = world.open();
        let ports = vec![
            publish(80, Protocol::Tcp, "0.0.0.0", 8080),
            publish(80, Protocol::Tcp, "127.0.0.1", 8081),
            publish(53, Protocol::Udp, "192.0.2.1", 5353),
        ];
        let mut web = fabric.attach(&request("web", &[1], ports)).unwrap();
        assert_eq!(web.reservations.len(), 3);
        web.reservations.clear();
        let other = fabric.attach(&request("other", &[1], vec![])).unwrap();
        let server = listen(&web.namespace, "0.0.0.0:80");
        let seen = |from, to| peer_ip(from, to, &server);
        assert_eq!(seen(Some(&world.outside), "192.0.2.1:8080").unwrap(), "192.0.2.2");
        assert_eq!(seen(None, "192.0.2.1:8080").unwrap(), "192.0.2.1");
        assert_eq!(seen(None, "127.0.0.1:8080").unwrap(), "172.17.0.1");
        assert_eq!(seen(None, "127.0.0.1:8081").unwrap(), "172.17.0.1");
        assert_eq!(seen(Some(&web.namespace), "192.0.2.1:8080").unwrap(), "172.17.0.1", "itself");
        assert_eq!(seen(Some(&other.namespace), "172.17.0.1:8080").unwrap(), "172.17.0.1", "a neighbour");
        assert!(
            reach(Some(&world.outside), "192.0.2.1:8081", &server, IMPATIENCE).is_none(),
            "127.0.0.1 only"
        );
        udp_goes_both_ways(&web.namespace, &world.outside);
        fabric.detach("web").unwrap();
        assert!(reach(None, "127.0.0.1:8080", &server, IMPATIENCE).is_none());
        TcpListener::bind("0.0.0.0:8080").unwrap();
        fabric.detach("other").unwrap();
        fabric.shut_down().unwrap();
    });
}

fn udp_goes_both_ways(container: &OwnedFd, outside: &OwnedFd) {
    let server = netns::in_netns(container, || UdpSocket::bind("0.0.0.0:53").unwrap()).unwrap();
    let client = netns::in_netns(outside, || UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    client.connect("192.0.2.1:5353").unwrap();
    client.send(b"ask").unwrap();
    let mut buffer = [0; 16];
    let (_, peer) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(peer.ip().to_string(), "192.0.2.2");
    server.send_to(b"answer", peer).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 6);
}

#[test]
fn udp_clients_follow_the_published_port() {
    World::run(|world| {
        let fabric = world.open();
        let client = netns::in_netns(&world.outside, || UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        client.connect("192.0.2.1:5353").unwrap();
        // The first datagram goes to a program of the host, and the kernel remembers the flow.
        let early = UdpSocket::bind("192.0.2.1:5353").unwrap();
        early.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send(b"early").unwrap();
        early.recv(&mut [0; 16]).unwrap();
        drop(early);
        for _ in 0..2 {
            let ports = vec![publish(53, Protocol::Udp, "0.0.0.0", 5353)];
            let dns = fabric.attach(&request("dns", &[1], ports)).unwrap();
            let server = netns::in_netns(&dns.namespace, || UdpSocket::bind("0.0.0.0:53").unwrap()).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            client.send(b"ask").unwrap();
            assert_eq!(server.recv(&mut [0; 16]).unwrap(), 3);
            fabric.detach("dns").unwrap();
            // Nobody is there any more, above all not the next container with the address.
            let next = fabric.attach(&request("next", &[1], vec![])).unwrap();
            assert_eq!(next.endpoints[0].address, dns.endpoints[0].address);
            let other = netns::in_netns(&next.namespace, || UdpSocket::bind("0.0.0.0:53").unwrap()).unwrap();
            other.set_read_timeout(Some(IMPATIENCE)).unwrap();
            // An error is the refusal of an earlier datagram.
            let _ = client.send(b"ask");
            assert!(other.recv(&mut [0; 16]).is_err());
            let _ = client.send(b"ask");
            fabric.detach("next").unwrap();
        }
        fabric.shut_down().unwrap();
    });
}

#[test]
fn ports_conflict_in_dockers_words_and_nothing_is_left() {
    World::run(|world| {
        let fabric = world.open();
        let web = request("web", &[1], vec![publish(80, Protocol::Tcp, "127.0.0.1", 18080)]);
        fabric.attach(&web).unwrap();
        let mut second = request("second", &[1], vec![publish(80, Protocol::Tcp, "127.0.0.1", 18080)]);
        let error = fabric.attach(&second).unwrap_err().to_string();
        let id = second.endpoints[0].id.to_string();
        assert_eq!(
            error,
            format!(
                "driver failed programming external connectivity on endpoint second ({id}): \
                 Bind for 127.0.0.1:18080 failed: port is already allocated"
            )
        );
        let taken = TcpListener::bind("0.0.0.0:9000").unwrap();
        second.ports = vec![publish(80, Protocol::Tcp, "0.0.0.0", 9000)];
        let error = fabric.attach(&second).unwrap_err().to_string();
        assert!(
            error.ends_with("failed to bind host port 0.0.0.0:9000/tcp: address already in use"),
            "{error}"
        );
        drop(taken);
        let mut held = fabric.attach(&second).unwrap();
        held.reservations.clear();
        assert_eq!(
            held.endpoints[0].address.unwrap().to_string(),
            "172.17.0.3/16",
            "the failed ones kept no address"
        );
        assert!(TcpListener::bind("0.0.0.0:9000").is_err(), "held against other programs");
        second.container = "third".into();
        second.ports = vec![PortRequest { host_ports: None, ..publish(80, Protocol::Tcp, "0.0.0.0", 1) }];
        let any = fabric.attach(&second).unwrap();
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        assert_eq!(any.ports[0].host_port.to_string(), range.split_whitespace().next().unwrap());
        for container in fabric.containers() {
            fabric.detach(&container).unwrap();
        }
        fabric.shut_down().unwrap();
    });
}

#[test]
fn a_silenced_interface_keeps_no_address() {
    World::run(|world| {
        let fabric = world.open();
        let one = fabric.attach(&request("one", &[1], vec![])).unwrap();
        let sandbox = Sandbox::open(one.namespace.try_clone().unwrap()).unwrap();
        let inside = netns::in_netns(&one.namespace, || Channel::route().unwrap()).unwrap();
        let endpoint = &one.endpoints[0];
        assert_eq!(
            inside.addresses(endpoint.index, crate::addr::Family::V4).unwrap(),
            [endpoint.address.unwrap()]
        );
        for _ in 0..2 {
            sandbox.silence(endpoint.index, endpoint.addresses()).unwrap();
            assert!(inside.addresses(endpoint.index, crate::addr::Family::V4).unwrap().is_empty());
        }
        fabric.detach("one").unwrap();
        fabric.flush();
        assert!(inside.links().unwrap().iter().all(|link| link.kind != "veth"));
        sandbox.silence(endpoint.index, endpoint.addresses()).unwrap();
        fabric.shut_down().unwrap();
    });
}

#[test]
fn a_crash_harms_no_container_and_leaves_nothing() {
    World::run(|world| {
        let fabric = world.open();
        let ports = vec![publish(80, Protocol::Tcp, "0.0.0.0", 8080)];
        let web = fabric.attach(&request("web", &[1], ports)).unwrap();
        fabric.attach(&request("dead", &[1], vec![])).unwrap();
        std::fs::write(world.dir.path().join("netns/stray"), b"").unwrap();
        let host = Channel::route().unwrap();
        let mac = "02:00:00:00:00:03".parse().unwrap();
        let stray = [route::add_bridge("wtstray", mac, 1500), route::set_alias("wtstray", "wharftest")];
        host.run(&stray, "make", "wtstray").unwrap();
        let server = listen(&web.namespace, "0.0.0.0:80");
        drop(fabric);
        assert!(peer_ip(Some(&world.outside), "192.0.2.1:8080", &server).is_some(), "without a daemon");
        assert!(TcpListener::bind("0.0.0.0:8080").is_err(), "held by the shim");
        run("nft", &["flush", "ruleset"]);
        let fabric = world.open();
        assert!(host.link("wtstray").unwrap().is_none(), "a bridge of ours that no network has");
        fabric.retain(&BTreeSet::from(["web".to_owned()])).unwrap();
        assert_eq!(fabric.containers(), ["web"]);
        assert!(peer_ip(Some(&world.outside), "192.0.2.1:8080", &server).is_some(), "restored");
        fabric.adopt("web", web.reservations).unwrap();
        assert!(TcpListener::bind("0.0.0.0:8080").is_err(), "held again");
        let next = fabric.attach(&request("next", &[1], vec![])).unwrap();
        assert_eq!(next.endpoints[0].address.unwrap().to_string(), "172.17.0.3/16");
        fabric.detach("next").unwrap();
        // Shutting down with a live container leaves it reachable.
        fabric.shut_down().unwrap();
        assert!(peer_ip(Some(&world.outside), "192.0.2.1:8080", &server).is_some(), "after a shutdown");
        drop(fabric);
        // Nobody holds the port now: the first daemon to come finds a stranger there, the second holds it anew.
        assert!(is_freed(|| TcpListener::bind("0.0.0.0:8080").is_ok()), "held by nobody");
        let stranger = TcpListener::bind("0.0.0.0:8080").unwrap();
        let fabric = world.open();
        fabric.adopt("web", Vec::new()).unwrap();
        assert!(fabric.adopt("nosuch", Vec::new()).is_err());
        drop((fabric, stranger));
        let fabric = world.open();
        fabric.adopt("web", Vec::new()).unwrap();
        assert!(TcpListener::bind("0.0.0.0:8080").is_err(), "held anew");
        run("nft", &["flush", "ruleset"]);
        fabric.detach("web").unwrap();
        assert!(is_freed(|| TcpListener::bind("0.0.0.0:8080").is_ok()), "free at once");
        fabric.shut_down().unwrap();
    });
}

#[test]
fn networks_are_apart() {
    World::run(|world| {
        let fabric = world.open();
        let inner = BridgeSpec { internal: true, ..spec(3, "wt3") };
        let quiet = BridgeSpec { inter_container: false, ..spec(4, "wt4") };
        for spec in [spec(2, "wt2"), inner, quiet] {
            fabric.add_network(spec).unwrap();
        }
        assert!(matches!(fabric.add_network(spec(5, "wt2")), Err(Error::BridgeInUse(_))));
        let ports = vec![publish(80, Protocol::Tcp, "0.0.0.0", 8080)];
        let first = fabric.attach(&request("first", &[1], ports)).unwrap();
        let second = fabric.attach(&request("second", &[2], vec![])).unwrap();
        let server = listen(&first.namespace, "0.0.0.0:80");
        let other = listen(&first.namespace, "0.0.0.0:81");
        assert!(reach(Some(&second.namespace), "172.17.0.2:80", &server, IMPATIENCE).is_none(), "isolated");
        assert!(peer_ip(Some(&second.namespace), "192.0.2.1:8080", &server).is_some(), "published");
        let a = fabric.attach(&request("a", &[3], vec![])).unwrap();
        let b = fabric.attach(&request("b", &[3], vec![])).unwrap();
        let in_a = listen(&a.namespace, "0.0.0.0:80");
        let address = format!("{}:80", a.endpoints[0].address.unwrap().address());
        assert!(peer_ip(Some(&b.namespace), &address, &in_a).is_some(), "inside an internal network");
        let out = listen(&world.outside, "0.0.0.0:80");
        assert!(reach(Some(&a.namespace), "192.0.2.2:80", &out, IMPATIENCE).is_none(), "no way out");
        let c = fabric.attach(&request("c", &[4], vec![])).unwrap();
        let d = fabric.attach(&request("d", &[4], vec![])).unwrap();
        let in_c = listen(&c.namespace, "0.0.0.0:80");
        let address = format!("{}:80", c.endpoints[0].address.unwrap().address());
        assert!(reach(Some(&d.namespace), &address, &in_c, IMPATIENCE).is_none(), "ICC off");
        assert!(peer_ip(Some(&d.namespace), "192.0.2.2:80", &out).is_some(), "but the world");
        assert!(matches!(fabric.remove_network(&network_id(2)), Err(Error::NetworkBusy(_))));
        connecting_moves_ports(&fabric, &other);
        for container in fabric.containers() {
            fabric.detach(&container).unwrap();
        }
        for number in 2..=4 {
            fabric.remove_network(&network_id(number)).unwrap();
        }
        fabric.shut_down().unwrap();
    });
}

/// `first` is connected to network 2, then loses network 1, and its published port with the default route
/// moves over.
fn connecting_moves_ports(fabric: &Fabric, _keep: &TcpListener) {
    let extra = fabric.connect("first", &endpoint(2)).unwrap().endpoint;
    assert_eq!((extra.interface.as_str(), extra.is_default_route), ("eth1", false));
    let (endpoints, _) = fabric.endpoints("first").unwrap();
    fabric.disconnect("first", &endpoints[0].id).unwrap();
    let (endpoints, ports) = fabric.endpoints("first").unwrap();
    assert!(endpoints.len() == 1 && endpoints[0].is_default_route && ports.len() == 1);
    let bridges = run("nft", &["list", "set", "ip", "wharftest", "bridges"]);
    assert!(bridges.contains(r#""wt0""#) && !bridges.contains(r#""""#), "{bridges}");
    let table = run("nft", &["list", "map", "ip", "wharftest", "ports"]);
    assert!(table.contains(&endpoints[0].address.unwrap().address().to_string()), "{table}");
    assert!(matches!(fabric.disconnect("first", &extra_id()), Err(Error::UnknownEndpoint(_))));
}

fn extra_id() -> EndpointId {
    EndpointId::from_random([7; 32])
}

#[test]
fn loopback_of_the_host_is_closed_to_containers() {
    World::run(|world| {
        let fabric = world.open();
        let web = fabric.attach(&request("web", &[1], vec![])).unwrap();
        let secret = TcpListener::bind("127.0.0.1:7000").unwrap();
        // The way to the gateway is up before anything is concluded from silence.
        let open = TcpListener::bind("172.17.0.1:7001").unwrap();
        assert!(reach(Some(&web.namespace), "172.17.0.1:7001", &open, PATIENCE).is_some());
        // The container does what it can: no loopback of its own, and packets for 127.0.0.1 to the gateway.
        netns::in_netns(&web.namespace, || {
            crate::sysctl::set("ipv4/conf/eth0/route_localnet", "1").unwrap();
            let inside = Channel::route().unwrap();
            let local = "127.0.0.1/8".parse().unwrap();
            inside.run(&[route::delete_address(1, &local)], "delete", "127.0.0.1").unwrap();
        })
        .unwrap();
        assert!(reach(Some(&web.namespace), "127.0.0.1:7000", &secret, IMPATIENCE).is_none());
        let guard = run("nft", &["list", "chain", "ip", "wharftest", "guard"]);
        assert_eq!(guard.matches("packets 0").count(), 1, "only the other rule saw nothing: {guard}");
        fabric.detach("web").unwrap();
        fabric.shut_down().unwrap();
    });
}

#[test]
fn a_dropping_forward_policy_is_lived_with() {
    World::run(|world| {
        run("iptables", &["-P", "FORWARD", "DROP"]);
        let before = run("iptables", &["-S"]);
        let fabric = world.open();
        let ports = vec![publish(80, Protocol::Tcp, "0.0.0.0", 8080)];
        let web = fabric.attach(&request("web", &[1], ports)).unwrap();
        let server = listen(&web.namespace, "0.0.0.0:80");
        let out = listen(&world.outside, "0.0.0.0:80");
        let both = || {
            assert!(peer_ip(Some(&world.outside), "192.0.2.1:8080", &server).is_some());
            assert!(peer_ip(Some(&web.namespace), "192.0.2.2:80", &out).is_some());
        };
        both();
        let rules = run("iptables", &["-S"]);
        assert!(rules.contains("-A FORWARD -i wt0") && rules.contains("-A FORWARD -o wt0"), "{rules}");
        // Docker's chain appears: our rules move behind the administrator's.
        run("iptables", &["-N", "DOCKER-USER"]);
        run("iptables", &["-A", "DOCKER-USER", "-s", "192.0.2.99", "-j", "DROP"]);
        run("iptables", &["-A", "DOCKER-USER", "-j", "RETURN"]);
        run("iptables", &["-I", "FORWARD", "-j", "DOCKER-USER"]);
        for _ in 0..2 {
            fabric.lock().firewall.allow_beside_others();
        }
        both();
        let rules = run("iptables", &["-S", "DOCKER-USER"]);
        let order: Vec<_> = rules.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
        assert_eq!(order, ["DOCKER-USER", "DROP", "ACCEPT", "ACCEPT", "RETURN"], "{rules}");
        fabric.detach("web").unwrap();
        fabric.shut_down().unwrap();
        for undo in
            [&["-D", "FORWARD", "-j", "DOCKER-USER"][..], &["-F", "DOCKER-USER"], &["-X", "DOCKER-USER"]]
        {
            run("iptables", undo);
        }
        assert_eq!(run("iptables", &["-S"]), before);
    });
}

#[test]
fn namespaces_are_ready_ahead_and_bare_ones_have_no_network() {
    World::run(|world| {
        let fabric = world.open();
        let started = std::time::Instant::now();
        while fabric.pool.waiting() == 0 {
            assert!(started.elapsed() < Duration::from_secs(20), "the pool stays empty");
            std::thread::sleep(Duration::from_millis(1));
        }
        let bare =
            fabric.attach(&request("bare", &[], vec![publish(80, Protocol::Tcp, "0.0.0.0", 8080)])).unwrap();
        assert!(bare.ports.is_empty());
        let inside = netns::in_netns(&bare.namespace, || Channel::route().unwrap().links().unwrap()).unwrap();
        assert!(inside.iter().all(|link| link.kind != "veth"), "{inside:?}");
        assert_eq!(fabric.pool.waiting(), 1);
        fabric.detach("bare").unwrap();
        fabric.shut_down().unwrap();
    });
}
