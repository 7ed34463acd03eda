//! Layers: the stack of an image, and what containers write on top.
//!
//! A layer becomes one in two steps, so that the layers of an image can be extracted at the same time:
//! [`Layers::unpack`] extracts an archive by itself, [`Layers::register`] puts the result on a parent and
//! gives it its name. [`LayerRef`] is a hold on a layer; when the last hold, child, image and container is
//! gone, the layer is removed. Images and containers are holds that closing the store does not give back.
//!
//! Files: see [`crate::overlay`] and `record`. Lock order: `Images` before this module's state; nothing is
//! called with the state locked that could come back here.

pub(crate) mod record;
mod rw;
mod unpack;

pub use rw::RwLayer;
pub use unpack::Unpacked;

use crate::quota::Quotas;
use crate::{
    Error, GraphData, Result, chain_id, content::HashingWriter, durability, durability::Syncer, files,
    files::Owner, overlay::Overlay, tarsplit,
};
use flate2::bufread::GzDecoder;
use record::Records;
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{BufReader, PipeWriter, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use wharf_spec::{ChainId, ContainerId, DiffId, plan::IdMaps};

/// Layers of an image, at most (source: moby `daemon/internal/layer/layer_store.go` `maxLayerDepth`).
pub const MAX_DEPTH: usize = 125;

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name: what it is and on what it stands.
    pub chain_id: ChainId,
    /// Its archive.
    pub diff_id: DiffId,
    /// On what it stands.
    pub parent: Option<ChainId>,
    /// Name of its directory below `overlay2`.
    pub cache_id: String,
    /// Bytes of its files.
    pub size: u64,
}

/// All layers.
pub struct Layers {
    records: Records,
    overlay: Overlay,
    /// Ids of the containers' user namespaces, if they have any.
    ids: Option<Arc<IdMaps>>,
    syncer: Syncer,
    quotas: Quotas,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    layers: HashMap<ChainId, Entry>,
    /// All records on the disk are layers here.
    complete: bool,
    mounts: HashMap<ContainerId, Arc<RwLayer>>,
}

struct Entry {
    layer: Arc<Layer>,
    holds: usize,
}

/// A hold on a layer, and through it on those below.
pub struct LayerRef {
    layers: Arc<Layers>,
    layer: Arc<Layer>,
}

impl std::ops::Deref for LayerRef {
    type Target = Layer;
    fn deref(&self) -> &Layer {
        &self.layer
    }
}

impl Clone for LayerRef {
    fn clone(&self) -> Self {
        self.layers.hold(self.layer.chain_id);
        Self { layers: self.layers.clone(), layer: self.layer.clone() }
    }
}

impl Drop for LayerRef {
    fn drop(&mut self) {
        if let Err(error) = self.layers.release(self.layer.chain_id) {
            tracing::warn!(layer = %self.layer.chain_id, %error, "could not remove a layer");
        }
    }
}

