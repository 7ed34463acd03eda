//! Containers that ask for names, each test in a network namespace of its own that stands for the host.

use super::*;
use crate::{
    Attachment, BridgeSpec, Fabric, FabricConfig, SandboxRequest,
    fabric::tests::{World, request, spec},
};
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, ResourceRecord, TYPE, rdata::RData};
use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};
use tokio::runtime::Runtime;
use wharf_sys::netns;

const SERVER: &str = "127.0.0.11:53";

/// One that runs in the calling thread's network namespace, as its threads do.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn config(world: &World, runtime: &Runtime, networks: Vec<BridgeSpec>) -> FabricConfig {
    FabricConfig { runtime: Some(runtime.handle().clone()), ..world.config(networks) }
}

fn named(container: &str, networks: &[u8], names: &[&str]) -> SandboxRequest {
    let mut request = request(container, networks, Vec::new());
    for endpoint in &mut request.endpoints {
        endpoint.names = names.iter().map(|name| (*name).to_owned()).collect();
    }
    request
}

/// To a server outside, asked from the container.
fn outside() -> Forwarding {
    let upstream = Upstream { address: "192.0.2.2".parse().unwrap(), from_host: false };
    Forwarding { upstreams: vec![upstream], single_labels_stay: false }
}

fn query(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(77);
    packet.questions.push(Question::new(Name::new(name).unwrap(), kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().unwrap()
}

/// A socket of a container that waits for no answer longer than it must.
fn client(namespace: impl AsFd) -> UdpSocket {
    let open = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    };
    netns::in_netns(namespace, open).unwrap()
}

fn receive(socket: &UdpSocket) -> (RCODE, Vec<String>) {
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from.to_string(), SERVER, "answers come from where questions went");
    read(&buffer[..length])
}

fn read(bytes: &[u8]) -> (RCODE, Vec<String>) {
    let packet = Packet::parse(bytes).unwrap();
    assert_eq!(packet.id(), 77);
    let show = |record: &ResourceRecord<'_>| match &record.rdata {
        RData::A(a) => IpAddr::from(a.address.to_be_bytes()).to_string(),
        RData::PTR(name) => name.0.to_string(),
        other => format!("{other:?}"),
    };
    (packet.rcode(), packet.answers.iter().map(show).collect())
}

fn ask(namespace: impl AsFd, name: &str, kind: TYPE) -> (RCODE, Vec<String>) {
    let socket = client(namespace);
    socket.send_to(&query(name, kind), SERVER).unwrap();
    receive(&socket)
}

fn ask_over_tcp(namespace: impl AsFd, name: &str) -> (RCODE, Vec<String>) {
    let mut stream = netns::in_netns(namespace, || TcpStream::connect(SERVER).unwrap()).unwrap();
    stream.write_all(&framed(&query(name, TYPE::A))).unwrap();
    read(&unframed(&mut stream))
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn unframed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    message
}

/// A DNS server that answers everything with one address, once over each transport.
fn serve_outside(world: &World) -> [std::thread::JoinHandle<()>; 2] {
    let open = || (UdpSocket::bind("192.0.2.2:53").unwrap(), TcpListener::bind("192.0.2.2:53").unwrap());
    let (udp, tcp) = netns::in_netns(&world.outside, open).unwrap();
    let answer = |query: &[u8]| {
        let mut reply = Packet::parse(query).unwrap();
        reply.set_flags(PacketFlag::RESPONSE);
        let owner = reply.questions[0].qname.clone();
        let data = RData::A("9.9.9.9".parse::<std::net::Ipv4Addr>().unwrap().into());
        reply.answers.push(ResourceRecord::new(owner, CLASS::IN, 5, data));
        reply.build_bytes_vec().unwrap()
    };
    let over_udp = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let (length, from) = udp.recv_from(&mut buffer).unwrap();
        assert_eq!(from.ip().to_string(), "192.0.2.1", "the container asks, the host translates");
        udp.send_to(&answer(&buffer[..length]), from).unwrap();
    });
    let over_tcp = std::thread::spawn(move || {
        let mut stream = tcp.accept().unwrap().0;
        let query = unframed(&mut stream);
        stream.write_all(&framed(&answer(&query))).unwrap();
    });
    [over_udp, over_tcp]
}

fn held(attachment: &Attachment) -> Vec<OwnedFd> {
    attachment.reservations.iter().map(|fd| fd.try_clone().unwrap()).collect()
}

