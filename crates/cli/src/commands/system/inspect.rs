//! `docker inspect`: whatever has this name.

use crate::{
    cli::Cli,
    client::{Call, Client, Query, encode, encode_path},
    command::{Args, Command, runs},
    error::{Error, Result},
    flags::{Flag, Matches},
    format::{INSPECT_FORMAT, inspect::inspect},
};
use bytes::Bytes;
use http::Method;

/// `docker inspect`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    about: "Return low-level information on Docker objects",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text("format", INSPECT_FORMAT).short('f'),
    Flag::bool("size", "Display total file sizes if the type is container").short('s'),
    Flag::text("type", "Only inspect objects of the given type"),
];

const TYPES: [&str; 10] =
    ["config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume"];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let kind = m.text("type");
    let choices = TYPES.join("\", \"");
    if m.given("type") && kind.is_empty() {
        return Err(Error::text(format!("type is empty: must be one of \"{choices}\"")));
    }
    if !kind.is_empty() && !TYPES.contains(&kind) {
        return Err(Error::text(format!("unknown type: {kind:?}: must be one of \"{choices}\"")));
    }
    let client = cli.client().await?;
    inspect(&m.args, m.text("format"), async |name| {
        if kind.is_empty() {
            any(client, &name, m.is("size")).await
        } else {
            one(client, kind, &name, m.is("size")).await
        }
    })
    .await
}

async fn one(client: &Client, kind: &str, name: &str, size: bool) -> Result<Bytes> {
    let path = match kind {
        "container" => format!("/containers/{}/json", encode(name)),
        "image" => format!("/images/{}/json", encode_path(name)),
        "plugin" => format!("/plugins/{}/json", encode_path(name)),
        kind => format!("/{kind}s/{}", encode(name)),
    };
    let query = Query::new().with_switch("size", size && kind == "container");
    client.fetch_raw(Call::new(Method::GET, &path, query)).await
}

async fn any(client: &Client, name: &str, size: bool) -> Result<Bytes> {
    for kind in ["container", "image", "network", "volume", "plugin"] {
        match one(client, kind, name, size).await {
            Err(Error::Daemon { status: 404 | 501 | 503, .. }) => {}
            // A name that cannot be one of this kind may be one of another.
            Err(Error::Daemon { status: 400, .. }) => {}
            result => return result,
        }
    }
    Err(Error::text(format!("Error: No such object: {name}")))
}
