//! `docker network connect`.

use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    command::{Args, Command, runs},
    error::{Error, Result},
    flags::{Flag, Matches},
    opts::{hosts, keyvalue, network},
};
use http::Method;
use wharf_api::network::{ConnectRequest, EndpointIpamConfig, EndpointSettings};

/// `docker network connect`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Connect a container to a network",
    flags: &[FLAGS],
    args: Args::Exactly(2),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::strings("alias", "Add network-scoped alias for the container"),
    Flag::strings("driver-opt", "driver options for the network"),
    Flag::int(
        "gw-priority",
        "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
    ),
    Flag::text("ip", "IPv4 address (e.g., \"172.30.100.104\")").checked(network::check_ip),
    Flag::text("ip6", "IPv6 address (e.g., \"2001:db8::33\")").checked(network::check_ip),
    Flag::many("link", "Add link to another container").checked(hosts::check_link),
    Flag::strings("link-local-ip", "Add a link-local address for the container"),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let link_local = m.split("link-local-ip");
    let addresses = !m.text("ip").is_empty() || !m.text("ip6").is_empty() || !link_local.is_empty();
    let settings = EndpointSettings {
        ipam_config: addresses.then(|| EndpointIpamConfig {
            ipv4_address: m.string("ip"),
            ipv6_address: m.string("ip6"),
            link_local_ips: some(link_local),
        }),
        links: m.some("link"),
        aliases: some(m.split("alias")),
        driver_opts: m.given("driver-opt").then(|| keyvalue::map(&m.split("driver-opt"))),
        gw_priority: m.int("gw-priority"),
        ..EndpointSettings::default()
    };
    let request = ConnectRequest { container: m.arg(1).to_owned(), endpoint_config: Some(settings) };
    if request.container.is_empty() {
        return Err(Error::text("container name cannot be empty"));
    }
    let path = format!("/networks/{}/connect", encode(m.arg(0)));
    let call = Call::new(Method::POST, &path, Query::new()).json(&request)?;
    cli.client().await?.fetch_raw(call).await.map(drop)
}
