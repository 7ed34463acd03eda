//! `docker network rm`.

use crate::{
    cli::Cli,
    client::{Query, encode},
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
};

/// `docker network rm`.
pub(crate) const COMMAND: Command = Command {
    usage: "NETWORK [NETWORK...]",
    about: "Remove one or more networks",
    also: "network rm, network remove",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[Flag::bool("force", "Do not error if the network does not exist").short('f')];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    let mut failed = false;
    for name in &m.args {
        match client.delete(&format!("/networks/{}", encode(name)), Query::new()).await {
            Ok(()) => say(name),
            Err(error) if m.is("force") && error.is_not_found() => {}
            Err(error) => {
                eprintln!("{error}");
                failed = true;
            }
        }
    }
    if failed { Err(Error::text("exit status 1")) } else { Ok(()) }
}
