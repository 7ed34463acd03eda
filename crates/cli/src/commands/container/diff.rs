//! `docker diff`.

use crate::{
    cli::Cli,
    client::{Query, encode},
    command::{Args, Command, runs},
    commands::say,
    error::Result,
    flags::Matches,
};
use wharf_api::container::FilesystemChange;

/// `docker container diff`.
pub(crate) const COMMAND: Command = Command {
    usage: "CONTAINER",
    about: "Inspect changes to files or directories on a container's filesystem",
    also: "container diff, diff",
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let path = format!("/containers/{}/changes", encode(m.arg(0)));
    let changes: Option<Vec<FilesystemChange>> = cli.client().await?.get(&path, Query::new()).await?;
    for change in changes.unwrap_or_default() {
        let kind = match change.kind {
            0 => 'C',
            1 => 'A',
            _ => 'D',
        };
        say(&format!("{kind} {}", change.path));
    }
    Ok(())
}
