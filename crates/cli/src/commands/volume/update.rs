//! `docker volume update`.

use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    command::{Args, Command, runs},
    error::{Error, Result},
    flags::{Flag, Matches},
};
use http::Method;

/// `docker volume update`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] VOLUME",
    about: "Update a volume (cluster volumes only)",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] =
    &[Flag::text("availability", "Cluster Volume availability (\"active\", \"pause\", \"drain\")")];

/// No volume here is a cluster's (source: docker/cli `cli/command/volume/update.go`).
async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    let path = format!("/volumes/{}", encode(&m.args[0]));
    client.fetch_raw(Call::new(Method::GET, &path, Query::new())).await?;
    Err(Error::text("Can only update cluster volumes".to_owned()))
}
