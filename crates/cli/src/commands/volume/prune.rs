//! `docker volume prune`.

use crate::{
    cli::Cli,
    client::{Call, Query},
    command::{Command, runs},
    commands::{cancelled, confirm, print, prune_filters, say},
    error::{Error, Result},
    flags::{Flag, Matches},
    opts::size,
};
use http::Method;
use wharf_api::{filters::Filters, volume::PruneReport};

/// `docker volume prune`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Remove unused local volumes",
    flags: &[FLAGS],
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("all", "Remove all unused volumes, not just anonymous ones").short('a'),
    Flag::filter("filter", "Provide filter values (e.g. \"label=<label>\")"),
    Flag::bool("force", "Do not prompt for confirmation").short('f'),
];

const ANONYMOUS: &str = "WARNING! This will remove anonymous local volumes not used by at least one container.\nAre you sure you want to continue?";
const ALL: &str = "WARNING! This will remove all local volumes not used by at least one container.\nAre you sure you want to continue?";

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let mut filters = prune_filters(&cli, m.all("filter"));
    // Before 1.42 named volumes were removed as well.
    let named_too = m.is("all") || !cli.client().await?.knows(1, 42);
    if m.is("all") {
        if filters.contains("all") {
            return Err(Error::text("conflicting options: cannot specify both --all and --filter all=1"));
        }
        filters.add("all", "true");
    }
    if !m.is("force") && !confirm(if named_too { ALL } else { ANONYMOUS }) {
        return Err(cancelled());
    }
    let (space, text) = prune(&cli, &filters).await?;
    if !text.is_empty() {
        print(&format!("{text}\n"));
    }
    say(&format!("Total reclaimed space: {}", size::human(space as f64)));
    Ok(())
}

/// Removes unused volumes: bytes won back, and what to say.
pub(crate) async fn prune(cli: &Cli, filters: &Filters) -> Result<(u64, String)> {
    let call = Call::new(Method::POST, "/volumes/prune", Query::new().with_filters(filters));
    let report: PruneReport = cli.client().await?.fetch(call).await?;
    if report.volumes_deleted.is_empty() {
        return Ok((0, String::new()));
    }
    let lines: String = report.volumes_deleted.iter().map(|name| format!("{name}\n")).collect();
    Ok((report.space_reclaimed, format!("Deleted Volumes:\n{lines}")))
}