impl Layers {
    pub(crate) fn open(data_root: &Path, layerdb: &Path, ids: Option<Arc<IdMaps>>) -> Result<Self> {
        let root = ids.as_deref().and_then(|ids| ids.root().ok()).map(|(uid, gid)| Owner { uid, gid });
        let this = Self {
            overlay: Overlay::open(data_root, root)?,
            ids,
            records: Records::open(layerdb)?,
            syncer: Syncer::new(layerdb)?,
            quotas: Quotas::default(),
            state: Mutex::default(),
        };
        this.load()?;
        this.repair()?;
        Ok(this)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the maps is a single step, so a panic elsewhere leaves them whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A hold on a layer.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(self: &Arc<Self>, chain: ChainId) -> Result<LayerRef> {
        let mut state = self.state();
        let entry = state.layers.get_mut(&chain).ok_or(Error::NoLayer(chain))?;
        entry.holds += 1;
        Ok(LayerRef { layers: self.clone(), layer: entry.layer.clone() })
    }

    /// What is known of a layer, without a hold.
    pub fn info(&self, chain: ChainId) -> Option<Arc<Layer>> {
        self.state().layers.get(&chain).map(|entry| entry.layer.clone())
    }

    /// All layers, unsorted.
    pub fn list(&self) -> Vec<Arc<Layer>> {
        self.state().layers.values().map(|entry| entry.layer.clone()).collect()
    }

    /// Bytes of a stack's files: of the layer and all below it. 0 for a layer that is not there.
    pub fn stack_size(&self, chain: ChainId) -> u64 {
        self.stack(chain).iter().map(|layer| layer.size).sum()
    }

    /// The layer and all below it, topmost first.
    pub fn stack(&self, chain: ChainId) -> Vec<Arc<Layer>> {
        let state = self.state();
        let mut stack = Vec::new();
        let mut next = Some(chain);
        while let Some(entry) = next.and_then(|chain| state.layers.get(&chain)) {
            stack.push(entry.layer.clone());
            next = entry.layer.parent;
        }
        stack
    }

    /// Where a layer's directories are.
    ///
    /// # Errors
    /// When the layer or its directory is not there.
    pub fn graph_data(&self, chain: ChainId) -> Result<GraphData> {
        let layer = self.info(chain).ok_or(Error::NoLayer(chain))?;
        self.overlay.graph_data(&layer.cache_id)
    }

    /// The files of a layer and all below it: a read-only mount that is attached nowhere.
    ///
    /// # Errors
    /// When the layer is not there or the mount fails.
    pub fn tree(&self, chain: ChainId) -> Result<OwnedFd> {
        let layer = self.info(chain).ok_or(Error::NoLayer(chain))?;
        self.overlay.tree(&layer.cache_id)
    }

    /// Gives an extracted layer its place. One that exists already is used, and the new one removed.
    ///
    /// # Errors
    /// When the parent is too deep or the disk fails.
    pub fn register(self: &Arc<Self>, unpacked: Unpacked, parent: Option<&LayerRef>) -> Result<LayerRef> {
        let parent_id = parent.map(|parent| parent.chain_id);
        if parent_id.is_some_and(|parent| self.stack(parent).len() >= MAX_DEPTH) {
            return Err(Error::TooDeep);
        }
        let chain = chain_id(parent_id, unpacked.diff_id);
        if let Ok(existing) = self.get(chain) {
            return Ok(existing);
        }
        if let Some(parent) = parent {
            self.overlay.set_parent(&unpacked.cache_id, &parent.cache_id)?;
        }
        self.records.complete(unpacked.record(), &unpacked, parent_id)?;
        let layer = Arc::new(Layer {
            chain_id: chain,
            diff_id: unpacked.diff_id,
            parent: parent_id,
            cache_id: unpacked.cache_id.clone(),
            size: unpacked.size,
        });
        self.publish(unpacked, layer)
    }

    /// Renames the record into place, unless somebody else was faster.
    fn publish(self: &Arc<Self>, unpacked: Unpacked, layer: Arc<Layer>) -> Result<LayerRef> {
        let mut state = self.state();
        if let Some(entry) = state.layers.get_mut(&layer.chain_id) {
            entry.holds += 1;
            let layer = entry.layer.clone();
            // Dropping what was unpacked takes time and locks nothing here.
            drop(state);
            return Ok(LayerRef { layers: self.clone(), layer });
        }
        self.records.commit(unpacked.record(), layer.chain_id)?;
        unpacked.keep();
        if let Some(parent) = layer.parent.and_then(|parent| state.layers.get_mut(&parent)) {
            parent.holds += 1;
        }
        state.layers.insert(layer.chain_id, Entry { layer: layer.clone(), holds: 1 });
        drop(state);
        self.syncer.schedule(self.records.directory(layer.chain_id).join(durability::MARK));
        Ok(LayerRef { layers: self.clone(), layer })
    }

    /// Writes a layer's archive as it was when the layer was extracted, bit by bit. Gives its length.
    ///
    /// # Errors
    /// When the layer is not there or not what it was, or `out` fails.
    pub fn write_tar(&self, chain: ChainId, out: &mut impl Write) -> Result<u64> {
        let layer = self.info(chain).ok_or(Error::NoLayer(chain))?;
        stored_archive(&self.records, &self.overlay, &layer, out)
    }

    /// The length of a layer's archive.
    ///
    /// # Errors
    /// When the layer is not there or its record is damaged.
    pub fn tar_size(&self, chain: ChainId) -> Result<u64> {
        let layer = self.info(chain).ok_or(Error::NoLayer(chain))?;
        tarsplit::archive_size(open_record(&self.records, &layer)?, &layer.cache_id)
    }

    /// A layer with these contents, on whatever parent.
    pub fn with_contents(self: &Arc<Self>, contents: DiffId) -> Option<LayerRef> {
        let chain = {
            let state = self.state();
            state.layers.values().find(|entry| entry.layer.diff_id == contents).map(|e| e.layer.chain_id)
        };
        self.get(chain?).ok()
    }

    /// Extracts a layer once more, to be put on another parent.
    ///
    /// # Errors
    /// When the layer is not what it was, or the disk fails.
    pub fn unpack_again(self: &Arc<Self>, layer: &LayerRef) -> Result<Unpacked> {
        self.unpack_written(|mut writer| {
            stored_archive(&self.records, &self.overlay, layer, &mut writer).map(drop)
        })
    }

    /// Extracts an archive while it is being written.
    fn unpack_written(
        self: &Arc<Self>,
        write: impl FnOnce(PipeWriter) -> Result<()> + Send,
    ) -> Result<Unpacked> {
        let (reader, writer) = std::io::pipe().map_err(Error::file("pipe", "a layer's archive"))?;
        std::thread::scope(|scope| {
            let source = scope.spawn(move || write(writer));
            let unpacked = self.unpack(reader);
            let written = source.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // What could not be written says more than that the archive broke off.
            match (unpacked, written) {
                (Ok(unpacked), Ok(())) => Ok(unpacked),
                (Ok(_), Err(error)) => Err(error),
                (Err(error), Ok(())) => Err(error),
                (Err(read), Err(write)) => Err(if write.is_broken_pipe() { read } else { write }),
            }
        })
    }

    /// Whether a layer's files still give the archive that its id is the digest of.
    ///
    /// # Errors
    /// When they do not.
    pub fn verify(&self, chain: ChainId) -> Result<()> {
        let layer = self.info(chain).ok_or(Error::NoLayer(chain))?;
        self.verify_layer(&layer)
    }

    fn verify_layer(&self, layer: &Layer) -> Result<()> {
        stored_archive(&self.records, &self.overlay, layer, &mut std::io::sink()).map(drop)
    }

    /// Removes layers on which nothing stands, which a crash between a pull's layers and its image leaves.
    /// Docker's own build cache holds layers without a record of ours, so this is for the caller to decide.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove_unused(self: &Arc<Self>) -> Result<Vec<ChainId>> {
        let unused: Vec<ChainId> = self
            .state()
            .layers
            .values()
            .filter(|entry| entry.holds == 0)
            .map(|entry| entry.layer.chain_id)
            .collect();
        // A hold that is taken and given back is what removes.
        let holds: Vec<LayerRef> = unused.iter().filter_map(|chain| self.get(*chain).ok()).collect();
        drop(holds);
        Ok(unused)
    }

