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
    sync::{PoisonError, RwLock, RwLockReadGuard},
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

/// All names.
pub struct References {
    path: PathBuf,
    state: RwLock<Repositories>,
}

impl References {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if let Some(directory) = path.parent() {
            files::remove_temporaries(directory)?;
        }
        let repositories = match files::optional(files::read(path))? {
            None => Repositories::default(),
            Some(raw) => match serde_json::from_slice(&raw) {
                Ok(repositories) => repositories,
                Err(error) => {
                    let kept_as = files::put_aside(path)?;
                    let (path, kept_as) = (path.display(), kept_as.display());
                    tracing::error!(%path, %error, %kept_as, "names of images cannot be read: images have none");
                    Repositories::default()
                }
            },
        };
        let references = Self { path: path.into(), state: RwLock::new(repositories) };
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

    /// Notes by which digest a registry knows an image.
    ///
    /// # Errors
    /// When the digest stands for another image, or the disk fails.
    pub fn add_digest(&self, reference: &ImageRef, image: ImageId) -> Result<()> {
        self.add(reference, image, Force::No)
    }

    fn add(&self, reference: &ImageRef, image: ImageId, force: Force) -> Result<()> {
        let (name, text) = keys(reference);
        if name == "sha256" {
            return Err(Error::AmbiguousTag);
        }
        self.change(|all| {
            let repository = all.repositories.entry(name).or_default();
            match repository.get(&text) {
                Some(old) if *old == image => return Ok(None),
                Some(old) => match (reference.digest(), force) {
                    (Some(digest), _) => return Err(Error::DigestConflict(*digest)),
                    (None, Force::No) => return Err(Error::TagConflict { reference: text, image: *old }),
                    (None, Force::Yes) => {}
                },
                None => {}
            }
            repository.insert(text, image);
            Ok(Some(()))
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
    pub fn all(&self) -> HashMap<ImageId, Vec<ImageRef>> {
        let mut all: HashMap<ImageId, Vec<ImageRef>> = HashMap::new();
        for (reference, image) in self.select(|_, _| true) {
            all.entry(image).or_default().push(reference);
        }
        all
    }

    fn select(&self, wanted: impl Fn(&str, ImageId) -> bool) -> Vec<(ImageRef, ImageId)> {
        let state = self.read();
        let mut found = Vec::new();
        for (name, repository) in &state.repositories {
            for (text, image) in repository.iter().filter(|(_, image)| wanted(name, **image)) {
                found.extend(text.parse::<ImageRef>().ok().map(|reference| (reference, *image)));
            }
        }
        found.sort_by_cached_key(|(reference, _)| reference.to_string());
        found
    }
}

/// Both keys of the file. With tag and digest, the digest is kept.
fn keys(reference: &ImageRef) -> (String, String) {
    let reference =
        if reference.digest().is_some() { reference.clone().without_tag() } else { reference.clone() };
    (reference.familiar_name(), reference.familiar_string())
}
