//! Networks as the API shows them, over real bridges in a network and a mount namespace of the test's own.

use super::*;
use crate::containers::{Container, Endpoint};
use std::path::{Path, PathBuf};
use wharf_api::{
    container::{HostConfig, PortBinding},
    network::{
        ConnectRequest, CreateRequest, DisconnectRequest, EndpointIpamConfig, EndpointSettings, Ipam,
        IpamConfig,
    },
};
use wharf_spec::ErrorKind;
use wharf_sys::{
    mount::set_propagation,
    netns,
    process::{Namespaces, unshare},
};

struct World {
    dir: PathBuf,
    index: Index,
    networks: Networks,
}

/// Runs a test with networks of its own, and sees that nothing is left in the kernel.
fn run(name: &str, test: impl AsyncFnOnce(&World) + Send) {
    let dir = std::env::temp_dir().join(format!("wharf-engine-networks-{name}-{}", std::process::id()));
    netns::in_netns(netns::create().unwrap(), || {
        unshare(Namespaces::MOUNT).unwrap();
        set_propagation("/".as_ref(), wharf_spec::plan::Propagation::RPrivate).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let index = Index::default();
            let networks = open(&dir, &index).await;
            let world = World { dir: dir.clone(), index, networks };
            test(&world).await;
            world.networks.shutdown().await;
        });
        let links = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        assert!(!links.contains("wenet0") && !links.contains("veth") && !links.contains("br-"), "{links}");
    })
    .unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

async fn open(dir: &Path, index: &Index) -> Networks {
    let mut config = Config { data_root: dir.join("data"), exec_root: dir.join("exec"), ..Config::default() };
    config.network.bridge_name = "wenet0".into();
    std::fs::create_dir_all(&config.data_root).unwrap();
    Networks::open(Arc::new(config), Events::new(), index.clone()).await.unwrap()
}

impl World {
    fn container(&self, name: &str, number: u8) -> Arc<Container> {
        let id = ContainerId::from_random([number; 32]);
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let name: wharf_spec::ContainerName = name.parse().unwrap();
        self.index.reserve(&name, &id).unwrap();
        let container = Container::new(dir, id, name, Default::default(), HostConfig::default());
        let container = Arc::new(container);
        self.index.add(Arc::clone(&container));
        container
    }

    async fn attach(&self, container: &Container, mode: &str, ports: capi::PortMap) -> Result<Attachment> {
        let request = AttachRequest {
            container: container.id.clone(),
            name: container.name().to_string(),
            hostname: "host".into(),
            domainname: String::new(),
            mode: mode.into(),
            networks: container.networks(),
            exposed_ports: vec!["53/udp".parse().unwrap()],
            port_bindings: ports,
            publish_all: false,
            links: Vec::new(),
            dns: Dns::default(),
            namespace: None,
        };
        let attachment = self.networks.attach(request).await?;
        container.update_networks(|record| *record = attachment.networks.clone());
        Ok(attachment)
    }

    async fn detach(&self, container: &Container) {
        let record = self.networks.detach(&container.id, container.networks()).await;
        container.update_networks(|networks| *networks = record);
    }
}

fn create(name: &str, subnet: &str) -> CreateRequest {
    let config = IpamConfig { subnet: subnet.into(), ..IpamConfig::default() };
    let config = Some(vec![config]).filter(|_| !subnet.is_empty());
    CreateRequest {
        name: name.into(),
        ipam: Some(Ipam { config, ..Ipam::default() }),
        ..CreateRequest::default()
    }
}

