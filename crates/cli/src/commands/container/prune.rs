//! `docker container prune`.

use crate::{
    cli::Cli,
    client::{Call, Query},
    command::{Command, runs},
    commands::{cancelled, confirm, print, prune_filters, say},
    error::Result,
    flags::{Flag, Matches},
    opts::size,
};
use http::Method;
use wharf_api::{container::PruneReport, filters::Filters};

/// `docker container prune`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Remove all stopped containers",
    flags: &[FLAGS],
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::filter("filter", "Provide filter values (e.g. \"until=<timestamp>\")"),
    Flag::bool("force", "Do not prompt for confirmation").short('f'),
];

const WARNING: &str = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let filters = prune_filters(&cli, m.all("filter"));
    if !m.is("force") && !confirm(WARNING) {
        return Err(cancelled());
    }
    let (space, text) = prune(&cli, &filters).await?;
    if !text.is_empty() {
        print(&format!("{text}\n"));
    }
    say(&format!("Total reclaimed space: {}", size::human(space as f64)));
    Ok(())
}

/// Removes stopped containers: bytes won back, and what to say.
pub(crate) async fn prune(cli: &Cli, filters: &Filters) -> Result<(u64, String)> {
    let call = Call::new(Method::POST, "/containers/prune", Query::new().with_filters(filters));
    let report: PruneReport = cli.client().await?.fetch(call).await?;
    let deleted = report.containers_deleted.unwrap_or_default();
    if deleted.is_empty() {
        return Ok((0, String::new()));
    }
    let lines: String = deleted.iter().map(|id| format!("{id}\n")).collect();
    Ok((report.space_reclaimed, format!("Deleted Containers:\n{lines}")))
}
