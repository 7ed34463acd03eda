//! Records of Docker's own, and ours.

use super::*;
use wharf_spec::ContainerId;

const FIXNET: &str = r#"{"addrSpace":"LocalDefault","attachable":false,"configFrom":"","configOnly":false,"created":"2026-11-20T17:40:15.591882707Z","enableIPv6":false,"generic":{"com.docker.network.enable_ipv6":false,"com.docker.network.generic":{}},"id":"15d09a479c152e09297df8d25ab94571bfd0c2e174adc1d444d08cbdf74f4185","inDelete":false,"ingress":false,"internal":false,"ipamOptions":{},"ipamType":"default","ipamV4Config":"[{\"PreferredPool\":\"172.30.5.0/24\",\"SubPool\":\"\",\"Gateway\":\"\",\"AuxAddresses\":null}]","ipamV4Info":"[{\"IPAMData\":\"{\\\"AddressSpace\\\":\\\"LocalDefault\\\",\\\"Gateway\\\":\\\"172.30.5.1/24\\\",\\\"Pool\\\":\\\"172.30.5.0/24\\\"}\",\"PoolID\":\"LocalDefault/172.30.5.0/24\"}]","labels":{"net":"1"},"loadBalancerIP":"","loadBalancerMode":"NAT","name":"fixnet","networkType":"bridge","persist":true,"postIPv6":false,"scope":"local"}"#;
const ID: &str = "15d09a479c152e09297df8d25ab94571bfd0c2e174adc1d444d08cbdf74f4185";

fn bucket(records: &[(&[&str], &str)]) -> Bucket {
    let entry = |(parts, json): &(&[&str], &str)| {
        let value = [&7_u64.to_le_bytes()[..], json.as_bytes()].concat();
        (key(parts).into_bytes(), Entry::Value(value))
    };
    Bucket { sequence: 0, entries: records.iter().map(entry).collect() }
}

fn value(bucket: &Bucket, parts: &[&str]) -> Option<(u64, Value)> {
    match bucket.entries.get(key(parts).as_bytes())? {
        Entry::Value(value) => {
            let counter = u64::from_le_bytes(value[..8].try_into().unwrap());
            Some((counter, serde_json::from_slice(&value[8..]).unwrap()))
        }
        Entry::Bucket(_) => None,
    }
}

fn live(network: &NetworkId) -> Live {
    Live {
        container: ContainerId::from_random([1; 32]),
        name: "web".into(),
        sandbox: "5b".repeat(32),
        network: network.clone(),
        id: "e1".repeat(32),
        made: Some(wharf_network::Endpoint {
            network: network.clone(),
            id: wharf_spec::EndpointId::from_random([0xe1; 32]),
            interface: "eth0".into(),
            index: 2,
            host_interface: "veth1".into(),
            address: Some("172.30.5.2/24".parse().unwrap()),
            address_v6: None,
            mac: "02:42:ac:1e:05:02".parse().unwrap(),
            gateway: Some("172.30.5.1".parse().unwrap()),
            gateway_v6: None,
            is_default_route: true,
            is_default_route_v6: false,
            names: vec!["web".into()],
            links: Vec::new(),
            link_local: Vec::new(),
            sysctls: Vec::new(),
        }),
        dns_names: Some(vec!["web".into()]),
        aliases: vec!["ali".into()],
        exposed: vec!["80/tcp".parse().unwrap()],
        asked: vec![wharf_network::PortRequest {
            container_port: 80,
            protocol: wharf_network::Protocol::Tcp,
            host_address: Some("127.0.0.1".parse().unwrap()),
            host_ports: Some((18099, 18099)),
        }],
        published: vec![wharf_network::PortBinding {
            container_port: 80,
            protocol: wharf_network::Protocol::Tcp,
            host_address: "127.0.0.1".parse().unwrap(),
            host_port: 18099,
        }],
    }
}

