//! Images: configs, kept as the bytes they came as, and what Docker notes about them (source: moby
//! `daemon/internal/image/{fs,store}.go`).
//!
//! ```text
//! imagedb/content/sha256/<id>                 the config; its name is its digest
//! imagedb/metadata/sha256/<id>/parent         the image it was built on, here
//! imagedb/metadata/sha256/<id>/lastUpdated    when it was tagged last, RFC 3339
//! imagedb/metadata/sha256/<id>/builtLocally   one byte 1: may serve as build cache
//! imagedb/metadata/sha256/<id>/unnamed        to be removed at start, if it has no name then; Docker does not look at it
//! ```

use crate::{Error, LayerRef, Layers, Result, chain_ids, files, files::Sync, sha256};
use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};
use wharf_spec::{ChainId, Digest, ImageConfig, ImageId};

/// In an image's metadata while it waits for its first name, or loses its last one: without a name it is removed at
/// start.
pub(crate) const UNNAMED: &str = "unnamed";

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of the config.
    pub id: ImageId,
    /// The config as far as it is understood.
    pub config: ImageConfig,
    /// The top layer; `None` for an image without layers.
    pub chain_id: Option<ChainId>,
}

/// All images. Each is a hold on its top layer, counted in [`Layers`]; no [`LayerRef`], which would give the
/// hold back, and remove the layers, when the store is closed.
pub struct Images {
    content: PathBuf,
    metadata: PathBuf,
    layers: Arc<Layers>,
    state: RwLock<HashMap<ImageId, Entry>>,
    /// All configs on the disk are images here.
    complete: AtomicBool,
}

struct Entry {
    image: Arc<Image>,
    parent: Option<ImageId>,
    children: BTreeSet<ImageId>,
}

impl Entry {
    fn new(image: Arc<Image>) -> Self {
        Self { image, parent: None, children: BTreeSet::new() }
    }
}

