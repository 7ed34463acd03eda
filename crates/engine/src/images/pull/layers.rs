//! The layers of an image: what is here, what is brought, and the order in which it is put together (source:
//! moby `daemon/internal/distribution/xfer/download.go`).
//!
//! One task per missing layer. It extracts by itself, side by side with the others, and then waits for the
//! layer below to be registered.

use super::{Failure, Pull, choose, hold::Hold};
use crate::{Error, blocking::blocking, images::store_error};
use std::{collections::HashSet, sync::Arc};
use tokio::{
    sync::{OwnedMutexGuard, oneshot},
    task::JoinSet,
};
use wharf_spec::{ChainId, Descriptor, DiffId, ImageManifest};
use wharf_store::{LayerRef, Unpacked, V2Metadata, chain_ids};

/// A layer that is not here.
pub(super) struct Missing {
    pub(super) blob: Descriptor,
    /// What the config says it contains.
    contents: DiffId,
    chain: ChainId,
    /// The same blob is further down: its contents will be here, and nobody hears of this one.
    repeated: bool,
}

/// On what a layer stands.
enum Parent {
    Here(Option<Hold<LayerRef>>),
    Coming(oneshot::Receiver<Hold<LayerRef>>),
}

impl Parent {
    /// Waits until it is registered; `None` when it failed.
    async fn here(self) -> Option<Option<Hold<LayerRef>>> {
        match self {
            Self::Here(parent) => Some(parent),
            Self::Coming(parent) => parent.await.ok().map(Some),
        }
    }
}

/// Extracted, and how it came.
enum Extracted {
    /// From the registry: what its blob contains is known for sure.
    Downloaded(Hold<Unpacked>),
    /// From a layer here.
    Copied(Hold<Unpacked>),
}

impl Missing {
    /// How the client knows the layer.
    pub(super) fn id(&self) -> String {
        short(&self.blob)
    }
}

fn short(blob: &Descriptor) -> String {
    blob.digest.hex()[..12].to_owned()
}

