//! `docker pause`.

use crate::{
    cli::Cli,
    client::{Query, encode},
    command::{Args, Command, runs},
    commands::each,
    error::Result,
    flags::Matches,
};

/// `docker container pause`.
pub(crate) const COMMAND: Command = Command {
    usage: "CONTAINER [CONTAINER...]",
    about: "Pause all processes within one or more containers",
    also: "container pause, pause",
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    each(&m.args, async |name| {
        client.post(&format!("/containers/{}/pause", encode(name)), Query::new()).await
    })
    .await
}
