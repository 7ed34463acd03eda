//! `docker manifest inspect` (source: docker/cli `cli/command/manifest/inspect.go`).

use super::{
    entry::{Entry, list},
    json,
    lists::{Lists, missing},
    reference,
    remote::{Answer, fetch},
};
use crate::{
    cli::Cli,
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
    format::indent::{Escape, indent},
};
use wharf_spec::ImageRef;

/// `docker manifest inspect`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    about: "Display an image manifest, or manifest list",
    flags: &[FLAGS],
    args: Args::Between(1, 2),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("insecure", "Allow communication with an insecure registry"),
    Flag::bool("verbose", "Output additional info including layers and platform").short('v'),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let (lists, verbose) = (Lists::of(&cli), m.is("verbose"));
    if !m.arg(1).is_empty() {
        let (of, image) = (reference(m.arg(0))?, reference(m.arg(1))?);
        let entry = lists.entry(&of, &image)?.ok_or_else(|| missing(&image))?;
        return show(&entry, verbose);
    }
    let image = reference(m.arg(0))?;
    // What cannot be read is asked for at the registry, as in Docker.
    if let Ok(Some(entries)) = lists.entries(&image) {
        return show_list(&entries, &image, verbose);
    }
    match fetch(&cli, &image, m.is("insecure")).await? {
        Answer::Image(entry) => show(&entry, verbose),
        Answer::List(entries) => show_list(&entries, &image, verbose),
    }
}

fn show(entry: &Entry, verbose: bool) -> Result<()> {
    let text = if verbose { indent(&json(entry)?, "\t", Escape::Html) } else { entry.text()? };
    say(&text);
    Ok(())
}

fn show_list(entries: &[Entry], name: &ImageRef, verbose: bool) -> Result<()> {
    if verbose {
        say(&indent(&json(entries)?, "\t", Escape::Html));
        return Ok(());
    }
    let cannot = |error: Error| Error::text(format!("failed to assemble ManifestDescriptor: {error}"));
    let (_, text) = list(entries, name).map_err(cannot)?;
    say(&text);
    Ok(())
}
