//! `docker container inspect`.

use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    command::{Args, Command, runs},
    error::Result,
    flags::{Flag, Matches},
    format::{INSPECT_FORMAT, inspect::inspect},
};
use http::Method;

/// `docker container inspect`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Display detailed information on one or more containers",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text("format", INSPECT_FORMAT).short('f'),
    Flag::bool("size", "Display total file sizes").short('s'),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    inspect(&m.args, m.text("format"), async |name| {
        let query = Query::new().with_switch("size", m.is("size"));
        client.fetch_raw(Call::new(Method::GET, &format!("/containers/{}/json", encode(&name)), query)).await
    })
    .await
}
