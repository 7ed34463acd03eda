//! Names of images: `repositories.json` (source: moby `daemon/internal/refstore/store.go`).
//!
//! ```json
//! {"Repositories":{"alpine":{"alpine:3.19":"sha256:<image>","alpine@sha256:<manifest>":"sha256:<image>"}}}
//! ```
//! Names are the familiar ones. A name that cannot be parsed is kept, and belongs to nobody.

use crate::{Error, Result, files, files::Sync};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
};
use wharf_spec::{ImageId, ImageRef};

/// Whether a tag may be taken from another image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It is moved.
    Yes,
    /// It is a conflict.
    No,
}

#[derive(Default, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Repositories {
    #[serde(default)]
    repositories: BTreeMap<String, BTreeMap<String, ImageId>>,
}

/// The names of each image, sorted.
pub type Names = HashMap<ImageId, Vec<ImageRef>>;

impl Repositories {
    /// Whether it was not there.
    fn add(&mut self, reference: &ImageRef, image: ImageId, force: Force) -> Result<bool> {
        let (name, text) = keys(reference);
        if name == "sha256" {
            return Err(Error::AmbiguousTag);
        }
        let repository = self.repositories.entry(name).or_default();
        match repository.get(&text) {
            Some(old) if *old == image => return Ok(false),
            Some(old) => match (reference.digest(), force) {
                (Some(digest), _) => return Err(Error::DigestConflict(*digest)),
                (None, Force::No) => return Err(Error::TagConflict { reference: text, image: *old }),
                (None, Force::Yes) => {}
            },
            None => {}
        }
        repository.insert(text, image);
        Ok(true)
    }
}

/// All names.
pub struct References {
    path: PathBuf,
    state: RwLock<Repositories>,
    /// Parsed once for many lists of images; empty after a change.
    names: Mutex<Option<Arc<Names>>>,
}

