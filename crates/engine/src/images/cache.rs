//! What a build step came to earlier (source: moby `daemon/internal/image/cache/{cache,compare}.go`).

use super::{Inner, store_error};
use crate::Result;
use wharf_spec::{ImageConfig, ImageId, RootFs, RunConfig};

impl Inner {
    pub(super) fn cached(
        &self,
        parent: Option<ImageId>,
        made_by: &RunConfig,
        from: &[ImageId],
    ) -> Result<Option<ImageId>> {
        if let Some(local) = self.cached_here(parent, made_by) {
            return Ok(Some(local));
        }
        from.iter().find_map(|source| self.cached_in(*source, parent, made_by).transpose()).transpose()
    }

    pub(super) fn earlier_steps(&self, parent: Option<ImageId>) -> Vec<RunConfig> {
        let config = |id| Some(self.store.images.get(id).ok()?.config.container_config.clone());
        self.built_on(parent).into_iter().filter_map(config).collect()
    }

    /// What was built here on a parent.
    fn built_on(&self, parent: Option<ImageId>) -> Vec<ImageId> {
        let images = &self.store.images;
        let mut built = match parent {
            Some(parent) => images.children(parent),
            None => {
                images.list().iter().map(|image| image.id).filter(|id| images.parent(*id).is_none()).collect()
            }
        };
        built.retain(|id| images.is_built_locally(*id));
        built
    }

    /// The newest one that was built here.
    fn cached_here(&self, parent: Option<ImageId>, made_by: &RunConfig) -> Option<ImageId> {
        let images = &self.store.images;
        let same = self.built_on(parent).into_iter().filter_map(|id| {
            let image = images.get(id).ok()?;
            is_same(&image.config.container_config, made_by).then(|| (image.config.created_at(), id))
        });
        same.max().map(|(_, id)| id)
    }

    /// What an image that came from elsewhere has at the place of the step, as an image of its own.
    fn cached_in(
        &self,
        source: ImageId,
        parent: Option<ImageId>,
        made_by: &RunConfig,
    ) -> Result<Option<ImageId>> {
        let Ok(image) = self.store.images.get(source) else { return Ok(None) };
        let below = match parent {
            None => ImageConfig::default(),
            Some(parent) => self.store.images.get(parent).map_err(store_error)?.config.clone(),
        };
        let depth = below.history.len();
        let Some(step) = image.config.history.get(depth).filter(|_| stands_on(&image.config, &below)) else {
            return Ok(None);
        };
        if step.created_by != made_by.cmd.clone().unwrap_or_default().join(" ") {
            return Ok(None);
        }
        if image.config.history.len() == depth + 1 {
            return Ok(Some(source));
        }
        let mut diff_ids = below.diff_ids().to_vec();
        if !step.empty_layer {
            diff_ids.extend(image.config.diff_ids().get(diff_ids.len()).copied());
        }
        let config = ImageConfig {
            architecture: image.config.architecture.clone(),
            variant: image.config.variant.clone(),
            os: image.config.os.clone(),
            author: image.config.author.clone(),
            config: Some(made_by.clone()),
            created: step.created.clone(),
            history: image.config.history[..=depth].to_vec(),
            rootfs: Some(RootFs { diff_ids, ..RootFs::default() }),
            ..ImageConfig::default()
        };
        let restored = self.store.images.create(&config.to_json()).map_err(store_error)?.id;
        if let Some(parent) = parent {
            self.store.images.set_parent(restored, parent).map_err(store_error)?;
        }
        Ok(Some(restored))
    }
}

/// Whether an image continues another one.
fn stands_on(image: &ImageConfig, below: &ImageConfig) -> bool {
    image.history.starts_with(&below.history) && image.diff_ids().starts_with(below.diff_ids())
}

/// Names of hosts and of the image say nothing of what a step does.
fn is_same(one: &RunConfig, other: &RunConfig) -> bool {
    let relevant = |config: &RunConfig| RunConfig {
        hostname: String::new(),
        domainname: String::new(),
        image: String::new(),
        env: Some(config.env.clone().unwrap_or_default()),
        labels: Some(config.labels.clone().unwrap_or_default()),
        volumes: Some(config.volumes.clone().unwrap_or_default()),
        entrypoint: Some(config.entrypoint.clone().unwrap_or_default()),
        shell: Some(config.shell.clone().unwrap_or_default()),
        on_build: Some(config.on_build.clone().unwrap_or_default()),
        ..config.clone()
    };
    relevant(one) == relevant(other)
}