    /// Whether a container's layer stands on it.
    pub(crate) fn is_mounted_on(&self, chain: ChainId) -> bool {
        self.state().mounts.values().any(|mount| mount.parent == Some(chain))
    }

    /// Removes containers' layers whose container is not there: creates and removals that were torn.
    pub(crate) fn remove_ownerless_mounts(&self, containers: &Path) -> Result<()> {
        for container in self.records.mount_names()? {
            if containers.join(container.as_str()).exists() {
                continue;
            }
            match self.remove_rw(&container) {
                Err(Error::NoMount(_)) => self.records.remove_mount(&container)?,
                other => other?,
            }
            tracing::info!(%container, "removed the layer of a container that is not there");
        }
        Ok(())
    }

    /// Whether every record on the disk could be read: if not, what seems unused may be named by one.
    pub(crate) fn is_complete(&self) -> Result<bool> {
        let mounts = self.records.mounts()?.len() == self.records.mount_names()?.len();
        Ok(mounts && self.state().complete)
    }

    /// Removes directories and short names below `overlay2` that belong to nothing. A name that is not one of
    /// the layer store's is BuildKit's business. Only where [`Layers::is_complete`].
    pub(crate) fn remove_strays(&self) -> Result<()> {
        let mut used: HashSet<String> =
            self.state().layers.values().map(|entry| entry.layer.cache_id.clone()).collect();
        for (_, mount) in self.records.mounts()? {
            used.extend([Some(mount.mount_id), mount.init_id].into_iter().flatten());
        }
        for id in self.overlay.names()? {
            if used.contains(&id) || !files::is_mount_id(&id) {
                used.insert(id);
                continue;
            }
            self.overlay.remove(&id)?;
            tracing::info!(id, "removed a directory of overlay2 that belongs to no layer");
        }
        for (link, target) in self.overlay.links()? {
            if target.is_none_or(|target| !used.contains(&target)) {
                self.overlay.remove_link(&link)?;
            }
        }
        Ok(())
    }

