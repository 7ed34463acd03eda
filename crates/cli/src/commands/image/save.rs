//! `docker save`.

use crate::{
    cli::Cli,
    client::{Call, Query},
    command::{Args, Command, runs},
    error::{Error, Result},
    flags::{Flag, Matches},
    opts::{keyvalue::go_error, platform},
    terminal,
};
use http::Method;
use http_body_util::BodyExt;
use std::{fs, io::Write, os::unix::fs::FileTypeExt, path::Path};

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
    write_stream(&cli, Call::new(Method::GET, "/images/get", query), m.text("output"), "save image").await
}

/// Writes an answer to a file, or to standard output where that is no terminal. A file is there whole or
/// not at all; what is no regular file is not written to. `what` is what is being done, for errors.
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
    check_output(Path::new(output)).map_err(|why| Error::text(format!("failed to {what}: {why}")))?;
    let failed = || Error::io(format!("failed to {what}"));
    let temporary = format!("{output}.{}", std::process::id());
    let mut file = fs::File::create_new(&temporary).map_err(failed())?;
    let result = match copy(cli, call, &mut file).await {
        Ok(()) => fs::rename(&temporary, output).map_err(failed()),
        Err(error) => Err(error),
    };
    if result.is_err() {
        // What is left of it is of no use to anybody.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Refuses what a rename would replace though it is no file, devices above all (source: moby/sys
/// `atomicwriter`, `validateDestination`).
fn check_output(path: &Path) -> std::result::Result<(), String> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        let invalid = |why: &str| format!("invalid output path: stat {}: {why}", parent.display());
        let found = fs::metadata(parent).map_err(|error| invalid(&go_error(&error)))?;
        if !found.is_dir() {
            return Err(invalid("not a directory"));
        }
    }
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("failed to stat output path: {}", go_error(&error))),
    };
    let what = match kind {
        file if file.is_file() => return Ok(()),
        directory if directory.is_dir() => "directory",
        link if link.is_symlink() => "symbolic link directly",
        pipe if pipe.is_fifo() => "named pipe (FIFO)",
        socket if socket.is_socket() => "socket",
        device if device.is_char_device() => "character device file",
        _ => "block device file",
    };
    Err(format!("cannot write to a {what}"))
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

#[cfg(test)]
mod tests {
    use super::check_output;
    use std::path::Path;

    #[test]
    fn only_files_are_replaced() {
        let check = |path: &str| check_output(Path::new(path));
        assert_eq!(check("/dev/null").unwrap_err(), "cannot write to a character device file");
        assert_eq!(check("/dev").unwrap_err(), "cannot write to a directory");
        assert_eq!(check("/proc/self/exe").unwrap_err(), "cannot write to a symbolic link directly");
        assert_eq!(
            check("/nosuch/x").unwrap_err(),
            "invalid output path: stat /nosuch: no such file or directory"
        );
        assert_eq!(
            check("/proc/version/x").unwrap_err(),
            "invalid output path: stat /proc/version: not a directory"
        );
        assert_eq!(check("/proc/version"), Ok(()));
        assert_eq!(check("no-such-file-here"), Ok(()));
    }
}
