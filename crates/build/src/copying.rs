//! `COPY` and `ADD` as steps: where files come from, what they are called in the history, how they get into the layer.

use crate::{
    Error, Result, Worker,
    checksum::{Known, combined_sources},
    copy::{self, Destination, Manner},
    error::refuse,
    mode::Mode,
    select::{Selected, select},
    stage::{Builder, Stage, Tree},
};
use std::path::Path;
use wharf_dockerfile::{Copy, Patterns, Source};
use wharf_sys::path::Root;

impl<W: Worker> Builder<'_, W> {
    pub(crate) fn copy(&mut self, stage: &mut Stage, copy: Copy) -> Result<()> {
        let from = match copy.from.as_str() {
            "" => Ok(self.context().map(Tree::Context)),
            name => self.tree_of(name).map(Some),
        };
        let from = from.map_err(|error| error.context(format!("invalid from flag value {}", copy.from)))?;
        let scratch = crate::Scratch::new(self.worker.scratch())?;
        let fetched = self.fetch(&copy, scratch.path())?;
        match from {
            Some(Tree::Image(image)) => {
                let worker = self.worker;
                let mut done = Ok(());
                worker.with_image(image, &mut |path| {
                    let root = Root::open(path)?;
                    done = self.copy_from(stage, &copy, Some((&root, None)), &fetched);
                    Ok(())
                })?;
                done
            }
            Some(Tree::Context(context)) => {
                let files = (context.root(), Some(context.known()));
                self.copy_from(stage, &copy, Some(files), &fetched)
            }
            None => self.copy_from(stage, &copy, None, &fetched),
        }
    }

    /// Documents and what addresses lead to, as files of a directory.
    fn fetch(&mut self, copy: &Copy, scratch: &Path) -> Result<Vec<Fetched>> {
        let mut fetched = Vec::new();
        for (number, source) in copy.sources.iter().enumerate() {
            let directory = scratch.join(number.to_string());
            let io = |error| Error::io("write", directory.display())(error);
            match source {
                Source::Document(document) => {
                    std::fs::create_dir(&directory).map_err(io)?;
                    std::fs::write(directory.join(&document.name), &document.content).map_err(io)?;
                    set_mode(&directory.join(&document.name), 0o644).map_err(io)?;
                    fetched.push(Fetched {
                        number,
                        directory,
                        name: document.name.clone(),
                        origin: Origin::File,
                    });
                }
                Source::Path(address) if copy.is_add && self.worker.is_repository(address) => {
                    std::fs::create_dir(&directory).map_err(io)?;
                    fetched.push(self.checkout(copy, address, number, directory)?);
                }
                Source::Path(address) if is_url(address) => {
                    if !copy.is_add {
                        return refuse(format!("{} failed: source can't be a URL for COPY", copy.name()));
                    }
                    std::fs::create_dir(&directory).map_err(io)?;
                    let name = self.download(copy, address, &directory)?;
                    fetched.push(Fetched { number, directory, name, origin: Origin::Web });
                }
                Source::Path(_) => {}
            }
        }
        Ok(fetched)
    }

    /// What a repository has, in the directory that is meant.
    fn checkout(
        &mut self,
        copy: &Copy,
        address: &str,
        number: usize,
        directory: std::path::PathBuf,
    ) -> Result<Fetched> {
        let failed = |error: Error| error.context(format!("{} failed", copy.name()));
        let found = self.worker.checkout(address, &directory).map_err(failed)?;
        if !found.commit.starts_with(&copy.checksum) {
            return refuse(format!("expected checksum to match {}, got {}", copy.checksum, found.commit));
        }
        // Its own files say when it was cloned: the commit says all.
        let digest = format!("git:{}:{}:{}", found.commit, found.directory, copy.keep_git_dir);
        let origin = Origin::Repository(format!("dir:{}", crate::checksum::of_bytes(&[digest.as_bytes()])));
        Ok(Fetched { number, directory, name: found.directory, origin })
    }

    fn download(&mut self, copy: &Copy, address: &str, directory: &Path) -> Result<String> {
        let failed = |error: Error| error.context(format!("{} failed", copy.name()));
        let file = directory.join("__unnamed__");
        let download = self.worker.download(address, &file).map_err(failed)?;
        self.text("\n")?;
        check_digest(&file, &copy.checksum)?;
        let path = address.split(['?', '#']).next().unwrap_or_default();
        let path =
            path.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
        let last = path.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned);
        let named = download.name.filter(|name| !name.is_empty() && !name.contains('/'));
        let name = match last.or(named) {
            Some(name) => name,
            None if copy.destination.ends_with('/') => {
                return refuse(format!("ADD failed: cannot determine filename for source {address}"));
            }
            None => "__unnamed__".into(),
        };
        let io = |error| Error::io("write", file.display())(error);
        set_mode(&file, 0o600).map_err(io)?;
        let modified = std::time::UNIX_EPOCH
            + std::time::Duration::from_secs(download.modified.unwrap_or(0).try_into().unwrap_or(0));
        let times = std::fs::FileTimes::new().set_accessed(modified).set_modified(modified);
        std::fs::File::open(&file).and_then(|opened| opened.set_times(times)).map_err(io)?;
        std::fs::rename(&file, directory.join(&name)).map_err(io)?;
        Ok(name)
    }

    fn copy_from(
        &mut self,
        stage: &mut Stage,
        copy: &Copy,
        files: Option<Files<'_>>,
        fetched: &[Fetched],
    ) -> Result<()> {
        let excluded = Patterns::new(&copy.excludes).map_err(Error::Refused)?;
        let selected = select_all(copy, files, &excluded, fetched)
            .map_err(|error| error.context(format!("{} failed", copy.name())))?;
        if selected.len() > 1 && !copy.destination.ends_with('/') {
            return refuse(format!(
                "When using {} with more than one source file, the destination must be a directory and end with a /",
                copy.name()
            ));
        }
        let digests: Vec<String> = selected.iter().map(|(_, found)| found.digest.clone()).collect();
        let comment =
            format!("{} {}{} in {} ", copy.name(), flags(copy), combined_sources(&digests), copy.destination);
        let made_by = stage.made_by([format!("#(nop) {comment}")]);
        if self.is_cached(stage, &made_by)? {
            return Ok(());
        }
        let mode = Mode::parse(&copy.chmod)?;
        let destination = absolute(&stage.config.working_dir, &copy.destination);
        let preserves = !copy.from.is_empty() && copy.chown.is_empty();
        let mut change = |target: &Root| {
            let owner = match copy.chown.as_str() {
                "" if preserves => None,
                "" => Some((0, 0)),
                names => Some(copy::owner(target, names).map_err(|error| {
                    error.context("unable to convert uid/gid chown string to host mapping")
                })?),
            };
            for (source, found) in &selected {
                let own;
                let from = match source {
                    None => files.ok_or_else(|| Error::Refused("missing build context".into()))?.0,
                    Some(fetched) => {
                        own = Root::open(&fetched.directory)?;
                        &own
                    }
                };
                let is_file = source.is_none_or(|fetched| fetched.origin == Origin::File);
                let is_repository = source.is_some_and(Fetched::is_repository);
                let unpack = copy.unpack.unwrap_or(copy.is_add && is_file);
                let excluded = match is_repository && !copy.keep_git_dir {
                    true => without_git(copy)?,
                    false => excluded.clone(),
                };
                let manner = Manner {
                    owner,
                    mode: mode.clone(),
                    excluded,
                    unpack,
                    parents: copy.parents && source.is_none(),
                };
                let to = Destination { root: target, path: destination.clone() };
                copy::copy(from, &found.path, &to, &manner).map_err(|e| e.context("failed to copy files"))?;
            }
            Ok(())
        };
        stage.image = Some(self.worker.commit_files(&stage.commit(&made_by, ""), &mut change)?);
        Ok(())
    }
}

