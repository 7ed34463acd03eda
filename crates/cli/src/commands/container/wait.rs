//! `docker wait`.

use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    command::{Args, Command, runs},
    commands::say,
    error::{Result, join},
    flags::Matches,
};
use http::Method;
use wharf_api::container::WaitResponse;

/// `docker container wait`.
pub(crate) const COMMAND: Command = Command {
    usage: "CONTAINER [CONTAINER...]",
    about: "Block until one or more containers stop, then print their exit codes",
    also: "container wait, wait",
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    let mut errors = Vec::new();
    for name in &m.args {
        let call = Call::new(Method::POST, &format!("/containers/{}/wait", encode(name)), Query::new());
        match client.fetch::<WaitResponse>(call).await {
            Ok(response) => say(&response.status_code.to_string()),
            Err(error) => errors.push(error),
        }
    }
    join(errors)
}
