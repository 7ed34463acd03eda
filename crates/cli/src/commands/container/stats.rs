//! `docker stats`.

use crate::{
    cli::Cli,
    client::{Call, Client, Query, encode},
    command::{Args, Command, runs},
    commands::print,
    error::{Error, Result},
    flags::{Flag, Matches},
    format::{
        LIST_FORMAT,
        list::{Columns, List, Row},
        text::short_id,
    },
    opts::size,
};
use http::Method;
use wharf_api::container::{StatsResponse, Summary};

/// `docker container stats`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] [CONTAINER...]",
    about: "Display a live stream of container(s) resource usage statistics",
    also: "container stats, stats",
    flags: &[FLAGS],
    args: Args::AtLeast(0),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("all", "Show all containers (default shows just running)").short('a'),
    Flag::text("format", LIST_FORMAT),
    Flag::bool("no-stream", "Disable streaming stats and only pull the first result"),
    Flag::bool("no-trunc", "Do not truncate output"),
];

const COLUMNS: Columns = &[
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("ID", "CONTAINER ID"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

const TABLE: &str = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// Erases from the cursor to the end of the line, and of the screen.
const ERASE_LINE: &str = "\x1b[K\n";
const HOME: &str = "\x1b[H";
const ERASE_BELOW: &str = "\x1b[J";

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    let asked =
        if m.given("format") { m.string("format") } else { cli.config().text("statsFormat").to_owned() };
    loop {
        let names = if m.args.is_empty() { running(client, m.is("all")).await? } else { m.args.clone() };
        let mut list = List::new(&asked, TABLE, COLUMNS)?;
        let samples = futures_util::future::join_all(names.iter().map(|name| sample(client, name))).await;
        for (name, sample) in names.iter().zip(samples) {
            match sample {
                Ok(stats) => list.add(|row| fill(row, name, &stats, !m.is("no-trunc")))?,
                Err(error) if m.args.is_empty() && error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let text = list.finish()?;
        if m.is("no-stream") {
            print(&text);
            return Ok(());
        }
        print(&format!("{HOME}{}{ERASE_BELOW}", text.replace('\n', ERASE_LINE)));
    }
}

async fn running(client: &Client, all: bool) -> Result<Vec<String>> {
    let containers: Vec<Summary> =
        client.get("/containers/json", Query::new().with_switch("all", all)).await?;
    Ok(containers.into_iter().map(|c| c.id).collect())
}

/// Takes the daemon a second, in which it measures.
async fn sample(client: &Client, name: &str) -> std::result::Result<StatsResponse, Error> {
    let path = format!("/containers/{}/stats", encode(name));
    client.fetch(Call::new(Method::GET, &path, Query::new().with("stream", "0"))).await
}

fn fill(row: &mut Row<'_>, asked: &str, stats: &StatsResponse, truncate: bool) {
    let (id, name) = (&stats.id, &stats.name);
    row.cell("Container", || if truncate { short_id(asked).to_owned() } else { asked.to_owned() });
    row.cell("Name", || match name.trim_start_matches('/') {
        "" => "--".to_owned(),
        name => name.to_owned(),
    });
    row.cell("ID", || if truncate { short_id(id).to_owned() } else { id.clone() });
    row.cell("CPUPerc", || format!("{:.2}%", cpu_percent(stats)));
    let memory = memory_used(stats);
    let limit = stats.memory_stats.limit as f64;
    row.cell("MemUsage", || format!("{} / {}", size::binary(memory), size::binary(limit)));
    row.cell("MemPerc", || format!("{:.2}%", if limit > 0.0 { memory / limit * 100.0 } else { 0.0 }));
    let networks = || stats.networks.values();
    let pair = |a: u64, b: u64| {
        format!("{} / {}", size::human_with_precision(a as f64, 3), size::human_with_precision(b as f64, 3))
    };
    row.cell("NetIO", || pair(networks().map(|n| n.rx_bytes).sum(), networks().map(|n| n.tx_bytes).sum()));
    let blocks = |letter: char| {
        let entries = stats.blkio_stats.io_service_bytes_recursive.iter().flatten();
        entries.filter(|e| e.op.to_lowercase().starts_with(letter)).map(|e| e.value).sum::<u64>()
    };
    row.cell("BlockIO", || pair(blocks('r'), blocks('w')));
    row.cell("PIDs", || stats.pids_stats.current.to_string());
}

fn cpu_percent(stats: &StatsResponse) -> f64 {
    let (now, before) = (&stats.cpu_stats, &stats.precpu_stats);
    let used = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let system = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let cpus = f64::from(now.online_cpus.max(1));
    if system > 0.0 && used > 0.0 { used / system * cpus * 100.0 } else { 0.0 }
}

/// Without the page cache that could be given up at once.
fn memory_used(stats: &StatsResponse) -> f64 {
    let usage = stats.memory_stats.usage;
    let field = |name: &str| stats.memory_stats.stats.get(name).copied();
    let cache =
        field("total_inactive_file").or_else(|| field("inactive_file")).filter(|c| *c < usage).unwrap_or(0);
    (usage - cache) as f64
}
