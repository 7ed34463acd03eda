//! `docker system prune`.

use crate::{
    cli::Cli,
    client::{Call, Query},
    command::{Command, runs},
    commands::{cancelled, confirm, container, image, network, print, prune_filters, say, volume},
    error::{Error, Result},
    flags::{Flag, Matches},
    format::text::natural_order,
    opts::size,
};
use http::Method;
use wharf_api::{build_cache::PruneReport, filters::Filters};

/// `docker system prune`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Remove unused data",
    flags: &[FLAGS],
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("all", "Remove all unused images not just dangling ones").short('a'),
    Flag::filter("filter", "Provide filter values (e.g. \"label=<key>=<value>\")"),
    Flag::bool("force", "Do not prompt for confirmation").short('f'),
    Flag::bool("volumes", "Prune anonymous volumes"),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let filters = prune_filters(&cli, m.all("filter"));
    let with_volumes = m.is("volumes");
    if with_volumes && filters.contains("until") {
        return Err(Error::text("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    if !m.is("force") && !confirm(&warning(&filters, m.is("all"), with_volumes)) {
        return Err(cancelled());
    }
    let mut total = 0;
    let mut tell = |(space, text): (u64, String)| {
        total += space;
        if !text.is_empty() {
            print(&format!("{text}\n"));
        }
    };
    tell(container::prune::prune(&cli, &filters).await?);
    tell((0, network::prune::prune(&cli, &filters).await?));
    if with_volumes {
        tell(volume::prune::prune(&cli, &filters).await?);
    }
    tell(image::prune::prune(&cli, filters.clone(), m.is("all")).await?);
    tell(build_cache(&cli, &filters, m.is("all")).await?);
    say(&format!("Total reclaimed space: {}", size::human(total as f64)));
    Ok(())
}

async fn build_cache(cli: &Cli, filters: &Filters, all: bool) -> Result<(u64, String)> {
    let query = Query::new().with_switch("all", all).with_filters(filters);
    let report: PruneReport =
        cli.client().await?.fetch(Call::new(Method::POST, "/build/prune", query)).await?;
    let deleted = report.caches_deleted.unwrap_or_default();
    if deleted.is_empty() {
        return Ok((report.space_reclaimed, String::new()));
    }
    let lines: String = deleted.iter().map(|id| format!("{id}\n")).collect();
    Ok((report.space_reclaimed, format!("Deleted build cache objects:\n{lines}")))
}

fn warning(filters: &Filters, all: bool, with_volumes: bool) -> String {
    let mut lines = vec!["all stopped containers", "all networks not used by at least one container"];
    if with_volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    lines.push(if all { "all build cache" } else { "unused build cache" });
    let lines: String = lines.iter().map(|line| format!("\n  - {line}")).collect();
    let mut items: Vec<String> = ["label", "label!", "until"]
        .iter()
        .flat_map(|name| filters.get(name).map(move |value| format!("{name}={value}")))
        .collect();
    items.sort_by(|a, b| natural_order(a, b));
    let filters = match items.is_empty() {
        true => String::new(),
        false => {
            let lines: String = items.iter().map(|item| format!("\n  - {item}")).collect();
            format!("\n\n  Items to be pruned will be filtered with:{lines}")
        }
    };
    format!("WARNING! This will remove:{lines}{filters}\n\nAre you sure you want to continue?")
}
