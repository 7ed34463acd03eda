//! `docker rename`.

use crate::{
    cli::Cli,
    client::{Query, encode},
    command::{Args, Command, runs},
    error::{Error, Result},
    flags::Matches,
};

/// `docker container rename`.
pub(crate) const COMMAND: Command = Command {
    usage: "CONTAINER NEW_NAME",
    about: "Rename a container",
    also: "container rename, rename",
    args: Args::Exactly(2),
    action: runs!(run),
    ..Command::LEAF
};

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let (old, new) = (m.arg(0).trim(), m.arg(1).trim());
    if old.is_empty() || new.is_empty() {
        return Err(Error::text("Error: Neither old nor new names may be empty"));
    }
    let path = format!("/containers/{}/rename", encode(old));
    cli.client()
        .await?
        .post(&path, Query::new().with("name", new))
        .await
        .map_err(|error| Error::text(format!("{error}\nError: failed to rename container named {old}")))
}