impl Images {
    pub(crate) fn open(root: &Path, layers: Arc<Layers>) -> Result<Self> {
        let content = root.join("content/sha256");
        let metadata = root.join("metadata/sha256");
        for directory in [root, &root.join("content"), &content, &root.join("metadata"), &metadata] {
            files::make_directory(directory, 0o700)?;
        }
        files::remove_temporaries(&content)?;
        let complete = AtomicBool::new(true);
        let images = Self { content, metadata, layers, state: RwLock::default(), complete };
        images.load()?;
        Ok(images)
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<ImageId, Entry>> {
        // Each change of the map is one step, so a panic elsewhere leaves it whole.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<ImageId, Entry>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an image by its config. One that is there already is left as it is.
    ///
    /// # Errors
    /// When the bytes are no config, its layers are not there, or the disk fails.
    pub fn create(&self, raw: &[u8]) -> Result<Arc<Image>> {
        let id = ImageId(sha256(raw));
        if let Some(entry) = self.read().get(&id) {
            return Ok(entry.image.clone());
        }
        let (image, layer) = self.check(id, raw)?;
        files::replace(&self.content.join(id.hex()), raw, 0o600, Sync::Now)?;
        if let std::collections::hash_map::Entry::Vacant(vacant) = self.write().entry(id) {
            vacant.insert(Entry::new(image.clone()));
            layer.iter().for_each(|layer| self.layers.hold(layer.chain_id));
        }
        Ok(image)
    }

    /// Reads a config and takes hold of its layers.
    fn check(&self, id: ImageId, raw: &[u8]) -> Result<(Arc<Image>, Option<LayerRef>)> {
        let config = ImageConfig::parse(raw)?;
        let told = config.history.iter().filter(|step| !step.empty_layer).count();
        if told > config.diff_ids().len() {
            return Err(Error::TooMuchHistory);
        }
        let chain_id = chain_ids(config.diff_ids()).last().copied();
        let layer = match chain_id.map(|chain| self.layers.get(chain)).transpose() {
            Err(Error::NoLayer(layer)) => return Err(Error::ImageWithoutLayer { image: id, layer }),
            other => other?,
        };
        Ok((Arc::new(Image { id, config, chain_id }), layer))
    }

    /// Notes that an image is about to come and to be named: unless [`Images::set_named`] follows, it is removed
    /// at start. Whether the image is new here, and noted.
    pub(crate) fn set_unnamed(&self, id: ImageId) -> Result<bool> {
        let is_new = !self.read().contains_key(&id);
        if is_new {
            self.write_metadata(id, UNNAMED, b"")?;
        }
        Ok(is_new)
    }

    /// Notes that an image is about to be removed with its names: what a crash leaves of it without one is removed
    /// at start. That is not worth failing for.
    pub fn doom(&self, id: ImageId) {
        if let Err(error) = self.write_metadata(id, UNNAMED, b"") {
            tracing::warn!(image = %id, %error, "could not note that an image is being removed");
        }
    }

    /// The image is gone, or stays as it is.
    pub fn spare(&self, id: ImageId) {
        if let Err(error) = self.set_named(id) {
            tracing::warn!(image = %id, %error, "could not note that an image stays");
        }
    }

    /// Forgets that an image was about to come.
    pub(crate) fn forget(&self, id: ImageId) -> Result<()> {
        files::remove_tree(&self.metadata.join(id.hex()))
    }

    /// Images that were about to be named when the daemon died.
    pub(crate) fn unnamed(&self) -> Vec<ImageId> {
        let is_unnamed = |id: &ImageId| self.metadata.join(id.hex()).join(UNNAMED).exists();
        self.list().iter().map(|image| image.id).filter(is_unnamed).collect()
    }

    /// The image counts as named.
    pub(crate) fn set_named(&self, id: ImageId) -> Result<()> {
        files::remove_file(&self.metadata.join(id.hex()).join(UNNAMED))
    }

    /// Whether every config on the disk is an image here: if not, what seems unused may be used by one.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Whether there is a config, damaged or not.
    pub(crate) fn has_config(&self, id: ImageId) -> bool {
        self.content.join(id.hex()).exists()
    }

    /// Removes what images no more there left of themselves.
    pub(crate) fn sweep(&self) -> Result<()> {
        for name in files::names(&self.metadata)? {
            // What Docker named otherwise is not looked at.
            if Digest::from_hex(&name).is_err() {
                continue;
            }
            let directory = self.metadata.join(&name);
            files::remove_temporaries(&directory)?;
            if !self.content.join(&name).exists() {
                files::remove_tree(&directory)?;
            }
        }
        Ok(())
    }

    /// An image.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, id: ImageId) -> Result<Arc<Image>> {
        self.read().get(&id).map(|entry| entry.image.clone()).ok_or_else(|| Error::NoImage(id.to_string()))
    }

    /// The config's bytes, checked.
    ///
    /// # Errors
    /// When there is no such image or the bytes are not what they were.
    pub fn raw(&self, id: ImageId) -> Result<Vec<u8>> {
        let path = self.content.join(id.hex());
        let raw = match files::optional(files::read(&path))? {
            None => return Err(Error::NoImage(id.to_string())),
            Some(raw) => raw,
        };
        let actual = sha256(&raw);
        if actual == id.0 {
            return Ok(raw);
        }
        Err(Error::DigestMismatch {
            what: format!("image config {}", path.display()),
            expected: id.0,
            actual,
        })
    }

    /// The image whose id begins with these hex characters, perhaps after `sha256:`.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn search(&self, prefix: &str) -> Result<ImageId> {
        let hex = prefix.strip_prefix("sha256:").unwrap_or(prefix);
        if let Ok(id) = Digest::from_hex(hex).map(ImageId) {
            return self.get(id).map(|image| image.id);
        }
        let is_hex = !hex.is_empty() && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex {
            return Err(Error::NoImage(prefix.into()));
        }
        let state = self.read();
        let mut found = state.keys().filter(|id| id.hex().starts_with(hex));
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(*id),
            (None, _) => Err(Error::NoImage(prefix.into())),
            (Some(_), Some(_)) => Err(Error::Ambiguous(prefix.into())),
        }
    }

    /// All images, unsorted.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.read().values().map(|entry| entry.image.clone()).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// The images that were built on this one, here.
    pub fn children(&self, id: ImageId) -> Vec<ImageId> {
        self.read().get(&id).map(|entry| entry.children.iter().copied().collect()).unwrap_or_default()
    }

    /// The image that this one was built on, here.
    pub fn parent(&self, id: ImageId) -> Option<ImageId> {
        self.read().get(&id)?.parent
    }

    /// Notes on what an image was built.
    ///
    /// # Errors
    /// When one of them is not there or the disk fails.
    pub fn set_parent(&self, id: ImageId, parent: ImageId) -> Result<()> {
        let mut state = self.write();
        if !state.contains_key(&parent) {
            return Err(Error::NoImage(parent.to_string()));
        }
        let old = state.get(&id).ok_or_else(|| Error::NoImage(id.to_string()))?.parent;
        self.write_metadata(id, "parent", parent.to_string().as_bytes())?;
        if let Some(old) = old.and_then(|old| state.get_mut(&old)) {
            old.children.remove(&id);
        }
        if let Some(entry) = state.get_mut(&id) {
            entry.parent = Some(parent);
        }
        if let Some(entry) = state.get_mut(&parent) {
            entry.children.insert(id);
        }
        Ok(())
    }

    /// When the image got its last tag.
    pub fn last_tagged(&self, id: ImageId) -> Option<jiff::Timestamp> {
        let text = files::read_text(&self.metadata.join(id.hex()).join("lastUpdated")).ok()?;
        text.parse().ok()
    }

    /// Notes that the image got a tag now.
    ///
    /// # Errors
    /// When there is no such image or the disk fails.
    pub fn set_last_tagged(&self, id: ImageId, at: jiff::Timestamp) -> Result<()> {
        self.get(id)?;
        self.write_metadata(id, "lastUpdated", at.to_string().as_bytes())
    }

    /// Whether the image was built here and may serve as build cache.
    pub fn is_built_locally(&self, id: ImageId) -> bool {
        files::read(&self.metadata.join(id.hex()).join("builtLocally")).is_ok_and(|bytes| bytes == [1])
    }

    /// Notes that the image was built here.
    ///
    /// # Errors
    /// When there is no such image or the disk fails.
    pub fn set_built_locally(&self, id: ImageId) -> Result<()> {
        self.get(id)?;
        self.write_metadata(id, "builtLocally", &[1])
    }

    fn write_metadata(&self, id: ImageId, name: &str, bytes: &[u8]) -> Result<()> {
        let directory = self.metadata.join(id.hex());
        files::make_directory(&directory, 0o700)?;
        files::replace(&directory.join(name), bytes, 0o600, Sync::Later)
    }

    /// Removes an image; its layers go when nothing else stands on them. Gives the chain ids of those that
    /// went, topmost first. Children forget their parent.
    ///
    /// # Errors
    /// When there is no such image or its config cannot be removed: the image stays then.
    pub fn delete(&self, id: ImageId) -> Result<Vec<ChainId>> {
        let (entry, before) = {
            let mut state = self.write();
            if !state.contains_key(&id) {
                return Err(Error::NoImage(id.to_string()));
            }
            // The config goes first: an image is gone when its config is.
            files::remove_file(&self.content.join(id.hex()))?;
            let entry = state.remove(&id).ok_or_else(|| Error::NoImage(id.to_string()))?;
            if let Some(parent) = entry.parent.and_then(|parent| state.get_mut(&parent)) {
                parent.children.remove(&id);
            }
            for child in &entry.children {
                if let Some(child) = state.get_mut(child) {
                    child.parent = None;
                }
            }
            let before: Vec<ChainId> = entry
                .image
                .chain_id
                .iter()
                .flat_map(|chain| self.layers.stack(*chain))
                .map(|l| l.chain_id)
                .collect();
            (entry, before)
        };
        for child in &entry.children {
            let parent = self.metadata.join(child.hex()).join("parent");
            // Read again at start: a parent that is not there is none.
            let _ = std::fs::remove_file(parent);
        }
        let mut left = files::remove_tree(&self.metadata.join(id.hex()));
        if let Some(chain) = entry.image.chain_id {
            left = left.and(self.layers.release(chain));
        }
        if let Err(error) = left {
            // The image is gone all the same, and the next start removes the rest.
            tracing::warn!(image = %id, %error, "could not remove everything of an image");
        }
        Ok(before.into_iter().filter(|chain| self.layers.info(*chain).is_none()).collect())
    }

    /// Reads all images. Damaged ones are logged and left alone.
    fn load(&self) -> Result<()> {
        let mut state = self.write();
        for name in files::names(&self.content)? {
            let Ok(id) = Digest::from_hex(&name).map(ImageId) else { continue };
            match self.raw(id).and_then(|raw| self.check(id, &raw)) {
                Ok((image, layer)) => {
                    layer.iter().for_each(|layer| self.layers.hold(layer.chain_id));
                    state.insert(id, Entry::new(image));
                }
                Err(error) => {
                    self.complete.store(false, Ordering::Relaxed);
                    tracing::error!(image = %id, %error, "could not load an image");
                }
            }
        }
        let ids: Vec<ImageId> = state.keys().copied().collect();
        for id in ids {
            let path = self.metadata.join(id.hex()).join("parent");
            let Ok(parent) = files::read_parsed::<ImageId>(&path) else { continue };
            let Some(entry) = state.get_mut(&parent) else { continue };
            entry.children.insert(id);
            if let Some(entry) = state.get_mut(&id) {
                entry.parent = Some(parent);
            }
        }
        Ok(())
    }
}
