//! The layers of an image: which the registry has, which it takes from another repository, which are sent.

use super::{
    Descriptor, Failure, Push,
    candidates::{self, Limits},
};
use crate::{Error, blocking::blocking, images::store_error};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
};
use tokio::task::JoinSet;
use wharf_registry::{Mount, Upload};
use wharf_spec::{DiffId, Digest, ImageRef};
use wharf_store::{Layer, V2Metadata};

/// What is known of one layer while it is pushed.
struct Search {
    known: Vec<V2Metadata>,
    /// Blobs that were asked for.
    checked: HashSet<Digest>,
}

/// What came of trying to mount.
enum Mounted {
    Yes(Descriptor),
    /// No, but an upload may have been opened on the way.
    No(Option<Upload>),
}

/// A layer's id as clients see it.
pub(super) fn short(layer: &Layer) -> String {
    layer.diff_id.hex().chars().take(12).collect()
}

impl Push {
    /// Brings all layers to the registry, as many at once as the daemon may, each once.
    pub(super) async fn layers(&self, layers: &[Arc<Layer>]) -> Result<Vec<Descriptor>, Failure> {
        let mut tasks = JoinSet::new();
        let mut begun = HashSet::new();
        // Docker counts from the top.
        for layer in layers.iter().rev() {
            self.report.state(&short(layer), "Preparing");
            if begun.insert(layer.diff_id) {
                let (push, layer) = (self.clone(), Arc::clone(layer));
                tasks.spawn(async move { Ok::<_, Failure>((layer.diff_id, push.layer(&layer).await?)) });
            }
        }
        let mut done: HashMap<DiffId, Descriptor> = HashMap::new();
        while let Some(ended) = tasks.join_next().await {
            let (layer, descriptor) = ended.map_err(|_| Error::Panicked)??;
            done.insert(layer, descriptor);
        }
        let descriptor = |layer: &Arc<Layer>| done.get(&layer.diff_id).cloned().ok_or(Error::Panicked);
        Ok(layers.iter().map(descriptor).collect::<Result<_, _>>()?)
    }

    async fn layer(&self, layer: &Layer) -> Result<Descriptor, Failure> {
        let _turn = self.inner.turns.take(self.repository.name().name(), layer.diff_id).await;
        let _place = self.inner.uploads.place(|| self.report.state(&short(layer), "Waiting")).await;
        let known = self.sent.lock().unwrap_or_else(PoisonError::into_inner).get(&layer.diff_id).cloned();
        if let Some(descriptor) = known {
            self.report.state(&short(layer), "Layer already exists");
            return Ok(descriptor);
        }
        let descriptor = self.find_or_send(layer).await?;
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.insert(layer.diff_id, descriptor.clone());
        Ok(descriptor)
    }

    async fn find_or_send(&self, layer: &Layer) -> Result<Descriptor, Failure> {
        let limits = Limits::of(layer.size);
        let (inner, id) = (Arc::clone(&self.inner), layer.diff_id);
        let known = blocking(move || Ok(inner.store.distribution.blobs_of(id))).await?;
        let mut search = Search { known, checked: HashSet::new() };
        if let Some(found) = self.existing(layer, &mut search, 1, true).await? {
            return Ok(found);
        }
        let upload = match self.mount(layer, &search, limits.mounts).await? {
            Mounted::Yes(descriptor) => return Ok(descriptor),
            Mounted::No(upload) => upload,
        };
        let left = limits.checks.saturating_sub(search.checked.len());
        if let Some(found) = self.existing(layer, &mut search, left, limits.other_repositories).await? {
            if let Some(upload) = upload {
                abandon(upload).await;
            }
            return Ok(found);
        }
        self.send(layer, upload).await
    }

