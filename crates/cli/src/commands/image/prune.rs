//! `docker image prune`.

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
use wharf_api::{filters::Filters, image::PruneReport};

/// `docker image prune`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Remove unused images",
    flags: &[FLAGS],
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("all", "Remove all unused images, not just dangling ones").short('a'),
    Flag::filter("filter", "Provide filter values (e.g. \"until=<timestamp>\")"),
    Flag::bool("force", "Do not prompt for confirmation").short('f'),
];

const DANGLING: &str = "WARNING! This will remove all dangling images.\nAre you sure you want to continue?";
const ALL: &str = "WARNING! This will remove all images without at least one container associated to them.\nAre you sure you want to continue?";

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let filters = prune_filters(&cli, m.all("filter"));
    if !m.is("force") && !confirm(if m.is("all") { ALL } else { DANGLING }) {
        return Err(cancelled());
    }
    let (space, text) = prune(&cli, filters, m.is("all")).await?;
    if !text.is_empty() {
        print(&format!("{text}\n"));
    }
    say(&format!("Total reclaimed space: {}", size::human(space as f64)));
    Ok(())
}

/// Removes images without a name, or all that no container uses: bytes won back, and what to say.
pub(crate) async fn prune(cli: &Cli, mut filters: Filters, all: bool) -> Result<(u64, String)> {
    filters.add("dangling", if all { "false" } else { "true" });
    let call = Call::new(Method::POST, "/images/prune", Query::new().with_filters(&filters));
    let report: PruneReport = cli.client().await?.fetch(call).await?;
    let items = report.images_deleted.unwrap_or_default();
    if items.is_empty() {
        return Ok((0, String::new()));
    }
    let line = |item: &wharf_api::image::DeleteItem| match item.untagged.as_str() {
        "" => format!("deleted: {}\n", item.deleted),
        untagged => format!("untagged: {untagged}\n"),
    };
    Ok((report.space_reclaimed, format!("Deleted Images:\n{}", items.iter().map(line).collect::<String>())))
}
