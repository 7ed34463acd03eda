//! `docker network disconnect`.

use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    command::{Args, Command, runs},
    error::Result,
    flags::{Flag, Matches},
};
use http::Method;
use wharf_api::network::DisconnectRequest;

/// `docker network disconnect`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Disconnect a container from a network",
    flags: &[FLAGS],
    args: Args::Exactly(2),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[Flag::bool("force", "Force the container to disconnect from a network").short('f')];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let request = DisconnectRequest { container: m.arg(1).to_owned(), force: m.is("force") };
    let path = format!("/networks/{}/disconnect", encode(m.arg(0)));
    let call = Call::new(Method::POST, &path, Query::new()).json(&request)?;
    cli.client().await?.fetch_raw(call).await.map(drop)
}