fn said<T: std::fmt::Debug>(result: Result<T>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn networks_are_made_shown_and_removed_as_docker_does() {
    run("verbs", async |world| {
        let networks = &world.networks;
        let filter =
            |text: &str| ListNetworks { filters: Filters::from_json(text).unwrap(), containers: false };
        let names = async |text: &str| -> Vec<String> {
            networks.list(filter(text)).await.unwrap().into_iter().map(|network| network.name).collect()
        };
        assert_eq!(names("").await, ["bridge", "host", "none"]);
        let bridge = networks.inspect("bridge", "").await.unwrap();
        let ipam = &bridge.ipam.config.as_ref().unwrap()[0];
        assert_eq!((ipam.subnet.as_str(), ipam.gateway.as_str()), ("172.17.0.0/16", "172.17.0.1"));
        assert_eq!(bridge.options.as_ref().unwrap().len(), 6);
        assert_eq!(networks.host_gateway()[0].to_string(), "172.17.0.1");

        let made = networks.create(create("acnet", "172.31.250.0/24")).await.unwrap();
        assert_eq!(networks.resolve(&made.id[..10]).unwrap().0, "acnet");
        assert_eq!(names(r#"{"type":["custom"]}"#).await, ["acnet"]);
        assert_eq!(names(r#"{"dangling":["true"]}"#).await, ["acnet"]);
        assert_eq!(names(r#"{"driver":["null"]}"#).await, ["none"]);
        let shown = networks.inspect("acnet", "").await.unwrap();
        assert_eq!(shown.ipam.config.unwrap()[0].gateway, "172.31.250.1");
        assert_eq!(shown.containers.unwrap().len(), 0);

        assert_eq!(
            said(networks.create(create("acnet", "")).await),
            (ErrorKind::Conflict, "network with name acnet already exists".into())
        );
        assert_eq!(
            said(networks.create(create("", "")).await),
            (ErrorKind::InvalidArgument, "invalid name: name is empty".into())
        );
        let driver = CreateRequest { driver: "nosuch".into(), ..create("x1", "") };
        assert_eq!(
            said(networks.create(driver).await),
            (ErrorKind::NotFound, "plugin \"nosuch\" not found".into())
        );
        assert_eq!(
            said(networks.create(create("bridge", "")).await),
            (ErrorKind::Forbidden, "operation is not permitted on predefined bridge network ".into())
        );
        assert_eq!(
            said(networks.create(create("x2", "172.31.250.128/25")).await),
            (
                ErrorKind::Forbidden,
                "invalid pool request: Pool overlaps with other one on this address space".into()
            )
        );
        assert_eq!(
            said(networks.remove("bridge").await),
            (ErrorKind::Forbidden, "bridge is a pre-defined network and cannot be removed".into())
        );
        assert_eq!(
            said(networks.list(filter(r#"{"type":["weird"]}"#)).await),
            (ErrorKind::System, "invalid filter: 'type'='weird'".into())
        );
        assert_eq!(said(networks.list(filter(r#"{"nosuch":["1"]}"#)).await).1, "invalid filter 'nosuch'");
        networks.create(create("second", "")).await.unwrap();
        networks.remove("acnet").await.unwrap();
        assert_eq!(
            said(networks.inspect("acnet", "").await),
            (ErrorKind::NotFound, "network acnet not found".into())
        );
        let pruned = networks.prune(Filters::default()).await.unwrap();
        assert_eq!(pruned.networks_deleted.unwrap(), ["second"]);
        assert_eq!(networks.prune(Filters::default()).await.unwrap().networks_deleted, None);
    });
}

#[test]
fn a_container_joins_and_leaves() {
    run("join", async |world| {
        let networks = &world.networks;
        networks.create(create("acnet", "172.31.250.0/24")).await.unwrap();
        let web = world.container("an1", 1);
        let asked = EndpointIpamConfig { ipv4_address: "172.31.250.77".into(), ..Default::default() };
        let settings = EndpointSettings {
            ipam_config: Some(asked),
            aliases: Some(vec!["alias".into()]),
            ..Default::default()
        };
        let bad = EndpointIpamConfig { ipv4_address: "10.1.1.1".into(), ..Default::default() };
        let bad = EndpointSettings { ipam_config: Some(bad), ..Default::default() };
        assert_eq!(
            said(networks.validate_endpoint("acnet", &bad)),
            (
                ErrorKind::InvalidArgument,
                "invalid config for network acnet: invalid endpoint settings:\nno configured subnet contains IP \
                 address 10.1.1.1"
                    .into()
            )
        );
        web.update_networks(|record| {
            record.networks.insert("acnet".into(), Endpoint { settings, ..Endpoint::default() })
        });
        let published = PortBinding { host_ip: "0.0.0.0".into(), host_port: "18080".into() };
        let ports: capi::PortMap = [("80/tcp".parse().unwrap(), Some(vec![published.clone()]))].into();
        let attachment = world.attach(&web, "acnet", ports).await.unwrap();
        assert!(attachment.netns.is_some());
        let record = web.networks();
        let endpoint = &record.networks["acnet"].settings;
        assert_eq!((endpoint.ip_address.as_str(), endpoint.ip_prefix_len), ("172.31.250.77", 24));
        assert_eq!(endpoint.gateway, "172.31.250.1");
        let names = endpoint.dns_names.clone().unwrap();
        assert_eq!(names, ["an1", "alias", web.id.short(), "host"]);
        let shown = record.ports.clone().unwrap();
        assert_eq!(shown[&"80/tcp".parse().unwrap()], Some(vec![published]));
        assert_eq!(shown[&"53/udp".parse().unwrap()], None);
        assert!(Path::new(&record.sandbox_key).exists() && record.sandbox_id.len() == 64);
        let members = networks.inspect("acnet", "").await.unwrap().containers.unwrap();
        assert_eq!(members[web.id.as_str()].ipv4_address, "172.31.250.77/24");
        let id = &endpoint.endpoint_id[..12];
        let busy = format!(
            "error while removing network: network acnet has active endpoints (name:\"an1\" id:\"{id}\")"
        );
        assert_eq!(said(networks.remove("acnet").await), (ErrorKind::Forbidden, busy));
        world.detach(&web).await;
        let record = web.networks();
        assert!(record.sandbox_id.is_empty() && record.ports.is_none());
        assert_eq!(record.networks["acnet"].settings.ip_address, "");
        assert!(record.networks["acnet"].settings.ipam_config.is_some(), "what was asked for stays");
        networks.remove("acnet").await.unwrap();
    });
}

#[test]
fn connecting_a_container_that_does_not_run_only_notes_it() {
    run("connect", async |world| {
        let networks = &world.networks;
        networks.create(create("acnet", "")).await.unwrap();
        world.container("an1", 1);
        let to = |container: &str| ConnectRequest { container: container.into(), endpoint_config: None };
        networks.connect("acnet", to("an1")).await.unwrap();
        networks.connect("acnet", to("an1")).await.unwrap();
        assert_eq!(
            said(networks.connect("host", to("an1")).await),
            (
                ErrorKind::InvalidArgument,
                "cannot connect container to host network - container must be created in host network mode"
                    .into()
            )
        );
        assert_eq!(said(networks.connect("nosuch", to("an1")).await).1, "network nosuch not found");
        assert_eq!(said(networks.connect("acnet", to("nosuch")).await).1, "No such container: nosuch");
        let from = || DisconnectRequest { container: "an1".into(), force: false };
        networks.disconnect("acnet", from()).await.unwrap();
        assert_eq!(said(networks.disconnect("acnet", from()).await).0, ErrorKind::System);
    });
}

#[test]
fn networks_and_their_ids_survive_a_restart() {
    run("restart", async |world| {
        let created = world.networks.create(create("kept", "")).await.unwrap();
        let before = world.networks.inspect("bridge", "").await.unwrap();
        let web = world.container("web", 1);
        world.attach(&web, "bridge", capi::PortMap::new()).await.unwrap();
        world.networks.shutdown().await;
        let again = open(&world.dir, &world.index).await;
        assert_eq!(again.inspect("bridge", "").await.unwrap().id, before.id);
        assert_eq!(again.resolve("kept").unwrap().1.as_str(), created.id);
        again.restore(&web.id, &web.networks(), Vec::new()).await.unwrap();
        again.collect_leftovers(std::slice::from_ref(&web.id)).await;
        assert_eq!(again.inspect("bridge", "").await.unwrap().containers.unwrap().len(), 1);
        again.collect_leftovers(&[]).await;
        assert!(again.restore(&web.id, &web.networks(), Vec::new()).await.is_err());
        again.shutdown().await;
    });
}

#[test]
fn none_and_host_have_records_only() {
    run("records", async |world| {
        let (lonely, host) = (world.container("lonely", 1), world.container("onhost", 2));
        let attachment = world.attach(&lonely, "none", capi::PortMap::new()).await.unwrap();
        assert!(attachment.netns.is_some() && attachment.addresses.is_empty());
        assert!(lonely.networks().networks["none"].settings.endpoint_id.len() == 64);
        let attachment = world.attach(&host, "host", capi::PortMap::new()).await.unwrap();
        assert!(attachment.netns.is_none());
        assert!(host.networks().sandbox_key.ends_with("netns/default"));
        world.detach(&host).await;
        world.detach(&lonely).await;
    });
}
