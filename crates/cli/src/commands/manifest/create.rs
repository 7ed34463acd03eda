//! `docker manifest create` (source: docker/cli `cli/command/manifest/create_list.go`).

use super::{
    entry::Entry,
    lists::Lists,
    reference,
    remote::{Answer, fetch},
};
use crate::{
    cli::Cli,
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
};
use wharf_spec::ImageRef;

/// `docker manifest create`.
pub(crate) const COMMAND: Command = Command {
    usage: "MANIFEST_LIST MANIFEST [MANIFEST...]",
    about: "Create a local manifest list for annotating and pushing to a registry",
    flags: &[FLAGS],
    args: Args::AtLeast(2),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("amend", "Amend an existing manifest list").short('a'),
    Flag::bool("insecure", "Allow communication with an insecure registry"),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let name = m.arg(0);
    let list = reference(name)
        .map_err(|error| Error::text(format!("error parsing name for manifest list {name}: {error}")))?;
    let lists = Lists::of(&cli);
    if lists.entries(&list)?.is_some() && !m.is("amend") {
        return Err(Error::text("refusing to amend an existing manifest list with no --amend flag"));
    }
    for image in &m.args[1..] {
        let image = reference(image)?;
        let entry = match lists.entry(&list, &image)?.filter(Entry::is_whole) {
            Some(entry) => entry,
            None => remote(&cli, &image, m.is("insecure")).await?,
        };
        lists.save(&list, &image, &entry)?;
    }
    say(&format!("Created manifest list {list}"));
    Ok(())
}

async fn remote(cli: &Cli, image: &ImageRef, insecure: bool) -> Result<Entry> {
    match fetch(cli, image, insecure).await? {
        Answer::Image(entry) => Ok(*entry),
        Answer::List(_) => Err(Error::text(format!("{image} is a manifest list"))),
    }
}