    /// Writes anew what can be derived: short names and `lower` of all layers, from the bottom up.
    ///
    /// # Errors
    /// When a layer's directory is missing or the disk fails.
    pub fn mend(&self) -> Result<()> {
        let (mut layers, mounts) = {
            let state = self.state();
            let layers: Vec<_> = state.layers.values().map(|entry| entry.layer.clone()).collect();
            (layers, state.mounts.values().cloned().collect::<Vec<_>>())
        };
        layers.sort_by_cached_key(|layer| self.stack(layer.chain_id).len());
        let cache_id = |chain: Option<ChainId>| Some(self.info(chain?)?.cache_id.clone());
        for layer in layers {
            self.mend_one(&layer.cache_id, cache_id(layer.parent).as_deref())?;
        }
        for mount in mounts {
            let parent = cache_id(mount.parent);
            if let Some(init) = &mount.init_id {
                self.mend_one(init, parent.as_deref())?;
            }
            self.mend_one(&mount.mount_id, mount.init_id.as_deref().or(parent.as_deref()))?;
        }
        Ok(())
    }

    fn mend_one(&self, id: &str, parent: Option<&str>) -> Result<()> {
        if self.overlay.faults(id, parent).is_empty() { Ok(()) } else { self.overlay.mend(id, parent) }
    }

    /// Waits until what was written is on the disk: before the machine is left to itself.
    pub fn flush(&self) {
        self.syncer.flush();
    }

    /// Counts a hold that is not a [`LayerRef`], on a layer that the caller has one on.
    pub(crate) fn hold(&self, chain: ChainId) {
        if let Some(entry) = self.state().layers.get_mut(&chain) {
            entry.holds += 1;
        }
    }

    /// Takes a hold away, and removes what nothing stands on any more.
    pub(crate) fn release(&self, chain: ChainId) -> Result<()> {
        let mut removed = Vec::new();
        {
            let mut state = self.state();
            let mut next = Some(chain);
            while let Some(chain) = next {
                let Some(entry) = state.layers.get_mut(&chain) else { break };
                entry.holds = entry.holds.saturating_sub(1);
                if entry.holds > 0 {
                    break;
                }
                next = entry.layer.parent;
                let layer = entry.layer.clone();
                state.layers.remove(&chain);
                removed.push((self.records.mark_removing(chain), layer));
            }
        }
        let mut result = Ok(());
        for (record, layer) in removed {
            let done = record.and_then(|record| {
                self.overlay.remove(&layer.cache_id)?;
                files::remove_tree(&record)
            });
            result = result.and(done);
        }
        result
    }

    /// Reads all records. Damaged ones, and those that stand on them, are logged and left alone.
    fn load(&self) -> Result<()> {
        let mut found: HashMap<ChainId, Layer> = HashMap::new();
        let mut complete = true;
        for chain in self.records.chains()? {
            match self.records.read(chain) {
                Ok(layer) if self.overlay.exists(&layer.cache_id) => {
                    found.insert(chain, layer);
                    continue;
                }
                Ok(layer) => {
                    tracing::error!(layer = %chain, cache = layer.cache_id, "a layer's directory is missing");
                }
                Err(error) => tracing::error!(layer = %chain, %error, "could not load a layer"),
            }
            complete = false;
        }
        self.drop_damaged(&mut found)?;
        while let Some(orphan) = orphan(&found) {
            tracing::error!(layer = %orphan, "a layer's parent is missing");
            found.remove(&orphan);
            complete = false;
        }
        let mut state = self.state();
        state.complete = complete;
        let parents: Vec<ChainId> = found.values().filter_map(|layer| layer.parent).collect();
        for (chain, layer) in found {
            state.layers.insert(chain, Entry { layer: Arc::new(layer), holds: 0 });
        }
        for parent in parents {
            if let Some(entry) = state.layers.get_mut(&parent) {
                entry.holds += 1;
            }
        }
        self.load_mounts(&mut state)
    }

