//! `docker logout`.

use crate::{
    cli::Cli,
    command::{Args, Command, runs},
    commands::say,
    error::Result,
    flags::Matches,
};
use std::collections::BTreeMap;
use wharf_registry::{DOCKER_HUB_AUTH_KEY, host_of};

/// `docker logout`.
pub(crate) const COMMAND: Command = Command {
    usage: "[SERVER]",
    about: "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
    args: Args::AtMost(1),
    action: runs!(run),
    ..Command::LEAF
};

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let (shown, keys) = match m.arg(0) {
        "" => (DOCKER_HUB_AUTH_KEY.to_owned(), vec![DOCKER_HUB_AUTH_KEY.to_owned()]),
        server => {
            let host = host_of(server).to_owned();
            // Older clients kept credentials under any of these.
            let keys = [server.to_owned(), host.clone(), format!("http://{host}"), format!("https://{host}")];
            (host, keys.into())
        }
    };
    say(&format!("Removing login credentials for {shown}"));
    let mut credentials = cli.config().credentials();
    let mut failures = BTreeMap::new();
    for key in &keys {
        if let Err(error) = credentials.erase(key) {
            failures.insert(key, format!("{key}: {error}"));
        }
    }
    // It is enough that one of them is gone, and no failure in any case. As in Docker, a host that was given as
    // it is kept counts twice among the keys and once among the failures, so that nothing is said of it.
    if failures.len() == keys.len() {
        let failures: Vec<String> = failures.into_values().collect();
        eprintln!("WARNING: could not erase credentials:\n{}", failures.join("\n"));
    }
    Ok(())
}
