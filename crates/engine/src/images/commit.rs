//! The image of a commit (source: moby `daemon/images/image_commit.go`, `daemon/internal/image/image.go`
//! `NewChildImage`).

use super::{Inner, store_error};
use crate::{Error, Result};
use wharf_api::{container as api, gojson};
use wharf_dockerfile::apply_changes;
use wharf_spec::{
    ContainerId, DiffId, Digest, History, ImageConfig, ImageId, ImageRef, Platform, RootFs, RunConfig,
};

/// For [`super::Images::commit`].
#[derive(Debug, Clone)]
pub(crate) struct CommitImage {
    /// Whose changes are the new layer; `None`: there is no new layer.
    pub(crate) layer_of: Option<ContainerId>,
    /// The container that it was made of.
    pub(crate) container: String,
    /// What it was made of; `None` is nothing.
    pub(crate) parent: Option<ImageId>,
    /// For which machines, as far as it says so; else its parent's.
    pub(crate) platform: Platform,
    /// Who made it.
    pub(crate) author: String,
    /// The comment of its history.
    pub(crate) comment: String,
    /// When it is said to be made; `None`: now.
    pub(crate) created: Option<jiff::Timestamp>,
    /// What to call it.
    pub(crate) reference: Option<ImageRef>,
    /// What the image runs.
    pub(crate) config: RunConfig,
    /// What the container runs.
    pub(crate) container_config: RunConfig,
}

/// The archive of no files at all: a layer of it is none.
const EMPTY_LAYER: &str = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

impl Inner {
    pub(super) fn commit(&self, new: &CommitImage) -> Result<ImageId> {
        let parent = match new.parent {
            None => ImageConfig { rootfs: Some(RootFs::default()), ..ImageConfig::default() },
            Some(parent) => self.store.images.get(parent).map_err(store_error)?.config.clone(),
        };
        let layers = &self.store.layers;
        let below = wharf_store::chain_ids(parent.diff_ids()).last().copied();
        // Both are held until the image holds them.
        let below = below.map(|chain| layers.get(chain)).transpose().map_err(store_error)?;
        let layer = match &new.layer_of {
            None => None,
            Some(container) => {
                let unpacked = layers.unpack_rw(container).map_err(store_error)?;
                Some(layers.register(unpacked, below.as_ref()).map_err(store_error)?)
            }
        };
        let config = child(parent, new, layer.as_ref().map(|layer| layer.diff_id));
        self.store.create_named(&config.to_json(), |id| {
            self.emit("create", id, &id.to_string());
            self.store.images.set_built_locally(id)?;
            if let Some(parent) = new.parent {
                self.store.images.set_parent(id, parent)?;
            }
            if let Some(reference) = &new.reference {
                self.add_tag(id, reference)?;
            }
            Ok(id)
        })
    }
}

fn child(parent: ImageConfig, new: &CommitImage, layer: Option<DiffId>) -> ImageConfig {
    let is_empty = |layer: &DiffId| Digest::from_hex(EMPTY_LAYER).is_ok_and(|empty| layer.0 == empty);
    let layer = layer.filter(|layer| !is_empty(layer));
    let empty_layer = layer.is_none();
    let created = Some(new.created.unwrap_or_else(jiff::Timestamp::now).to_string());
    let mut rootfs = parent.rootfs.unwrap_or_default();
    rootfs.diff_ids.extend(layer);
    let mut history = parent.history;
    history.push(History {
        created: created.clone(),
        created_by: new.container_config.cmd.clone().unwrap_or_default().join(" "),
        author: new.author.clone(),
        comment: new.comment.clone(),
        empty_layer,
    });
    let (architecture, variant) = match (parent.architecture.as_str(), new.platform.architecture.as_str()) {
        ("", "") => {
            let host = Platform::host();
            (host.architecture, host.variant)
        }
        ("", wanted) => (wanted.to_owned(), new.platform.variant.clone()),
        (known, _) => (known.to_owned(), parent.variant),
    };
    ImageConfig {
        architecture,
        author: new.author.clone(),
        config: Some(new.config.clone()),
        container: new.container.clone(),
        container_config: new.container_config.clone(),
        created,
        history,
        os: if new.platform.os.is_empty() { "linux".into() } else { new.platform.os.clone() },
        os_features: parent.os_features,
        os_version: parent.os_version,
        rootfs: Some(rootfs),
        variant,
        ..ImageConfig::default()
    }
}

/// Applies Dockerfile instructions to a config.
///
/// # Errors
/// In Docker's words, when one is wrong.
pub(crate) fn changed_config(config: api::Config, changes: &[String]) -> Result<api::Config> {
    if changes.is_empty() {
        return Ok(config);
    }
    let mut run = run_config(&config)?;
    apply_changes(&mut run, changes).map_err(|error| Error::Invalid(error.to_string()))?;
    gojson::from_slice(&wharf_spec::to_go_json(&run)).map_err(|error| Error::Refused(error.to_string()))
}

/// The config as images have it: both types have the same JSON.
///
/// # Errors
/// Never for a config of ours.
pub(crate) fn run_config(config: &api::Config) -> Result<RunConfig> {
    let failed = |source| Error::Encode { what: "a container's config", source };
    serde_json::from_slice(&serde_json::to_vec(config).map_err(failed)?).map_err(failed)
}