    fn load_mounts(&self, state: &mut State) -> Result<()> {
        for (container, mount) in self.records.mounts()? {
            if let Some(entry) = mount.parent.and_then(|parent| state.layers.get_mut(&parent)) {
                entry.holds += 1;
            } else if let Some(parent) = mount.parent {
                tracing::error!(%container, %parent, "the image of a container's layer is missing");
                continue;
            }
            state.mounts.insert(container, Arc::new(mount));
        }
        Ok(())
    }

    /// Checks layers that were not on the disk for sure when the machine stopped.
    fn drop_damaged(&self, found: &mut HashMap<ChainId, Layer>) -> Result<()> {
        let mut boot = None;
        let mut damaged = Vec::new();
        // A layer is mended after those below it.
        let mut layers: Vec<_> = found.iter().collect();
        layers.sort_by_cached_key(|(_, layer)| depth(found, layer));
        for (chain, layer) in layers {
            let mark = self.records.directory(*chain).join(durability::MARK);
            let Some(marked) = files::optional(files::read_text(&mark))? else { continue };
            let boot = match &boot {
                Some(boot) => boot,
                None => boot.insert(durability::boot_id()?),
            };
            let parent = layer.parent.and_then(|parent| found.get(&parent));
            if marked != *boot
                && let Err(error) = self
                    .mend_one(&layer.cache_id, parent.map(|parent| parent.cache_id.as_str()))
                    .and_then(|()| self.verify_layer(layer))
            {
                tracing::error!(layer = %chain, %error, "removing a layer that a power loss damaged");
                damaged.push(*chain);
                continue;
            }
            self.syncer.schedule(mark);
        }
        for chain in damaged {
            found.remove(&chain);
            self.records.mark_removing(chain)?;
        }
        Ok(())
    }

    /// Finishes removals and takes back what was never registered.
    fn repair(&self) -> Result<()> {
        let used: HashSet<String> = self.state().layers.values().map(|e| e.layer.cache_id.clone()).collect();
        for (record, cache_id) in self.records.leftovers()? {
            if let Some(cache_id) = cache_id.filter(|id| !used.contains(id))
                && let Err(error) = self.overlay.remove(&cache_id)
            {
                tracing::warn!(cache_id, %error, "could not remove what a crash left");
                continue;
            }
            files::remove_tree(&record)?;
        }
        Ok(())
    }
}

/// Writes a layer's archive, and checks that it is the one its id is the digest of: the record has checksums of
/// files, but none of what stands between them.
pub(crate) fn stored_archive(
    records: &Records,
    overlay: &Overlay,
    layer: &Layer,
    out: &mut impl Write,
) -> Result<u64> {
    let record = open_record(records, layer)?;
    let diff = files::open_directory(&overlay.diff(&layer.cache_id))?;
    let mut digest = HashingWriter::new(out);
    let written = tarsplit::assemble(record, diff.as_fd(), &layer.cache_id, &mut digest)?;
    let (actual, _) = digest.finish();
    if actual == layer.diff_id.0 {
        return Ok(written);
    }
    let what = format!("layer {}", layer.chain_id);
    Err(Error::DigestMismatch { what, expected: layer.diff_id.0, actual })
}

fn open_record(records: &Records, layer: &Layer) -> Result<impl std::io::BufRead + use<>> {
    let path = records.tar_split(layer.chain_id);
    let record = File::open(&path).map_err(Error::file("open", path))?;
    Ok(BufReader::with_capacity(128 << 10, GzDecoder::new(BufReader::new(record))))
}

fn depth(found: &HashMap<ChainId, Layer>, layer: &Layer) -> usize {
    let below = |layer: &&Layer| layer.parent.and_then(|parent| found.get(&parent));
    std::iter::successors(Some(layer), below).count()
}

/// A layer whose parent is missing.
fn orphan(found: &HashMap<ChainId, Layer>) -> Option<ChainId> {
    let is_orphan = |layer: &&Layer| layer.parent.is_some_and(|parent| !found.contains_key(&parent));
    found.values().find(is_orphan).map(|layer| layer.chain_id)
}
