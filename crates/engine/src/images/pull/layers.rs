//! The layers of an image: what is here, what is brought, and the order in which it is put together (source:
//! moby `daemon/internal/distribution/xfer/download.go`).
//!
//! One task per missing layer, shared by all pulls that want it ([`Coming`]). It extracts by itself, side by side
//! with the others, and then waits for the layer below to be registered.

use super::{
    Failure, Pull, choose,
    downloads::{Bringer, Coming},
    hold::Hold,
};
use crate::{Error, blocking::blocking, images::store_error};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{collections::HashSet, sync::Arc};
use wharf_spec::{ChainId, Descriptor, DiffId, Digest, ImageManifest};
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
#[derive(Clone)]
enum Parent {
    Here(Option<Hold<LayerRef>>),
    Coming(Arc<Coming>),
}

impl Parent {
    /// Waits until it is registered; `None` when it failed.
    async fn here(self) -> Option<Option<Hold<LayerRef>>> {
        match self {
            Self::Here(parent) => Some(parent),
            Self::Coming(parent) => parent.here().await.map(Some),
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
        let mut wanted = self.want(manifest, contents, &chains).await?;
        loop {
            match arrival(&wanted).await? {
                Arrival::All(top) => {
                    self.note_others(&wanted).await?;
                    return Ok(top);
                }
                // Another pull failed with what this one waited for. What is still coming is kept.
                Arrival::Again => wanted = self.want(manifest, contents, &chains).await?,
            }
        }
    }

    /// Joins or starts what brings the layers that are missing, from the bottom up.
    async fn want(
        &self,
        manifest: &ImageManifest,
        contents: &[DiffId],
        chains: &[ChainId],
    ) -> Result<Wanted, Failure> {
        let (present, top) = self.present(chains);
        let blobs = &manifest.layers[..present];
        blobs.iter().for_each(|blob| self.report.state(&short(blob), "Already exists"));
        self.note(blobs.iter().map(|blob| blob.digest).zip(contents.iter().copied()).collect()).await?;
        let mut seen: HashSet<_> = blobs.iter().map(|blob| blob.digest).collect();
        let mut missing = Vec::new();
        for (at, blob) in manifest.layers.iter().enumerate().skip(present) {
            let repeated = !seen.insert(blob.digest);
            if !repeated {
                self.report.state(&short(blob), "Pulling fs layer");
            }
            missing.push(Missing { blob: blob.clone(), contents: contents[at], chain: chains[at], repeated });
        }
        let mut wanted = Wanted { top: Parent::Here(top), layers: Vec::new() };
        for layer in missing {
            let (digest, contents, repeated) = (layer.blob.digest, layer.contents, layer.repeated);
            let (pull, parent) = (self.clone(), wanted.top.clone());
            let (coming, bringer) = self.inner.downloads.join(layer.chain, move |report| {
                let pull = Pull { report, ..pull };
                async move { Box::pin(pull.bring(layer, parent)).await }
            });
            if !repeated {
                coming.watch(&self.report);
            }
            wanted.top = Parent::Coming(Arc::clone(&coming));
            wanted.layers.push(WantedLayer { coming, bringer, digest, contents });
        }
        Ok(wanted)
    }

    /// How many layers are here, from the bottom up, and the topmost of them.
    fn present(&self, chains: &[ChainId]) -> (usize, Option<Hold<LayerRef>>) {
        let layers = &self.inner.store.layers;
        let found =
            chains.iter().enumerate().rev().find_map(|(at, chain)| Some((at, layers.get(*chain).ok()?)));
        found.map_or((0, None), |(at, layer)| (at + 1, Some(Hold::new(layer))))
    }

    /// Notes that this repository has these layers, too.
    async fn note(&self, pairs: Vec<(Digest, DiffId)>) -> Result<(), Failure> {
        let inner = Arc::clone(&self.inner);
        let source_repository = self.repository.name().name();
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

    async fn note_others(&self, wanted: &Wanted) -> Result<(), Failure> {
        let others = wanted.layers.iter().filter(|layer| layer.bringer == Bringer::Another);
        self.note(others.map(|layer| (layer.digest, layer.contents)).collect()).await
    }

    /// Brings a layer and registers it. `None` when a layer below failed.
    async fn bring(self, layer: Missing, mut parent: Parent) -> Result<Option<Hold<LayerRef>>, Failure> {
        if let Ok(here) = self.inner.store.layers.get(layer.chain) {
            self.state(&layer, "Already exists");
            return Ok(Some(Hold::new(here)));
        }
        if layer.repeated {
            let Some(here) = parent.here().await else { return Ok(None) };
            parent = Parent::Here(here);
        }
        let extracted = self.extract(&layer).await?;
        let Some(parent) = parent.here().await else { return Ok(None) };
        let here = self.register(&layer, extracted, parent).await?;
        self.state(&layer, "Pull complete");
        Ok(Some(here))
    }

    fn state(&self, layer: &Missing, state: &str) {
        self.report.state(&layer.id(), state);
    }

    /// From a layer with the same contents on another parent, else from the registry.
    async fn extract(&self, layer: &Missing) -> Result<Extracted, Failure> {
        let _place = self.inner.downloads.pool.place(|| self.state(layer, "Waiting")).await;
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

/// The layers of an image that were missing.
struct Wanted {
    top: Parent,
    layers: Vec<WantedLayer>,
}

struct WantedLayer {
    coming: Arc<Coming>,
    bringer: Bringer,
    digest: Digest,
    contents: DiffId,
}

enum Arrival {
    /// All are here; the topmost, if there is any layer at all.
    All(Option<Hold<LayerRef>>),
    /// What another pull was to bring failed there.
    Again,
}

/// Waits for all, or for the first failure.
async fn arrival(wanted: &Wanted) -> Result<Arrival, Failure> {
    let wait = async |layer| (layer, WantedLayer::here(layer).await);
    let mut waiting: FuturesUnordered<_> = wanted.layers.iter().map(wait).collect();
    while let Some((layer, here)) = waiting.next().await {
        if here {
            continue;
        }
        if layer.bringer == Bringer::Another {
            return Ok(Arrival::Again);
        }
        // Without a failure of its own, it waited for one below, which is among those waited for.
        if let Some(failure) = layer.coming.failure() {
            return Err(failure);
        }
    }
    match wanted.top.clone().here().await {
        Some(top) => Ok(Arrival::All(top)),
        None => Err(Error::Panicked.into()),
    }
}

impl WantedLayer {
    async fn here(&self) -> bool {
        self.coming.here().await.is_some()
    }
}