impl Pull {
    /// Brings what is missing. Gives the top layer, if there is any layer at all.
    pub(super) async fn layers(
        &self,
        manifest: &ImageManifest,
        contents: &[DiffId],
    ) -> Result<Option<Hold<LayerRef>>, Failure> {
        let chains = chain_ids(contents);
        let (present, top) = self.present(&chains);
        self.note_present(&manifest.layers[..present], &contents[..present]).await?;
        let mut seen: HashSet<_> = manifest.layers[..present].iter().map(|blob| blob.digest).collect();
        let (mut tasks, mut parent) = (JoinSet::new(), Parent::Here(top));
        let mut jobs = Vec::new();
        for (at, blob) in manifest.layers.iter().enumerate().skip(present) {
            let (registered, coming) = oneshot::channel();
            let repeated = !seen.insert(blob.digest);
            if !repeated {
                self.report.state(&short(blob), "Pulling fs layer");
            }
            let (blob, contents, chain) = (blob.clone(), contents[at], chains[at]);
            jobs.push((Missing { blob, contents, chain, repeated }, parent, registered));
            parent = Parent::Coming(coming);
        }
        for (layer, parent, registered) in jobs {
            tasks.spawn(self.clone().bring(layer, parent, registered));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|_| Error::Panicked)??;
        }
        let top = parent.here().await;
        top.ok_or_else(|| Failure::Engine(Error::Panicked))
    }

    /// How many layers are here, from the bottom up, and the topmost of them.
    fn present(&self, chains: &[ChainId]) -> (usize, Option<Hold<LayerRef>>) {
        let layers = &self.inner.store.layers;
        let found =
            chains.iter().enumerate().rev().find_map(|(at, chain)| Some((at, layers.get(*chain).ok()?)));
        found.map_or((0, None), |(at, layer)| (at + 1, Some(Hold::new(layer))))
    }

    /// Tells of layers that are here, and notes that this repository has them, too.
    async fn note_present(&self, blobs: &[Descriptor], contents: &[DiffId]) -> Result<(), Failure> {
        for blob in blobs {
            self.report.state(&short(blob), "Already exists");
        }
        let inner = Arc::clone(&self.inner);
        let source_repository = self.repository.name().name();
        let pairs: Vec<_> = blobs.iter().map(|blob| blob.digest).zip(contents.iter().copied()).collect();
        let noted = blocking(move || {
            // What a blob contains counts only if it was seen to contain it.
            for (digest, contents) in pairs {
                if inner.store.distribution.layer_of(&digest) == Some(contents) {
                    let (source_repository, hmac) = (source_repository.clone(), String::new());
                    let metadata = V2Metadata { digest, source_repository, hmac };
                    inner.store.distribution.add(contents, metadata).map_err(store_error)?;
                }
            }
            Ok(())
        });
        Ok(noted.await?)
    }

    /// Brings a layer and registers it. When a layer below failed, that one's error counts.
    async fn bring(
        self,
        layer: Missing,
        mut parent: Parent,
        registered: oneshot::Sender<Hold<LayerRef>>,
    ) -> Result<(), Failure> {
        let _turn = self.turn(&layer).await;
        // Whoever waits for the layer is gone only when the pull is.
        if let Ok(here) = self.inner.store.layers.get(layer.chain) {
            self.state(&layer, "Already exists");
            let _ = registered.send(Hold::new(here));
            return Ok(());
        }
        if layer.repeated {
            let Some(here) = parent.here().await else { return Ok(()) };
            parent = Parent::Here(here);
        }
        let extracted = self.extract(&layer).await?;
        let Some(parent) = parent.here().await else { return Ok(()) };
        let here = self.register(&layer, extracted, parent).await?;
        self.state(&layer, "Pull complete");
        let _ = registered.send(here);
        Ok(())
    }

    /// Waits while another pull brings the layer.
    async fn turn(&self, layer: &Missing) -> OwnedMutexGuard<()> {
        let turn = self.inner.downloads.turn(layer.chain);
        match Arc::clone(&turn).try_lock_owned() {
            Ok(turn) => turn,
            Err(_) => {
                self.state(layer, "Waiting");
                turn.lock_owned().await
            }
        }
    }

    fn state(&self, layer: &Missing, state: &str) {
        if !layer.repeated {
            self.report.state(&layer.id(), state);
        }
    }

    /// From a layer with the same contents on another parent, else from the registry.
    async fn extract(&self, layer: &Missing) -> Result<Extracted, Failure> {
        let _place = self.inner.downloads.place(|| self.state(layer, "Waiting")).await;
        match self.copy(layer.contents).await {
            Some(copied) => Ok(Extracted::Copied(copied)),
            None => self.download(layer).await.map(Extracted::Downloaded),
        }
    }

    async fn copy(&self, contents: DiffId) -> Option<Hold<Unpacked>> {
        let layer = Hold::new(self.inner.store.layers.with_contents(contents)?);
        let inner = Arc::clone(&self.inner);
        let copied = blocking(move || inner.store.layers.unpack_again(&layer).map_err(store_error)).await;
        match copied {
            Ok(unpacked) => Some(Hold::new(unpacked)),
            Err(error) => {
                tracing::warn!(%error, layer = %contents, "a layer could not be copied, it is downloaded");
                None
            }
        }
    }

    async fn register(
        &self,
        layer: &Missing,
        extracted: Extracted,
        parent: Option<Hold<LayerRef>>,
    ) -> Result<Hold<LayerRef>, Failure> {
        let (unpacked, seen) = match extracted {
            Extracted::Downloaded(unpacked) => (unpacked, true),
            Extracted::Copied(unpacked) => (unpacked, false),
        };
        let (inner, digest, contents) = (Arc::clone(&self.inner), layer.blob.digest, layer.contents);
        if unpacked.diff_id != contents {
            return Err(choose::mismatch().into());
        }
        let source_repository = self.repository.name().name();
        let registered = blocking(move || {
            let layer = inner.store.layers.register(unpacked.release(), parent.as_deref());
            let layer = layer.map_err(|e| store_error(e).context("failed to register layer"))?;
            if seen {
                let metadata = V2Metadata { digest, source_repository, hmac: String::new() };
                inner.store.distribution.add(contents, metadata).map_err(store_error)?;
            }
            Ok(layer)
        });
        Ok(Hold::new(registered.await?))
    }
}
