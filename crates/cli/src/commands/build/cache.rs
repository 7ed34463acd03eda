//! `--cache-to` and `--cache-from` of type `local`: an image as an OCI layout in a directory, whose steps a later build takes.

use super::output;
use crate::{
    cli::Cli,
    client::{Call, JsonLines, Query},
    commands::container::cp::{progress::Counter, stream},
    error::{Error, Result},
    flags::Matches,
    opts::csv,
};
use http::Method;
use std::{os::fd::AsFd, path::Path};
use wharf_archive::PackOptions;

/// Where steps are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    Image(String),
    Directory(String),
}

/// What `--cache-from` says.
///
/// # Errors
/// For caches of kinds that are not read.
pub(super) fn from(m: &Matches) -> Result<Vec<From>> {
    let mut all = Vec::new();
    for text in m.all("cache-from") {
        let fields = csv::fields(text).map_err(Error::text)?;
        if !fields.iter().any(|field| field.contains('=')) {
            all.extend(fields.into_iter().map(From::Image));
            continue;
        }
        let value = |key: &str| fields.iter().find_map(|field| field.strip_prefix(key)?.strip_prefix('='));
        match (value("type"), value("ref"), value("src")) {
            (Some("registry"), Some(image), _) => all.push(From::Image(image.to_owned())),
            (Some("local"), _, Some(directory)) => all.push(From::Directory(directory.to_owned())),
            (Some("local"), _, None) => return Err(Error::text("ERROR: local cache importer requires src")),
            (kind, ..) => return Err(not_built("--cache-from", kind)),
        }
    }
    Ok(all)
}

/// Directories of `--cache-to`.
///
/// # Errors
/// For caches of kinds that are not written.
pub(super) fn to(m: &Matches) -> Result<Vec<String>> {
    let one = |text: &String| {
        let fields = csv::fields(text).map_err(Error::text)?;
        let value = |key: &str| fields.iter().find_map(|field| field.strip_prefix(key)?.strip_prefix('='));
        if let Some(mode) = value("mode").filter(|mode| *mode != "min") {
            return Err(Error::text(format!("ERROR: not implemented in Wharf yet: --cache-to mode={mode}")));
        }
        match (value("type"), value("dest")) {
            (Some("local"), Some(directory)) => Ok(directory.to_owned()),
            (Some("local"), None) => Err(Error::text("ERROR: local cache exporter requires dest")),
            (kind, _) => Err(not_built("--cache-to", kind)),
        }
    };
    m.all("cache-to").iter().map(one).collect()
}

fn not_built(flag: &str, kind: Option<&str>) -> Error {
    Error::text(format!("ERROR: not implemented in Wharf yet: {flag} type={}", kind.unwrap_or_default()))
}

/// The images whose steps may be taken: those of directories are loaded. A directory that is no cache is none (source:
/// buildkit `client/solve.go`, parseCacheOptions).
///
/// # Errors
/// The daemon's.
pub(super) async fn images(cli: &Cli, sources: Vec<From>) -> Result<Vec<String>> {
    let mut images = Vec::new();
    for source in sources {
        match source {
            From::Image(image) => images.push(image),
            From::Directory(directory) if !Path::new(&directory).join("index.json").exists() => {
                eprintln!("WARNING: local cache import at {directory} not found");
            }
            From::Directory(directory) => images.extend(load(cli, &directory).await?),
        }
    }
    Ok(images)
}

async fn load(cli: &Cli, directory: &str) -> Result<Vec<String>> {
    let root = std::fs::File::open(directory).map_err(Error::io(format!("ERROR: {directory}")))?;
    let archive = stream::archive(PackOptions::default(), Counter::default(), move |packer| {
        packer.children(root.as_fd(), b"")
    });
    let call = Call::new(Method::POST, "/images/load", Query::new().with("quiet", "1")).tar(archive);
    let response = cli.client().await?.send(call).await?;
    let mut lines = JsonLines::of(response);
    let mut images = Vec::new();
    while let Some(line) = lines.next().await? {
        let message: wharf_api::progress::Message =
            wharf_api::gojson::from_slice(&line).map_err(|e| Error::text(e.to_string()))?;
        if !message.error_text.is_empty() {
            return Err(Error::text(format!("ERROR: {directory}: {}", message.error_text)));
        }
        images.extend(message.stream.trim().strip_prefix("Loaded image ID: ").map(str::to_owned));
    }
    Ok(images)
}

/// Writes an image as a cache: whole, or the directory stays as it was.
///
/// # Errors
/// The daemon's, and when the disk fails.
pub(super) async fn write(cli: &Cli, directory: &str, image: &str) -> Result<()> {
    let io = || Error::io(format!("ERROR: failed to write cache {directory}"));
    let directory = directory.trim_end_matches('/');
    let (new, old) = (
        format!("{directory}.new.{}", std::process::id()),
        format!("{directory}.old.{}", std::process::id()),
    );
    let call = Call::new(Method::GET, "/images/get", Query::new().with("names", image));
    if let Err(error) = output::extract(cli, call, &new).await {
        // Half of a cache is of no use to anybody.
        let _ = std::fs::remove_dir_all(&new);
        return Err(error);
    }
    match std::fs::rename(directory, &old) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        other => other.map_err(io())?,
    }
    std::fs::rename(&new, directory).map_err(io())?;
    match std::fs::remove_dir_all(&old) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io()(error)),
        _ => Ok(()),
    }
}