impl References {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if let Some(directory) = path.parent() {
            files::remove_temporaries(directory)?;
        }
        let repositories = match files::optional(files::read(path))? {
            None => Repositories::default(),
            Some(raw) => match parse(path, &raw) {
                Ok(repositories) => repositories,
                Err(error) => {
                    let kept_as = files::put_aside(path)?;
                    let (path, kept_as) = (path.display(), kept_as.display());
                    tracing::error!(%path, %error, %kept_as, "names of images cannot be read: images have none");
                    Repositories::default()
                }
            },
        };
        let references =
            Self { path: path.into(), state: RwLock::new(repositories), names: Mutex::default() };
        if !path.exists() {
            references.save(&references.read())?;
        }
        Ok(references)
    }

    fn read(&self) -> RwLockReadGuard<'_, Repositories> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, repositories: &Repositories) -> Result<()> {
        files::replace(&self.path, &wharf_spec::to_go_json(repositories), 0o600, Sync::Now)
    }

    /// Changes the names, on disk first.
    fn change<T>(&self, change: impl FnOnce(&mut Repositories) -> Result<Option<T>>) -> Result<Option<T>> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = state.clone();
        let changed = change(&mut new)?;
        if changed.is_some() {
            self.save(&new)?;
            *state = new;
            // Under the lock of the names themselves, so that nobody keeps older ones.
            *self.names.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(changed)
    }

    /// Names an image. Without a tag, `latest` is meant.
    ///
    /// # Errors
    /// When the reference has a digest or, without force, stands for another image; when the disk fails.
    pub fn add_tag(&self, reference: &ImageRef, image: ImageId, force: Force) -> Result<()> {
        if reference.digest().is_some() {
            return Err(Error::TagWithDigest);
        }
        self.add(&reference.clone().or_latest(), image, force)
    }

    /// Gives an image all of these names, which other images lose, in one step.
    ///
    /// # Errors
    /// As [`Self::add_tag`]; it has none of them then.
    pub fn add_tags(&self, references: &[ImageRef], image: ImageId) -> Result<()> {
        if references.iter().any(|reference| reference.digest().is_some()) {
            return Err(Error::TagWithDigest);
        }
        self.change(|all| {
            let mut changed = false;
            for reference in references {
                changed |= all.add(&reference.clone().or_latest(), image, Force::Yes)?;
            }
            Ok(changed.then_some(()))
        })
        .map(drop)
    }

    /// Notes by which digest a registry knows an image.
    ///
    /// # Errors
    /// When the digest stands for another image, or the disk fails.
    pub fn add_digest(&self, reference: &ImageRef, image: ImageId) -> Result<()> {
        self.add(reference, image, Force::No)
    }

    /// Names an image that was pulled by its tag, if it has one, and its digest, in one step. A tag is moved; a
    /// digest that stands for another image stays with that one where there is a tag. Whether the digest is the
    /// image's now.
    ///
    /// # Errors
    /// When the digest stands for another image and there is no tag, or the disk fails.
    pub fn add_pulled(&self, tag: Option<&ImageRef>, digest: &ImageRef, image: ImageId) -> Result<bool> {
        let mut is_ours = true;
        self.change(|all| {
            let mut changed = match all.add(digest, image, Force::No) {
                Err(Error::DigestConflict(_)) if tag.is_some() => {
                    is_ours = false;
                    false
                }
                other => other?,
            };
            if let Some(tag) = tag {
                changed |= all.add(tag, image, Force::Yes)?;
            }
            Ok(changed.then_some(()))
        })?;
        Ok(is_ours)
    }

    fn add(&self, reference: &ImageRef, image: ImageId, force: Force) -> Result<()> {
        self.change(|all| Ok(all.add(reference, image, force)?.then_some(()))).map(drop)
    }

    /// Removes the names of all images but these.
    pub(crate) fn retain(&self, stays: impl Fn(ImageId) -> bool) -> Result<()> {
        self.change(|all| {
            let before = all.repositories.values().map(BTreeMap::len).sum::<usize>();
            all.repositories.values_mut().for_each(|names| names.retain(|_, image| stays(*image)));
            all.repositories.retain(|_, names| !names.is_empty());
            let after = all.repositories.values().map(BTreeMap::len).sum::<usize>();
            Ok((after < before).then_some(()))
        })
        .map(drop)
    }

    /// Removes a name. Gives the image it stood for.
    ///
    /// # Errors
    /// When there is no such name, or the disk fails.
    pub fn delete(&self, reference: &ImageRef) -> Result<ImageId> {
        let (name, text) = keys(&reference.clone().or_latest());
        let missing = || Error::NoReference(text.clone());
        let deleted = self.change(|all| {
            let repository = all.repositories.get_mut(&name).ok_or_else(missing)?;
            let image = repository.remove(&text).ok_or_else(missing)?;
            if repository.is_empty() {
                all.repositories.remove(&name);
            }
            Ok(Some(image))
        })?;
        deleted.ok_or_else(missing)
    }

    /// The image a name stands for. A digest goes before a tag.
    pub fn get(&self, reference: &ImageRef) -> Option<ImageId> {
        let (name, text) = keys(&reference.clone().or_latest());
        self.read().repositories.get(&name)?.get(&text).copied()
    }

    /// Names of an image, sorted by their full form.
    pub fn of(&self, image: ImageId) -> Vec<ImageRef> {
        self.select(|_, id| id == image).into_iter().map(|(reference, _)| reference).collect()
    }

    /// Names in a repository with their images, sorted.
    pub fn in_repository(&self, reference: &ImageRef) -> Vec<(ImageRef, ImageId)> {
        let name = reference.familiar_name();
        self.select(|repository, _| repository == name)
    }

    /// The names of each image, sorted.
    pub fn all(&self) -> Arc<Names> {
        let state = self.read();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let parsed = names.get_or_insert_with(|| {
            let mut all = Names::new();
            for (reference, image) in select(&state, |_, _| true) {
                all.entry(image).or_default().push(reference);
            }
            Arc::new(all)
        });
        Arc::clone(parsed)
    }

    fn select(&self, wanted: impl Fn(&str, ImageId) -> bool) -> Vec<(ImageRef, ImageId)> {
        select(&self.read(), wanted)
    }
}

fn select(state: &Repositories, wanted: impl Fn(&str, ImageId) -> bool) -> Vec<(ImageRef, ImageId)> {
    let mut found = Vec::new();
    for (name, repository) in &state.repositories {
        for (text, image) in repository.iter().filter(|(_, image)| wanted(name, **image)) {
            found.extend(text.parse::<ImageRef>().ok().map(|reference| (reference, *image)));
        }
    }
    found.sort_by_cached_key(|(reference, _)| reference.to_string());
    found
}

/// Repository, name and image of each name in the file, as they stand there.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, String, ImageId)>> {
    let all = parse(path, &files::read(path)?)?.repositories;
    let flat = all.into_iter().flat_map(|(repository, names)| {
        names.into_iter().map(move |(name, image)| (repository.clone(), name, image))
    });
    Ok(flat.collect())
}

fn parse(path: &Path, raw: &[u8]) -> Result<Repositories> {
    serde_json::from_slice(raw).map_err(|error| Error::Damaged { path: path.into(), what: error.to_string() })
}

/// Both keys of the file. With tag and digest, the digest is kept.
fn keys(reference: &ImageRef) -> (String, String) {
    let reference =
        if reference.digest().is_some() { reference.clone().without_tag() } else { reference.clone() };
    (reference.familiar_name(), reference.familiar_string())
}
