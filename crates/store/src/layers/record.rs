//! The directory `layerdb` (source: moby `daemon/internal/layer/filestore.go`).
//!
//! ```text
//! layerdb/sha256/<chain>/{cache-id,diff,parent,size,tar-split.json.gz}   a layer
//! layerdb/sha256/<chain>-<random>-removing/                               one on its way out
//! layerdb/tmp/write-set-<random>/                                         one on its way in
//! layerdb/mounts/<container>/{mount-id,init-id,parent}                    a container's layer
//! ```
//! `cache-id` is written before anything else, so that what a crash leaves can be found.

use super::{Layer, RwLayer, Unpacked};
use crate::{Error, Result, durability, files, files::Sync};
use std::path::{Path, PathBuf};
use wharf_spec::{ChainId, ContainerId, Digest};

pub(crate) const TAR_SPLIT: &str = "tar-split.json.gz";
const REMOVING: &str = "-removing";

pub(crate) struct Records {
    root: PathBuf,
}

impl Records {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        files::make_directory(root, 0o700)?;
        for (name, mode) in [("sha256", 0o755), ("tmp", 0o755), ("mounts", 0o755)] {
            files::make_directory(&root.join(name), mode)?;
        }
        Ok(Self::at(root))
    }

    /// To be looked at only.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    pub(crate) fn directory(&self, chain: ChainId) -> PathBuf {
        self.root.join("sha256").join(chain.hex())
    }

    pub(crate) fn tar_split(&self, chain: ChainId) -> PathBuf {
        self.directory(chain).join(TAR_SPLIT)
    }

    /// Starts a record.
    pub(crate) fn start(&self, cache_id: &str) -> Result<PathBuf> {
        let record = self.root.join("tmp").join(format!("write-set-{}", &files::random_id()[..12]));
        files::make_directory(&record, 0o700)?;
        files::write_new(&record.join("cache-id"), cache_id.as_bytes(), 0o644, Sync::Later)?;
        Ok(record)
    }

    /// Writes what is known once the layer is extracted.
    pub(crate) fn complete(&self, record: &Path, layer: &Unpacked, parent: Option<ChainId>) -> Result<()> {
        let write = |name: &str, text: String| {
            files::write_new(&record.join(name), text.as_bytes(), 0o644, Sync::Later)
        };
        write(durability::MARK, durability::boot_id()?)?;
        write("diff", layer.diff_id.to_string())?;
        write("size", layer.size.to_string())?;
        match parent {
            None => Ok(()),
            Some(parent) => write("parent", parent.to_string()),
        }
    }

    /// Gives a record its name. What stands there was not loaded, so it is no layer.
    pub(crate) fn commit(&self, record: &Path, chain: ChainId) -> Result<()> {
        let directory = self.directory(chain);
        if directory.exists() {
            self.mark_removing(chain)?;
        }
        files::rename(record, &directory)
    }

    /// Takes a record's name away.
    pub(crate) fn mark_removing(&self, chain: ChainId) -> Result<PathBuf> {
        let new = format!("{}-{}{REMOVING}", chain.hex(), files::random_id());
        let new = self.root.join("sha256").join(new);
        files::rename(&self.directory(chain), &new)?;
        Ok(new)
    }

    pub(crate) fn chains(&self) -> Result<Vec<ChainId>> {
        let names = files::names(&self.root.join("sha256"))?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).map(ChainId).collect())
    }

    pub(crate) fn read(&self, chain: ChainId) -> Result<Layer> {
        let directory = self.directory(chain);
        let cache_id = files::read_text(&directory.join("cache-id"))?;
        if !files::is_cache_id(&cache_id) {
            return Err(Error::Damaged { path: directory.join("cache-id"), what: format!("{cache_id:?}") });
        }
        let layer = Layer {
            chain_id: chain,
            diff_id: files::read_parsed(&directory.join("diff"))?,
            parent: files::optional(files::read_parsed(&directory.join("parent")))?,
            cache_id,
            size: files::read_parsed(&directory.join("size"))?,
        };
        if crate::chain_id(layer.parent, layer.diff_id) != chain {
            let what = "its name does not fit the layer and its parent".into();
            return Err(Error::Damaged { path: directory, what });
        }
        Ok(layer)
    }

    /// Names of containers' records, readable or not.
    pub(crate) fn mount_names(&self) -> Result<Vec<ContainerId>> {
        let names = files::names(&self.root.join("mounts"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Records that are no layers, with the directories they name.
    pub(crate) fn leftovers(&self) -> Result<Vec<(PathBuf, Option<String>)>> {
        let removing = self.root.join("sha256");
        let arriving = self.root.join("tmp");
        let removing_names = files::names(&removing)?.into_iter().filter(|name| name.ends_with(REMOVING));
        let arriving_names = files::names(&arriving)?.into_iter();
        let paths: Vec<PathBuf> = removing_names
            .map(|name| removing.join(name))
            .chain(arriving_names.map(|name| arriving.join(name)))
            .collect();
        let cache_id = |path: &Path| {
            let id = files::optional(files::read_text(&path.join("cache-id"))).ok().flatten();
            id.filter(|id| files::is_cache_id(id))
        };
        Ok(paths.into_iter().map(|path| (path.clone(), cache_id(&path))).collect())
    }

    fn mount_directory(&self, container: &ContainerId) -> PathBuf {
        self.root.join("mounts").join(container.as_str())
    }

    pub(crate) fn write_mount(&self, container: &ContainerId, mount: &RwLayer) -> Result<()> {
        let directory = self.mount_directory(container);
        files::make_directory(&directory, 0o755)?;
        let write = |name: &str, text: &str| {
            files::write_new(&directory.join(name), text.as_bytes(), 0o644, Sync::Later)
        };
        write("mount-id", &mount.mount_id)?;
        if let Some(init_id) = &mount.init_id {
            write("init-id", init_id)?;
        }
        match &mount.parent {
            None => Ok(()),
            Some(parent) => write("parent", &parent.to_string()),
        }
    }

    pub(crate) fn remove_mount(&self, container: &ContainerId) -> Result<()> {
        files::remove_tree(&self.mount_directory(container))
    }

    /// Containers' layers; damaged ones are logged and left out.
    pub(crate) fn mounts(&self) -> Result<Vec<(ContainerId, RwLayer)>> {
        let mut mounts = Vec::new();
        for container in self.mount_names()? {
            match self.read_mount(&container) {
                Ok(mount) => mounts.push((container, mount)),
                Err(error) => tracing::warn!(%container, %error, "could not load a container's layer"),
            }
        }
        Ok(mounts)
    }

    pub(crate) fn read_mount(&self, container: &ContainerId) -> Result<RwLayer> {
        let directory = self.mount_directory(container);
        let id = |name: &str| {
            let path = directory.join(name);
            let id = files::read_text(&path)?;
            if files::is_mount_id(&id) {
                Ok(id)
            } else {
                Err(Error::Damaged { path, what: format!("{id:?}") })
            }
        };
        let parent = files::optional(files::read_parsed(&directory.join("parent")))?;
        Ok(RwLayer::new(id("mount-id")?, files::optional(id("init-id"))?, parent))
    }
}
