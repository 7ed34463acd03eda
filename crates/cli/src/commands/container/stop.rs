//! `docker stop`.

use crate::{
    cli::Cli,
    client::{Query, encode},
    command::{Args, Command, runs},
    commands::each,
    error::Result,
    flags::{Flag, Matches},
};

/// `docker container stop`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Stop one or more running containers",
    also: "container stop, stop",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text("signal", "Signal to send to the container").short('s'),
    Flag::int("timeout", "Seconds to wait before killing the container").short('t'),
    Flag::int("time", "").for_flag("timeout").deprecated("use --timeout instead"),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    let query = || Query::new().with_text("signal", m.text("signal")).with_text("t", m.text("timeout"));
    each(&m.args, async |name| client.post(&format!("/containers/{}/stop", encode(name)), query()).await)
        .await
}
