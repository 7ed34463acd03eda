//! `docker rm`.

use crate::{
    cli::Cli,
    client::{Query, encode},
    command::{Args, Command, runs},
    commands::each,
    error::{Error, Result},
    flags::{Flag, Matches},
};

/// `docker container rm`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Remove one or more containers",
    also: "container rm, container remove, rm",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("force", "Force the removal of a running container (uses SIGKILL)").short('f'),
    Flag::bool("link", "Remove the specified link").short('l'),
    Flag::bool("volumes", "Remove anonymous volumes associated with the container").short('v'),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let client = cli.client().await?;
    let query = || {
        Query::new()
            .with_switch("v", m.is("volumes"))
            .with_switch("link", m.is("link"))
            .with_switch("force", m.is("force"))
    };
    each(&m.args, async |name| {
        let bare = name.trim_matches('/');
        if bare.is_empty() {
            return Err(Error::text("container name cannot be empty"));
        }
        match client.delete(&format!("/containers/{}", encode(bare)), query()).await {
            // What is not there need not be removed.
            Err(error) if m.is("force") && error.is_not_found() => {
                eprintln!("{error}");
                Err(Error::exit(0))
            }
            result => result,
        }
    })
    .await
}