/// What is copied from, with the digests that are known where it is a context.
type Files<'f> = (&'f Root, Option<&'f Known>);

/// A file made for a step.
struct Fetched {
    /// Which source it is.
    number: usize,
    directory: std::path::PathBuf,
    name: String,
    origin: Origin,
}

/// Where it comes from.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// A document of the Dockerfile.
    File,
    Web,
    /// A repository, with the digest of what was checked out.
    Repository(String),
}

impl Fetched {
    fn is_repository(&self) -> bool {
        matches!(self.origin, Origin::Repository(_))
    }
}

/// What is left out of a checkout.
fn without_git(copy: &Copy) -> Result<Patterns> {
    let patterns: Vec<String> = copy.excludes.iter().cloned().chain(["**/.git".to_owned()]).collect();
    Patterns::new(&patterns).map_err(Error::Refused)
}

/// What all sources mean, in their order: where it is, and what.
fn select_all<'f>(
    copy: &Copy,
    files: Option<Files<'_>>,
    excluded: &Patterns,
    fetched: &'f [Fetched],
) -> Result<Vec<(Option<&'f Fetched>, Selected)>> {
    let mut all = Vec::new();
    for (number, source) in copy.sources.iter().enumerate() {
        if let Some(file) = fetched.iter().find(|file| file.number == number) {
            if let Origin::Repository(digest) = &file.origin {
                let path = crate::select::cleaned(&file.name);
                all.push((Some(file), Selected { path, digest: digest.clone() }));
                continue;
            }
            let own = Root::open(&file.directory)?;
            let found = select(&own, &escaped(&file.name), &Patterns::default(), None)?;
            all.extend(found.into_iter().map(|found| (Some(file), found)));
        } else if let Source::Path(path) = source {
            let (root, known) = files.ok_or_else(|| Error::Refused("missing build context".into()))?;
            // What comes before the pivot of `--parents` is told apart by a dot.
            let found = select(root, path, excluded, known)?;
            let pivot = path.rsplit_once("/./").filter(|_| copy.parents).map(|(before, _)| before.len() + 1);
            all.extend(found.into_iter().map(|mut found| {
                if let Some(at) =
                    pivot.filter(|at| found.path.is_char_boundary(*at) && found.path.len() > *at)
                {
                    found.path = format!("{}./{}", &found.path[..at], &found.path[at..]);
                }
                (None, found)
            }));
        }
    }
    if all.is_empty() {
        return refuse("no source files were specified");
    }
    Ok(all)
}

