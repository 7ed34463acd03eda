//! `POST /images/prune` (source: moby `daemon/images/image_prune.go`).

use super::{Inner, RemoveImage};
use crate::{Error, Filters, Result, events::EventKind};
use std::{collections::HashMap, sync::atomic::Ordering};
use wharf_api::{StringMap, image as api, time};
use wharf_spec::ErrorKind;
use wharf_store::Image;

const FILTERS: [&str; 4] = ["dangling", "label", "label!", "until"];

/// Ends the exclusion of other prunes.
struct Running<'i>(&'i Inner);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.pruning.store(false, Ordering::Release);
    }
}

impl Inner {
    pub(super) fn prune(&self, filters: &Filters) -> Result<api::PruneReport> {
        if self.pruning.swap(true, Ordering::Acquire) {
            return Err(Error::Conflict("a prune operation is already running".into()));
        }
        let _running = Running(self);
        filters.validate(&FILTERS)?;
        let dangling_only = filters.bool("dangling")?.unwrap_or(true);
        let until = until(filters)?;
        let sizes: HashMap<String, u64> =
            self.store.layers.list().iter().map(|layer| (layer.chain_id.to_string(), layer.size)).collect();
        let mut deleted = Vec::new();
        for image in self.store.images.list() {
            if self.is_candidate(&image, filters, until, dangling_only) {
                self.prune_one(&image, dangling_only, &mut deleted);
            }
        }
        let space_reclaimed =
            deleted.iter().filter_map(|item: &api::DeleteItem| sizes.get(&item.deleted)).sum();
        let attributes = StringMap::from([("reclaimed".to_owned(), format!("{space_reclaimed}"))]);
        self.events.emit(EventKind::Image, "prune", "", attributes);
        Ok(api::PruneReport { images_deleted: (!deleted.is_empty()).then_some(deleted), space_reclaimed })
    }

    fn is_candidate(
        &self,
        image: &Image,
        filters: &Filters,
        until: Option<time::Time>,
        dangling_only: bool,
    ) -> bool {
        let has_children = !self.store.images.children(image.id).is_empty();
        let is_intermediate =
            has_children && (dangling_only || self.store.references.of(image.id).is_empty());
        let is_old = until.is_none_or(|until| image.config.created_at().is_some_and(|made| made <= until.0));
        let labels = image.config.config.as_ref().map(|run| run.labels.clone().unwrap_or_default());
        !is_intermediate && is_old && labels.is_none_or(|labels| filters.match_label_pair(&labels))
    }

    /// What is in use stays, and is nothing to tell of.
    fn prune_one(&self, image: &Image, dangling_only: bool, deleted: &mut Vec<api::DeleteItem>) {
        let names = self.store.references.of(image.id);
        if dangling_only && names.iter().any(|name| name.digest().is_none()) {
            return;
        }
        let names = match names.as_slice() {
            [] => vec![image.id.hex()],
            names => names.iter().map(ToString::to_string).collect(),
        };
        for name in names {
            match self.remove(&name, &RemoveImage::default()) {
                Ok(items) => deleted.extend(items),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => tracing::warn!(image = name, %error, "could not prune an image"),
            }
        }
    }
}

fn until(filters: &Filters) -> Result<Option<time::Time>> {
    let mut values = filters.get("until");
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::Invalid("more than one until filter specified".into()));
    }
    let invalid = |error| Error::Invalid(format!("invalid value for 'until' filter: {error}"));
    time::parse_relative(value, time::Time::now()).map(Some).map_err(invalid)
}
