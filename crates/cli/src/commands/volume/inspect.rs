//! `docker volume inspect`.

use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    command::{Args, Command, runs},
    error::Result,
    flags::{Flag, Matches},
    format::{INSPECT_FORMAT, inspect::inspect},
};
use http::Method;

/// `docker volume inspect`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Display detailed information on one or more volumes",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[Flag::text("format", INSPECT_FORMAT).short('f')];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    inspect(&m.args, m.text("format"), async |name| {
        client.fetch_raw(Call::new(Method::GET, &format!("/volumes/{}", encode(&name)), Query::new())).await
    })
    .await
}
