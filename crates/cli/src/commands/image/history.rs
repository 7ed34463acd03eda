//! `docker history`.

use crate::{
    cli::Cli,
    client::{Query, encode_path},
    command::{Args, Command, runs},
    error::Result,
    flags::{Flag, Matches},
    format::{
        LIST_FORMAT,
        list::{Columns, List, Row},
        text::{ago, ellipsis, local_rfc3339, short_id},
    },
    opts::{platform, size},
};
use wharf_api::image::HistoryItem;

/// `docker image history`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE",
    about: "Show the history of an image",
    also: "image history, history",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text("format", LIST_FORMAT),
    Flag::bool("human", "Print sizes and dates in human readable format (default true)").short('H'),
    Flag::bool("no-trunc", "Don't truncate output"),
    Flag::text(
        "platform",
        "Show history for the given platform. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    Flag::bool("quiet", "Only show image IDs").short('q'),
];

const COLUMNS: Columns = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// Times before 2000 are no times of people: reproducible builds use them.
const EPOCH: i64 = 946_684_800;

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let human = m.switch("human").unwrap_or(true);
    let time = if human { "{{.CreatedSince}}" } else { "{{.CreatedAt}}" };
    let table = match m.is("quiet") {
        true => "{{.ID}}".to_owned(),
        false => format!("table {{{{.ID}}}}\t{time}\t{{{{.CreatedBy}}}}\t{{{{.Size}}}}\t{{{{.Comment}}}}"),
    };
    let mut list = List::new(m.text("format"), &table, COLUMNS)?;
    let platform = platform::valid_parameter(m.text("platform"))?;
    let path = format!("/images/{}/history", encode_path(m.arg(0)));
    let query = Query::new().with_text("platform", &platform);
    let items: Vec<HistoryItem> = cli.client().await?.get(&path, query).await?;
    for item in &items {
        list.add(|row| fill(row, item, human, !m.is("no-trunc")))?;
    }
    list.print()
}

fn fill(row: &mut Row<'_>, item: &HistoryItem, human: bool, truncate: bool) {
    row.cell("ID", || if truncate { short_id(&item.id).to_owned() } else { item.id.clone() });
    row.cell("CreatedAt", || local_rfc3339(item.created));
    row.cell("CreatedSince", || match human {
        false => local_rfc3339(item.created),
        true if item.created <= EPOCH => "N/A".to_owned(),
        true => ago(item.created),
    });
    let by = item.created_by.replace('\t', " ");
    row.cell("CreatedBy", || if truncate { ellipsis(&by, 45) } else { by.clone() });
    row.cell("Size", || {
        if human { size::human_with_precision(item.size as f64, 3) } else { item.size.to_string() }
    });
    row.cell("Comment", || item.comment.clone());
}