#[test]
fn a_network_of_docker_is_read_and_left_as_it_is() {
    let foreign = r#"{"name":"vl","id":"ID2","networkType":"ipvlan","enableIPv6":false,"new":1}"#
        .replace("ID2", &"ab".repeat(32));
    let other = "ab".repeat(32);
    let old = bucket(&[
        (&["network", ID], FIXNET),
        (&["endpoint_count", ID], r#"{"Count":3}"#),
        (&["endpoint", ID, "e0"], r#"{"id":"e0","name":"stale"}"#),
        (&["bridge-endpoint", "e0"], r#"{"id":"e0"}"#),
        (&["sandbox", "5a"], &format!(r#"{{"ID":"5a","Eps":[{{"Eid":"e0","Nid":"{ID}"}}]}}"#)),
        (&["network", &other], &foreign),
        (&["endpoint", &other, "e9"], r#"{"id":"e9"}"#),
        (&["sandbox", "59"], &format!(r#"{{"ID":"59","Eps":[{{"Eid":"e9","Nid":"{other}"}}]}}"#)),
        (&["ipvlan", other.as_str()], "{}"),
        (&["overlay", "x"], "anything"),
        (&["network", "broken"], "no json"),
    ]);
    let mut networks = networks(&old);
    assert_eq!(networks.len(), 2);
    let fixnet = &networks[ID];
    let subnet = &fixnet.ipam.config.as_ref().unwrap()[0];
    assert_eq!((subnet.subnet.as_str(), subnet.gateway.as_str()), ("172.30.5.0/24", "172.30.5.1"));
    assert_eq!((fixnet.driver.as_str(), fixnet.labels.as_ref().unwrap()["net"].as_str()), ("bridge", "1"));

    let new = updated(&old, &networks, &[]);
    let same = |parts: &[&str]| {
        let key = key(parts).into_bytes();
        assert_eq!(new.entries.get(&key), old.entries.get(&key), "{parts:?}");
    };
    same(&["network", ID]);
    same(&["network", &other]);
    same(&["endpoint", &other, "e9"]);
    same(&["sandbox", "59"]);
    same(&["ipvlan", &other]);
    same(&["overlay", "x"]);
    same(&["network", "broken"]);
    for stale in [&["endpoint", ID, "e0"][..], &["bridge-endpoint", "e0"], &["sandbox", "5a"]] {
        assert_eq!(value(&new, stale), None, "{stale:?}");
    }
    assert_eq!(value(&new, &["endpoint_count", ID]), Some((8 + 1, json!({ "Count": 0 }))));
    let (_, bridge) = value(&new, &["bridge", ID]).unwrap();
    assert_eq!(bridge["AddressIPv4"], "172.30.5.1/24");
    assert_eq!(
        (&bridge["BridgeName"], &bridge["DefaultBindingIP"]),
        (&json!("br-15d09a479c15"), &json!("<nil>"))
    );
    assert_eq!(updated(&new, &networks, &[]), new, "writing again changes nothing");

    networks.remove(other.as_str());
    let without = updated(&new, &networks, &[]);
    assert!(!without.entries.keys().any(|key| String::from_utf8_lossy(key).contains(&other)));
    assert!(without.entries.contains_key(key(&["overlay", "x"]).as_bytes()));
}

#[test]
fn what_is_written_is_read_again_and_unknown_fields_stay() {
    let old = bucket(&[(&["network", ID], &FIXNET.replacen('{', r#"{"future":[1],"#, 1))]);
    let mut networks = networks(&old);
    let network = networks.get_mut(ID).unwrap();
    network.internal = true;
    let subnet = &mut network.ipam.config.as_mut().unwrap()[0];
    subnet.ip_range = "172.30.5.128/25".into();
    subnet.auxiliary_addresses.insert("router".into(), "172.30.5.9".into());
    let new = updated(&old, &networks, &[]);
    assert_eq!(self::networks(&new), networks);
    let (counter, record) = value(&new, &["network", ID]).unwrap();
    assert_eq!((counter, &record["future"]), (8, &json!([1])));
    let info = record["ipamV4Info"].as_str().unwrap();
    assert!(info.contains(r#"\"router\":\"172.30.5.9/24\""#), "{info}");
    assert!(info.contains(r#""PoolID":"LocalDefault/172.30.5.0/24/172.30.5.128/25""#), "{info}");
}

#[test]
fn what_runs_has_records_as_docker_writes_them() {
    let old = bucket(&[(&["network", ID], FIXNET)]);
    let networks = networks(&old);
    let network: NetworkId = ID.parse().unwrap();
    let new = updated(&old, &networks, &[live(&network)]);
    let id = "e1".repeat(32);
    let (_, endpoint) = value(&new, &["endpoint", ID, &id]).unwrap();
    assert_eq!(endpoint["ep_iface"]["addr"], "172.30.5.2/24");
    assert_eq!(endpoint["ep_iface"]["v4PoolID"], "LocalDefault/172.30.5.0/24");
    assert_eq!(endpoint["joinInfo"]["gw"], "172.30.5.1");
    assert_eq!(endpoint["sandbox"], "5b".repeat(32));
    let binding = json!({
        "Proto": 6, "IP": "172.30.5.2", "Port": 80, "HostIP": "127.0.0.1", "HostPort": 18099, "HostPortEnd": 18099,
    });
    let (_, bridge) = value(&new, &["bridge-endpoint", &id]).unwrap();
    assert_eq!(bridge["PortMapping"], json!([binding]));
    assert_eq!((&bridge["nid"], &bridge["SrcName"]), (&json!(ID), &json!("veth1")));
    let (_, sandbox) = value(&new, &["sandbox", &"5b".repeat(32)]).unwrap();
    assert_eq!(sandbox["Eps"], json!([{ "Eid": id, "Nid": ID }]));
    assert_eq!(value(&new, &["endpoint_count", ID]).unwrap().1, json!({ "Count": 1 }));
    let after = updated(&new, &networks, &[]);
    let left = after.entries.keys().filter(|key| String::from_utf8_lossy(key).contains(&id)).count();
    assert_eq!((left, value(&after, &["endpoint_count", ID]).unwrap().1), (0, json!({ "Count": 0 })));
}

#[test]
fn ipv6_is_written_as_docker_writes_it() {
    let (id, mut network) = super::super::table::new("six", "bridge");
    network.enable_ipv6 = true;
    let config = |subnet: &str, gateway: &str, range: &str| wharf_api::network::IpamConfig {
        subnet: subnet.into(),
        gateway: gateway.into(),
        ip_range: range.into(),
        ..Default::default()
    };
    let v6 = config("fd00:10::/64", "fd00:10::1", "fd00:10::100/120");
    network.ipam.config = Some(vec![config("10.9.0.0/24", "10.9.0.1", ""), v6]);
    network.options.as_mut().unwrap().insert(spec::GATEWAY_MODE_V6.into(), "routed".into());
    let networks: NetworkMap = [(id.clone(), network.clone())].into();
    let mut live = live(&id);
    let made = live.made.as_mut().unwrap();
    made.address_v6 = Some("fd00:10::102/64".parse().unwrap());
    made.gateway_v6 = Some("fd00:10::1".parse().unwrap());
    live.published
        .push(wharf_network::PortBinding { host_address: "::".parse().unwrap(), ..live.published[0] });
    let new = updated(&bucket(&[]), &networks, std::slice::from_ref(&live));
    let of = |parts: &[&str]| value(&new, parts).unwrap().1;
    let record = of(&["network", id.as_str()]);
    assert_eq!(
        record["ipamV6Info"],
        r#"[{"IPAMData":"{\"AddressSpace\":\"LocalDefault\",\"Gateway\":\"fd00:10::1/64\",\"Pool\":\"fd00:10::/64\"}","PoolID":"LocalDefault/fd00:10::/64/fd00:10::100/120"}]"#
    );
    assert_eq!((&record["enableIPv6"], &record["postIPv6"]), (&json!(true), &json!(false)));
    let bridge = of(&["bridge", id.as_str()]);
    assert_eq!(
        (&bridge["AddressIPv6"], &bridge["GwModeIPv6"], &bridge["EnableIPv6"]),
        (&json!("fd00:10::1/64"), &json!("routed"), &json!(true))
    );
    let endpoint = of(&["endpoint", id.as_str(), &live.id]);
    assert_eq!(endpoint["ep_iface"]["addrv6"], "fd00:10::102/64");
    assert_eq!(endpoint["ep_iface"]["v6PoolID"], "LocalDefault/fd00:10::/64/fd00:10::100/120");
    assert_eq!(endpoint["joinInfo"]["gw6"], "fd00:10::1");
    let bridge_endpoint = of(&["bridge-endpoint", &live.id]);
    assert_eq!(bridge_endpoint["Addrv6"], "fd00:10::102/64");
    assert_eq!(bridge_endpoint["PortMapping"][1]["IP"], "fd00:10::102");
    let read = super::networks(&new);
    assert_eq!(read[&id], network::persistent(&network));

    network.enable_ipv4 = false;
    network.ipam.config.as_mut().unwrap().remove(0);
    live.made.as_mut().unwrap().address = None;
    let new = updated(&bucket(&[]), &[(id.clone(), network)].into(), &[live.clone()]);
    let endpoint = value(&new, &["endpoint", id.as_str(), &live.id]).unwrap().1;
    assert_eq!((endpoint["ep_iface"].get("addr"), &endpoint["ep_iface"]["v4PoolID"]), (None, &json!("")));
    assert_eq!(value(&new, &["network", id.as_str()]).unwrap().1.get("ipamV4Info"), None);
}
