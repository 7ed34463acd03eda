//! `GET /images/json` (source: moby `daemon/images/image_list.go`).

use super::{Inner, ListImages, layers::signed};
use crate::{Error, Filters, Result};
use jiff::Timestamp;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use wharf_api::{image as api, time};
use wharf_spec::{ChainId, ImageRef, path_match};
use wharf_store::{Image, Names};

const FILTERS: [&str; 6] = ["dangling", "label", "before", "since", "reference", "until"];

/// The filters, read.
struct Wanted {
    dangling: Option<bool>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    filters: Filters,
}

/// What all images are looked up in.
struct Context {
    names: Arc<Names>,
    users: HashMap<String, i64>,
}

impl Inner {
    pub(super) fn list(&self, options: &ListImages) -> Result<Vec<api::Summary>> {
        let wanted = self.read_filters(&options.filters)?;
        let context = Context { names: self.store.references.all(), users: self.users() };
        let mut found: Vec<(Arc<Image>, api::Summary)> = Vec::new();
        for image in self.store.images.list() {
            if wanted.dangling == Some(true) && !self.store.images.children(image.id).is_empty() {
                continue;
            }
            if let Some(summary) = self.summary(&image, &wanted, &context, options.all)? {
                found.push((image, summary));
            }
        }
        if options.shared_size {
            self.add_shared_sizes(&mut found);
        }
        let mut summaries: Vec<api::Summary> = found.into_iter().map(|(_, summary)| summary).collect();
        summaries.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(summaries)
    }

    fn read_filters(&self, filters: &Filters) -> Result<Wanted> {
        filters.validate(&FILTERS)?;
        let dangling = filters.bool("dangling")?;
        let (mut before, mut since) = (None, None);
        for name in filters.get("before") {
            before = earliest(before, self.find(name)?.config.created_at());
        }
        for value in filters.get("until") {
            let until = time::parse_relative(value, time::Time::now())
                .map_err(|error| Error::Invalid(format!("invalid value for 'until' filter: {error}")))?;
            before = earliest(before, Some(until.0));
        }
        for name in filters.get("since") {
            since = since.max(self.find(name)?.config.created_at());
        }
        Ok(Wanted { dangling, before, since, filters: filters.clone() })
    }

    /// How many containers use each image, by the image's id.
    fn users(&self) -> HashMap<String, i64> {
        let mut users = HashMap::new();
        for container in self.containers.all() {
            *users.entry(container.with(|state| state.record.image.clone())).or_insert(0) += 1;
        }
        users
    }

    fn summary(
        &self,
        image: &Image,
        wanted: &Wanted,
        context: &Context,
        all: bool,
    ) -> Result<Option<api::Summary>> {
        let created = image.config.created_at();
        let run = image.config.config.as_ref();
        let labels = run.and_then(|run| run.labels.clone());
        let is_older = wanted.before.is_none_or(|before| created.is_some_and(|created| created < before));
        let is_newer = wanted.since.is_none_or(|since| created.is_some_and(|created| created > since));
        let has_labels = !wanted.filters.contains("label")
            || (run.is_some() && wanted.filters.match_labels("label", &labels.clone().unwrap_or_default()));
        if !is_older || !is_newer || !has_labels {
            return Ok(None);
        }
        let mut summary = api::Summary {
            id: image.id.to_string(),
            parent_id: self.store.images.parent(image.id).map(|id| id.to_string()).unwrap_or_default(),
            created: created.map_or(0, Timestamp::as_second),
            size: signed(image.chain_id.map_or(0, |chain| self.store.layers.stack_size(chain))),
            labels,
            shared_size: -1,
            containers: context.users.get(&image.id.to_string()).copied().unwrap_or(0),
            ..api::Summary::default()
        };
        let (mut tags, mut digests) = (Vec::new(), Vec::new());
        for name in context.names.get(&image.id).into_iter().flatten() {
            if matches_pattern(name, &wanted.filters)? {
                let list = if name.digest().is_some() { &mut digests } else { &mut tags };
                list.push(name.familiar_string());
            }
        }
        let nameless = tags.is_empty() && digests.is_empty();
        let is_shown = if nameless {
            (all || self.store.images.children(image.id).is_empty())
                && wanted.dangling != Some(false)
                && !wanted.filters.contains("reference")
        } else {
            wanted.dangling != Some(true) || tags.is_empty()
        };
        (summary.repo_tags, summary.repo_digests) = (Some(tags), Some(digests));
        Ok(is_shown.then_some(summary))
    }

    /// Bytes in layers that another image has as well.
    fn add_shared_sizes(&self, found: &mut [(Arc<Image>, api::Summary)]) {
        let mut uses: HashMap<ChainId, usize> = HashMap::new();
        for image in self.store.images.list() {
            for chain in wharf_store::chain_ids(image.config.diff_ids()) {
                *uses.entry(chain).or_default() += 1;
            }
        }
        for (image, summary) in found {
            let shared = |chain: &ChainId| uses.get(chain).is_some_and(|uses| *uses > 1);
            let chains = wharf_store::chain_ids(image.config.diff_ids());
            let sizes = chains.iter().filter(|c| shared(c)).filter_map(|c| self.store.layers.info(*c));
            summary.shared_size = signed(sizes.map(|layer| layer.size).sum());
        }
    }

    /// Bytes of all layers that images stand on, each counted once: `LayersSize` of disk usage.
    pub(super) fn layers_size(&self) -> i64 {
        let mut seen = HashSet::new();
        let mut size = 0;
        for image in self.store.images.list() {
            for layer in image.chain_id.iter().flat_map(|chain| self.store.layers.stack(*chain)) {
                if seen.insert(layer.chain_id) {
                    size += layer.size;
                }
            }
        }
        signed(size)
    }
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Whether a name fits one of the patterns, in its familiar or its full form, with or without tag.
fn matches_pattern(name: &ImageRef, filters: &Filters) -> Result<bool> {
    if !filters.contains("reference") {
        return Ok(true);
    }
    let full = name.clone().or_latest().to_string();
    let targets = [name.familiar_string(), name.familiar_name(), full, name.name()];
    for pattern in filters.get("reference") {
        for target in &targets {
            if path_match(pattern, target).map_err(|error| Error::Refused(error.to_string()))? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
