//! Contexts that the client only names: a file or archive of the web, or a git repository (source: moby
//! `daemon/builder/remotecontext/{detect,remote}.go`, `remotecontext/git/gitutils.go`).

use super::Inner;
use crate::{
    Error, Result,
    blocking::blocking,
    images::{Progress, StreamReader},
};
use futures_util::StreamExt;
use std::{path::Path, process::Command, sync::Arc};
use wharf_build::{Checkout, Context};

/// No Dockerfile is longer.
const MAX_DOCKERFILE: usize = 64 << 20;

/// What is built from.
pub(super) enum Source {
    /// The client sends it.
    Client,
    /// A file alone.
    Dockerfile(String),
    /// It was fetched.
    Context(Context),
}

/// Fetches what the request names.
pub(super) async fn source(inner: &Arc<Inner>, remote: &str, progress: &Progress) -> Result<Source> {
    if remote.is_empty() {
        return Ok(Source::Client);
    }
    if remote == "client-session" {
        return Err(Error::Invalid(
            "experimental session with v1 builder is no longer supported, use builder version v2 (BuildKit) instead"
                .into(),
        ));
    }
    if is_git(remote) {
        let (repository, scratch) = (Repository::parse(remote)?, inner.scratch());
        let cloned = blocking(move || repository.clone_into(&scratch)).await?;
        return Ok(Source::Context(cloned));
    }
    if remote.starts_with("http://") || remote.starts_with("https://") {
        return fetch(inner, remote, progress).await;
    }
    Err(Error::Refused(format!("remoteURL ({remote}) could not be recognized as URL")))
}

async fn fetch(inner: &Arc<Inner>, url: &str, progress: &Progress) -> Result<Source> {
    let download = inner.images.fetch(url).await?;
    let text = format!("Downloading build context from remote url: {url}\n");
    let _ = progress.send(wharf_api::progress::Message::stream(text)).await;
    let is_text = download.content_type.starts_with("text/plain");
    let mut pieces = Box::pin(download.into_stream());
    if !is_text {
        let (reader, scratch) = (StreamReader::new(pieces.boxed()), inner.scratch());
        let unpack = move || Context::unpack(reader, &scratch).map_err(Error::Build);
        return blocking(unpack).await.map(Source::Context);
    }
    let mut content = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|source| Error::Os { step: "read remote context", source })?;
        content.extend_from_slice(&piece);
        if content.len() > MAX_DOCKERFILE {
            return Err(Error::Invalid("the remote Dockerfile is too large".into()));
        }
    }
    Ok(Source::Dockerfile(String::from_utf8_lossy(&content).into_owned()))
}

/// Whether an address is a repository's (source: moby `urlutil.IsGitURL`).
pub(super) fn is_git(address: &str) -> bool {
    let before = address.split('#').next().unwrap_or_default();
    let is_web = address.starts_with("http://") || address.starts_with("https://");
    (is_web && before.ends_with(".git"))
        || ["git://", "github.com/", "git@"].iter().any(|p| address.starts_with(p))
}

/// `address#reference:directory`
#[derive(Debug, PartialEq, Eq)]
struct Repository {
    address: String,
    reference: String,
    directory: String,
}

impl Repository {
    fn parse(text: &str) -> Result<Self> {
        let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        if reference.starts_with('-') {
            return Err(Error::Invalid(format!("invalid refspec: {reference}")));
        }
        let address = if address.starts_with("github.com/") {
            format!("https://{address}")
        } else {
            address.to_owned()
        };
        let reference = if reference.is_empty() { "HEAD" } else { reference };
        Ok(Self { address, reference: reference.to_owned(), directory: directory.to_owned() })
    }

    /// A context of what is at the reference.
    fn clone_into(&self, scratch: &Path) -> Result<Context> {
        let failed = |error: wharf_build::Error| Error::Build(error);
        let clone = wharf_build::Scratch::new(scratch).map_err(failed)?;
        self.checkout(clone.path())?;
        Context::of_directory(clone.path(), &self.directory, scratch).map_err(failed)
    }

    /// What is at the reference, in an empty directory.
    fn checkout(&self, at: &Path) -> Result<()> {
        git(at, &["init", "--quiet"])?;
        git(at, &["remote", "add", "origin", &self.address])?;
        if git(at, &["fetch", "--quiet", "--depth", "1", "origin", "--", &self.reference]).is_err() {
            git(at, &["fetch", "--quiet", "origin"])?;
            git(at, &["checkout", "--quiet", &self.reference, "--"])?;
        } else {
            git(at, &["checkout", "--quiet", "FETCH_HEAD"])?;
        }
        git(at, &["submodule", "update", "--init", "--recursive", "--depth=1"]).map(drop)
    }
}

/// Checks out what an address says; gives the commit.
pub(super) fn checkout(address: &str, to: &Path) -> Result<Checkout> {
    let repository = Repository::parse(address)?;
    repository.checkout(to)?;
    let commit = git(to, &["rev-parse", "HEAD"])?.trim().to_owned();
    Ok(Checkout { commit, directory: repository.directory })
}

/// Runs git without this machine's settings, by the protocols of the address only; gives its output.
fn git(directory: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.current_dir(directory).args(["-c", "protocol.file.allow=never"]).args(arguments);
    command.env("GIT_PROTOCOL_FROM_USER", "0").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/dev/null");
    command.env("GIT_TERMINAL_PROMPT", "0");
    let output = command.output().map_err(|source| Error::Os { step: "run git", source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Refused(format!("unable to 'git {}': {}", arguments[0], said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_repositories_are_told_from_others() {
        for (address, expected) in [
            ("https://host/x.git", true),
            ("https://host/x.git#v1:dir", true),
            ("git@host:x", true),
            ("github.com/a/b", true),
            ("https://host/x.tar.gz", false),
            ("https://host/?x=y.git#", true),
            ("ftp://host/x.git", false),
        ] {
            assert_eq!(is_git(address), expected, "{address}");
        }
        let parsed = Repository::parse("github.com/a/b#v1:sub").unwrap();
        let expected = ("https://github.com/a/b", "v1", "sub");
        assert_eq!((&*parsed.address, &*parsed.reference, &*parsed.directory), expected);
        assert!(Repository::parse("https://host/x.git#--upload-pack=sh").is_err());
    }
}
