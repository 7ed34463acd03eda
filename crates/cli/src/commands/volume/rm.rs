//! `docker volume rm`.

use crate::{
    cli::Cli,
    client::{Query, encode},
    command::{Args, Command, runs},
    commands::say,
    error::{Result, join},
    flags::{Flag, Matches},
};

/// `docker volume rm`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    also: "volume rm, volume remove",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[Flag::bool("force", "Force the removal of one or more volumes").short('f')];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    let mut errors = Vec::new();
    for name in &m.args {
        let query = Query::new().with_switch("force", m.is("force"));
        match client.delete(&format!("/volumes/{}", encode(name)), query).await {
            Ok(()) => say(name),
            Err(error) => errors.push(error),
        }
    }
    join(errors)
}
