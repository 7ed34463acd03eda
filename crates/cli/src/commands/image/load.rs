//! `docker load`.

use crate::{
    cli::Cli,
    client::{Call, JsonLines, Query},
    command::{Command, runs},
    commands::print,
    error::{Error, Result},
    flags::{Flag, Matches},
    opts::platform,
    progress::{self, Place},
    terminal,
};
use http::{Method, header};
use http_body_util::BodyExt;
use std::io;
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

/// `docker image load`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS]",
    about: "Load an image from a tar archive or STDIN",
    also: "image load, load",
    flags: &[FLAGS],
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text("input", "Read from tar archive file, instead of STDIN").short('i'),
    Flag::text(
        "platform",
        "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
    Flag::bool("quiet", "Suppress the load output").short('q'),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let quiet = m.is("quiet") || !terminal::stdout_is_terminal();
    let mut query = Query::new().with("quiet", if quiet { "1" } else { "0" });
    for text in m.split("platform") {
        query = query.with("platform", &platform::valid_parameter(&text)?);
    }
    let input = open(m.text("input")).await?;
    let call = Call::new(Method::POST, "/images/load", query).tar(input);
    let response = cli.client().await?.send(call).await?;
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        return progress::show(JsonLines::of(response), Place::Stdout).await.map(drop);
    }
    let body = response.into_body().collect().await.map_err(|e| Error::Connect(e.to_string()))?;
    print(&String::from_utf8_lossy(&body.to_bytes()));
    Ok(())
}

type Input = ReaderStream<Box<dyn AsyncRead + Send + Unpin>>;

/// A file, or standard input where that is no terminal.
async fn open(path: &str) -> Result<Input> {
    let reader: Box<dyn AsyncRead + Send + Unpin> = match path {
        "" if terminal::stdin_is_terminal() => {
            return Err(Error::text("requested load from stdin, but stdin is empty"));
        }
        "" => Box::new(tokio::io::stdin()),
        path => Box::new(tokio::fs::File::open(path).await.map_err(|e| not_open(path, &e))?),
    };
    Ok(stream(reader))
}

/// A reader as the body of a request, in pieces that are not too small.
pub(crate) fn stream(reader: Box<dyn AsyncRead + Send + Unpin>) -> Input {
    const PIECE: usize = 256 * 1024;
    ReaderStream::with_capacity(reader, PIECE)
}

/// `open x: no such file or directory`
pub(crate) fn not_open(path: &str, error: &io::Error) -> Error {
    Error::text(format!("open {path}: {}", crate::opts::keyvalue::go_error(error)))
}
