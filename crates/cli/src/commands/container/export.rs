//! `docker export`.

use crate::{
    cli::Cli,
    client::{Call, Query, encode},
    command::{Args, Command, runs},
    commands::image::save::write_stream,
    error::Result,
    flags::{Flag, Matches},
};
use http::Method;

/// `docker container export`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER",
    about: "Export a container's filesystem as a tar archive",
    also: "container export, export",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[Flag::text("output", "Write to a file, instead of STDOUT").short('o')];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let call = Call::new(Method::GET, &format!("/containers/{}/export", encode(m.arg(0))), Query::new());
    write_stream(&cli, call, m.text("output"), "export container").await
}
