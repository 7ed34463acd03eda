//! `docker search`.

use crate::{
    cli::Cli,
    client::{Call, Query},
    command::{Args, Command, runs},
    error::Result,
    flags::{Flag, Matches},
    format::{
        list::{Columns, List, Row},
        text::ellipsis,
    },
    opts::filter,
};
use http::Method;
use wharf_api::image::SearchResult;
use wharf_registry::AuthConfig;

/// `docker search`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] TERM",
    about: "Search Docker Hub for images",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::filter("filter", "Filter output based on conditions provided").short('f'),
    Flag::text("format", "Pretty-print search using a Go template"),
    Flag::int("limit", "Max number of search results"),
    Flag::bool("no-trunc", "Don't truncate output"),
];

const COLUMNS: Columns =
    &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("StarCount", "STARS"), ("IsOfficial", "OFFICIAL")];

const TABLE: &str = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
/// Columns of a description that is cut.
const DESCRIPTION: usize = 45;

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let filters = filter::filters(m.all("filter"));
    if filters.contains("is-automated") {
        eprintln!(
            "WARNING: the \"is-automated\" filter is deprecated, and searching for \"is-automated=true\" will not yield any results in future."
        );
    }
    let term = m.arg(0);
    // A search needs no credentials: what goes wrong with them is no matter.
    let auth = cli.config().auth(host(term)).unwrap_or_else(|_| AuthConfig::default());
    let limit = match m.int("limit") {
        0 => String::new(),
        limit => limit.to_string(),
    };
    let query = Query::new().with("term", term).with_text("limit", &limit).with_filters(&filters);
    let call = Call::new(Method::GET, "/images/search", query).header("x-registry-auth", auth.to_header());
    let results: Vec<SearchResult> = cli.client().await?.fetch(call).await?;
    let mut list = List::new(m.text("format"), TABLE, COLUMNS)?;
    let as_json = matches!(m.text("format"), "json") || m.text("format").contains("json .");
    for result in &results {
        list.add(|row| fill(row, result, !m.is("no-trunc"), as_json))?;
    }
    list.print()
}

/// The registry of a search term (docker/cli: `ParseSearchIndexInfo`).
fn host(term: &str) -> &str {
    match term.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

fn fill(row: &mut Row<'_>, result: &SearchResult, truncate: bool, as_json: bool) {
    let description = result.description.replace(['\n', '\r'], " ");
    row.cell("Name", || result.name.clone());
    row.cell("Description", || if truncate { ellipsis(&description, DESCRIPTION) } else { description });
    row.cell("StarCount", || result.star_count.to_string());
    row.cell("IsOfficial", || match (result.is_official, as_json) {
        (official, true) => official.to_string(),
        (true, false) => "[OK]".to_owned(),
        (false, false) => String::new(),
    });
}
