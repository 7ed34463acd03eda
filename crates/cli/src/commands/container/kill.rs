//! `docker kill`.

use crate::{
    cli::Cli,
    client::{Query, encode},
    command::{Args, Command, runs},
    commands::each,
    error::Result,
    flags::{Flag, Matches},
};

/// `docker container kill`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Kill one or more running containers",
    also: "container kill, kill",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[Flag::text("signal", "Signal to send to the container").short('s')];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    let query = || Query::new().with_text("signal", m.text("signal"));
    each(&m.args, async |name| client.post(&format!("/containers/{}/kill", encode(name)), query()).await)
        .await
}
