//! `docker builder prune`.

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
use wharf_api::build_cache::PruneReport;

/// `docker builder prune`.
pub(crate) const COMMAND: Command =
    Command { usage: "", about: "Remove build cache", flags: &[FLAGS], action: runs!(run), ..Command::LEAF };

const FLAGS: &[Flag] = &[
    Flag::bool("all", "Remove all unused build cache, not just dangling ones").short('a'),
    Flag::filter("filter", "Provide filter values (e.g. \"until=24h\")"),
    Flag::bool("force", "Do not prompt for confirmation").short('f'),
    Flag::bytes("keep-storage", "Amount of disk space to keep for cache"),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let what = if m.is("all") { "all build cache" } else { "all dangling build cache" };
    let warning = format!("WARNING! This will remove {what}. Are you sure you want to continue?");
    if !m.is("force") && !confirm(&warning) {
        return Err(cancelled());
    }
    let keep = if m.given("keep-storage") { m.bytes("keep-storage").to_string() } else { String::new() };
    let query = Query::new()
        .with_switch("all", m.is("all"))
        .with_text("keep-storage", &keep)
        .with_filters(&prune_filters(&cli, m.all("filter")));
    let report: PruneReport =
        cli.client().await?.fetch(Call::new(Method::POST, "/build/prune", query)).await?;
    let deleted = report.caches_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        let lines: String = deleted.iter().map(|id| format!("{id}\n")).collect();
        print(&format!("Deleted build cache objects:\n{lines}\n"));
    }
    say(&format!("Total reclaimed space: {}", size::human(report.space_reclaimed as f64)));
    Ok(())
}
