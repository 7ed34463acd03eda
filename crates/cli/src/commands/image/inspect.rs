//! `docker image inspect`.

use crate::{
    cli::Cli,
    client::{Call, Query, encode_path},
    command::{Args, Command, runs},
    error::Result,
    flags::{Flag, Matches},
    format::{INSPECT_FORMAT, inspect::inspect},
    opts::platform,
};
use http::Method;

/// `docker image inspect`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Display detailed information on one or more images",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text("format", INSPECT_FORMAT).short('f'),
    Flag::text(
        "platform",
        "Inspect a specific platform of the multi-platform image.\nIf the image or the server is not multi-platform capable, the command will error out if the platform does not match.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)",
    ),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let platform = platform::parameter(m.text("platform"))?;
    let client = cli.client().await?;
    inspect(&m.args, m.text("format"), async |name| {
        let query = Query::new().with_text("platform", &platform);
        client.fetch_raw(Call::new(Method::GET, &format!("/images/{}/json", encode_path(&name)), query)).await
    })
    .await
}
