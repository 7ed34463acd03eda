//! `docker top`.

use crate::{
    cli::Cli,
    client::{Query, encode},
    command::{Args, Command, runs},
    commands::print,
    error::Result,
    flags::Matches,
    format::table::{Tabs, align},
};
use wharf_api::container::TopResponse;

/// `docker container top`.
pub(crate) const COMMAND: Command = Command {
    usage: "CONTAINER [ps OPTIONS]",
    about: "Display the running processes of a container",
    also: "container top, top",
    args: Args::AtLeast(1),
    interspersed: false,
    action: runs!(run),
    ..Command::LEAF
};

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let query = Query::new().with_text("ps_args", &m.args[1..].join(" "));
    let path = format!("/containers/{}/top", encode(m.arg(0)));
    let list: TopResponse = cli.client().await?.get(&path, query).await?;
    let mut text = format!("{}\n", list.titles.join("\t"));
    for process in list.processes {
        text.push_str(&process.join("\t"));
        text.push('\n');
    }
    print(&align(&text, Tabs { min: 20, padding: 3 }));
    Ok(())
}
