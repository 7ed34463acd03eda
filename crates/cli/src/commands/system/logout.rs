//! `docker logout`.

use super::login::server;
use crate::{
    cli::Cli,
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::Matches,
};

/// `docker logout`.
pub(crate) const COMMAND: Command = Command {
    usage: "[SERVER]",
    about: "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
    args: Args::AtMost(1),
    action: runs!(run),
    ..Command::LEAF
};

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let server = server(m.arg(0));
    let shown = if server == "docker.io" { wharf_registry::DOCKER_HUB_AUTH_KEY } else { server.as_str() };
    let mut credentials = cli.config().credentials();
    say(&format!("Removing login credentials for {shown}"));
    match credentials.erase(&server) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::text(format!("WARNING: could not erase credentials: {error}"))),
    }
}
