//! `docker volume ls`.

use crate::{
    cli::Cli,
    client::Query,
    command::{Command, runs},
    error::Result,
    flags::{Flag, Matches},
    format::{
        LIST_FORMAT,
        list::{Columns, List, Row},
        text::natural_order,
    },
    opts::{filter, size},
};
use wharf_api::volume::{ListResponse, Volume};

/// `docker volume ls`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "List volumes",
    also: "volume ls, volume list",
    flags: &[FLAGS],
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("cluster", "Display only cluster volumes, and use cluster volume list formatting"),
    Flag::filter("filter", "Provide filter values (e.g. \"dangling=true\")").short('f'),
    Flag::text("format", LIST_FORMAT),
    Flag::bool("quiet", "Only display volume names").short('q'),
];

pub(crate) const COLUMNS: Columns = &[
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Group", "GROUP"),
    ("Availability", "AVAILABILITY"),
    ("Status", "STATUS"),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let quiet = m.is("quiet");
    let asked = match m.text("format") {
        "" if !quiet => cli.config().text("volumesFormat").to_owned(),
        format => format.to_owned(),
    };
    let format = match asked.as_str() {
        "raw" if quiet => "name: {{.Name}}",
        "raw" => "name: {{.Name}}\ndriver: {{.Driver}}\n",
        other => other,
    };
    let default = if quiet { "{{.Name}}" } else { "table {{.Driver}}\t{{.Name}}" };
    let mut list = List::new(format, default, COLUMNS)?;
    let query = Query::new().with_filters(&filter::filters(m.all("filter")));
    let mut response: ListResponse = cli.client().await?.get("/volumes", query).await?;
    response.volumes.sort_by(|a, b| natural_order(&a.name, &b.name));
    for volume in &response.volumes {
        list.add(|row| fill(row, volume))?;
    }
    list.print()
}

/// The cells of a volume.
pub(crate) fn fill(row: &mut Row<'_>, volume: &Volume) {
    let unknown = || "N/A".to_owned();
    row.cell("Name", || volume.name.clone());
    row.cell("Driver", || volume.driver.clone());
    row.cell("Scope", || volume.scope.clone());
    row.cell("Mountpoint", || volume.mountpoint.clone());
    row.labels(volume.labels.as_ref());
    row.cell("Links", || volume.usage_data.as_ref().map_or_else(unknown, |u| u.ref_count.to_string()));
    row.cell("Size", || volume.usage_data.as_ref().map_or_else(unknown, |u| size::human(u.size as f64)));
    for field in ["Group", "Availability", "Status"] {
        row.cell(field, unknown);
    }
}
