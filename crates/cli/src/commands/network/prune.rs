//! `docker network prune`.

use crate::{
    cli::Cli,
    client::{Call, Query},
    command::{Command, runs},
    commands::{cancelled, confirm, print, prune_filters},
    error::Result,
    flags::{Flag, Matches},
};
use http::Method;
use wharf_api::{filters::Filters, network::PruneReport};

/// `docker network prune`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Remove all unused networks",
    flags: &[FLAGS],
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::filter("filter", "Provide filter values (e.g. \"until=<timestamp>\")"),
    Flag::bool("force", "Do not prompt for confirmation").short('f'),
];

const WARNING: &str = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?";

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let filters = prune_filters(&cli, m.all("filter"));
    if !m.is("force") && !confirm(WARNING) {
        return Err(cancelled());
    }
    let text = prune(&cli, &filters).await?;
    if !text.is_empty() {
        print(&format!("{text}\n"));
    }
    Ok(())
}

/// Removes unused networks: what to say.
pub(crate) async fn prune(cli: &Cli, filters: &Filters) -> Result<String> {
    let call = Call::new(Method::POST, "/networks/prune", Query::new().with_filters(filters));
    let report: PruneReport = cli.client().await?.fetch(call).await?;
    let deleted = report.networks_deleted.unwrap_or_default();
    if deleted.is_empty() {
        return Ok(String::new());
    }
    let lines: String = deleted.iter().map(|name| format!("{name}\n")).collect();
    Ok(format!("Deleted Networks:\n{lines}"))
}
