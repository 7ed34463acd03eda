//! `manifest.json`, of `docker save`.

use super::{Archive, Entry, invalid};
use crate::Result;
use serde::Deserialize;
use wharf_spec::{ImageId, ImageRef};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    #[serde(default)]
    parent: Option<ImageId>,
}

pub(super) fn entries(archive: &mut Archive, manifest: &[u8]) -> Result<Vec<Entry>> {
    let items: Option<Vec<Item>> = serde_json::from_slice(manifest)
        .map_err(|error| invalid(format!("invalid archive: failed to decode manifest.json: {error}")))?;
    let items = items.ok_or_else(|| invalid("invalid manifest, manifest cannot be null (but can be [])"))?;
    items.into_iter().map(|item| entry(archive, item)).collect()
}

fn entry(archive: &mut Archive, item: Item) -> Result<Entry> {
    let mut names = Vec::new();
    for tag in item.repo_tags.unwrap_or_default() {
        let name: ImageRef =
            tag.parse().map_err(|e: wharf_spec::ParseReferenceError| invalid(e.to_string()))?;
        if name.tag().is_none() || name.digest().is_some() {
            return Err(invalid(format!("invalid tag {tag:?}")));
        }
        names.push(name);
    }
    Ok(Entry {
        config: archive.required(item.config.as_bytes())?,
        layers: item.layers.unwrap_or_default().into_iter().map(String::into_bytes).collect(),
        names,
        parent: item.parent,
    })
}
