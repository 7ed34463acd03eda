//! `index.json`, of an OCI image layout.

use super::{Archive, Entry, invalid};
use crate::{
    Result,
    images::save::{NAME_ANNOTATION, REF_ANNOTATION},
};
use wharf_spec::{Descriptor, Digest, ImageRef, Manifest, Platform, media_type};

/// An index in an index, and no more.
const MAX_DEPTH: usize = 3;

/// The images of an index, those of `wanted` where a choice is left, else of this host's platform.
pub(super) fn entries(archive: &mut Archive, index: &[u8], wanted: Option<&Platform>) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let Manifest::Index(index) = parse("", index)? else {
        return Err(invalid("invalid archive: index.json is no index"));
    };
    for descriptor in index.manifests {
        let names = name(&descriptor);
        let Some(entry) = entry(archive, &descriptor, wanted, MAX_DEPTH)? else { continue };
        // Each name of an image is an entry of its own in the index.
        match entries.iter_mut().find(|known| known.config == entry.config) {
            Some(known) => known.names.extend(names),
            None => entries.push(Entry { names, ..entry }),
        }
    }
    if entries.is_empty() {
        return Err(invalid("invalid archive: no image for this platform in index.json"));
    }
    Ok(entries)
}

/// The image behind a descriptor, or the best one for this platform behind an index.
fn entry(
    archive: &mut Archive,
    descriptor: &Descriptor,
    wanted: Option<&Platform>,
    depth: usize,
) -> Result<Option<Entry>> {
    if depth == 0 {
        return Err(invalid("invalid archive: indexes in indexes without end"));
    }
    let raw = blob(archive, &descriptor.digest)?;
    match parse(&descriptor.media_type, &raw)? {
        Manifest::Image(manifest) => {
            // Attestations and other artifacts have configs of other types.
            let is_image = matches!(
                manifest.config.media_type.as_str(),
                media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
            );
            if !is_image {
                return Ok(None);
            }
            let config = blob(archive, &manifest.config.digest)?;
            let layers = manifest.layers.iter().map(|layer| path(&layer.digest)).collect();
            Ok(Some(Entry { config, layers, names: Vec::new(), parent: None }))
        }
        Manifest::Index(index) => {
            let host = Platform::host();
            let rank = |descriptor: &&Descriptor| match &descriptor.platform {
                None => Some(usize::MAX),
                Some(platform) => match wanted {
                    Some(wanted) => wanted.is_same_as(platform).then_some(0),
                    None => host.rank_of(platform),
                },
            };
            let best = index.manifests.iter().filter(|d| rank(d).is_some()).min_by_key(|d| rank(d));
            best.map_or(Ok(None), |best| entry(archive, best, wanted, depth - 1))
        }
    }
}

fn parse(media_type: &str, raw: &[u8]) -> Result<Manifest> {
    Manifest::parse(media_type, raw).map_err(|error| invalid(format!("invalid archive: {error}")))
}

/// A blob, checked.
fn blob(archive: &mut Archive, digest: &Digest) -> Result<Vec<u8>> {
    let raw = archive.required(&path(digest))?;
    let actual = wharf_store::sha256(&raw);
    if actual == *digest {
        return Ok(raw);
    }
    Err(invalid(format!("invalid archive: blob {digest} has the digest {actual}")))
}

fn path(digest: &Digest) -> Vec<u8> {
    format!("blobs/sha256/{}", digest.hex()).into_bytes()
}

/// The full name, or what other tools write where the tag should be. A tag alone is no name.
fn name(descriptor: &Descriptor) -> Vec<ImageRef> {
    let annotation = |key: &str| descriptor.annotations.get(key);
    let full =
        annotation(NAME_ANNOTATION).or_else(|| annotation(REF_ANNOTATION).filter(|n| n.contains([':', '/'])));
    let name = full.and_then(|name| name.parse::<ImageRef>().ok()).map(ImageRef::or_latest);
    name.filter(|name| name.digest().is_none()).into_iter().collect()
}
