//! Images: configs, kept as the bytes they came as, and what Docker notes about them (source: moby
//! `daemon/internal/image/{fs,store}.go`).
//!
//! ```text
//! imagedb/content/sha256/<id>                 the config; its name is its digest
//! imagedb/metadata/sha256/<id>/parent         the image it was built on, here
//! imagedb/metadata/sha256/<id>/lastUpdated    when it was tagged last, RFC 3339
//! imagedb/metadata/sha256/<id>/builtLocally   one byte 1: may serve as build cache
//! ```

use crate::{Error, LayerRef, Layers, Result, chain_ids, files, files::Sync, sha256};
use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use wharf_spec::{ChainId, Digest, ImageConfig, ImageId};

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
        let images = Self { content, metadata, layers, state: RwLock::default() };
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
    /// When there is no such image or the disk fails.
    pub fn delete(&self, id: ImageId) -> Result<Vec<ChainId>> {
        let (entry, before) = {
            let mut state = self.write();
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
        // The config goes first: an image is gone when its config is.
        let path = self.content.join(id.hex());
        std::fs::remove_file(&path).map_err(Error::file("unlink", path))?;
        files::remove_tree(&self.metadata.join(id.hex()))?;
        if let Some(chain) = entry.image.chain_id {
            self.layers.release(chain)?;
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
                Err(error) => tracing::error!(image = %id, %error, "could not load an image"),
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