    /// Asks the repository for blobs that the layer is known to be.
    async fn existing(
        &self,
        layer: &Layer,
        search: &mut Search,
        attempts: usize,
        others: bool,
    ) -> Result<Option<Descriptor>, Failure> {
        let target = self.repository.name();
        let own = target.name();
        let mut wanted = candidates::sorted(search.known.clone(), target, &self.key);
        wanted.retain(|e| others || e.source_repository.is_empty() || e.source_repository == own);
        let fresh = wanted.into_iter().filter(|entry| search.checked.insert(entry.digest));
        for entry in fresh.take(attempts).collect::<Vec<_>>() {
            match self.repository.blob_size(&entry.digest).await {
                Ok(Some(size)) if size > 0 => {
                    if entry.source_repository != own || !self.key.signed(&entry) {
                        self.note(layer.diff_id, entry.digest).await?;
                    }
                    self.report.state(&short(layer), "Layer already exists");
                    return Ok(Some(Descriptor::layer(entry.digest, size)));
                }
                // A length that is not told cannot stand in a manifest.
                Ok(Some(_)) => {}
                Ok(None) if entry.source_repository == own => self.forget(layer.diff_id, entry).await?,
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "cannot tell whether a layer is there"),
            }
        }
        Ok(None)
    }

    /// Has the registry take the layer over from another repository.
    async fn mount(&self, layer: &Layer, search: &Search, attempts: usize) -> Result<Mounted, Failure> {
        let mut open = None;
        let candidates = candidates::to_mount(&search.known, self.repository.name(), &self.key);
        for (source, entry) in candidates.into_iter().take(attempts) {
            let answer = self.repository.mount(&entry.digest, source.path()).await;
            let unauthorized = matches!(&answer, Err(error) if error.is_unauthorized());
            match answer {
                Ok(Mount::Done) => {
                    if let Some(descriptor) = self.mounted(layer, &source, &entry).await? {
                        if let Some(upload) = open.take() {
                            abandon(upload).await;
                        }
                        return Ok(Mounted::Yes(descriptor));
                    }
                }
                Ok(Mount::Needed(upload)) => {
                    if let Some(before) = open.replace(upload) {
                        abandon(before).await;
                    }
                }
                Err(error) => tracing::info!(%error, from = %source, "could not mount a layer"),
            }
            let may_judge = !unauthorized || self.has_credentials;
            if may_judge && (entry.hmac.is_empty() || self.key.signed(&entry)) {
                self.forget(layer.diff_id, entry).await?;
            }
        }
        Ok(Mounted::No(open))
    }

    /// What the registry says of a mounted blob; `None` when it is not there after all.
    async fn mounted(
        &self,
        layer: &Layer,
        source: &ImageRef,
        entry: &V2Metadata,
    ) -> Result<Option<Descriptor>, Failure> {
        let size = self.repository.blob_size(&entry.digest).await?;
        let Some(size) = size.filter(|size| *size > 0) else { return Ok(None) };
        self.report.state(&short(layer), format!("Mounted from {}", source.path()));
        self.note(layer.diff_id, entry.digest).await?;
        Ok(Some(Descriptor::layer(entry.digest, size)))
    }

    /// Notes that the repository has the layer.
    pub(super) async fn note(&self, layer: DiffId, digest: Digest) -> Result<(), Failure> {
        let source_repository = self.repository.name().name();
        let entry = self.key.sign(V2Metadata { digest, source_repository, hmac: String::new() });
        let inner = Arc::clone(&self.inner);
        let noted = blocking(move || inner.store.distribution.add(layer, entry).map_err(store_error)).await;
        Ok(noted?)
    }

    async fn forget(&self, layer: DiffId, entry: V2Metadata) -> Result<(), Failure> {
        let inner = Arc::clone(&self.inner);
        let work = move || inner.store.distribution.remove(layer, &entry).map_err(store_error);
        Ok(blocking(work).await?)
    }
}

/// Gives an upload up that is not needed. The registry removes it some day in any case.
pub(super) async fn abandon(upload: Upload) {
    if let Err(error) = upload.cancel().await {
        tracing::debug!(%error, "could not cancel an upload");
    }
}