#[test]
fn containers_find_each_other_and_the_world_by_name() {
    World::run(|world| {
        let runtime = runtime();
        let internal = BridgeSpec { internal: true, ..spec(2, "wt1") };
        let fabric = Fabric::open(config(world, &runtime, vec![spec(1, "wt0"), internal])).unwrap();
        let web = fabric.attach(&named("c-web", &[1], &["web", "c1", "www"])).unwrap();
        let db = fabric.attach(&named("c-db", &[1], &["db"])).unwrap();
        let inner = fabric.attach(&named("c-inner", &[2], &["inner"])).unwrap();
        let bare = fabric.attach(&request("c-bare", &[1], Vec::new())).unwrap();
        assert!(web.embedded_dns && !bare.embedded_dns && bare.reservations.is_empty());
        for container in ["c-web", "c-db", "c-inner"] {
            fabric.serve_names(container, outside()).unwrap();
        }
        let address = |of: &Attachment| of.endpoints[0].address.unwrap().address().to_string();
        let found = |addresses: Vec<String>| (RCODE::NoError, addresses);
        for name in ["web", "WWW", "c1", "web.net1"] {
            assert_eq!(ask(&db.namespace, name, TYPE::A), found(vec![address(&web)]), "{name}");
        }
        assert_eq!(ask_over_tcp(&db.namespace, "web"), found(vec![address(&web)]));
        for kind in [TYPE::AAAA, TYPE::MX] {
            assert_eq!(ask(&db.namespace, "web", kind), found(vec![]), "known, without such records");
        }
        let mut reversed: Vec<String> = address(&web).split('.').map(str::to_owned).collect();
        reversed.reverse();
        let pointer = format!("{}.in-addr.arpa", reversed.join("."));
        assert_eq!(ask(&db.namespace, &pointer, TYPE::PTR), found(vec!["web.net1".into()]));

        let servers = serve_outside(world);
        assert_eq!(ask(&web.namespace, "example.org", TYPE::A), found(vec!["9.9.9.9".into()]));
        assert_eq!(ask_over_tcp(&web.namespace, "example.org"), found(vec!["9.9.9.9".into()]));
        servers.into_iter().for_each(|server| server.join().unwrap());
        let nothing = (RCODE::ServerFailure, vec![]);
        assert_eq!(ask(&inner.namespace, "web", TYPE::A), nothing, "another network, and no way out");

        let own = netns::in_netns(&web.namespace, || UdpSocket::bind("0.0.0.0:53")).unwrap();
        assert!(own.is_ok(), "port 53 is the container's");
        drop(own);
        fabric.rename("c-web", "shop", |_| vec!["shop".into()]).unwrap();
        assert_eq!(ask(&db.namespace, "shop", TYPE::A), found(vec![address(&web)]));
        for container in ["c-web", "c-db", "c-inner", "c-bare"] {
            fabric.detach(container).unwrap();
        }
        fabric.shut_down().unwrap();
    });
}

#[test]
fn questions_wait_for_the_next_daemon() {
    World::run(|world| {
        let runtime = runtime();
        let networks = vec![spec(1, "wt0")];
        let fabric = Fabric::open(config(world, &runtime, networks.clone())).unwrap();
        let web = fabric.attach(&named("c-web", &[1], &["web"])).unwrap();
        let db = fabric.attach(&named("c-db", &[1], &["db"])).unwrap();
        fabric.serve_names("c-web", outside()).unwrap();
        fabric.serve_names("c-db", outside()).unwrap();
        let (kept, asking) = (held(&web), client(&web.namespace));
        drop(fabric);
        drop(runtime);
        asking.send_to(&query("db", TYPE::A), SERVER).unwrap();

        let runtime = self::runtime();
        let fabric = Fabric::open(config(world, &runtime, networks)).unwrap();
        fabric.adopt("c-web", kept).unwrap();
        let answer = (RCODE::NoError, vec![db.endpoints[0].address.unwrap().address().to_string()]);
        assert_eq!(receive(&asking), answer, "asked while nobody listened");
        // The shim of the other one kept nothing.
        fabric.adopt("c-db", Vec::new()).unwrap();
        assert_eq!(ask(&db.namespace, "db", TYPE::A), answer);

        let plain = fabric.attach(&request("c-plain", &[], Vec::new())).unwrap();
        let mut more = named("x", &[1], &["plain"]).endpoints;
        let connected = fabric.connect("c-plain", &more.remove(0)).unwrap();
        assert_eq!(connected.held.len(), 2, "a container that had no names gets the server with its first");
        fabric.serve_names("c-plain", outside()).unwrap();
        assert_eq!(ask(&plain.namespace, "db", TYPE::A), answer);
        fabric.disconnect("c-plain", &connected.endpoint.id).unwrap();
        assert_eq!(ask(&plain.namespace, "db", TYPE::A).0, RCODE::ServerFailure);
        for container in ["c-web", "c-db", "c-plain"] {
            fabric.detach(container).unwrap();
        }
        fabric.shut_down().unwrap();
    });
}