/// A name whose wildcards are none.
fn escaped(name: &str) -> String {
    name.chars()
        .flat_map(|c| matches!(c, '*' | '?' | '[' | '\\').then_some('\\').into_iter().chain([c]))
        .collect()
}

/// What the history tells of how files were copied.
fn flags(copy: &Copy) -> String {
    let mut told = String::new();
    for (name, value) in [("chown", &copy.chown), ("chmod", &copy.chmod)] {
        if !value.is_empty() {
            told.push_str(&format!("--{name}={value} "));
        }
    }
    for pattern in &copy.excludes {
        told.push_str(&format!("--exclude={pattern} "));
    }
    if copy.keep_git_dir {
        told.push_str("--keep-git-dir=true ");
    }
    if copy.parents {
        told.push_str("--parents ");
    }
    if let Some(unpack) = copy.unpack {
        told.push_str(&format!("--unpack={unpack} "));
    }
    told
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// `--checksum` of what was fetched.
fn check_digest(file: &Path, wanted: &str) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let wanted: wharf_spec::Digest =
        wanted.parse().map_err(|_| Error::Refused(format!("invalid checksum digest format: {wanted}")))?;
    let mut bytes = std::fs::File::open(file).map_err(Error::io("open", file.display()))?;
    let found = crate::checksum::of_reader(&mut bytes).map_err(Error::io("read", file.display()))?;
    let found = format!("sha256:{found}");
    if found == wanted.to_string() {
        return Ok(());
    }
    refuse(format!("digest mismatch {found}: {wanted}"))
}

/// A destination from the working directory on; its last slash stays.
fn absolute(working_dir: &str, destination: &str) -> String {
    if destination.starts_with('/') {
        return destination.to_owned();
    }
    let slash = if destination.ends_with('/') || matches!(destination, "." | "..") { "/" } else { "" };
    let inner = crate::select::cleaned(&format!("{working_dir}/{destination}"));
    if inner.is_empty() { "/".into() } else { format!("/{inner}{slash}") }
}
