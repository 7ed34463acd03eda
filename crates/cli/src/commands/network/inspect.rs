//! `docker network inspect`.

use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    command::{Args, Command, runs},
    error::Result,
    flags::{Flag, Matches},
    format::{INSPECT_FORMAT, inspect::inspect},
};
use http::Method;

/// `docker network inspect`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    about: "Display detailed information on one or more networks",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text("format", INSPECT_FORMAT).short('f'),
    Flag::bool("verbose", "Verbose output for diagnostics").short('v'),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    inspect(&m.args, m.text("format"), async |name| {
        let query = Query::new().with_text("verbose", if m.is("verbose") { "true" } else { "" });
        client.fetch_raw(Call::new(Method::GET, &format!("/networks/{}", encode(&name)), query)).await
    })
    .await
}
