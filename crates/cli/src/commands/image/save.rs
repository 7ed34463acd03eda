//! `docker save`.

use crate::{
    cli::Cli,
    client::{Call, Query},
    command::{Args, Command, runs},
    error::{Error, Result},
    flags::{Flag, Matches},
    opts::platform,
    terminal,
};
use http::Method;
use http_body_util::BodyExt;
use std::{fs, io::Write, path::Path};

/// `docker image save`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    also: "image save, save",
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::text("output", "Write to a file, instead of STDOUT").short('o'),
    Flag::text(
        "platform",
        "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")",
    ),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let mut query = Query::new();
    for name in &m.args {
        query = query.with("names", name);
    }
    for text in m.split("platform") {
        query = query.with("platform", &platform::valid_parameter(&text)?);
    }
    write_stream(&cli, Call::new(Method::GET, "/images/get", query), m.text("output"), "save").await
}

/// Writes an answer to a file, or to standard output where that is no terminal. A file is there whole or
/// not at all.
///
/// # Errors
/// When the daemon refuses or the file cannot be written.
pub(crate) async fn write_stream(cli: &Cli, call: Call, output: &str, what: &str) -> Result<()> {
    if output.is_empty() {
        if terminal::stdout_is_terminal() {
            return Err(Error::text("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
        }
        return copy(cli, call, &mut std::io::stdout().lock()).await;
    }
    let failed = || Error::io(format!("failed to {what} to {output}"));
    let temporary = format!("{output}.{}", std::process::id());
    let mut file = fs::File::create(&temporary).map_err(failed())?;
    let result = match copy(cli, call, &mut file).await {
        Ok(()) => fs::rename(&temporary, Path::new(output)).map_err(failed()),
        Err(error) => Err(error),
    };
    if result.is_err() {
        // What is left of it is of no use to anybody.
        let _ = fs::remove_file(&temporary);
    }
    result
}

async fn copy(cli: &Cli, call: Call, out: &mut dyn Write) -> Result<()> {
    let mut body = cli.client().await?.send(call).await?.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Error::Connect(e.to_string()))?;
        if let Ok(data) = frame.into_data() {
            out.write_all(&data)?;
        }
    }
    Ok(out.flush()?)
}
