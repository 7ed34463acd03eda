//! `docker import`.

use super::load::{not_open, stream};
use crate::{
    cli::Cli,
    client::{Call, JsonLines, Query},
    command::{Args, Command, runs},
    error::{Error, Result},
    flags::{Flag, Matches},
    progress::{self, Place},
};
use http::Method;
use wharf_spec::ImageRef;

/// `docker image import`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    about: "Import the contents from a tarball to create a filesystem image",
    also: "image import, import",
    flags: &[FLAGS],
    args: Args::Between(1, 2),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::many("change", "Apply Dockerfile instruction to the created image").short('c'),
    Flag::text("message", "Set commit message for imported image").short('m'),
    Flag::text("platform", "Set platform if server is multi-platform capable"),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let source = m.arg(0);
    let from_web = source.starts_with("http://") || source.starts_with("https://");
    let mut query = Query::new().with("fromSrc", if from_web { source } else { "-" });
    if !m.arg(1).is_empty() {
        m.arg(1).parse::<ImageRef>().map_err(|e| Error::text(format!("{e}")))?;
        query = query.with("repo", m.arg(1));
    }
    query = query.with_text("message", m.text("message")).with_text("platform", m.text("platform"));
    for change in m.all("change") {
        query = query.with("changes", change);
    }
    let call = Call::new(Method::POST, "/images/create", query);
    let call = match source {
        _ if from_web => call,
        "-" => call.tar(stream(Box::new(tokio::io::stdin()))),
        path => {
            let file = tokio::fs::File::open(path).await.map_err(|e| not_open(path, &e))?;
            call.tar(stream(Box::new(file)))
        }
    };
    let response = cli.client().await?.send(call).await?;
    progress::show(JsonLines::of(response), Place::Stdout).await.map(drop)
}
