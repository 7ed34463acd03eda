//! `docker network ls`.

use crate::{
    cli::Cli,
    client::Query,
    command::{Command, runs},
    error::Result,
    flags::{Flag, Matches},
    format::{
        LIST_FORMAT,
        list::{Columns, List, Row},
        text::{natural_order, short_id, utc_time},
    },
    opts::filter,
};
use wharf_api::network::Network;

/// `docker network ls`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "List networks",
    also: "network ls, network list",
    flags: &[FLAGS],
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::filter("filter", "Provide filter values (e.g. \"driver=bridge\")").short('f'),
    Flag::text("format", LIST_FORMAT),
    Flag::bool("no-trunc", "Do not truncate the output"),
    Flag::bool("quiet", "Only display network IDs").short('q'),
];

const COLUMNS: Columns = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

const TABLE: &str = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let quiet = m.is("quiet");
    let asked = match m.text("format") {
        "" if !quiet => cli.config().text("networksFormat").to_owned(),
        format => format.to_owned(),
    };
    let format = match asked.as_str() {
        "raw" if quiet => "network_id: {{.ID}}",
        "raw" => "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
        other => other,
    };
    let mut list = List::new(format, if quiet { "{{.ID}}" } else { TABLE }, COLUMNS)?;
    let query = Query::new().with_filters(&filter::filters(m.all("filter")));
    let mut networks: Vec<Network> = cli.client().await?.get("/networks", query).await?;
    networks.sort_by(|a, b| natural_order(&a.name, &b.name));
    for network in &networks {
        list.add(|row| fill(row, network, !m.is("no-trunc")))?;
    }
    list.print()
}

fn fill(row: &mut Row<'_>, network: &Network, truncate: bool) {
    row.cell("ID", || if truncate { short_id(&network.id).to_owned() } else { network.id.clone() });
    row.cell("Name", || network.name.clone());
    row.cell("Driver", || network.driver.clone());
    row.cell("Scope", || network.scope.clone());
    row.cell("IPv4", || network.enable_ipv4.to_string());
    row.cell("IPv6", || network.enable_ipv6.to_string());
    row.cell("Internal", || network.internal.to_string());
    row.labels(network.labels.as_ref());
    row.cell("CreatedAt", || utc_time(network.created.0));
}
