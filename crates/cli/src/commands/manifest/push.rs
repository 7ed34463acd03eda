//! `docker manifest push` (source: docker/cli `cli/command/manifest/push.go`).

use super::{
    entry::{Entry, list},
    lists::{Lists, missing},
    reference,
    remote::target,
};
use crate::{
    cli::Cli,
    command::{Args, Command, runs},
    commands::say,
    error::{Error, Result},
    flags::{Flag, Matches},
};
use wharf_registry::{Mount, Repository};
use wharf_spec::ImageRef;

/// `docker manifest push`.
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] MANIFEST_LIST",
    about: "Push a manifest list to a repository",
    flags: &[FLAGS],
    args: Args::Exactly(1),
    action: runs!(run),
    ..Command::LEAF
};

const FLAGS: &[Flag] = &[
    Flag::bool("insecure", "Allow push to an insecure registry"),
    Flag::bool("purge", "Remove the local manifest list after push").short('p'),
];

async fn run(cli: Cli, m: Matches) -> Result<()> {
    let name = reference(m.arg(0))?;
    let lists = Lists::of(&cli);
    let entries = lists.entries(&name)?.ok_or_else(|| missing(&name))?;
    if entries.is_empty() {
        return Err(Error::text(format!("{name} not found")));
    }
    entries.iter().try_for_each(has_platform)?;
    let (media_type, text) = list(&entries, &name)?;
    let repository = target(&cli, &name, m.is("insecure")).await?;
    let mut others = Vec::new();
    for entry in entries {
        let from = entry.reference()?;
        if from.path() != name.path() {
            others.push((entry, from));
        }
    }
    for (entry, from) in &others {
        mount(&repository, &name, entry, from).await?;
    }
    for (entry, _) in &others {
        let image = name.repository().with_digest(entry.descriptor.digest);
        let digest = put(&repository, &image, &entry.descriptor.media_type, entry.bytes()?).await?;
        say(&format!("Pushed ref {image} with digest: {digest}"));
    }
    say(&put(&repository, &name, media_type, text.into_bytes()).await?);
    if m.is("purge") { lists.remove(&name) } else { Ok(()) }
}

fn has_platform(entry: &Entry) -> Result<()> {
    let platform = entry.descriptor.platform.as_ref();
    if platform.is_some_and(|platform| !platform.os.is_empty() && !platform.architecture.is_empty()) {
        return Ok(());
    }
    let image = entry.reference()?;
    Err(Error::text(format!("manifest {image} must have an OS and Architecture to be pushed to a registry")))
}

/// Has the registry take an image's blobs over from another repository.
async fn mount(repository: &Repository, name: &ImageRef, entry: &Entry, from: &ImageRef) -> Result<()> {
    let is_windows = entry.descriptor.platform.as_ref().is_some_and(|platform| platform.os == "windows");
    for digest in entry.blobs()? {
        let blob = format!("{}@{digest}", from.path());
        let asked = repository.mount(&digest, from.path()).await;
        let answer =
            asked.map_err(|error| Error::text(format!("failed to mount blob {blob} to {name}: {error}")))?;
        if let Mount::Needed(upload) = answer {
            // The registry forgets it some day in any case.
            let _ = upload.cancel().await;
            // Windows's own layers are in no repository.
            if !is_windows {
                return Err(Error::text(format!("error mounting {blob} to {name}")));
            }
        }
    }
    Ok(())
}

async fn put(repository: &Repository, name: &ImageRef, media_type: &str, bytes: Vec<u8>) -> Result<String> {
    let place = name.digest().map_or_else(|| name.tag_or_latest().to_owned(), ToString::to_string);
    let digest = repository.put_manifest(&place, media_type, bytes.into()).await;
    let digest = digest.map_err(|error| Error::text(format!("failed to put manifest {name}: {error}")))?;
    Ok(digest.to_string())
}
