//! `docker ps`.

use crate::{
    cli::Cli,
    client::Query,
    command::{Command, runs},
    error::Result,
    flags::{Flag, Matches},
    format::{
        LIST_FORMAT,
        list::{Columns, List, Row},
        text::{ago, ellipsis, local_time, quote, short_id},
    },
    opts::{filter, size},
};
use std::collections::BTreeMap;
use wharf_api::container::{PortSummary, Summary};
use wharf_spec::ImageRef;

/// `docker container ls`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "List containers",
    also: "container ls, container list, container ps, ps",
    flags: &[FLAGS],
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("all", "Show all containers (default shows just running)").short('a'),
    Flag::filter("filter", "Filter output based on conditions provided").short('f'),
    Flag::text("format", LIST_FORMAT),
    Flag::int("last", "Show n last created containers (includes all states) (default -1)").short('n'),
    Flag::bool("latest", "Show the latest created container (includes all states)").short('l'),
    Flag::bool("no-trunc", "Don't truncate output"),
    Flag::bool("quiet", "Only display container IDs").short('q'),
    Flag::bool("size", "Display total file sizes").short('s'),
];

pub(crate) const COLUMNS: Columns = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("HealthStatus", "HEALTH STATUS"),
];

const TABLE: &str =
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n";

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let quiet = m.is("quiet");
    let asked = if m.given("format") { m.string("format") } else { cli.config().text("psFormat").to_owned() };
    if quiet && m.given("format") {
        eprintln!("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let (format, default) = format(&asked, quiet, m.is("size"));
    let mut list = List::new(&format, &default, COLUMNS)?;
    let with_size = m.switch("size").unwrap_or_else(|| !quiet && list.asks_for(".Size"));
    let last = if m.given("last") { m.int("last") } else { -1 };
    let limit = if m.is("latest") && last == -1 { 1 } else { last };
    let query = Query::new()
        .with_switch("all", m.is("all"))
        .with_text("limit", &if limit > 0 { limit.to_string() } else { String::new() })
        .with_switch("size", with_size)
        .with_filters(&filter::filters(m.all("filter")));
    let containers: Vec<Summary> = cli.client().await?.get("/containers/json", query).await?;
    for container in containers {
        list.add(|row| fill(row, &container, !m.is("no-trunc")))?;
    }
    list.print()
}

/// The format asked for and the one that stands for the table.
fn format(asked: &str, quiet: bool, size: bool) -> (String, String) {
    let table = format!("{TABLE}{}", if size { "\t{{.Size}}" } else { "" });
    match asked {
        "raw" if quiet => ("container_id: {{.ID}}".to_owned(), table),
        "raw" => (format!("{RAW}{}", if size { "size: {{.Size}}\n" } else { "" }), table),
        _ if quiet => ("{{.ID}}".to_owned(), table),
        other => (other.to_owned(), table),
    }
}

/// The cells of a container.
pub(crate) fn fill(row: &mut Row<'_>, c: &Summary, truncate: bool) {
    row.cell("ID", || if truncate { short_id(&c.id).to_owned() } else { c.id.clone() });
    row.cell("Names", || names(&c.names, truncate));
    row.cell("Image", || image(c, truncate));
    row.cell("Command", || quote(&if truncate { ellipsis(&c.command, 20) } else { c.command.clone() }));
    row.cell("CreatedAt", || local_time(c.created));
    row.cell("RunningFor", || ago(c.created));
    row.cell("Ports", || displayable_ports(&c.ports));
    row.cell("State", || c.state.clone());
    row.cell("Status", || c.status.clone());
    row.cell("Size", || container_size(c));
    row.labels(Some(&c.labels));
    row.cell("Mounts", || mounts(c, truncate));
    row.cell("LocalVolumes", || c.mounts.iter().filter(|m| m.driver == "local").count().to_string());
    row.cell("Networks", || {
        let networks = c.network_settings.iter().flat_map(|n| n.networks.keys().cloned());
        networks.collect::<Vec<_>>().join(",")
    });
    row.null("Platform");
    row.cell("HealthStatus", || match &c.health {
        Some(health) if !health.status.is_empty() => health.status.clone(),
        _ => health(&c.status),
    });
}

fn names(names: &[String], truncate: bool) -> String {
    let mut bare = names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    if truncate {
        return bare.find(|name| !name.contains('/')).unwrap_or_default().to_owned();
    }
    bare.collect::<Vec<_>>().join(",")
}

fn image(c: &Summary, truncate: bool) -> String {
    if c.image.is_empty() {
        return "<no image>".to_owned();
    }
    if !truncate {
        return c.image.clone();
    }
    let short = short_id(&c.image_id);
    if !short.is_empty() && short == short_id(&c.image) {
        return short.to_owned();
    }
    match c.image.parse::<ImageRef>() {
        Ok(reference) => reference.without_digest().familiar_string(),
        Err(_) => c.image.clone(),
    }
}

fn container_size(c: &Summary) -> String {
    let (rw, root) = (c.size_rw, c.size_root_fs);
    let writable = size::human_with_precision(rw as f64, 3);
    if root > 0 {
        return format!("{writable} (virtual {})", size::human_with_precision(root as f64, 3));
    }
    writable
}

fn mounts(c: &Summary, truncate: bool) -> String {
    let name = |m: &wharf_api::container::MountPoint| {
        let name = if m.name.is_empty() { &m.source } else { &m.name };
        if truncate { ellipsis(name, 15) } else { name.clone() }
    };
    c.mounts.iter().map(name).collect::<Vec<_>>().join(",")
}

/// What stands in brackets at the end of `Up 2 minutes (healthy)`.
fn health(status: &str) -> String {
    let inner = status.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or_default();
    let inner = inner.strip_prefix("health: ").unwrap_or(inner);
    if matches!(inner, "healthy" | "unhealthy" | "starting") { inner.to_owned() } else { String::new() }
}

/// `0.0.0.0:80->9090/tcp, 9988/tcp`: ports in a row are one range.
pub(crate) fn displayable_ports(ports: &[PortSummary]) -> String {
    let mut ports: Vec<&PortSummary> = ports.iter().collect();
    let address = |p: &PortSummary| p.ip.parse::<std::net::IpAddr>().ok();
    ports.sort_by(|a, b| {
        let key = |p: &PortSummary| (p.private_port, address(p), p.public_port, p.protocol.clone());
        key(a).cmp(&key(b))
    });
    let mut open: BTreeMap<String, usize> = BTreeMap::new();
    let (mut groups, mut mappings): (Vec<(String, u16, u16)>, Vec<String>) = (Vec::new(), Vec::new());
    let mut finished = Vec::new();
    for port in ports {
        let key = match port.ip.is_empty() {
            true => port.protocol.clone(),
            false if port.public_port != port.private_port => {
                let host = join_host(&port.ip, &port.public_port.to_string());
                mappings.push(format!("{host}->{}/{}", port.private_port, port.protocol));
                continue;
            }
            false => format!("{}/{}", port.ip, port.protocol),
        };
        match open.get(&key).map(|at| &mut groups[*at]) {
            Some(group) if port.private_port == group.2 + 1 => group.2 = port.private_port,
            Some(group) => {
                finished.push(group_text(group));
                (group.1, group.2) = (port.private_port, port.private_port);
            }
            None => {
                open.insert(key.clone(), groups.len());
                groups.push((key, port.private_port, port.private_port));
            }
        }
    }
    finished.extend(groups.iter().map(group_text));
    finished.extend(mappings);
    finished.join(", ")
}

fn group_text((key, first, last): &(String, u16, u16)) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match key.rsplit_once('/') {
        Some((ip, kind)) => format!("{}->{range}/{kind}", join_host(ip, &range)),
        None => format!("{range}/{key}"),
    }
}

fn join_host(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, private: u16, public: u16, kind: &str) -> PortSummary {
        PortSummary { ip: ip.into(), private_port: private, public_port: public, protocol: kind.into() }
    }

    #[test]
    fn ports_are_shown_as_docker_does() {
        let shown = |ports: &[PortSummary]| displayable_ports(ports);
        assert_eq!(shown(&[port("", 9988, 0, "tcp")]), "9988/tcp");
        assert_eq!(
            shown(&[port("0.0.0.0", 9090, 80, "tcp"), port("::", 9090, 80, "tcp")]),
            "0.0.0.0:80->9090/tcp, [::]:80->9090/tcp"
        );
        assert_eq!(
            shown(&[port("", 9988, 0, "tcp"), port("", 9989, 0, "tcp"), port("", 99, 0, "udp")]),
            "99/udp, 9988-9989/tcp"
        );
        assert_eq!(
            shown(&[port("1.2.3.4", 80, 80, "tcp"), port("1.2.3.4", 81, 81, "tcp")]),
            "1.2.3.4:80-81->80-81/tcp"
        );
        assert_eq!(shown(&[port("", 1, 0, "tcp"), port("", 3, 0, "tcp")]), "1/tcp, 3/tcp");
    }

    #[test]
    fn names_of_links_are_left_out() {
        let all = ["/web/db".to_owned(), "/db".to_owned()];
        assert_eq!((names(&all, true).as_str(), names(&all, false).as_str()), ("db", "web/db,db"));
        assert_eq!(health("Up 2 minutes (health: starting)"), "starting");
        assert_eq!(health("Exited (0) 2 minutes ago"), "");
    }
}
